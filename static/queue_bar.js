/** In which order, and which of them, clips come up for review; and how often one is shown a second time. Kept in the browser. */
import { getOptions, newId } from './api.js';
import { Emitter, button, debounce, h, options, select, store, stored } from './dom.js';
import { fixed } from './format.js';
import { t } from './i18n.js';

const ORDERS = ['informative', 'newest', 'oldest', 'best_predicted', 'worst_predicted', 'best', 'worst', 'disagree', 'random'];
const SHARES = [0, 5, 10, 20];
const STORE = 'eva.queue';
const FILTERS = ['sampler', 'scheduler', 'size', 'min_score', 'defect'];
const FINDINGS = ['flicker', 'flash', 'freeze', 'black', 'truncated'];
const RERANKED = new Set(['informative', 'disagree', 'best_predicted', 'worst_predicted']);

/** @typedef {{order: string, share: number, seed: string} & Record<string, any>} Settings */

function kept() {
  const found = { order: ORDERS[0], share: 0, seed: newId().slice(0, 8), ...stored(STORE, {}) };
  return { ...found, order: ORDERS.includes(found.order) ? found.order : ORDERS[0] };
}

/** How a clip of the queue stands, and why it comes now: what the metrics say of it against what the person said of others like it. */
export function standing({ clip: { order_why: why }, rated, skipped, gone, shared }) {
  const all = [];
  if (rated) all.push(h('span.badge', t('review.rated_as', { n: rated })));
  if (skipped) all.push(h('span.badge', t('review.is_skipped')));
  if (!rated && (gone || shared)) all.push(h('span.badge.fair', { title: t('review.elsewhere_why') }, t(gone ? 'review.elsewhere_rated' : 'review.elsewhere_shown')));
  if (why && !rated) all.push(h('span.badge', { title: t(`queue.why_${why.of}`, { n: why.ratings }), text: t('queue.why', { auto: fixed(1 + 9 * why.score, 1), own: fixed(1 + 9 * why.rated, 1) }) }));
  return all;
}

/** Events: `change` (another order or filter: load anew). */
export class QueueBar extends Emitter {
  settings = kept();
  #note = h('span.muted.queue-note', { role: 'status' });
  /** @type {Record<string, HTMLSelectElement | HTMLInputElement>} */
  #inputs = {};
  #count = h('span.badge', { hidden: true });
  #filters = h('div.queue-filters', { id: 'queue-filters', hidden: true });
  #changed = debounce(() => this.#save(), 250);

  constructor() {
    super();
    const order = this.#select('order', ORDERS.map((name) => [name, t(`order.${name}`)]), { class: 'select queue-order', 'aria-label': t('queue.order') });
    const open = button({ label: t('queue.filters'), icon: 'filter', class: 'quiet small', onClick: () => {
      this.#filters.hidden = !this.#filters.hidden;
      open.setAttribute('aria-expanded', String(!this.#filters.hidden));
      if (!this.#filters.hidden) this.#offer();
    }, attrs: { 'aria-expanded': 'false', 'aria-controls': 'queue-filters', id: 'queue-open' } });
    open.append(this.#count);
    const field = (name, input, title) => h('label.field', { title }, h('span', t(`queue.field_${name}`)), input);
    this.#filters.append(
      ...['sampler', 'scheduler', 'size'].map((name) => field(name, this.#select(name, []))),
      field('min_score', this.#number('min_score')),
      field('defect', this.#select('defect', FINDINGS.map((kind) => [kind, t(`finding.${kind}`)]))),
      field('share', this.#select('share', SHARES.map((share) => [share, share ? t('queue.share', { n: share }) : t('queue.share_none')])), t('queue.share_why')),
      button({ label: t('queue.clear'), class: 'quiet small', onClick: () => this.clear() }),
    );
    this.element = h('div.queue-bar', h('div.row', order, open, this.#note), this.#filters);
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

  /** The order the server really used. */
  used(used) {
    const { order } = this.settings;
    this.#note.textContent = used && used !== order && RERANKED.has(order) ? t(`queue.no_${order.replace(/^.*_/, '')}`) : '';
  }

  clear() {
    for (const name of FILTERS) delete this.settings[name];
    this.#show();
    this.#save();
  }

  #select(name, choices, props = {}) {
    const list = select([], { name: `queue_${name}`, on: { change: () => this.#set(name, list.value) }, ...props });
    this.#inputs[name] = list;
    this.#fill(name, choices);
    return list;
  }

  #fill(name, choices) {
    this.#inputs[name].replaceChildren(...options([...(FILTERS.includes(name) ? [['', t('queue.any')]] : []), ...choices]));
  }

  #number(name) {
    const input = h('input.input', { type: 'number', min: 0, max: 1, step: 0.05, name: `queue_${name}`, inputmode: 'decimal' });
    this.#inputs[name] = input;
    input.addEventListener('input', () => input.checkValidity() && this.#set(name, input.value));
    return input;
  }

  #set(name, value) {
    this.settings[name] = name === 'share' ? Number(value) : value;
    if (name === 'order' && value === 'random') this.settings.seed = newId().slice(0, 8);
    this.#show();
    this.#changed();
  }

  #save() {
    store(STORE, this.settings);
    this.emit('change');
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
    const found = await getOptions();
    const same = (values = []) => values.map((value) => [value, String(value)]);
    this.#fill('sampler', same(found.samplers));
    this.#fill('scheduler', same(found.schedulers));
    this.#fill('size', (found.sizes ?? []).map(([width, height]) => [`${width}x${height}`, `${width}×${height}`]));
    this.#show();
  }
}
