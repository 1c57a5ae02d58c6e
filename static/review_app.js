/** The review page: watch, press a digit, see the next clip. */
import { compareUrl, getResponse, orElse, watchUrl } from './api.js';
import { ban } from './ban_wrapper.js';
import { showAbout } from './combo_view.js';
import { afterPaint, button, byId, clicksKeepFocus, debounce, h } from './dom.js';
import { fileOf, fixed, keyOf, splitName, whole } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { Player } from './player.js';
import { Presence } from './presence.js';
import { QueueBar, standing } from './queue_bar.js';
import { RatingForm } from './rating_form.js';
import { Repeats, rateBody } from './repeats.js';
import { ReviewQueue } from './review_queue.js';
import { keys, startPage } from './shell.js';
import { Sitting } from './sitting.js';
import { retryButton } from './toast.js';

const PAGE = 60;
const LOW = 8; // fewer clips ahead than this: ask for more
const EDIT_PAUSE_MS = 700;
const START_MS = 100; // the clip on screen starts before another is loaded
const AGAIN_MS = 3000; // after a failure to read the queue
const GLANCE_MS = 800; // a clip that another reviewer has is left within this time, before a mark could be meant for it

class Review {
  queue = new ReviewQueue();
  #sitting = new Sitting();
  #total = 0;
  #generated = 0;
  #pending = 0; // unrated clips, whatever the filters say
  #loading = false;
  #added = 0;
  #started = Date.now();
  #ratedHere = 0;
  /** @type {ReviewQueue['current'] | null} a rated clip whose details were edited and not sent yet */
  #edited = null;
  #saveSoon = debounce(() => this.#saveEdit(), EDIT_PAUSE_MS);
  form = new RatingForm();
  bar = new QueueBar();
  #repeats = new Repeats();
  player = new Player(byId('player'));
  #presence = new Presence();
  #arrived = 0; // when the queue brought the clip at hand up; 0 where a person went to it

