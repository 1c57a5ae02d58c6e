/** The QA page: bans, from one clip's combo to any pattern, each looked at before and undone with a click. */
import { getJSON, getOptions, orElse, watchUrl } from './api.js';
import { CONFIRM_ABOVE, ban, banPreview, previewText, unban } from './ban_wrapper.js';
import { badges, poster } from './clip_card.js';
import { siblingsUrl } from './combo_view.js';
import { button, byId, debounce, h } from './dom.js';
import { FIELDS, comboOf, comboText, fileOf, fixed, joinCombo, keyOf, moment, ownFields, splitCombo, whole } from './format.js';
import { hasText, t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { grade } from './scores.js';
import { startPage } from './shell.js';
import { retryButton } from './toast.js';

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
  #reason = byId('ban-reason');
  #find = byId('ban-search');

  /** @param {Record<string, any>} options */
  constructor(options) {
    const values = {
      sampler: options.samplers, scheduler: options.schedulers, fps: options.fps, cfg: options.cfg, steps: options.steps,
      size: (options.sizes ?? []).map((size) => (Array.isArray(size) ? size.join('x') : size)),
    };
    byId('ban-fields').append(...FIELDS.map((field) => this.#field(field, values[field] ?? [])));
    for (const [name, levels] of Object.entries(options.extra ?? {})) this.#own(name, levels);
    const form = byId('ban-form');
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
    live.onNews(again);
    outbox.on('ack', again);
  }

  async start() {
    const asked = new URLSearchParams(location.search);
    let key = asked.get('key');
    const name = asked.get('name');
    if (!key && name) {
      const found = await orElse(getJSON('/api/video_details', { name }), (error) => {
        byId('ban-preview').textContent = error.message;
      });
      key = comboOf(found?.details?.params);
    }
    this.fill(key);
    await this.refresh();
  }

  /** A field for a dimension of the user's own. */
  #own(name, values = []) {
    if (!this.#fields[name]) byId('ban-fields').append(this.#field(name, values));
  }

  #field(field, values) {
    const label = FIELDS.includes(field) ? t(`field.${field}`) : field;
    const list = `values-${field}`;
    const input = h('input.input.mono', { id: `ban-${field}`, list, placeholder: t('any'), maxlength: 60, spellcheck: 'false' });
    this.#fields[field] = input;
    const any = button({ label: t('qa.any_field', { field: label }), icon: 'close', iconOnly: true, class: 'quiet small', onClick: () => {
      input.value = '';
      input.dispatchEvent(new Event('input', { bubbles: true }));
      input.focus();
    } });
    return h('div.ban-field', h('label.field', { for: `ban-${field}` }, h('span', label)),
      h('div.with-clear', input, any), h('datalist', { id: list }, ...values.map((value) => h('option', { value }))));
  }

  /** Puts a combo or pattern into the fields. @param {string | null} key */
  fill(key) {
    const fields = splitCombo(key) ?? {};
    for (const name of ownFields(fields)) this.#own(name);
    for (const field of Object.keys(this.#fields)) this.#fields[field].value = fields[field] === '*' ? '' : (fields[field] ?? '');
    this.#pattern();
    this.#preview();
  }

  #show(key) {
    this.fill(key);
    byId('ban-sampler').scrollIntoView({ block: 'center' });
    byId('ban-sampler').focus();
  }

  get #key() {
    return joinCombo(Object.fromEntries(Object.entries(this.#fields).map(([field, input]) => [field, input.value])));
  }

  #pattern() {
    const key = this.#key;
    byId('ban-pattern').textContent = key;
    for (const input of Object.values(this.#fields)) input.parentElement?.classList.toggle('set', input.value.trim() !== '');
  }

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
    const say = (mood, title, text = '') => {
      box.dataset.mood = mood;
      box.replaceChildren(h('strong', title), h('span.muted', text));
    };
    this.#allow(false);
    if (Object.values(this.#fields).every((input) => !input.value.trim())) return say('idle', t('qa.choose'), t('qa.choose_why'));
    const preview = await orElse(banPreview({ key }), (error) => turn === this.#asked && say('poor', t('qa.no_preview'), error.message));
    if (!preview || turn !== this.#asked) return undefined;
    if (preview.armsLeft === 0) return say('poor', t('ban.leaves_nothing'), previewText(preview));
    this.#allow(true);
    return say(preview.total > CONFIRM_ABOVE ? 'fair' : 'good', tn('qa.touches', preview.total), previewText(preview));
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
    const found = await orElse(Promise.all([getJSON('/api/bans'), this.#suspects(this.#order), this.#advise()]), (error) => {
      byId('bans').replaceChildren(h('li.muted', { role: 'alert' }, t('qa.failed', { why: error.message }), ' ', retryButton(() => this.refresh())));
    });
    if (!found) return;
    this.#bans = found[0].sort((a, b) => (b.ts ?? 0) - (a.ts ?? 0));
    this.#drawBans();
  }

  #drawBans() {
    const words = this.#find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = this.#bans.filter((item) => words.every((word) => `${item.key} ${item.reason ?? ''} ${item.by ?? ''}`.toLowerCase().includes(word)));
    byId('ban-count').textContent = String(this.#bans.length);
    byId('bans').replaceChildren(...shown.map((item) => this.#banItem(item)));
    if (!shown.length) byId('bans').append(h('li.muted', t(this.#bans.length ? 'qa.none_found' : 'qa.none')));
  }

  #banItem(item) {
    const who = hasText(`by.${item.by}`) ? t(`by.${item.by}`) : (item.by ?? '–');
    return h(
      'li.ban',
      h('div.ban-what',
        h('span.mono', comboText(item.key)),
        h('span.muted.ban-why', [item.reason || t('qa.no_reason'), who, moment(item.ts)].join(' · '))),
      button({ label: t('qa.edit'), class: 'quiet small', onClick: () => this.#show(item.key) }),
      button({ label: t('qa.unban'), class: 'small', onClick: () => {
        unban(item.key);
        this.#bans = this.#bans.filter((other) => other !== item);
        this.#drawBans();
      } }),
    );
  }

  /** What the bandit would ban, with its evidence. */
  async #advise() {
    const { report, age_seconds: age, agent_alive: alive } = await getJSON('/api/bandit');
    const items = report?.ban_suggestions ?? [];
    byId('advice').hidden = false;
    byId('advice-intro').hidden = !items.length;
    const made = report && t('qa.advice_age', { when: moment(Date.now() / 1000 - age) });
    byId('advice-age').textContent = [made, report && !alive && t('qa.advice_old')].filter(Boolean).join(' · ');
    byId('advice-list').replaceChildren(...items.map((item) => this.#adviceItem(item)));
    if (!items.length) byId('advice-list').append(h('li.muted', t(report ? 'qa.advice_none' : 'qa.advice_wait')));
  }

  #adviceItem(item) {
    const facts = [['tries', whole(item.tries)], ['mean', fixed(item.mean)], ['best', fixed(item.best)], ['upper', fixed(item.upper)], ['arms', whole(item.arms)]];
    return h(
      'li.advice',
      h('div.advice-what',
        h('span.mono', comboText(item.key)),
        h('dl.advice-facts',
          ...facts.map(([name, value]) => h('div', h('dt.muted', t(`qa.fact_${name}`)), h('dd', value))))),
      button({ label: t('qa.advice_use'), class: 'small', attrs: { title: item.reason }, onClick: () => {
        this.#show(item.key);
        this.#reason.value = item.reason;
      } }),
    );
  }

  /** Clips that speak for a ban: worst first, or newest. */
  async #suspects(order) {
    this.#order = order;
    for (const [id, name] of [['worst-rated', 'manual'], ['worst-score', 'score'], ['newest', 'newest']]) byId(id).setAttribute('aria-pressed', String(order === name));
    const query = { banned: 'false', limit: SUSPECTS };
    const found = order === 'newest' ? await getJSON('/api/search', { ...query, sort: 'newest' }) : await lowest(order, query);
    if (order !== this.#order) return;
    byId('suspects').replaceChildren(...found.items.map((clip) => this.#suspect(clip)));
    if (!found.items.length) byId('suspects').append(h('li.muted', t(order === 'manual' ? 'qa.none_rated' : 'qa.no_clips')));
  }

  /** @param {import('./clip_card.js').Found} clip */
  #suspect(clip) {
    const key = keyOf(clip);
    const file = fileOf(clip.name);
    return h(
      'li.suspect',
      h('a', { href: watchUrl(clip.name), class: 'suspect-link', 'aria-label': t('qa.watch', { name: file }) }, poster(clip.name, clip.exists)),
      h('div.suspect-text',
        h('span.badges', typeof clip.score === 'number' && h('span', { class: `badge plain ${grade(clip.score)}`, text: fixed(clip.score) }), ...badges(clip)),
        h('a', { href: siblingsUrl(key), class: 'mono suspect-combo', text: comboText(key) })),
      h('div.row',
        button({ label: t('qa.wider'), class: 'quiet small', attrs: { disabled: !key }, onClick: () => this.#show(key) }),
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

startPage('qa').then(async () => new QaConsole(await getOptions()).start());
