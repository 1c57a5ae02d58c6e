/**
 * Parallel coordinates: every clip a line across its settings, score and rating, coloured by its outcome. Dragging along an axis keeps
 * the lines that pass there; what is kept can be opened in the search, as far as the search has filters for it.
 */
import { queryString } from './api.js';
import { Emitter, button, h, svg } from './dom.js';
import { FIELDS, fieldName, fixed, joinCombo, short } from './format.js';
import { t, tn } from './i18n.js';

const RANGES = { score: 'score', rating: 'overall', cfg: 'cfg', steps: 'steps' }; // what the search knows as min_ and max_
const [SCORE, RATING, NAME, OWN] = [6, 7, 8, 9]; // places in a row, after FIELDS; OWN holds the user's own dimensions by name
const ENOUGH_RATED = 8; // from which on the rating is the outcome
const [TOP, BOTTOM, SIDE] = [12, 30, 40]; // pixels around the axes
const LEAST = 4; // pixels; a shorter drag takes the axis' selection away
const MARKS = 9; // values written beside an axis; of more only the ends

/**
 * @typedef {{name: string, own: boolean, free: boolean, of: (row: any[]) => any, values: any[], at: (value: any) => number}} Axis
 * `own`: a dimension of the user's own; `free`: any value between the ends, not only `values`; `of`: a row's value or null; `at`: a value's
 * place, 0 below to 1 above.
 */

/** The axes of some rows and the rows that have an outcome. @returns {{axes: Axis[], rows: any[][], outcome: number}} */
export function axesOf(all) {
  const outcome = all.filter((row) => row[RATING] !== null).length >= ENOUGH_RATED ? RATING : SCORE;
  const rows = all.filter((row) => row[outcome] !== null);
  const place = (name, column) => ({ name, own: false, free: column >= SCORE, of: (row) => row[column] });
  const own = [...new Set(rows.flatMap((row) => Object.keys(row[OWN] ?? {})))].sort();
  const columns = [...FIELDS.map(place), ...own.map((name) => ({ name, own: true, free: false, of: (row) => row[OWN]?.[name] ?? null })), place('score', SCORE), place('rating', RATING)];
  const axes = columns.slice(0, outcome === RATING ? undefined : -1).map(({ name, own: mine, free, of }) => {
    const values = [...new Set(rows.map(of).filter((value) => value !== null))];
    values.sort((a, b) => (typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true })));
    const [low, room] = [values[0], values.at(-1) - values[0]];
    const at = (value) => (free ? (room > 0 ? (value - low) / room : 0.5) : values.length > 1 ? values.indexOf(value) / (values.length - 1) : 0.5);
    return { name, own: mine, free, of, values, at };
  });
  return { axes, rows, outcome };
}

/**
 * The search's filters for what is kept. `exact` is false where several values of a setting are kept that is searched by one value only.
 * @param {Axis[]} axes @param {Map<string, [number, number]>} kept the part of each axis, 0 to 1
 */
export function filtersOf(axes, kept) {
  const filters = {};
  const fields = {};
  let exact = true;
  for (const { name, own, values, free, at } of axes) {
    const part = kept.get(name);
    if (!part) continue;
    const inside = values.filter((value) => at(value) >= part[0] && at(value) <= part[1]);
    if (!own && name in RANGES) {
      const [low, high] = free ? part.map((place) => values[0] + place * (values.at(-1) - values[0])) : [inside[0], inside.at(-1)];
      const digits = name === 'score' ? 3 : name === 'rating' ? 1 : 6;
      if (low !== undefined) filters[`min_${RANGES[name]}`] = short(Number(low.toFixed(digits)));
      if (high !== undefined) filters[`max_${RANGES[name]}`] = short(Number(high.toFixed(digits)));
    } else if (inside.length !== 1) exact = false;
    else if (own) fields[name] = short(inside[0]);
    else filters[name] = inside[0];
  }
  if (Object.keys(fields).length) filters.combo = joinCombo(fields);
  return { filters, exact };
}

