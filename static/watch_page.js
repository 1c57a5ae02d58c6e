/** One clip with everything that is known about it. */
import { ApiError, getJSON, queryString, watchUrl } from './api.js';
import { ban } from './ban_wrapper.js';
import { badges, poster } from './clip_card.js';
import { comboLinks, comboTable, longText, siblingsUrl } from './combo_view.js';
import { button, byId, clicksKeepFocus, debounce, h } from './dom.js';
import { comboFilters, comboOf, comboText, fileSize, fixed, moment, short, splitName } from './format.js';
import { FramePlot } from './frame_plot.js';
import { hasText, t } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { Player } from './player.js';
import { RatingForm } from './rating_form.js';
import { requestButtons } from './request_buttons.js';
import { scoreList } from './scores.js';
import { keys, startPage } from './shell.js';
import { toast } from './toast.js';

const ACTIONS_READ = 200;
const SIBLINGS = 12;
const PROMPT_WORDS = 300; // characters of a prompt that the search is asked for
const EDIT_PAUSE_MS = 700;

class WatchPage {
  name = new URLSearchParams(location.search).get('name') ?? '';
  player = new Player(byId('player'));
  form = new RatingForm();
  /** @type {string | null} */
  #key = null;
  /** @type {Record<string, any> | null} what is saved or on its way */
  #rating = null;
  /** @type {string[]} */
  #done = [];
  #shown = false;
  #prompt = '';
  #like = 'combo';

