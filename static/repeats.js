/**
 * Hidden repeats: now and then a clip that was rated before this sitting comes up again, unmarked. The second rating is
 * kept beside the first and never replaces it; how far the two lie apart says how consistent the rater is.
 */
import { getJSON, newId, orElse } from './api.js';

const POOL = 60;

/** What `/api/rate` is sent. @param {Record<string, any> & {name: string}} clip */
export const rateBody = (clip, rating) => ({ video_name: clip.name, rating, ...(clip.repeat && { repeat: true }) });

export class Repeats {
  /** @type {Array<Record<string, any> & {name: string}>} */
  #pool = [];
  #empty = false;
  #seed = newId().slice(0, 8);

  /**
   * Puts repeats among the clips.
   * @param {C[]} clips
   * @param {number} percent share of repeats among all clips shown
   * @param {(name: string) => boolean} met whether this sitting has shown a clip already
   * @returns {Promise<C[]>}
   */
  async mix(clips, percent, met) {
    if (!percent || !clips.length) return clips;
    if (!this.#pool.length && !this.#empty) await this.#fill();
    const share = percent / 100;
    const out = [];
    for (const clip of clips) {
      out.push(clip);
      // One repeat after a clip with odds s / (1 - s) makes the share s of all that is shown.
      if (Math.random() >= share / (1 - share)) continue;
      const again = this.#next(met);
      if (again) out.push({ ...again, repeat: true });
    }
    return out;
  }

  #next(met) {
    while (this.#pool.length) {
      const clip = this.#pool.pop();
      if (clip && !met(clip.name)) return clip;
    }
    return null;
  }

  async #fill() {
    const found = await orElse(getJSON('/api/videos', { repeats: true, seed: this.#seed, limit: POOL }), (error) => console.warn('no clips to show again:', error.message));
    if (!found) return;
    this.#pool = found;
    this.#empty = found.length === 0;
  }
}