/** Events: `kept` (how many lines). */
export class Parallel extends Emitter {
  #box = h('div.parallel', { role: 'group', tabindex: 0, 'aria-label': t('insights.parallel.title') });
  #said = h('span', { role: 'status' });
  #link = h('a.btn.small', { text: t('insights.parallel.search') });
  #clear = button({ label: t('insights.parallel.clear'), icon: 'close', class: 'small quiet', onClick: () => this.#change(() => this.#kept.clear()) });
  #bar = h('div.row.wrap', this.#said, this.#link, this.#clear);
  /** @type {Map<string, [number, number]>} */
  #kept = new Map();
  #all = [];
  #drawn = ''; // what is on the page: it is not built anew under a hand that drags
  #dragging = false;
  element = h('div', this.#box, this.#bar);

  constructor() {
    super();
    new ResizeObserver(() => this.#draw()).observe(this.#box);
  }

  /** @param {any[][]} rows sampler, scheduler, fps, cfg, steps, size, score, rating, name, own dimensions */
  show(rows) {
    this.#all = rows;
    this.#draw();
  }

  #change(action) {
    action();
    this.#draw();
  }

  #draw() {
    const [width, height] = [Math.max(this.#box.clientWidth, 640), this.#box.clientHeight];
    const wanted = JSON.stringify([width, height, [...this.#kept], this.#all]);
    if (this.#dragging || wanted === this.#drawn || !this.#box.clientWidth) return;
    this.#drawn = wanted;
    const { axes, rows, outcome } = axesOf(this.#all);
    if (!rows.length) return;
    const x = (i) => SIDE + (i * (width - 2 * SIDE)) / (axes.length - 1);
    const y = (place) => height - BOTTOM - place * (height - TOP - BOTTOM);
    const order = rows.map((row) => row[outcome]).sort((a, b) => a - b);
    const cuts = [1, 2].map((third) => order[Math.floor((order.length * third) / 3)]);
    const passes = (row) => axes.every(({ name, of, at }) => {
      const part = this.#kept.get(name);
      return !part || (of(row) !== null && at(of(row)) >= part[0] && at(of(row)) <= part[1]);
    });
    let n = 0;
    const lines = rows.map((row, i) => {
      const aside = (((i * 7919) % 100) / 100 - 0.5) * 0.05; // lines through one value lie side by side
      const places = axes.flatMap(({ of, at, free }, j) => (of(row) === null ? [] : `${x(j).toFixed(1)},${y(at(of(row)) + (free ? 0 : aside)).toFixed(1)}`));
      const on = passes(row);
      n += Number(on);
      const third = row[outcome] === order[0] ? 'poor' : row[outcome] >= cuts[1] ? 'good' : row[outcome] >= cuts[0] ? 'middle' : 'poor';
      return svg('polyline', { points: places.join(' '), class: on ? third : 'off' }, svg('title', {}, row[NAME]));
    });
    lines.sort((a, b) => Number(a.classList[0] !== 'off') - Number(b.classList[0] !== 'off'));
    this.#box.replaceChildren(svg('svg', { width, height, role: 'img', 'aria-label': t('insights.parallel.title') }, ...lines, ...axes.map((axis, i) => this.#axis(axis, x(i), y, height, i === 0, i === axes.length - 1))));
    const some = this.#kept.size > 0;
    const { filters, exact } = filtersOf(axes, this.#kept);
    this.#said.textContent = some ? tn('insights.parallel.kept', n, { all: rows.length }) + (exact ? '' : ` ${t('insights.parallel.partly')}`) : t('insights.parallel.how');
    this.#link.href = `/search?${queryString({ ...filters, sort: outcome === RATING ? 'manual' : 'score' })}`;
    for (const element of [this.#link, this.#clear]) element.hidden = !some;
    this.emit('kept', n);
  }

  /** An axis with its values (the first has them at its right, where nothing is cut off), what is kept of it, and the room beside it to drag in. */
  #axis({ name, values, free, at, own }, x, y, height, first, last) {
    const marks = free || values.length > MARKS ? [values[0], values.at(-1)] : values;
    const write = (value) => (free ? fixed(value, name === 'score' ? 2 : 1) : short(value).replace(/^(\d+)x(\d+)$/, '$1×$2'));
    const part = this.#kept.get(name);
    const room = svg('rect', { class: 'parallel-room', x: x - 22, width: 44, y: TOP - 8, height: height - TOP - BOTTOM + 16, 'data-axis': name });
    const brush = svg('rect', { class: 'parallel-brush', x: x - 9, width: 18, y: 0, height: 0 });
    const cover = (from, to) => {
      brush.setAttribute('y', String(Math.min(from, to)));
      brush.setAttribute('height', String(Math.abs(to - from)));
    };
    if (part) cover(y(part[1]), y(part[0]));
    room.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      room.setPointerCapture(event.pointerId);
      this.#dragging = true;
      const top = room.ownerSVGElement.getBoundingClientRect().top;
      const start = event.clientY - top;
      room.onpointermove = (move) => cover(start, move.clientY - top);
      room.onpointercancel = () => { this.#dragging = false; };
      room.onpointerup = (up) => this.#change(() => {
        this.#dragging = false;
        const places = [start, up.clientY - top].map((pixel) => Math.min(1, Math.max(0, (y(0) - pixel) / (y(0) - y(1))))).sort((a, b) => a - b);
        if (Math.abs(up.clientY - top - start) < LEAST) this.#kept.delete(name);
        else this.#kept.set(name, places);
      });
    });
    return svg('g', {},
      svg('line', { x1: x, x2: x, y1: y(0), y2: y(1) }),
      ...marks.map((value) => svg('text', { x: first ? x + 6 : x - 6, y: y(at(value)) + 4, 'text-anchor': first ? 'start' : 'end' }, write(value))),
      svg('text', { x: last ? x + SIDE : x, y: height - 8, 'text-anchor': last ? 'end' : 'middle', class: 'parallel-name' }, own ? name : name === 'rating' ? t('insights.rating') : fieldName(name)),
      brush, room);
  }
}
