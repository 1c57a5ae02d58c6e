/**
 * Two or four clips that play as one: they start, wrap and stop together, whatever their lengths and
 * frame rates, and stay within a few hundredths of a second of each other. The next pair loads behind them.
 */
import { videoUrl } from './api.js';
import { h } from './dom.js';
import { keys } from './shell.js';

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 3];
const CATCH_UP_S = 0.015; // a smaller difference is left alone
const JUMP_S = 0.2; // a larger one is not caught up but sought
const USUAL_FPS = 16;

/** @typedef {{name: string, params?: Record<string, any>}} PairClip */

/** Events: `broken` ({side, clip}), `pick` (side). */
export class PairPlayer extends EventTarget {
  /** @type {HTMLElement[]} */
  #sides;
  /** @type {HTMLVideoElement[]} those on screen */
  #videos = [];
  /** @type {Map<string, HTMLVideoElement[]>} loaded pairs by their names */
  #ready = new Map();
  /** @type {PairClip[]} */
  #clips = [];
  #paused = false;
  #speed = Number(sessionStorage.getItem('eva.speed')) || 1;

  /** @param {HTMLElement} root */
  constructor(root) {
    super();
    this.#sides = ['A', 'B', 'C', 'D'].map((letter) => h('div', { class: 'stage pair-side' }, h('span', { class: 'pair-letter badge', text: letter })));
    root.append(...this.#sides);
    this.#sides.forEach((element, side) => element.addEventListener('click', () => {
      // With four on screen a click says which; with two it stops and goes on.
      if (this.#clips.length === 4) this.dispatchEvent(new CustomEvent('pick', { detail: side }));
      else this.togglePlay();
    }));
    requestAnimationFrame(() => this.#tick());
  }

  bindKeys() {
    keys.add('pause', [' '], () => this.togglePlay(), 'player');
    keys.add('frame_back', [','], () => this.step(-1), 'player');
    keys.add('frame_forward', ['.'], () => this.step(1), 'player');
    keys.add('slower', ['['], () => this.faster(-1), 'player');
    keys.add('faster', [']'], () => this.faster(1), 'player');
  }

  /** @param {PairClip[]} clips left and right; empty for none */
  show(clips) {
    for (const video of this.#videos) this.#release(video);
    this.#clips = clips;
    this.#sides.forEach((element, side) => { element.hidden = side >= Math.max(2, clips.length); });
    this.#videos = clips.length ? this.#load(clips) : [];
    this.#ready.delete(nameOf(clips));
    this.#paused = false;
    for (const video of this.#videos) {
      video.classList.add('on');
      video.currentTime = 0;
      this.#play(video);
    }
  }

  /** Loads a pair that will be wanted next. @param {PairClip[]} clips */
  preload(clips) {
    for (const [name, videos] of this.#ready) {
      if (name === nameOf(clips)) return;
      videos.forEach((video) => this.#release(video));
      this.#ready.delete(name);
    }
    this.#ready.set(nameOf(clips), this.#load(clips));
  }

  /** @param {PairClip[]} clips @returns {HTMLVideoElement[]} */
  #load(clips) {
    const there = this.#ready.get(nameOf(clips));
    if (there) return there;
    return clips.map((clip, side) => {
      const video = /** @type {HTMLVideoElement} */ (h('video', { playsinline: true, preload: 'auto', tabindex: -1, disablepictureinpicture: true }));
      video.muted = true;
      video.addEventListener('error', () => this.#videos.includes(video) && this.dispatchEvent(new CustomEvent('broken', { detail: { side, clip } })));
      video.src = videoUrl(clip.name);
      this.#sides[side].append(video);
      return video;
    });
  }

  /** @param {HTMLVideoElement} video */
  #release(video) {
    video.removeAttribute('src');
    video.load();
    video.remove();
  }

  /** @param {HTMLVideoElement} video */
  #play(video) {
    video.play().catch((error) => {
      if (!['AbortError', 'NotSupportedError', 'NotAllowedError'].includes(error.name)) console.warn('playing failed', error);
    });
  }

  togglePlay() {
    this.#paused = !this.#paused;
    for (const video of this.#videos) {
      if (this.#paused) video.pause();
      else this.#play(video);
    }
  }

  /** The time all share: the shortest clip's. */
  get duration() {
    const found = this.#videos.map((video) => video.duration);
    return found.length && found.every(Boolean) ? Math.min(...found) : 0;
  }

  /** Stops both and moves them by one frame of the slower clip. @param {number} by */
  step(by) {
    const { duration } = this;
    if (!duration) return;
    this.#paused = true;
    const fps = Math.min(...this.#clips.map((clip) => clip.params?.fps || USUAL_FPS));
    const count = Math.max(1, Math.floor(duration * fps));
    const frame = (Math.floor(this.#videos[0].currentTime * fps + 1e-3) + by + count) % count;
    for (const video of this.#videos) {
      video.pause();
      video.currentTime = (frame + 0.5) / fps;
    }
  }

  /** @param {number} by */
  faster(by) {
    const at = Math.max(0, SPEEDS.findIndex((speed) => speed >= this.#speed));
    this.#speed = SPEEDS[Math.min(Math.max(at + by, 0), SPEEDS.length - 1)];
    sessionStorage.setItem('eva.speed', String(this.#speed));
    this.dispatchEvent(new CustomEvent('speed', { detail: this.#speed }));
  }

  #tick() {
    if (!this.#paused && this.#videos.length && this.#videos.every((video) => video.readyState >= 2)) this.#keepTogether(this.#videos);
    requestAnimationFrame(() => this.#tick());
  }

  /** The first leads, the others follow it. @param {HTMLVideoElement[]} videos */
  #keepTogether(videos) {
    const { duration } = this;
    const end = duration - 0.02 * this.#speed;
    if (videos.some((video) => video.ended || video.currentTime >= end)) {
      for (const video of videos) {
        video.currentTime = 0;
        this.#play(video);
      }
      return;
    }
    if (videos.some((video) => video.seeking)) return;
    const [first, ...others] = videos;
    if (first.playbackRate !== this.#speed) first.playbackRate = this.#speed;
    for (const video of others) {
      const ahead = first.currentTime - video.currentTime;
      if (Math.abs(ahead) > JUMP_S) video.currentTime = first.currentTime;
      const rate = Math.abs(ahead) < CATCH_UP_S ? this.#speed : this.#speed * (1 + Math.max(-0.25, Math.min(0.25, ahead * 3)));
      if (Math.abs(video.playbackRate - rate) > 0.01) video.playbackRate = rate;
    }
  }
}

/** @param {PairClip[]} clips */
const nameOf = (clips) => clips.map((clip) => clip.name).join('\n');
