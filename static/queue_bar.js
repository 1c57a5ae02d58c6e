/** In which order, and which of them, clips come up for review; and how often one is shown a second time. Kept in the browser. */
import { ApiError, getJSON, newId } from './api.js';
import { button, debounce, h } from './dom.js';
import { fixed } from './format.js';
import { t } from './i18n.js';

export const ORDERS = ['informative', 'newest', 'oldest', 'best', 'worst', 'disagree', 'random'];
const SHARES = [0, 5, 10, 20];
const STORE = 'eva.queue';
const FILTERS = ['sampler', 'scheduler', 'size', 'min_score', 'defect'];
const FINDINGS = ['flicker', 'flash', 'freeze', 'black', 'truncated'];
const RERANKED = new Set(['informative', 'disagree']);

/** @typedef {{order: string, share: number, seed: string} & Record<string, any>} Settings */

/** @returns {Settings} */
function stored() {
  const usual = { order: 'newest', share: 0, seed: newId().slice(0, 8) };
  try {
    const found = JSON.parse(localStorage.getItem(STORE) ?? '{}');
    return { ...usual, ...found, order: ORDERS.includes(found.order) ? found.order : usual.order };
  } catch (error) {
    console.warn('the settings of the queue cannot be read; the newest clips come first:', error.message);
    return usual;
  }
}

/** Why a clip comes now: what the metrics say of it, and what the person said of others like it. @param {Record<string, any>} why */
export const whyBadge = (why) =>
  h('span', { class: 'badge', title: t(`queue.why_${why.of}`, { n: why.ratings }), text: t('queue.why', { auto: fixed(1 + 9 * why.score, 1), own: fixed(1 + 9 * why.rated, 1) }) });

/** Events: `change` (another order or filter: load anew). */
export class QueueBar extends EventTarget {
  settings = stored();
  #note = h('span', { class: 'muted queue-note', role: 'status' });
  /** @type {Record<string, HTMLSelectElement | HTMLInputElement>} */
  #inputs = {};
  #count = h('span', { class: 'badge', hidden: true });
  #filters = h('div', { class: 'queue-filters', id: 'queue-filters', hidden: true });
  #changed = debounce(() => this.#save(), 250);

  constructor() {
    super();
    const order = this.#select('order', ORDERS.map((name) => [name, t(`order.${name}`)]));
    order.classList.add('queue-order');
    order.setAttribute('aria-label', t('queue.order'));
    const open = button({ label: t('queue.filters'), icon: 'filter', class: 'quiet small', onClick: () => {
      this.#filters.hidden = !this.#filters.hidden;
      open.setAttribute('aria-expanded', String(!this.#filters.hidden));
      if (!this.#filters.hidden) this.#offer();
    }, attrs: { 'aria-expanded': 'false', 'aria-controls': 'queue-filters', id: 'queue-open' } });
    open.append(this.#count);
    this.#filters.append(
      this.#field('sampler', this.#select('sampler', [])),
      this.#field('scheduler', this.#select('scheduler', [])),
      this.#field('size', this.#select('size', [])),
      this.#field('min_score', this.#number('min_score')),
      this.#field('defect', this.#select('defect', FINDINGS.map((kind) => [kind, t(`finding.${kind}`)]))),
      this.#field('share', this.#select('share', SHARES.map((share) => [String(share), share ? t('queue.share', { n: share }) : t('queue.share_none')])), t('queue.share_why')),
      button({ label: t('queue.clear'), class: 'quiet small', onClick: () => this.clear() }),
    );
    this.element = h('div', { class: 'queue-bar' }, h('div', { class: 'row' }, order, open, this.#note), this.#filters);
    this.#show();
  }

  /** What `/api/videos` is asked for. */
  get query() {
    const { order, seed } = this.settings;
    const [width, height] = (this.settings.size ?? '').split('x');
    const given = { order, ...(order === 'random' && { seed }), ...(width && { width, height }) };
    for (const name of ['sampler', 'scheduler', 'min_score', 'defect']) if (this.settings[name]) given[name] = this.settings[name];
    return given;
  }

  get filtered() {
    return FILTERS.some((name) => this.settings[name]);
  }

  /** True where each rating may change which clip is best to see next. */
  get reranked() {
    return RERANKED.has(this.settings.order);
  }

  /** The order the server really used. @param {string | null} used */
  used(used) {
    const { order } = this.settings;
    this.#note.textContent = used && used !== order && order in { informative: 1, disagree: 1 } ? t(`queue.no_${order}`) : '';
  }

  clear() {
    for (const name of FILTERS) delete this.settings[name];
    this.#show();
    this.#save();
  }

  /** @param {string} name @param {Array<[string, string]>} choices */
  #select(name, choices) {
    const select = /** @type {HTMLSelectElement} */ (h('select', { class: 'select', name: `queue_${name}` }));
    this.#inputs[name] = select;
    this.#fill(name, choices);
    select.addEventListener('change', () => this.#set(name, select.value));
    return select;
  }

  /** @param {string} name @param {Array<[string, string]>} choices */
  #fill(name, choices) {
    const any = FILTERS.includes(name) ? [h('option', { value: '', text: t('queue.any') })] : [];
    this.#inputs[name].replaceChildren(...any, ...choices.map(([value, text]) => h('option', { value, text })));
  }

  /** @param {string} name */
  #number(name) {
    const input = /** @type {HTMLInputElement} */ (h('input', { class: 'input', type: 'number', min: 0, max: 1, step: 0.05, name: `queue_${name}`, inputmode: 'decimal' }));
    this.#inputs[name] = input;
    input.addEventListener('input', () => input.checkValidity() && this.#set(name, input.value));
    return input;
  }

  /** @param {string} name @param {HTMLElement} input @param {string} [why] */
  #field(name, input, why) {
    return h('label', { class: 'field', title: why }, h('span', { text: t(`queue.field_${name}`) }), input);
  }

  /** @param {string} name @param {string} value */
  #set(name, value) {
    this.settings[name] = name === 'share' ? Number(value) : value;
    if (name === 'order' && value === 'random') this.settings.seed = newId().slice(0, 8);
    this.#show();
    this.#changed();
  }

  #save() {
    localStorage.setItem(STORE, JSON.stringify(this.settings));
    this.dispatchEvent(new CustomEvent('change'));
  }

  #show() {
    for (const [name, input] of Object.entries(this.#inputs)) {
      const value = String(this.settings[name] ?? '');
      if (input instanceof HTMLSelectElement && value && ![...input.options].some((option) => option.value === value)) input.append(h('option', { value, text: value }));
      if (input.value !== value) input.value = value;
    }
    const active = FILTERS.filter((name) => this.settings[name]).length;
    this.#count.hidden = !active;
    this.#count.textContent = String(active);
  }

  /** Values that occur, asked for when the filters are opened. */
  async #offer() {
    try {
      const found = await getJSON('/api/options');
      const same = (values) => values.map((value) => [String(value), String(value)]);
      this.#fill('sampler', same(found.samplers));
      this.#fill('scheduler', same(found.schedulers));
      this.#fill('size', found.sizes.map(([width, height]) => [`${width}x${height}`, `${width}×${height}`]));
      this.#show();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      console.warn('the values to filter by are not known yet:', error.message);
    }
  }
}