  constructor() {
    byId('queue-bar').append(this.bar.element);
    this.bar.on('change', () => this.#anew());
    this.form.on('rate', (mark) => this.rate(mark));
    this.form.on('edit', () => {
      if (this.queue.current?.rated) {
        this.#edited = this.queue.current;
        this.#saveSoon();
      }
    });
    byId('actions').append(
      this.#action('prev', 'back', ['ArrowLeft'], () => this.browse(-1)),
      this.#action('next', 'forward', ['ArrowRight'], () => this.browse(1)),
      this.#action('skip', 'skip', ['s'], () => this.skip()),
      this.form.place(),
      this.#action('unusable', 'trash', ['x'], () => this.rate(1, ['unusable'])),
      this.#action('ban', 'ban', ['b'], () => this.ban()),
      this.#action('compare', 'compare', ['c'], () => this.#open(compareUrl)),
      this.#action('undo', 'undo', ['Backspace', 'Ctrl+z'], () => this.undo()),
    );
    this.form.bindKeys();
    this.player.bindKeys();
    keys.add('watch', ['Enter'], () => this.#open(watchUrl), 'queue');
    clicksKeepFocus(byId('main'));
    addEventListener('pagehide', () => [this.#saveEdit(), this.#sitting.keep()]);
    this.#presence.on('others', (found) => this.#others(found));
    live.on('changes', (changes) => this.#changes(changes));
    live.onNews(() => this.#refreshSoon());
    live.on('stats', (stats) => this.#stats(stats));
    outbox.on('refused', ({ action }) => this.#refused(action));
    this.player.message(t('review.loading'));
    this.form.show('', null);
    this.#counts();
    this.#refresh();
  }

  #open(url) {
    if (this.queue.current) location.assign(url(this.queue.current.clip.name));
  }

  /** A button that is also a key. */
  #action(id, symbol, keyNames, run) {
    return keys.button(id, keyNames, run, 'queue', { label: t(`action.${id}`), icon: symbol, class: `act-${id}`, attrs: { id: `act-${id}` } });
  }

  // ------------------------------------------------------------ loading
  /** Asks for the newest unrated clips and takes in those not known yet. */
  async #refresh() {
    if (this.#loading) {
      if (!this.queue.items.length) this.#refreshSoon();
      return;
    }
    await this.#reading(async () => {
      const watching = this.queue.current;
      const names = await this.#take(0, this.queue.items.length > 0);
      if (this.bar.reranked) this.queue.reorder(names);
      if (watching) {
        this.#preload();
        this.#counts();
        return;
      }
      if (this.queue.current?.rated !== null || this.queue.current?.skipped) this.queue.advance();
      this.#show();
    });
  }

  /** Reads the queue, one reading at a time. */
  async #reading(read) {
    this.#loading = true;
    await orElse(read(), (error) => this.#failed(error)).finally(() => (this.#loading = false));
  }

  /** Another order or filter: everything but the clip at hand is asked for afresh. */
  async #anew() {
    this.#saveEdit();
    this.queue = Object.assign(new ReviewQueue(), { elsewhere: this.queue.elsewhere });
    await this.#refresh();
  }

  /** @returns {Promise<string[]>} the clips asked for, in the server's order */
  async #take(offset, soon) {
    const queue = this.queue;
    const response = await getResponse('/api/videos', { ...this.bar.query, offset, limit: PAGE });
    if (queue !== this.queue) return []; // another order was chosen meanwhile
    this.bar.used(response.headers.get('X-Order'));
    const clips = await response.json();
    const onTheWay = new Set(outbox.waiting().map((action) => action.body.video_name));
    const wanted = clips.filter((clip) => !onTheWay.has(clip.name));
    this.#total = Number(response.headers.get('X-Total-Count') ?? clips.length) - (clips.length - wanted.length);
    for (const item of wanted.map((clip) => this.queue.find(clip.name))) if (item?.gone) item.gone = false; // a rating elsewhere was undone
    const fresh = wanted.filter((clip) => !this.queue.find(clip.name));
    const shown = await this.#repeats.mix(fresh, this.bar.settings.share, (name) => Boolean(this.queue.find(name)));
    this.queue.add(shown, { soon, skipped: this.#sitting.skipped });
    this.#added = fresh.length;
    return clips.map((clip) => clip.name);
  }

  async #more() {
    if (this.#loading || this.queue.left >= this.#total) return;
    await this.#reading(async () => {
      for (let offset = Math.max(0, this.queue.left - LOW); offset < this.#total; offset += PAGE) {
        await this.#take(offset, false);
        if (this.#added) break;
      }
      this.#preload();
    });
  }

  #failed(error) {
    if (!this.queue.items.length) this.player.message(t('review.unreachable'), error.message, retryButton(() => this.#refresh()));
    else console.warn('the queue could not be read:', error.message);
    setTimeout(() => this.#refreshSoon(), AGAIN_MS);
  }

  // ------------------------------------------------------------ showing
  /** Whether nobody can have judged the clip at hand yet. */
  get #justArrived() {
    return this.#arrived > 0 && performance.now() - this.#arrived < GLANCE_MS;
  }

  /** Goes to the next clip that wants a rating. */
  #next() {
    this.queue.advance();
    this.#show();
  }

  /**
   * Brings the current clip's picture up at once; everything about it follows when that is on the screen.
   * @param {boolean} [chosen] a person went to it: it stays even if somebody else has it
   */
  #show(chosen = false) {
    const item = this.queue.current;
    this.#arrived = chosen ? 0 : performance.now();
    this.player.show(item && { name: item.clip.name, fps: item.clip.fps, findings: item.clip.findings });
    this.form.take(item?.clip.name ?? '', item?.rating ?? null);
    if (!item) this.#end();
    if (this.#showing) return;
    this.#showing = true;
    afterPaint(() => this.#showRest());
  }
  #showing = false;

  #showRest() {
    this.#showing = false;
    const item = this.queue.current;
    byId('main').classList.toggle('empty', !item);
    this.player.details();
    this.form.draw();
    if (item) this.#about(item.clip);
    this.#counts();
    this.#sitting.keep();
    this.queue.forget();
    this.#presence.show(item?.clip.name ?? null);
    setTimeout(() => this.#preload(), START_MS);
    if (this.queue.ahead().length < LOW) this.#more();
  }

  #preload() {
    this.player.preload(this.queue.ahead().slice(0, ReviewQueue.READY).map((item) => ({ name: item.clip.name, fps: item.clip.fps })));
  }

  #about(clip) {
    const { folder, file } = splitName(clip.name);
    byId('clip-name').replaceChildren(h('span.muted', folder), h('a', { href: watchUrl(clip.name), text: file, title: t('review.open') }));
    showAbout(keyOf(clip), { seed: clip.seed, seconds: clip.seconds, iteration: clip.iteration }, clip, clip.auto_metrics);
  }

  /** No clip to show: says why and what to do. */
  #end() {
    byId('clip-name').replaceChildren();
    byId('combo-links').replaceChildren();
    for (const id of ['combo', 'prompt', 'scores']) byId(id).replaceChildren(h('p.muted', '–'));
    const skipped = this.queue.skipped().length;
    const shared = this.queue.left - skipped;
    const controls = [];
    if (skipped) controls.push(button({ label: tn('review.show_skipped', skipped), class: 'primary', onClick: () => this.#unskip() }));
    if (this.bar.filtered) controls.push(button({ label: t('queue.clear'), onClick: () => this.bar.clear() }));
    if (this.#sitting.done.length) controls.push(button({ label: t('action.undo'), icon: 'undo', hint: keys.hint('undo'), onClick: () => this.undo() }));
    if (this.#generated) controls.push(h('a.btn', { href: '/search', text: t('review.to_search') }));
    if (this.bar.filtered && this.#pending) this.player.message(t('queue.none_match'), tn('queue.others', this.#pending), ...controls);
    else if (!this.#generated && !this.#ratedHere) this.player.message(t('review.none_yet'), t('review.none_yet_why'), ...controls);
    else if (shared > 0) this.player.message(t('review.others_have'), tn('review.others_have_why', shared), ...controls);
    else this.player.message(t(skipped ? 'review.only_skipped' : 'review.all_done'), skipped ? tn('review.skipped_left', skipped) : t('review.all_done_why'), ...controls);
  }

  #counts() {
    const item = this.queue.current;
    const left = Math.max(this.#total, this.queue.left);
    byId('left').textContent = this.queue.items.length || !this.#loading ? tn('review.left', left, { n: whole(left) }) : '';
    const minutes = (Date.now() - this.#started) / 60000;
    byId('pace').textContent = this.#ratedHere >= 3 ? t('review.pace', { n: this.#ratedHere, rate: fixed(this.#ratedHere / Math.max(minutes, 0.05), 1) }) : '';
    byId('clip-badges').replaceChildren(...(item ? standing(item) : []));
    byId('act-undo').toggleAttribute('disabled', this.#sitting.done.length === 0);
    byId('act-prev').toggleAttribute('disabled', this.queue.position === 0);
    byId('act-next').toggleAttribute('disabled', !item);
    for (const id of ['skip', 'unusable', 'ban', 'compare']) byId(`act-${id}`).toggleAttribute('disabled', !item);
  }

  #say(text) {
    byId('last').textContent = text;
  }

  /** @param {string[]} [defects] added to those chosen */
  rate(mark, defects = []) {
    const item = this.queue.current;
    if (!item) return;
    this.#edited = null;
    this.#send(item, mark, defects);
    if (item.rated === null && !item.clip.repeat) this.#total -= 1;
    this.#ratedHere += 1;
    item.rated = mark;
    this.#say(t(defects.length ? 'review.said_unusable' : 'review.said', { n: mark, name: fileOf(item.clip.name) }));
    this.#next();
  }

  #send(item, mark, defects = []) {
    const rating = this.form.ratingWith(mark, defects);
    this.#did('rate', outbox.add('rate', rateBody(item.clip, rating)), item);
    RatingForm.forget(item.clip.name);
    item.rating = rating;
  }

  /** Undo can take it back. */
  #did(kind, action, { clip, rating }) {
    this.#sitting.remember({ action: action.id, kind, clip, before: rating ?? null });
  }

  /** Sends the changed details of a clip that is already rated. */
  #saveEdit() {
    const item = this.#edited;
    this.#edited = null;
    if (!item?.rated || this.queue.current !== item) return;
    this.#send(item, item.rated);
    this.#sitting.keep();
    this.#say(t('review.said_edit', { name: fileOf(item.clip.name) }));
    this.#counts();
  }

  async ban() {
    const item = this.queue.current;
    if (!item || this.#banning) return;
    this.#banning = true;
    try {
      const key = keyOf(item.clip);
      const action = await ban({ name: item.clip.name, label: key ?? undefined }, { onUndo: () => this.undo(), quiet: true });
      if (!action) return;
      this.#did('ban', action, item);
      if (item.rated === null) this.#total -= 1;
      item.rated = 2;
      this.#say(t('review.said_ban', { combo: key ? key.replaceAll('|', ' · ') : item.clip.name }));
      if (this.queue.current === item) this.#next();
      else this.#counts();
    } finally {
      this.#banning = false;
    }
  }
  #banning = false;

  skip() {
    const item = this.queue.current;
    if (!item) return;
    this.#saveEdit();
    if (item.rated === null) {
      item.skipped = true;
      this.#sitting.skipped.add(item.clip.name);
    }
    this.#say(t('review.said_skip', { name: fileOf(item.clip.name) }));
    this.#next();
  }

  #unskip() {
    this.#sitting.skipped.clear();
    this.queue.unskip();
    this.#show();
  }

  browse(by) {
    this.#saveEdit();
    if (this.queue.browse(by)) this.#show(true);
  }

  /** Takes the last action of this sitting back and shows its clip again, whatever the queue holds. */
  undo() {
    this.#edited = null;
    const done = this.#sitting.done.pop();
    if (!done) {
      this.#say(t('review.nothing_to_undo'));
      return;
    }
    outbox.undo(done.action);
    this.queue.show(done.clip);
    const item = this.queue.current;
    const rating = item.rating;
    item.rating = done.before ?? null;
    item.rated = done.before?.overall_quality ?? null;
    item.gone = false;
    if (item.rated === null) {
      if (!item.clip.repeat) this.#total += 1;
      this.#ratedHere = Math.max(0, this.#ratedHere - 1);
    }
    RatingForm.forget(done.clip.name);
    this.#show(true);
    // What was said beside the mark stays as a draft: usually only the mark was a slip.
    if (rating && done.kind === 'rate' && item.rated === null) this.form.restore(rating);
    this.#say(t('review.said_undo', { name: fileOf(done.clip.name) }));
  }

  /** The server said no for good: the clip is unrated again. */
  #refused(action) {
    this.#sitting.forget(action.id);
    const item = this.queue.find(action.body.video_name ?? '');
    if (item && (action.kind === 'rate' || action.kind === 'ban')) {
      item.rated = null;
      item.rating = null;
      if (!item.clip.repeat) this.#total += 1;
      this.#counts();
    }
  }

  #changes(changes) {
    const waiting = new Set(outbox.waiting().map((action) => action.body.video_name));
    for (const { kind, name } of changes) {
      const item = kind === 'rating' && name && !waiting.has(name) && this.queue.find(name);
      if (!item || item.rated !== null) continue;
      this.queue.drop(name);
      if (item === this.queue.current && this.#justArrived) this.#next();
    }
    this.#counts();
  }
  #refreshSoon = debounce(() => this.#refresh(), 300);

  /** Clips that other reviewers have on screen are left to them. One that both were given at once is left before anybody could judge it. */
  #others({ others, name }) {
    const freed = [...this.queue.elsewhere].some((name_) => !others.has(name_));
    this.queue.elsewhere = others;
    const item = this.queue.current;
    if (!item) {
      if (freed) this.#next();
      return;
    }
    if (item.clip.name !== name || item.rated !== null) return;
    item.shared = others.has(name);
    if (item.shared && this.#justArrived) this.#next();
    else this.#counts();
  }

  #stats(stats) {
    this.#generated = stats.total_generated ?? 0;
    this.#pending = stats.pending_count ?? 0;
    if (!this.queue.current && !this.#loading && this.queue.items.length === 0 && (stats.pending_count ?? 0) > 0) this.#refreshSoon();
  }
}

startPage('review').then(() => new Review());
