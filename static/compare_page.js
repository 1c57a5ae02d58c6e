/** The compare page: two clips in step, blind until the vote, and at once the next two. */
import { ApiError, getJSON, watchUrl } from './api.js';
import { button, byId, clicksKeepFocus, h } from './dom.js';
import { fixed, short, splitName } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { choosePair, differences, pairKey } from './pair_choice.js';
import { PairPlayer } from './pair_player.js';
import { keys, startPage } from './shell.js';

const CANDIDATES = 300;
const ACTIONS_READ = 500;
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
  /** @type {Array<{action: string, pair: Candidate[]}>} */
  #done = [];

  constructor() {
    byId('votes').append(...VOTES.map(([winner, key]) => {
      keys.add(`vote_${winner}`, [key], () => this.vote(winner), 'compare');
      return button({ label: t(`vote.${winner}`), hint: keys.hint(`vote_${winner}`), class: `vote vote-${winner}`, onClick: () => this.vote(winner) });
    }));
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

  #choose() {
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
    for (const element of byId('votes').children) element.toggleAttribute('disabled', !pair);
    this.#player.show(pair ?? []);
    if (!pair) {
      const few = this.#clips.length < 2;
      this.#message(t(few ? 'compare.too_few' : 'compare.all_done'), t(few ? 'compare.too_few_why' : 'compare.all_done_why'));
      return;
    }
    byId('main').classList.remove('empty');
    for (const clip of pair) this.#seen.set(clip.name, (this.#seen.get(clip.name) ?? 0) + 1);
    // The prompt is no secret: without it nobody could say which clip follows it better.
    byId('pair-prompt').textContent = pair[0].prompt === pair[1].prompt ? (pair[0].prompt ?? '') : t('compare.prompts', { a: pair[0].prompt ?? '–', b: pair[1].prompt ?? '–' });
    const voted = new Set([...this.#compared, pairKey(pair[0], pair[1])]);
    this.#next = choosePair(this.#clips, voted, this.#seen);
    if (this.#next) this.#player.preload(this.#next);
  }

  /** @param {string} winner */
  vote(winner) {
    const pair = this.#pair;
    if (!pair) return;
    const action = outbox.add('compare', { left: pair[0].name, right: pair[1].name, winner });
    this.#done.push({ action: action.id, pair });
    this.#compared.add(pairKey(pair[0], pair[1]));
    byId('last').textContent = t('compare.said', { vote: t(`vote.${winner}`) });
    this.#reveal(pair, winner);
    this.#advance();
  }

  undo() {
    const done = this.#done.pop();
    if (!done) return;
    outbox.undo(done.action);
    this.#compared.delete(pairKey(done.pair[0], done.pair[1]));
    this.#pair = done.pair;
    byId('revealed').hidden = true;
    byId('last').textContent = t('watch.said_undo');
    this.#show();
  }

  /** What the pair just voted on was: only what differs. @param {Candidate[]} pair @param {string} winner */
  #reveal(pair, winner) {
    const rows = differences(pair[0], pair[1]).map(({ field, values }) => h('tr', {}, h('th', { scope: 'row', text: t(`field.${field}`) }), ...values.map((value) => h('td', { class: 'mono', text: short(value) }))));
    if (pair.every((clip) => typeof clip.score === 'number')) rows.push(h('tr', {}, h('th', { scope: 'row', text: t('field.score') }), ...pair.map((clip) => h('td', { class: 'mono', text: fixed(clip.score) }))));
    const won = (/** @type {string} */ side) => (winner === side ? h('span', { class: 'badge good', text: t('compare.won') }) : null);
    byId('revealed').hidden = false;
    byId('revealed').replaceChildren(
      h('table', { class: 'differences' },
        h('thead', {}, h('tr', {}, h('th', { text: t('compare.revealed') }), ...pair.map((clip, i) => h('th', { scope: 'col' }, h('a', { href: watchUrl(clip.name), text: splitName(clip.name).file }), ' ', won(i ? 'right' : 'left'))))),
        h('tbody', {}, ...rows)),
      rows.length ? '' : h('p', { class: 'muted', text: t('compare.same') }),
    );
  }
}

startPage('compare').then(() => new ComparePage().load());
