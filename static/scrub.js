/** The filmstrip with its playhead: point at it to see a moment, drag to go there. */
import { Emitter, h } from './dom.js';
import { clock } from './format.js';
import { t, textOr } from './i18n.js';

const RESOLUTION = 1000;
const CELLS = 10; // frames in a filmstrip, from the first to the last

/** Events: `seek` (fraction of the clip, 0 to 1). */
export class ScrubBar extends Emitter {
  #url = null;
  /** @type {ImageBitmap | null} */
  #strip = null;
  #canvas = h('canvas.strip-img', { 'aria-hidden': 'true' });
  #head = h('span.strip-head', { 'aria-hidden': 'true' });
  #ticks = h('span.strip-ticks');
  #range = h('input', { type: 'range', class: 'strip-range', min: 0, max: RESOLUTION, value: 0, step: 1, 'aria-label': t('player.position') });
  element = h('div.strip-bar', this.#canvas, this.#ticks, this.#head, this.#range);

  constructor() {
    super();
    new ResizeObserver(() => this.#paint()).observe(this.element);
    this.#range.addEventListener('input', () => {
      const fraction = Number(this.#range.value) / RESOLUTION;
      this.#place(fraction);
      this.emit('seek', fraction);
    });
    // After dragging with the mouse the arrow keys belong to the page again.
    this.#range.addEventListener('pointerup', () => this.#range.blur());
  }

  /** @param {string | null} url of the filmstrip */
  async show(url) {
    this.#place(0);
    this.mark([], 0);
    this.#range.disabled = !url;
    if (url === this.#url) return;
    this.#url = url;
    this.#keep(null);
    const strip = url && (await pictureOf(url));
    if (url === this.#url) this.#keep(strip);
    else strip?.close();
  }

  /** A bitmap is let go at once; a browser keeps the pixels of an image element for minutes. */
  #keep(strip) {
    this.#strip?.close();
    this.#strip = strip;
    this.#paint();
  }

  /**
   * Shows where the metrics found something: a coloured stretch at the foot of the strip.
   * @param {Array<{kind: string, start_s: number, end_s: number, severity?: number}>} findings
   * @param {number} duration seconds
   */
  mark(findings, duration) {
    const place = (seconds) => `${Math.min(Math.max(seconds / duration, 0), 1) * 100}%`;
    this.#ticks.replaceChildren(
      ...(duration > 0 ? findings : []).map((finding) => {
        const kind = textOr(`finding.${finding.kind}`, finding.kind);
        return h('span.tick', { title: `${kind} ${clock(finding.start_s)}`, data: { kind: finding.kind },
          style: { left: `min(${place(finding.start_s)}, calc(100% - 4px))`, width: `max(4px, calc(${place(finding.end_s)} - ${place(finding.start_s)}))` } });
      }),
    );
  }

  /** Gives each frame its equal share of the bar, cropped, never stretched: place stays time. */
  #paint() {
    const strip = this.#strip;
    const { clientWidth, clientHeight } = this.element;
    this.#canvas.hidden = !strip;
    if (!strip || !clientWidth) return;
    const scale = devicePixelRatio || 1;
    const width = Math.round(clientWidth * scale);
    const height = Math.round(clientHeight * scale);
    Object.assign(this.#canvas, { width, height });
    const pen = this.#canvas.getContext('2d');
    if (!pen) return;
    const cell = strip.width / CELLS;
    const room = width / CELLS;
    const zoom = Math.max(room / cell, height / strip.height);
    const w = room / zoom;
    const h0 = height / zoom;
    for (let i = 0; i < CELLS; i += 1) {
      pen.drawImage(strip, i * cell + (cell - w) / 2, (strip.height - h0) / 2, w, h0, i * room, 0, room, height);
    }
  }

  /** @param {string} text what a screen reader says */
  at(fraction, text) {
    this.#place(fraction);
    if (document.activeElement === this.#range) this.#range.setAttribute('aria-valuetext', text);
    const value = String(Math.round(fraction * RESOLUTION));
    if (this.#range.value !== value && !this.#range.matches(':active')) this.#range.value = value;
  }

  #place(fraction) {
    this.#head.style.setProperty('--at', `${(fraction * 100).toFixed(2)}%`);
  }
}

/** @returns {Promise<ImageBitmap | null>} null: there is none, or it cannot be read now */
async function pictureOf(url) {
  try {
    const response = await fetch(url);
    return response.ok ? await createImageBitmap(await response.blob()) : null;
  } catch (error) {
    console.info(`${url} cannot be shown:`, error.message);
    return null;
  }
}
