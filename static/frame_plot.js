/** What was measured of every frame, drawn over time with a head that runs with the player. Press a place to go there. */
import { getJSON, orElse } from './api.js';
import { h } from './dom.js';
import { t } from './i18n.js';
import { frameAt } from './playback.js';

const LINES = [['brightness', '--fair'], ['change', '--poor'], ['detail', '--accent']];
const HEIGHT = 84; // CSS pixels
const FEW = 0.02; // a line that moves less than this is drawn on this scale: noise is not blown up

export class FramePlot {
  /** @type {{fps: number, seconds: number[], brightness: number[], change: number[], detail: number[]} | null} */
  #series = null;
  #canvas = h('canvas.frame-plot', { role: 'img', 'aria-label': t('series.label') });
  #legend = h('div.frame-legend');
  #said = h('p.muted', t('series.loading'));
  #frame = -1;
  element = h('div', this.#said, this.#canvas, this.#legend);

  /** @param {import('./player.js').Player} player */
  constructor(player) {
    this.player = player;
    this.#canvas.hidden = true;
    this.#canvas.addEventListener('click', (event) => {
      const { video } = player;
      const count = this.#series?.seconds.length;
      if (!video || !count) return;
      const at = Math.min(count - 1, Math.floor((event.offsetX / this.#canvas.clientWidth) * count));
      video.currentTime = (at + 0.5) / player.fps;
    });
    const again = () => this.#paint();
    new ResizeObserver(again).observe(this.element);
    new MutationObserver(again).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  }

  async show(name) {
    this.#series = await orElse(getJSON('/api/series', { name }), (error) => {
      this.#said.textContent = t('series.none', { why: error.message });
    });
    if (!this.#series) return;
    if (this.player.clip) this.player.clip.fps = this.#series.fps; // what the file says, so that a step is one frame
    this.#said.hidden = true;
    this.#canvas.hidden = false;
    this.#legend.append(...LINES.map(([name_, color]) => h('span', { title: t(`series.${name_}.why`) }, h('i', { style: { background: `var(${color})` } }), `${t(`series.${name_}`)} `, h('b.mono', { data: { line: name_ } }))));
    this.#paint();
    this.player.on('frame', (frame) => this.#follow(frame));
    if (this.player.video) this.#follow(frameAt(this.player.video.currentTime, this.player.fps));
  }

  #follow(frame) {
    this.#frame = Math.min(this.#series.seconds.length - 1, frame);
    this.#paint();
    for (const value of this.#legend.querySelectorAll('b')) value.textContent = this.#series[value.dataset.line][this.#frame].toFixed(3);
  }

  #paint() {
    const series = this.#series;
    const width = this.#canvas.clientWidth;
    const pen = this.#canvas.getContext('2d');
    if (!series || !width || !pen) return;
    const scale = devicePixelRatio || 1;
    Object.assign(this.#canvas, { width: Math.round(width * scale), height: HEIGHT * scale });
    pen.scale(scale, scale);
    const style = getComputedStyle(this.#legend.firstElementChild ?? this.element);
    const step = width / series.seconds.length;
    LINES.forEach(([name], i) => {
      const values = series[name];
      const low = Math.min(...values);
      const room = Math.max(FEW, Math.max(...values) - low);
      const mark = this.#legend.children[i]?.firstElementChild;
      pen.strokeStyle = mark ? getComputedStyle(mark).backgroundColor : style.color;
      pen.lineWidth = 1.5;
      pen.beginPath();
      values.forEach((value, x) => pen.lineTo((x + 0.5) * step, HEIGHT - 5 - ((value - low) / room) * (HEIGHT - 10)));
      pen.stroke();
    });
    if (this.#frame >= 0) {
      pen.fillStyle = style.color;
      pen.fillRect((this.#frame + 0.5) * step - 1, 0, 2, HEIGHT);
    }
  }
}
