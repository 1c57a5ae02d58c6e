/**
 * A list of any length that only ever holds the rows on screen. Rows of one fixed height lie in one or
 * more columns; what is not loaded yet is asked for page by page, and shown as a quiet placeholder.
 */
import { orElse } from './api.js';
import { h } from './dom.js';

const PAGE = 100;
const SPARE = 4; // rows drawn beyond each edge, so that quick scrolling meets no blank
const PAGES_KEPT = 40;

/**
 * @typedef {{rowHeight: number | ((cellWidth: number) => number), columnWidth: number | null, draw: (item: T) => HTMLElement, head?: () => HTMLElement}} Shape
 * `columnWidth` null: one column.
 */

/** @template T */
export class VirtualList {
  #total = 0;
  /** @type {Map<number, T[] | null>} page number -> items, null while asked for */
  #pages = new Map();
  #generation = 0;
  #columns = 1;
  #rowHeight = 1;
  /** @type {Map<number, HTMLElement>} */
  #drawn = new Map();
  #canvas = h('div.vl-canvas');
  #headPlace = h('div.vl-head');

  /**
   * @param {HTMLElement} root the element that scrolls
   * @param {(offset: number, limit: number) => Promise<{items: T[], total: number}>} load
   * @param {Shape<T>} shape
   * @param {(error: unknown) => void} onError
   */
  constructor(root, load, shape, onError) {
    this.root = root;
    this.load = load;
    this.shape = shape;
    this.onError = onError;
    root.replaceChildren(this.#headPlace, this.#canvas);
    root.addEventListener('scroll', () => this.#draw(), { passive: true });
    new ResizeObserver(() => this.#layout()).observe(root);
  }

  get total() { return this.#total; }

  /** @param {Shape<T>} shape */
  reshape(shape) {
    this.shape = shape;
    this.root.scrollTop = 0;
    this.#clear();
    this.#layout();
  }

  /** Forgets what is loaded and asks again. @param {{keepPlace?: boolean}} [options] @returns {Promise<boolean>} false: it failed, or a later one took over */
  async reload(options = {}) {
    this.#generation += 1;
    const generation = this.#generation;
    // The old rows stay on screen until the new ones are there: nothing blinks or jumps.
    const page = options.keepPlace ? Math.floor(this.#firstVisible() / PAGE) : 0;
    const fresh = await this.#ask(page, generation);
    if (!fresh || generation !== this.#generation) return false;
    this.#pages = new Map([[page, fresh]]);
    if (!options.keepPlace) this.root.scrollTop = 0;
    this.#clear();
    this.#layout();
    return true;
  }

  /** The loaded items from one name to another, both included; null where one is not loaded. */
  between(from, to) {
    const items = [...this.#pages].sort(([a], [b]) => a - b).flatMap(([, page]) => page ?? []);
    const [a, b] = [from, to].map((name) => items.findIndex((item) => item.name === name)).sort((x, y) => x - y);
    return a < 0 ? null : items.slice(a, b + 1);
  }

  async #ask(page, generation) {
    const mine = () => generation === this.#generation;
    const found = await orElse(this.load(page * PAGE, PAGE), (error) => mine() && this.onError(error));
    if (!found) return null;
    if (mine()) this.#total = found.total;
    return found.items;
  }

  #clear() {
    for (const element of this.#drawn.values()) element.remove();
    this.#drawn.clear();
  }

  #layout() {
    const width = this.#canvas.clientWidth;
    const columns = this.shape.columnWidth ? Math.max(1, Math.floor(width / this.shape.columnWidth)) : 1;
    if (columns !== this.#columns) this.#clear();
    const { rowHeight } = this.shape;
    const height = typeof rowHeight === 'number' ? rowHeight : Math.round(rowHeight(width / columns));
    if (height !== this.#rowHeight) this.#clear();
    this.#columns = columns;
    this.#rowHeight = height;
    this.#headPlace.replaceChildren(...(this.shape.head ? [this.shape.head()] : []));
    this.#canvas.style.setProperty('height', `${Math.ceil(this.#total / columns) * height}px`);
    this.#canvas.style.setProperty('--columns', String(columns));
    this.#draw();
  }

  #firstVisible() {
    return Math.max(0, Math.floor(this.root.scrollTop / this.#rowHeight)) * this.#columns;
  }

  #draw() {
    const rowHeight = this.#rowHeight;
    const rows = Math.ceil(this.root.clientHeight / rowHeight) + SPARE;
    const from = Math.max(0, this.#firstVisible() - SPARE * this.#columns);
    const to = Math.min(this.#total, this.#firstVisible() + rows * this.#columns);
    for (const [i, element] of this.#drawn) {
      if (i < from || i >= to) {
        element.remove();
        this.#drawn.delete(i);
      }
    }
    for (let i = from; i < to; i += 1) {
      const item = this.#item(i);
      const there = this.#drawn.get(i);
      if (there && (item === undefined || !there.classList.contains('vl-wait'))) continue;
      const element = item === undefined ? h('div.vl-wait') : this.shape.draw(item);
      element.classList.add('vl-cell');
      element.style.setProperty('top', `${Math.floor(i / this.#columns) * rowHeight}px`);
      element.style.setProperty('height', `${rowHeight}px`);
      element.style.setProperty('--column', String(i % this.#columns));
      if (there) there.replaceWith(element);
      else this.#insert(i, element);
      this.#drawn.set(i, element);
    }
  }

  /** Keeps the document's order that of the list, for the keyboard and for screen readers. */
  #insert(i, element) {
    for (let before = i - 1; before >= i - 200 && before >= 0; before -= 1) {
      const neighbour = this.#drawn.get(before);
      if (neighbour) {
        neighbour.after(element);
        return;
      }
    }
    this.#canvas.prepend(element);
  }

  #item(i) {
    const number = Math.floor(i / PAGE);
    const page = this.#pages.get(number);
    if (page === undefined) this.#fetch(number);
    return page?.[i - number * PAGE];
  }

  async #fetch(number) {
    this.#pages.set(number, null);
    const generation = this.#generation;
    const items = await this.#ask(number, generation);
    if (generation !== this.#generation) return;
    if (!items) {
      this.#pages.delete(number);
      return;
    }
    this.#pages.set(number, items);
    for (const old of this.#pages.keys()) {
      if (this.#pages.size <= PAGES_KEPT) break;
      if (Math.abs(old - number) > PAGES_KEPT / 4) this.#pages.delete(old);
    }
    this.#draw();
  }
}
