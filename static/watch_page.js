/** One clip with everything that is known about it. */
import { compareUrl, getJSON, orElse, queryString, watchUrl } from './api.js';
import { ban } from './ban_wrapper.js';
import { badges, fileName, poster } from './clip_card.js';
import { longText, showAbout, siblingsUrl } from './combo_view.js';
import { button, byId, clicksKeepFocus, debounce, h, press, segments } from './dom.js';
import { comboOf, comboText, fileSize, fixed, keyOf, moment, short, splitName } from './format.js';
import { FramePlot } from './frame_plot.js';
import { t, textOr } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { Player } from './player.js';
import { RatingForm } from './rating_form.js';
import { requestButtons } from './request_buttons.js';
import { keys, startPage } from './shell.js';
import { retryButton, toast } from './toast.js';

const ACTIONS_READ = 200;
const SIBLINGS = 12;
const PROMPT_WORDS = 300; // characters of a prompt that the search is asked for
const EDIT_PAUSE_MS = 700;

class WatchPage {
  name = new URLSearchParams(location.search).get('name') ?? '';
  player = new Player(byId('player'));
  form = new RatingForm();
  #key = null;
  /** @type {Record<string, any> | null} what is saved or on its way */
  #rating = null;
  #done = [];
  #shown = false;
  #prompt = '';
  #like = 'combo';

