/** The compare page: two clips in step, blind until the vote, and at once the next two. */
import { ApiError, getJSON, watchUrl } from './api.js';
import { button, byId, clicksKeepFocus, h } from './dom.js';
import { fixed, short, splitName } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { chooseFour, choosePair, differences, pairKey } from './pair_choice.js';
import { PairPlayer } from './pair_player.js';
import { keys, startPage } from './shell.js';

const CANDIDATES = 300;
const ACTIONS_READ = 500;
const MODES = ['sides', 'wipe', 'worst'];
const VOTES = [
  ['left', 'ArrowLeft'],
  ['tie', 'ArrowUp'],
  ['both_bad', 'ArrowDown'],
  ['right', 'ArrowRight'],
];

/** @typedef {import('./pair_choice.js').Candidate} Candidate */

class ComparePage {
  #player = new PairPlayer(byId('pair'));
  /** @type {Candidate[]} */
  #clips = [];
  #compared = new Set();
  /** @type {Map<string, number>} */
  #seen = new Map();
  /** @type {Candidate[] | null} */
  #pair = null;
  /** @type {Candidate[] | null} */
  #next = null;
  /** @type {Array<{actions: string[], pair: Candidate[]}>} */
  #done = [];
  #mode = MODES.includes(sessionStorage.getItem('eva.compare') ?? '') ? sessionStorage.getItem('eva.compare') : 'sides';
  #wipe = /** @type {HTMLInputElement} */ (h('input', { type: 'range', class: 'wipe-range', min: 0, max: 100, value: 50, 'aria-label': t('compare.wipe_at') }));

