/** The search page: filters on the left, posters or a table on the right, and the query in the address. */
import { getJSON, getOptions, orElse, queryString } from './api.js';
import { BulkActions, MOST } from './bulk_actions.js';
import { posterCard, tableHead, tableRow } from './clip_card.js';
import { byId, debounce, h, icon, options as choices, press } from './dom.js';
import { comboText, joinCombo, splitCombo, whole } from './format.js';
import { t, textOr, tn } from './i18n.js';
import { live } from './live.js';
import { METRICS } from './scores.js';
import { keys, startPage } from './shell.js';
import { retryButton } from './toast.js';
import { VirtualList } from './virtual_list.js';

const TYPING_MS = 250;
const SORTS = ['newest', 'oldest', 'score', 'manual', 'rated', 'name'];
const TRI = ['rated', 'banned', 'reference', 'exists'];
const OWN = 'own.'; // before the name of a dimension of the user's own, in the address
const TILE_TEXT = 84; // name, parameters, badges

class SearchPage {
  #form = byId('filters');
  /** @type {Record<string, string>} every filter that is set, as in the address */
  #query = {};
  #view = 'grid';
  #bulk = new BulkActions(() => this.#all());
  #from = ''; // the clip whose box was ticked last
  #tile = { rowHeight: (width) => (width - 12) * 0.625 + TILE_TEXT, columnWidth: innerWidth < 700 ? 165 : 226, draw: (clip) => this.#selectable(posterCard(clip), clip) };
  #list;