  constructor() {
    byId('marks-row').append(this.form.marks);
    const { reference, dims, defects, note } = this.form.parts;
    byId('defects').append(defects);
    byId('dims').append(dims);
    byId('note').append(note);
    this.form.addEventListener('rate', (event) => this.rate(/** @type {CustomEvent} */ (event).detail));
    const saveSoon = debounce(() => this.#rating && this.rate(this.#rating.overall_quality), EDIT_PAUSE_MS);
    this.form.addEventListener('edit', saveSoon);
    this.form.bindKeys();
    this.player.bindKeys();
    keys.add('unusable', ['x'], () => this.rate(1, ['unusable']), 'queue');
    keys.add('ban', ['b'], () => this.ban(), 'queue');
    keys.add('undo', ['Backspace', 'Ctrl+z'], () => this.undo(), 'queue');
    byId('actions').append(
      reference,
      button({ label: t('action.unusable'), icon: 'trash', hint: keys.hint('unusable'), onClick: () => this.rate(1, ['unusable']) }),
      button({ label: t('action.ban'), icon: 'ban', hint: keys.hint('ban'), class: 'act-ban', attrs: { id: 'act-ban' }, onClick: () => this.ban() }),
      button({ label: t('action.undo'), icon: 'undo', hint: keys.hint('undo'), attrs: { id: 'act-undo', disabled: true }, onClick: () => this.undo() }),
    );
    byId('like').append(...['combo', 'prompt'].map((by) => h('button', { type: 'button', class: 'btn small', 'aria-pressed': String(by === this.#like), text: t(`watch.same_${by}`), data: { by }, on: { click: () => this.#chooseLike(by) } })));
    clicksKeepFocus(byId('main'));
    const again = debounce(() => this.load(), 300);
    live.addEventListener('changes', (event) => {
      const mine = /** @type {CustomEvent} */ (event).detail.some((/** @type {any} */ change) => change.name === this.name || change.kind === 'undo' || (change.key && change.key === this.#key));
      if (mine) again();
    });
    live.addEventListener('reset', again);
    outbox.addEventListener('ack', again);
  }

  async load() {
    if (!this.name) {
      this.#missing(t('watch.no_name'), t('watch.no_name_why'));
      return;
    }
    try {
      const answer = await getJSON('/api/video_details', { name: this.name });
      this.#show(answer);
      await Promise.all([this.#history(), this.#siblings()]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 404) this.#missing(t('watch.unknown'), t('watch.unknown_why', { name: this.name }));
      else if (!this.#shown) this.#missing(t('watch.failed'), error.message, button({ label: t('retry'), onClick: () => this.load() }));
    }
  }

  /** @param {string} title @param {string} text @param {...Node} controls */
  #missing(title, text, ...controls) {
    byId('main').classList.add('empty');
    this.form.show('', null);
    this.player.message(title, text, ...controls, h('a', { class: 'btn', href: '/search', text: t('review.to_search') }));
  }

  /** @param {Record<string, any>} answer */
  #show(answer) {
    const { folder, file } = splitName(this.name);
    document.title = `${file} · EVA`;
    const details = answer.details ?? {};
    const params = details.params ?? {};
    const metrics = details.metrics ?? details.auto_metrics ?? {};
    this.#prompt = details.prompt ?? '';
    this.#key = answer.combo_key ?? details.combo_key ?? comboOf(params);
    const saved = answer.manual_rating?.rating ?? answer.manual_rating ?? null;
    const waiting = outbox.waiting().some((action) => action.body.video_name === this.name || action.kind === 'undo');
    byId('clip-name').replaceChildren(h('span', { class: 'muted', text: folder }), h('span', { text: file }));
    if (!waiting) this.#rating = saved;
    byId('clip-badges').replaceChildren(...badges(/** @type {any} */ ({
      manual_overall: this.#rating?.overall_quality ?? null, reference: Boolean(this.#rating?.is_reference), banned: Boolean(answer.banned_by || this.#rating?.banned),
    })));
    byId('combo').replaceChildren(
      comboTable(this.#key, { seed: details.seed ?? params.seed, seconds: details.seconds ?? params.seconds, score: typeof details.score === 'number' ? fixed(details.score) : null, file: answer.size_mb ? fileSize(answer.size_mb) : null, made: answer.created ? moment(answer.created) : null }),
    );
    byId('combo-links').replaceChildren(...comboLinks(this.#key));
    byId('prompt').replaceChildren(longText(details.prompt ?? '', t('review.no_prompt')));
    byId('negative').replaceChildren(longText(details.negative_prompt ?? '', t('watch.no_negative')));
    byId('scores').replaceChildren(scoreList(metrics));
    byId('raw').textContent = JSON.stringify(answer, null, 2);
    if (!this.#shown) {
      this.#shown = true;
      this.form.show(this.name, this.#rating);
      if (answer.exists === false) this.player.message(t('clip.gone'), t('watch.gone_why'));
      else {
        this.player.show({ name: this.name, fps: params.fps, findings: details.findings });
        const plot = new FramePlot(this.player);
        byId('series').replaceChildren(plot.element);
        plot.show(this.name);
      }
      byId('ask-agent').hidden = false;
      byId('requests').replaceChildren(requestButtons({ name: this.name, params: details.params }));
      this.#workflow();
    } else if (!waiting && !document.activeElement?.matches('textarea')) this.form.show(this.name, this.#rating);
  }

  async #history() {
    const answer = await getJSON('/api/actions', { name: this.name, limit: ACTIONS_READ });
    const mine = answer.filter((/** @type {any} */ action) => action.name === this.name || action.left === this.name || action.right === this.name);
    byId('history').replaceChildren(...mine.map((/** @type {any} */ action) => h('li', {}, h('span', { class: 'muted', text: moment(action.ts) }), h('span', { text: actionText(action) }))));
    if (!mine.length) byId('history').append(h('li', { class: 'muted', text: t('watch.no_history') }));
  }

  /** What ComfyUI stored in the file: to keep, or to drop on ComfyUI's canvas. */
  async #workflow() {
    try {
      const found = await getJSON('/api/workflow', { name: this.name, probe: 'true' });
      const link = (/** @type {string} */ part) => found.parts.includes(part) && h('a', { class: 'btn small', href: `/api/workflow?${queryString({ name: this.name, part })}`, download: '', title: t(`workflow.${part}_why`), text: t(`workflow.${part}`) });
      byId('workflow').replaceChildren(...(found.parts.length ? [h('div', { class: 'row wrap' }, link('workflow'), link('prompt')), h('p', { class: 'muted', text: t('workflow.how') })] : [h('p', { class: 'muted', text: t('workflow.none') })]));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      byId('workflow').replaceChildren(h('p', { class: 'muted', text: error.message }));
    }
  }

  /** @param {string} by */
  #chooseLike(by) {
    this.#like = by;
    for (const element of byId('like').children) element.setAttribute('aria-pressed', String(/** @type {HTMLElement} */ (element).dataset.by === by));
    this.#siblings().catch((error) => toast(error.message, { kind: 'error' }));
  }

  async #siblings() {
    const box = byId('siblings');
    const byPrompt = this.#like === 'prompt';
    if (byPrompt ? !this.#prompt : !this.#key) {
      box.replaceChildren(h('li', { class: 'muted', text: t(byPrompt ? 'review.no_prompt' : 'combo.unknown') }));
      return;
    }
    const filters = byPrompt ? { q: this.#prompt.slice(0, PROMPT_WORDS).replace(/\S*$/, (part) => (this.#prompt.length > PROMPT_WORDS ? '' : part)) } : comboFilters(this.#key);
    const { items, total } = await getJSON('/api/search', { ...filters, limit: SIBLINGS + 1 });
    const same = (/** @type {any} */ clip) => (byPrompt ? clip.prompt === this.#prompt : (clip.combo_key ?? comboOf(clip.params)) === this.#key);
    const others = items.filter((/** @type {any} */ clip) => clip.name !== this.name && same(clip)).slice(0, SIBLINGS);
    box.replaceChildren(...others.map((/** @type {any} */ clip) => h('li', {}, h('a', { href: watchUrl(clip.name), title: clip.name }, poster(clip.name, clip.exists),
      h('span', { class: 'tile-name', text: splitName(clip.name).file })), h('span', { class: 'badges' }, ...badges(clip)))));
    if (!others.length) box.append(h('li', { class: 'muted', text: t(byPrompt ? 'watch.no_same_prompt' : 'watch.no_siblings') }));
    else if (total > SIBLINGS + 1) box.append(h('li', {}, h('a', { href: byPrompt ? `/search?${queryString(filters)}` : siblingsUrl(this.#key), text: t('watch.all_siblings', { n: total }) })));
  }

  // ------------------------------------------------------------ acting
  /** @param {number} mark @param {string[]} [defects] */
  rate(mark, defects = []) {
    if (!this.#shown) return;
    const rating = this.form.ratingWith(mark);
    if (defects.length) rating.defects = [...new Set([...(rating.defects ?? []), ...defects])];
    this.#did(outbox.add('rate', { video_name: this.name, rating }).id);
    this.#rating = rating;
    RatingForm.forget(this.name);
    if (document.activeElement?.matches('textarea')) this.form.mark(mark);
    else this.form.show(this.name, rating);
    byId('last').textContent = t('watch.said', { n: mark });
  }

  async ban() {
    if (!this.#shown) return;
    const action = await ban({ name: this.name, label: this.#key ?? undefined }, { onUndo: () => { this.#done = this.#done.filter((id) => id !== action?.id); } });
    if (action) this.#did(action.id);
  }

  undo() {
    const id = this.#done.pop();
    byId('act-undo').toggleAttribute('disabled', this.#done.length === 0);
    if (!id) return;
    outbox.undo(id);
    RatingForm.forget(this.name);
    toast(t('watch.said_undo'));
    if (!outbox.waiting().length) this.load(); // it had not been sent: nothing will be acknowledged
  }

  /** @param {string} id */
  #did(id) {
    this.#done.push(id);
    byId('act-undo').removeAttribute('disabled');
  }
}

/** One line for an action. @param {Record<string, any>} action */
function actionText(action) {
  const kind = action.type ?? '';
  const mark = action.rating?.overall_quality;
  const label = hasText(`did.${kind}`) ? t(`did.${kind}`) : kind;
  const parts = [label];
  if (kind === 'rating') parts[0] = mark === undefined || mark === null ? t('did.unrated') : t('did.rating', { n: short(mark) });
  if (action.key) parts.push(comboText(action.key));
  if (action.reason) parts.push(action.reason);
  if (action.undone) parts.push(t('did.undone'));
  return parts.join(' · ');
}

startPage('watch').then(() => new WatchPage().load());