  constructor() {
    byId('votes').append(...VOTES.map(([winner, key]) => {
      keys.add(`vote_${winner}`, [key], () => this.vote(winner), 'compare');
      return button({ label: t(`vote.${winner}`), hint: keys.hint(`vote_${winner}`), class: `vote vote-${winner}`, onClick: () => this.vote(winner) });
    }));
    const worst = h('div', { class: 'votes-worst', id: 'votes-worst' }, ...['A', 'B', 'C', 'D'].map((letter, i) => {
      keys.add(`worst_${letter}`, [String(i + 1)], () => this.pickWorst(i), 'compare');
      return button({ label: t('compare.worst_is', { letter }), hint: keys.hint(`worst_${letter}`), class: 'vote', onClick: () => this.pickWorst(i) });
    }));
    byId('votes').after(worst);
    byId('pair').append(this.#wipe);
    this.#wipe.addEventListener('input', () => byId('pair').style.setProperty('--wipe', `${this.#wipe.value}%`));
    this.#wipe.addEventListener('pointerup', () => this.#wipe.blur()); // the arrow keys vote again
    keys.add('compare_mode', ['v'], () => this.#setMode(MODES[(MODES.indexOf(this.#mode ?? '') + 1) % MODES.length]), 'compare');
    byId('modes').append(...MODES.map((mode) => h('button', { type: 'button', class: 'btn small', data: { mode }, title: t(`compare.mode_${mode}_why`), text: t(`compare.mode_${mode}`), on: { click: () => this.#setMode(mode) } })));
    this.#showMode();
    this.#player.addEventListener('pick', (event) => this.pickWorst(/** @type {CustomEvent} */ (event).detail));
    keys.add('skip', ['s'], () => this.#pair && this.#advance(), 'compare');
    keys.add('undo', ['Backspace', 'Ctrl+z'], () => this.undo(), 'compare');
    byId('more').append(
      button({ label: t('player.pause_play'), icon: 'pause', hint: '␣', onClick: () => this.#player.togglePlay() }),
      button({ label: t('action.skip'), icon: 'skip', hint: keys.hint('skip'), onClick: () => this.#advance() }),
      button({ label: t('action.undo'), icon: 'undo', hint: keys.hint('undo'), attrs: { id: 'act-undo', disabled: true }, onClick: () => this.undo() }),
    );
    this.#player.bindKeys();
    this.#player.addEventListener('broken', (event) => {
      const { clip } = /** @type {CustomEvent} */ (event).detail;
      this.#clips = this.#clips.filter((other) => other.name !== clip.name);
      this.#next = null;
      byId('last').textContent = t('compare.broken', { name: splitName(clip.name).file });
      this.#advance();
    });
    clicksKeepFocus(byId('main'));
    live.addEventListener('changes', (event) => {
      const news = /** @type {CustomEvent} */ (event).detail.some((/** @type {any} */ change) => ['generated', 'file', 'gone'].includes(change.kind));
      if (news) this.load();
    });
    live.addEventListener('connection', (event) => /** @type {CustomEvent} */ (event).detail && !this.#pair && this.load());
  }

  async load() {
    try {
      const [found, actions] = await Promise.all([
        getJSON('/api/search', { exists: 'true', banned: 'false', limit: CANDIDATES, sort: 'newest' }),
        getJSON('/api/actions', { limit: ACTIONS_READ }),
      ]);
      this.#clips = found.items;
      for (const action of actions) {
        if (action.type === 'compare' && !action.undone) this.#compared.add(pairKey({ name: action.left }, { name: action.right }));
      }
      if (!this.#pair) this.#advance();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!this.#pair) this.#message(t('compare.failed'), error.message, button({ label: t('retry'), onClick: () => this.load() }));
    }
  }

  /** @param {string} title @param {string} text @param {...Node} controls */
  #message(title, text, ...controls) {
    byId('main').classList.add('empty');
    byId('pair-prompt').replaceChildren(h('span', { class: 'cover-title', text: title }), h('span', { text }), ...controls);
  }

  /** @param {string} mode */
  #setMode(mode) {
    const before = this.#mode;
    this.#mode = mode;
    sessionStorage.setItem('eva.compare', mode);
    this.#showMode();
    if ((before === 'worst') !== (mode === 'worst')) {
      this.#next = null;
      this.#advance();
    }
  }

  #showMode() {
    byId('main').dataset.mode = this.#mode ?? '';
    for (const element of byId('modes').children) element.setAttribute('aria-pressed', String(/** @type {HTMLElement} */ (element).dataset.mode === this.#mode));
    byId('compare-title').textContent = t(this.#mode === 'worst' ? 'compare.title_worst' : 'compare.title');
  }

  #choose() {
    if (this.#mode === 'worst') return chooseFour(this.#clips, this.#seen);
    return choosePair(this.#clips, this.#compared, this.#seen);
  }

  #advance() {
    this.#pair = this.#next ?? this.#choose();
    this.#next = null;
    this.#show();
  }

  #show() {
    const pair = this.#pair;
    byId('pace').textContent = this.#done.length ? tn('compare.votes', this.#done.length) : '';
    byId('act-undo').toggleAttribute('disabled', this.#done.length === 0);
    for (const element of [...byId('votes').children, ...byId('votes-worst').children]) element.toggleAttribute('disabled', !pair);
    this.#player.show(pair ?? []);
    if (!pair) {
      const few = this.#clips.length < (this.#mode === 'worst' ? 4 : 2);
      this.#message(t(few ? 'compare.too_few' : 'compare.all_done'), t(few ? 'compare.too_few_why' : 'compare.all_done_why'));
      return;
    }
    byId('main').classList.remove('empty');
    for (const clip of pair) this.#seen.set(clip.name, (this.#seen.get(clip.name) ?? 0) + 1);
    // The prompt is no secret: without it nobody could say which clip follows it better.
    const same = pair.every((clip) => clip.prompt === pair[0].prompt);
    byId('pair-prompt').textContent = same ? (pair[0].prompt ?? '') : pair.length > 2 ? pair.map((clip, i) => `${'ABCD'[i]}: ${clip.prompt ?? '–'}`).join('  ') : t('compare.prompts', { a: pair[0].prompt ?? '–', b: pair[1].prompt ?? '–' });
    const voted = new Set([...this.#compared, pairKey(pair[0], pair[1])]);
    this.#next = this.#mode === 'worst' ? chooseFour(this.#clips, this.#seen) : choosePair(this.#clips, voted, this.#seen);
    if (this.#next) this.#player.preload(this.#next);
  }

  /** @param {string} winner */
  vote(winner) {
    const pair = this.#pair;
    if (pair?.length !== 2) return;
    const action = outbox.add('compare', { left: pair[0].name, right: pair[1].name, winner });
    this.#done.push({ actions: [action.id], pair });
    this.#compared.add(pairKey(pair[0], pair[1]));
    byId('last').textContent = t('compare.said', { vote: t(`vote.${winner}`) });
    const won = { left: 0, right: 1 }[winner] ?? -1;
    this.#reveal(pair, (i) => i === won && h('span', { class: 'badge good', text: t('compare.won') }));
    this.#advance();
  }

  /** The other three are better than the one picked: three comparisons. @param {number} worst */
  pickWorst(worst) {
    const four = this.#pair;
    if (four?.length !== 4) return;
    const actions = four.filter((_, i) => i !== worst).map((clip) => {
      this.#compared.add(pairKey(clip, four[worst]));
      return outbox.add('compare', { left: clip.name, right: four[worst].name, winner: 'left' }).id;
    });
    this.#done.push({ actions, pair: four });
    byId('last').textContent = t('compare.said_worst', { letter: 'ABCD'[worst] });
    this.#reveal(four, (i) => i === worst && h('span', { class: 'badge poor', text: t('compare.worst') }));
    this.#advance();
  }

  undo() {
    const done = this.#done.pop();
    if (!done) return;
    for (const id of done.actions) outbox.undo(id);
    for (const clip of done.pair) for (const other of done.pair) this.#compared.delete(pairKey(clip, other));
    this.#mode = done.pair.length === 4 ? 'worst' : this.#mode === 'worst' ? 'sides' : this.#mode;
    this.#showMode();
    this.#pair = done.pair;
    byId('revealed').hidden = true;
    byId('last').textContent = t('watch.said_undo');
    this.#show();
  }

  /** What was just voted on: only what differs. @param {Candidate[]} clips @param {(i: number) => Node | false} badge */
  #reveal(clips, badge) {
    const rows = differences(...clips).map(({ field, values }) => h('tr', {}, h('th', { scope: 'row', text: t(`field.${field}`) }), ...values.map((value) => h('td', { class: 'mono', text: short(value) }))));
    if (clips.every((clip) => typeof clip.score === 'number')) rows.push(h('tr', {}, h('th', { scope: 'row', text: t('field.score') }), ...clips.map((clip) => h('td', { class: 'mono', text: fixed(clip.score) }))));
    byId('revealed').hidden = false;
    byId('revealed').replaceChildren(
      h('table', { class: 'differences' },
        h('thead', {}, h('tr', {}, h('th', { text: t('compare.revealed') }), ...clips.map((clip, i) => h('th', { scope: 'col' }, h('a', { href: watchUrl(clip.name), text: splitName(clip.name).file }), ' ', badge(i))))),
        h('tbody', {}, ...rows)),
      rows.length ? '' : h('p', { class: 'muted', text: t('compare.same') }),
    );
  }
}

startPage('compare').then(() => new ComparePage().load());