  /** @param {Record<string, any>} options values that occur, from the server */
  constructor(options) {
    this.#buildFilters(options);
    const sort = byId('sort');
    sort.append(...choices(SORTS.map((name) => [name, t(`sort.${name}`)])));
    sort.addEventListener('change', () => this.#order(sort.value));
    for (const [id, view, symbol] of [['as-grid', 'grid', 'grid'], ['as-table', 'table', 'rows']]) {
      const element = byId(id);
      element.append(icon(symbol), h('span.btn-label', t(`search.as_${view}`)));
      element.setAttribute('aria-label', t(`search.as_${view}`)); // the text is hidden on a phone
      element.addEventListener('click', () => this.#set({ view: view === 'grid' ? '' : view }));
    }
    this.#list = new VirtualList(byId('list'), (offset, limit) => this.#load(offset, limit), this.#tile, (error) => this.#failed(error));
    byId('list').before(this.#bulk.element);
    this.#bulk.on('change', () => this.#tick());
    const soon = debounce(() => this.#read(), TYPING_MS);
    this.#form.addEventListener('input', soon);
    this.#form.addEventListener('change', () => this.#read());
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#read();
    });
    byId('filters-toggle').addEventListener('click', () => {
      const open = this.#form.classList.toggle('open');
      byId('filters-toggle').setAttribute('aria-expanded', String(open));
    });
    addEventListener('popstate', () => this.#fromAddress());
    const again = debounce(() => this.#list.reload({ keepPlace: true }).then((done) => done && this.#count()), 400);
    live.onNews(again);
    keys.add('find', ['/'], () => this.#input('q').focus(), 'search');
    this.#fromAddress();
  }

  #input(name) {
    return this.#form.elements.namedItem(name);
  }

  #buildFilters(options) {
    const sizes = (options.sizes ?? []).map((size) => (Array.isArray(size) ? size.join('x') : size));
    const select = (name, values, label = (v) => String(v)) =>
      h('label.field', h('span', filterName(name)),
        h('select.select', { name }, h('option', { value: '', text: t('any') }), ...values.map((v) => h('option', { value: v, text: label(v) }))));
    const range = (low, high, label, attrs) =>
      h('fieldset.range', h('legend', t(label)),
        h('input.input', { type: 'number', name: low, placeholder: t('from'), 'aria-label': `${t(label)}: ${t('from')}`, ...attrs }),
        h('input.input', { type: 'number', name: high, placeholder: t('to'), 'aria-label': `${t(label)}: ${t('to')}`, ...attrs }));
    byId('filters-body').append(
      h('div.pair', ...TRI.map((name) => select(name, ['true', 'false'], (v) => t(`filter.${name}.${v}`)))),
      range('min_score', 'max_score', 'filter.score', { min: 0, max: 1, step: 0.01 }),
      h('div.stack', select('metric', METRICS, (v) => (textOr(`score.${v}`, v))),
        range('min_metric', 'max_metric', 'filter.metric_range', { min: 0, max: 1, step: 0.01 })),
      range('min_overall', 'max_overall', 'filter.overall', { min: 1, max: 10, step: 1 }),
      h('div.pair',
        select('sampler', options.samplers ?? []), select('scheduler', options.schedulers ?? []), select('fps', options.fps ?? []),
        select('size', sizes, (v) => v.replace('x', '×'))),
      h('div.pair', ...Object.entries(options.extra ?? {}).map(([name, values]) => select(OWN + name, values))),
      range('min_cfg', 'max_cfg', 'filter.cfg', { min: 0, step: 0.1 }),
      range('min_steps', 'max_steps', 'filter.steps', { min: 1, step: 1 }),
      range('made_from', 'made_to', 'filter.made', { type: 'date' }),
      select('tag', options.tags ?? []),
      select('defect', options.defects ?? [], (v) => (textOr(`defect.${v}`, v))),
      h('button.btn', { text: t('search.clear'), on: { click: () => this.#set(Object.fromEntries(Object.keys(this.#query).filter((k) => k !== 'view').map((k) => [k, '']))) } }),
    );
  }

  // ------------------------------------------------------------ query
  /** Takes the form's values. */
  #read() {
    if (!this.#form.reportValidity()) return;
    const change = {};
    for (const [name, value] of new FormData(this.#form)) change[name] = String(value).trim();
    this.#set(change);
  }

  /** @param {Record<string, string>} change empty values take a filter away */
  #set(change) {
    const query = Object.fromEntries(Object.entries({ ...this.#query, ...change }).filter(([, value]) => value !== ''));
    if (queryString(query) === queryString(this.#query)) return;
    const text = queryString(query);
    history.pushState(null, '', text ? `?${text}` : location.pathname);
    this.#fromAddress();
  }

  #fromAddress() {
    this.#query = Object.fromEntries(new URLSearchParams(location.search));
    for (const element of this.#form.elements) {
      if (!element.name) continue;
      const value = this.#query[element.name] ?? '';
      if (element instanceof HTMLSelectElement && value && ![...element.options].some((option) => option.value === value)) {
        element.append(h('option', { value, text: value })); // a shared address may ask for what no clip here has
      }
      if (element !== document.activeElement || element.value.trim() !== value) element.value = value;
    }
    const sort = byId('sort');
    sort.value = SORTS.includes(this.#query.sort) ? this.#query.sort : 'newest';
    this.#show();
  }

  get #sort() {
    return this.#query.sort ?? 'newest';
  }

  /** Sorts by that; chosen once more, the other way round. */
  #order(by) {
    const turned = by === this.#sort && !this.#query.order;
    this.#set({ sort: by === 'newest' ? '' : by, order: turned ? (by === 'name' ? 'desc' : 'asc') : '' });
  }

  #filters() {
    const { view: _, combo, size, ...rest } = this.#query;
    const [width, height] = (size ?? '').split('x');
    const own = Object.keys(rest).filter((name) => name.startsWith(OWN)).map((name) => [name.slice(OWN.length), rest[name]]);
    for (const [name] of own) delete rest[OWN + name];
    const pattern = own.length ? joinCombo({ ...splitCombo(combo), ...Object.fromEntries(own) }) : combo;
    return { ...rest, ...(pattern && { combo: pattern }), ...(height && { width, height }) };
  }

  #load(offset, limit) {
    return getJSON('/api/search', { ...this.#filters(), offset, limit });
  }

  // ------------------------------------------------------------ showing
  async #show() {
    const view = this.#query.view === 'table' ? 'table' : 'grid';
    press([byId('as-grid'), byId('as-table')], (element) => element.id === `as-${view}`);
    byId('list').dataset.view = view;
    const table = {
      rowHeight: 52, columnWidth: null, draw: (clip) => this.#selectable(tableRow(clip), clip),
      head: () => tableHead(this.#sort, Boolean(this.#query.order), (by) => this.#order(by)),
    };
    if (view !== this.#view || view === 'table') this.#list.reshape(view === 'table' ? table : this.#tile);
    this.#view = view;
    this.#active();
    if (await this.#list.reload()) this.#count();
  }

  #count() {
    const { total } = this.#list;
    byId('total').textContent = tn('search.total', total, { n: whole(total) });
    const list = byId('list');
    list.querySelector('.nothing')?.remove();
    if (total > 0) return;
    const filtered = Object.keys(this.#filters()).filter((name) => !['sort', 'order'].includes(name)).length > 0;
    list.append(h('div.nothing', h('p.cover-title', t(filtered ? 'search.nothing' : 'search.empty')),
      h('p.muted', t(filtered ? 'search.nothing_why' : 'search.empty_why'))));
  }

  // ------------------------------------------------------------ choosing many
  /** Adds a box to tick; with Shift everything between it and the last one ticked. */
  #selectable(element, clip) {
    const box = h('input', { type: 'checkbox', class: 'pick', data: { name: clip.name }, 'aria-label': t('bulk.pick', { name: clip.name }) });
    box.checked = this.#bulk.chosen.has(clip.name);
    box.addEventListener('click', (event) => {
      const clips = (event.shiftKey && this.#list.between(this.#from, clip.name)) || [clip];
      this.#from = clip.name;
      this.#bulk.put(clips, box.checked);
    });
    element.prepend(box);
    return element;
  }

  #tick() {
    byId('list').classList.toggle('picking', this.#bulk.chosen.size > 0);
    for (const box of byId('list').querySelectorAll('.pick')) box.checked = this.#bulk.chosen.has(box.dataset.name);
  }

  /** Every clip found, up to what a selection may hold. */
  async #all() {
    return (await orElse(this.#load(0, MOST), (error) => this.#failed(error)))?.items ?? [];
  }

  /** The filters in force, each with a way to take it off. */
  #active() {
    byId('export').setAttribute('href', `/api/export?${queryString(this.#filters())}`);
    const shown = Object.entries(this.#query).filter(([name]) => !['sort', 'order', 'view'].includes(name));
    byId('active').replaceChildren(...shown.map(([name, value]) => {
      const label = name === 'combo' ? comboText(value) : `${filterName(name)}: ${textOr(`filter.${name}.${value}`, value)}`;
      return h('button.chip.active-filter', { 'aria-label': t('search.remove', { what: label }), on: { click: () => this.#set({ [name]: '' }) } }, h('span', label), icon('close'));
    }));
  }

  #failed(error) {
    const list = byId('list');
    list.querySelector('.nothing')?.remove();
    byId('total').textContent = '';
    list.append(h('div.nothing', { role: 'alert' }, h('p.cover-title', t('search.failed')), h('p.muted', error.message),
      retryButton(() => this.#show())));
  }
}

const filterName = (name) => textOr(`filter.${name}`, name.replace(OWN, ''));

startPage('search').then(async () => new SearchPage(await getOptions()));
