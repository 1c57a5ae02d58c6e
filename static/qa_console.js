/** The QA page: bans, from one clip's combo to any pattern, each looked at before and undone with a click. */
import { ApiError, getJSON, watchUrl } from './api.js';
import { CONFIRM_ABOVE, ban, banPreview, previewText, unban } from './ban_wrapper.js';
import { badges, poster } from './clip_card.js';
import { siblingsUrl } from './combo_view.js';
import { button, byId, debounce, h } from './dom.js';
import { FIELDS, comboOf, comboText, fixed, joinCombo, moment, splitCombo, splitName } from './format.js';
import { hasText, t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { grade } from './scores.js';
import { startPage } from './shell.js';

const PREVIEW_MS = 200;
const SUSPECTS = 12;

class QaConsole {
  /** @type {Record<string, HTMLInputElement>} */
  #fields = {};
  #asked = 0;
  #allowed = false;
  /** @type {Array<Record<string, any>>} */
  #bans = [];
  #order = 'manual';
  #reason = /** @type {HTMLInputElement} */ (byId('ban-reason'));
  #find = /** @type {HTMLInputElement} */ (byId('ban-search'));

  /** @param {Record<string, any>} options */
  constructor(options) {
    const values = {
      sampler: options.samplers, scheduler: options.schedulers, fps: options.fps, cfg: options.cfg, steps: options.steps,
      size: (options.sizes ?? []).map((/** @type {any} */ size) => (Array.isArray(size) ? size.join('x') : size)),
    };
    byId('ban-fields').append(...FIELDS.map((field) => this.#field(field, values[/** @type {keyof typeof values} */ (field)] ?? [])));
    const form = /** @type {HTMLFormElement} */ (byId('ban-form'));
    const soon = debounce(() => this.#preview(), PREVIEW_MS);
    byId('ban-fields').addEventListener('input', () => {
      this.#allow(false);
      this.#pattern();
      soon();
    });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#ban();
    });
    byId('ban-clear').addEventListener('click', () => this.fill(null));
    this.#find.addEventListener('input', () => this.#drawBans());
    for (const [id, order] of [['worst-rated', 'manual'], ['worst-score', 'score'], ['newest', 'newest']]) {
      byId(id).addEventListener('click', () => this.#suspects(order));
    }
    const again = debounce(() => this.refresh(), 300);
    live.addEventListener('changes', again);
    live.addEventListener('reset', again);
    live.addEventListener('connection', (event) => /** @type {CustomEvent} */ (event).detail && again());
    outbox.addEventListener('ack', again);
  }

  async start() {
    const asked = new URLSearchParams(location.search);
    let key = asked.get('key');
    const name = asked.get('name');
    if (!key && name) {
      try {
        const { details } = await getJSON('/api/video_details', { name });
        key = comboOf(details?.params);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        byId('ban-preview').textContent = error.message;
      }
    }
    this.fill(key);
    await this.refresh();
  }

  /** @param {string} field @param {any[]} values */
  #field(field, values) {
    const list = `values-${field}`;
    const input = /** @type {HTMLInputElement} */ (h('input', { class: 'input mono', id: `ban-${field}`, list, placeholder: t('any'), maxlength: 60, spellcheck: 'false' }));
    this.#fields[field] = input;
    const any = button({ label: t('qa.any_field', { field: t(`field.${field}`) }), icon: 'close', iconOnly: true, class: 'quiet small', onClick: () => {
      input.value = '';
      input.dispatchEvent(new Event('input', { bubbles: true }));
      input.focus();
    } });
    return h('div', { class: 'ban-field' }, h('label', { class: 'field', for: `ban-${field}` }, h('span', { text: t(`field.${field}`) })),
      h('div', { class: 'with-clear' }, input, any), h('datalist', { id: list }, ...values.map((value) => h('option', { value }))));
  }

  /** Puts a combo or pattern into the fields. @param {string | null} key */
  fill(key) {
    const fields = splitCombo(key) ?? {};
    for (const field of FIELDS) this.#fields[field].value = fields[field] === '*' ? '' : (fields[field] ?? '');
    this.#pattern();
    this.#preview();
  }

  get #key() {
    return joinCombo(Object.fromEntries(FIELDS.map((field) => [field, this.#fields[field].value])));
  }

  #pattern() {
    const key = this.#key;
    byId('ban-pattern').textContent = key;
    for (const field of FIELDS) this.#fields[field].parentElement?.classList.toggle('set', this.#fields[field].value.trim() !== '');
  }

  /** @param {boolean} allowed */
  #allow(allowed) {
    this.#allowed = allowed;
    byId('ban-submit').toggleAttribute('disabled', !allowed);
  }

  /** Says what the ban would touch, before it is made. */
  async #preview() {
    const key = this.#key;
    const box = byId('ban-preview');
    this.#asked += 1;
    const turn = this.#asked;
    const say = (/** @type {string} */ mood, /** @type {string} */ title, text = '') => {
      box.dataset.mood = mood;
      box.replaceChildren(h('strong', { text: title }), h('span', { class: 'muted', text }));
    };
    this.#allow(false);
    if (FIELDS.every((field) => !this.#fields[field].value.trim())) return say('idle', t('qa.choose'), t('qa.choose_why'));
    try {
      const preview = await banPreview({ key });
      if (turn !== this.#asked) return undefined;
      if (preview.armsLeft === 0) return say('poor', t('ban.leaves_nothing'), previewText(preview));
      this.#allow(true);
      return say(preview.total > CONFIRM_ABOVE ? 'fair' : 'good', tn('qa.touches', preview.total), previewText(preview));
    } catch (error) {
      if (turn !== this.#asked) return undefined;
      if (!(error instanceof ApiError)) throw error;
      return say('poor', t('qa.no_preview'), error.message);
    }
  }

  async #ban() {
    if (!this.#allowed) return;
    this.#allow(false);
    const action = await ban({ key: this.#key }, { reason: this.#reason.value.trim() });
    if (action) {
      this.#reason.value = '';
      this.fill(null);
    } else this.#preview();
  }

  // ------------------------------------------------------------ lists
  async refresh() {
    try {
      [this.#bans] = await Promise.all([getJSON('/api/bans'), this.#suspects(this.#order)]);
      this.#bans.sort((a, b) => (b.ts ?? 0) - (a.ts ?? 0));
      this.#drawBans();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      byId('bans').replaceChildren(h('li', { class: 'muted', role: 'alert', text: t('qa.failed', { why: error.message }) }));
    }
  }

  #drawBans() {
    const words = this.#find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = this.#bans.filter((item) => words.every((word) => `${item.key} ${item.reason ?? ''} ${item.by ?? ''}`.toLowerCase().includes(word)));
    byId('ban-count').textContent = String(this.#bans.length);
    byId('bans').replaceChildren(...shown.map((item) => this.#banItem(item)));
    if (!shown.length) byId('bans').append(h('li', { class: 'muted', text: t(this.#bans.length ? 'qa.none_found' : 'qa.none') }));
  }

  /** @param {Record<string, any>} item */
  #banItem(item) {
    const who = hasText(`by.${item.by}`) ? t(`by.${item.by}`) : (item.by ?? '–');
    return h(
      'li',
      { class: 'ban' },
      h('div', { class: 'ban-what' },
        h('span', { class: 'mono', text: comboText(item.key) }),
        h('span', { class: 'muted ban-why', text: [item.reason || t('qa.no_reason'), who, moment(item.ts)].join(' · ') })),
      button({ label: t('qa.edit'), class: 'quiet small', onClick: () => { this.fill(item.key); byId('ban-fields').scrollIntoView({ block: 'center' }); } }),
      button({ label: t('qa.unban'), class: 'small', onClick: () => {
        unban(item.key);
        this.#bans = this.#bans.filter((other) => other !== item);
        this.#drawBans();
      } }),
    );
  }

  /** Clips that speak for a ban: worst first, or newest. @param {string} order */
  async #suspects(order) {
    this.#order = order;
    for (const [id, name] of [['worst-rated', 'manual'], ['worst-score', 'score'], ['newest', 'newest']]) byId(id).setAttribute('aria-pressed', String(order === name));
    const query = { banned: 'false', limit: SUSPECTS };
    const found = order === 'newest' ? await getJSON('/api/search', { ...query, sort: 'newest' }) : await lowest(order, query);
    if (order !== this.#order) return;
    byId('suspects').replaceChildren(...found.items.map((/** @type {any} */ clip) => this.#suspect(clip)));
    if (!found.items.length) byId('suspects').append(h('li', { class: 'muted', text: t(order === 'manual' ? 'qa.none_rated' : 'qa.no_clips') }));
  }

  /** @param {import('./clip_card.js').Found} clip */
  #suspect(clip) {
    const key = clip.combo_key ?? comboOf(clip.params);
    const { file } = splitName(clip.name);
    return h(
      'li',
      { class: 'suspect' },
      h('a', { href: watchUrl(clip.name), class: 'suspect-link', 'aria-label': t('qa.watch', { name: file }) }, poster(clip.name, clip.exists)),
      h('div', { class: 'suspect-text' },
        h('span', { class: 'badges' }, typeof clip.score === 'number' && h('span', { class: `badge plain ${grade(clip.score)}`, text: fixed(clip.score) }), ...badges(clip)),
        h('a', { href: siblingsUrl(key), class: 'mono suspect-combo', text: comboText(key) })),
      h('div', { class: 'row' },
        button({ label: t('qa.wider'), class: 'quiet small', attrs: { disabled: !key }, onClick: () => { this.fill(key); byId('ban-sampler').scrollIntoView({ block: 'center' }); byId('ban-sampler').focus(); } }),
        button({ label: t('ban.do'), icon: 'ban', class: 'small', attrs: { disabled: !key }, onClick: () => ban({ key }, { reason: this.#reason.value.trim() }) })),
    );
  }
}

/** The lowest by rating or score: the server sorts best first, so the last page is what is wanted. */
async function lowest(sort, query) {
  const only = sort === 'manual' ? { rated: 'true' } : { min_score: 0 };
  const { total } = await getJSON('/api/search', { ...query, ...only, sort, limit: 1 });
  const found = await getJSON('/api/search', { ...query, ...only, sort, offset: Math.max(0, total - SUSPECTS) });
  return { ...found, items: found.items.reverse() };
}

startPage('qa').then(async () => {
  let options = {};
  try {
    options = await getJSON('/api/options');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    console.warn('the values to choose from could not be read:', error.message);
  }
  await new QaConsole(options).start();
});