  constructor() {
    this.form.on('rate', (mark) => this.rate(mark));
    this.form.on('edit', debounce(() => this.#rating && this.rate(this.#rating.overall_quality), EDIT_PAUSE_MS));
    const action = (id, icon, names, run, attrs = {}) => keys.button(id, names, run, 'queue', { label: t(`action.${id}`), icon, class: `act-${id}`, attrs: { id: `act-${id}`, ...attrs } });
    byId('actions').append(
      this.form.place(),
      action('unusable', 'trash', ['x'], () => this.rate(1, ['unusable'])),
      action('ban', 'ban', ['b'], () => this.ban()),
      action('undo', 'undo', ['Backspace', 'Ctrl+z'], () => this.undo(), { disabled: true }),
    );
    this.form.bindKeys();
    this.player.bindKeys();
    keys.add('compare', ['c'], () => this.#shown && location.assign(compareUrl(this.name)), 'queue');
    byId('like').append(...segments(['combo', 'prompt'].map((by) => [by, t(`watch.same_${by}`)]), (by) => this.#chooseLike(by)));
    this.#pressLike();
    clicksKeepFocus(byId('main'));
    const again = debounce(() => this.load(), 300);
    live.on('changes', (changes) => {
      if (changes.some((change) => change.name === this.name || change.kind === 'undo' || (change.key && change.key === this.#key))) again();
    });
    live.on('reset', again);
    outbox.on('ack', again);
  }

  async load() {
    if (!this.name) {
      this.#missing(t('watch.no_name'), t('watch.no_name_why'));
      return;
    }
    if (!this.#shown) {
      this.player.message(t('loading'));
      this.form.show('', null);
    }
    await orElse(this.#read(), (error) => {
      if (error.status === 404) this.#missing(t('watch.unknown'), t('watch.unknown_why', { name: this.name }));
      else if (!this.#shown) this.#missing(t('watch.failed'), error.message, retryButton(() => this.load()));
    });
  }

  async #read() {
    this.#show(await getJSON('/api/video_details', { name: this.name }));
    await Promise.all([this.#history(), this.#siblings()]);
  }

  #missing(title, text, ...controls) {
    byId('main').classList.add('empty');
    this.form.show('', null);
    this.player.message(title, text, ...controls, h('a.btn', { href: '/search', text: t('review.to_search') }));
  }

  #show(answer) {
    byId('main').classList.remove('empty');
    const { folder, file } = splitName(this.name);
    document.title = `${file} · EVA`;
    const details = answer.details ?? {};
    const params = details.params ?? {};
    const metrics = details.metrics ?? details.auto_metrics ?? {};
    this.#prompt = details.prompt ?? '';
    this.#key = answer.combo_key ?? details.combo_key ?? comboOf(params);
    const saved = answer.manual_rating?.rating ?? answer.manual_rating ?? null;
    const waiting = outbox.waiting().some((action) => action.body.video_name === this.name || action.kind === 'undo');
    byId('clip-name').replaceChildren(h('span.muted', folder), h('span', file));
    if (!waiting) this.#rating = saved;
    byId('clip-badges').replaceChildren(...badges({
      manual_overall: this.#rating?.overall_quality ?? null, reference: Boolean(this.#rating?.is_reference), banned: Boolean(answer.banned_by || this.#rating?.banned),
    }));
    const facts = { seed: details.seed ?? params.seed, seconds: details.seconds ?? params.seconds, score: typeof details.score === 'number' ? fixed(details.score) : null, file: answer.size_mb ? fileSize(answer.size_mb) : null, made: answer.created ? moment(answer.created) : null };
    showAbout(this.#key, facts, { prompt: this.#prompt, predicted: answer.predicted }, metrics);
    byId('negative').replaceChildren(longText(details.negative_prompt ?? '', t('watch.no_negative')));
    byId('raw').textContent = JSON.stringify(answer, null, 2);
    if (!this.#shown) {
      this.#shown = true;
      this.form.show(this.name, this.#rating);
      if (answer.exists === false) this.player.message(t('clip.gone'), t('watch.gone_why'));
      else {
        this.player.show({ name: this.name, fps: params.fps, findings: details.findings });
        this.player.details();
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
    const mine = answer.filter((action) => action.name === this.name || action.left === this.name || action.right === this.name);
    byId('history').replaceChildren(...mine.map((action) => h('li', h('span.muted', moment(action.ts)), h('span', actionText(action)))));
    if (!mine.length) byId('history').append(h('li.muted', t('watch.no_history')));
  }

  /** What ComfyUI stored in the file: to keep, or to drop on ComfyUI's canvas. */
  async #workflow() {
    const say = (text) => h('p.muted', text);
    const shown = await orElse(getJSON('/api/workflow', { name: this.name, probe: 'true' }).then((found) => {
      const link = (part) => found.parts.includes(part) && h('a.btn.small', { href: `/api/workflow?${queryString({ name: this.name, part })}`, download: '', title: t(`workflow.${part}_why`), text: t(`workflow.${part}`) });
      return found.parts.length ? [h('div.row.wrap', link('workflow'), link('prompt')), say(t('workflow.how'))] : [say(t('workflow.none'))];
    }), (error) => [say(error.message)]);
    byId('workflow').replaceChildren(...shown);
  }

  #chooseLike(by) {
    this.#like = by;
    this.#pressLike();
    orElse(this.#siblings(), (error) => toast(error.message, { kind: 'error' }));
  }

  #pressLike() {
    press(byId('like').children, (element) => element.dataset.value === this.#like);
  }

  async #siblings() {
    const box = byId('siblings');
    const byPrompt = this.#like === 'prompt';
    if (byPrompt ? !this.#prompt : !this.#key) {
      box.replaceChildren(h('li.muted', t(byPrompt ? 'review.no_prompt' : 'combo.unknown')));
      return;
    }
    const filters = byPrompt ? { q: this.#prompt.slice(0, PROMPT_WORDS).replace(/\S*$/, (part) => (this.#prompt.length > PROMPT_WORDS ? '' : part)) } : { combo: this.#key };
    const { items, total } = await getJSON('/api/search', { ...filters, limit: SIBLINGS + 1 });
    const same = (clip) => (byPrompt ? clip.prompt === this.#prompt : keyOf(clip) === this.#key);
    const others = items.filter((clip) => clip.name !== this.name && same(clip)).slice(0, SIBLINGS);
    box.replaceChildren(...others.map((clip) => h('li', h('a', { href: watchUrl(clip.name), title: clip.name }, poster(clip.name, clip.exists),
      fileName(clip.name)), h('span.badges', ...badges(clip)))));
    if (!others.length) box.append(h('li.muted', t(byPrompt ? 'watch.no_same_prompt' : 'watch.no_siblings')));
    else if (total > SIBLINGS + 1) box.append(h('li', h('a', { href: byPrompt ? `/search?${queryString(filters)}` : siblingsUrl(this.#key), text: t('watch.all_siblings', { n: total }) })));
  }

  // ------------------------------------------------------------ acting
  rate(mark, defects = []) {
    if (!this.#shown) return;
    const rating = this.form.ratingWith(mark, defects);
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

  #did(id) {
    this.#done.push(id);
    byId('act-undo').removeAttribute('disabled');
  }
}

/** One line for an action. */
function actionText(action) {
  const kind = action.type ?? '';
  const mark = action.rating?.overall_quality;
  const label = textOr(`did.${kind}`, kind);
  const parts = [label];
  if (kind === 'rating') parts[0] = mark === undefined || mark === null ? t('did.unrated') : t('did.rating', { n: short(mark) });
  if (action.key) parts.push(comboText(action.key));
  if (action.reason) parts.push(action.reason);
  if (action.undone) parts.push(t('did.undone'));
  return parts.join(' · ');
}

startPage('watch').then(() => new WatchPage().load());
