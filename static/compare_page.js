/** The compare page: two clips in step, blind until the vote, and at once the next two. */
import { getJSON, orElse, watchUrl } from './api.js';
import { button, byId, clicksKeepFocus, h, press, segments } from './dom.js';
import { fileOf, fixed, predictedText, short } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { chooseFour, choosePair, differences, pairKey, pairWith, reasons } from './pair_choice.js';
import { PairPlayer } from './pair_player.js';
import { keys, startPage } from './shell.js';
import { retryButton } from './toast.js';

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
  #clips = [];
  #compared = new Set();
  /** @type {Map<string, number>} */
  #seen = new Map();
  #pair = null;
  #next = null;
  /** @type {Array<{actions: string[], pair: Candidate[]}>} */
  #done = [];
  #mode = MODES.includes(sessionStorage.getItem('eva.compare') ?? '') ? sessionStorage.getItem('eva.compare') : 'sides';
  #wipe = h('input', { type: 'range', class: 'wipe-range', min: 0, max: 100, value: 50, 'aria-label': t('compare.wipe_at') });

  constructor() {
    const key = (id, names, run, options) => keys.button(id, names, run, 'compare', options);
    byId('votes').append(...VOTES.map(([winner, name]) => key(`vote_${winner}`, [name], () => this.vote(winner), { label: t(`vote.${winner}`), class: `vote vote-${winner}` })));
    byId('votes').after(h('div.votes-worst', { id: 'votes-worst' },
      ...['A', 'B', 'C', 'D'].map((letter, i) => key(`worst_${letter}`, [String(i + 1)], () => this.pickWorst(i), { label: t('compare.worst_is', { letter }), class: 'vote' }))));
    byId('pair').append(this.#wipe);
    this.#wipe.addEventListener('input', () => byId('pair').style.setProperty('--wipe', `${this.#wipe.value}%`));
    this.#wipe.addEventListener('pointerup', () => this.#wipe.blur()); // the arrow keys vote again
    keys.add('compare_mode', ['v'], () => this.#setMode(MODES[(MODES.indexOf(this.#mode ?? '') + 1) % MODES.length]), 'compare');
    byId('modes').append(...segments(MODES.map((mode) => [mode, t(`compare.mode_${mode}`), t(`compare.mode_${mode}_why`)]), (mode) => this.#setMode(mode)));
    this.#showMode();
    this.#player.on('pick', (side) => this.pickWorst(side));
    byId('more').append(
      button({ label: t('player.pause_play'), icon: 'pause', hint: '␣', onClick: () => this.#player.togglePlay() }),
      key('skip', ['s'], () => this.#pair && this.#advance(), { label: t('action.skip'), icon: 'skip', attrs: { id: 'act-skip' } }),
      key('undo', ['Backspace', 'Ctrl+z'], () => this.undo(), { label: t('action.undo'), icon: 'undo', attrs: { id: 'act-undo', disabled: true } }),
    );
    this.#player.bindKeys();
    this.#player.on('broken', (clip) => {
      this.#clips = this.#clips.filter((other) => other.name !== clip.name);
      this.#next = null;
      byId('last').textContent = t('compare.broken', { name: fileOf(clip.name) });
      this.#advance();
    });
    clicksKeepFocus(byId('main'));
    live.on('changes', (changes) => changes.some(({ kind }) => ['generated', 'file', 'gone'].includes(kind)) && this.load());
    live.on('connection', (connected) => connected && !this.#pair && this.load());
  }

  async load() {
    const asked = Promise.all([
      getJSON('/api/search', { exists: 'true', banned: 'false', limit: CANDIDATES, sort: 'newest' }),
      getJSON('/api/actions', { limit: ACTIONS_READ }),
    ]);
    const found = await orElse(asked, (error) => {
      if (!this.#pair) this.#message(t('compare.failed'), error.message, retryButton(() => this.load()));
    });
    if (!found) return;
    const [{ items }, actions] = found;
    this.#clips = items;
    const wanted = new URLSearchParams(location.search).get('name');
    if (!this.#pair && wanted && this.#mode !== 'worst') this.#next = pairWith(wanted, items);
    for (const action of actions) {
      if (action.type === 'compare' && !action.undone) this.#compared.add(pairKey({ name: action.left }, { name: action.right }));
    }
    if (!this.#pair) this.#advance();
  }

  #message(title, text, ...controls) {
    byId('main').classList.add('empty');
    byId('pair-why').textContent = '';
    byId('pair-prompt').replaceChildren(h('span.cover-title', title), h('span', text), ...controls);
  }

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
    press(byId('modes').children, (element) => element.dataset.value === this.#mode);
    byId('compare-title').textContent = t(this.#mode === 'worst' ? 'compare.title_worst' : 'compare.title');
  }

  #choose() {
    return this.#mode === 'worst' ? chooseFour(this.#clips, this.#seen) : choosePair(this.#clips, this.#compared, this.#seen);
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
    // A prompt that all share tells what to look for. Others would only distract: the vote is about the settings, so they follow it.
    const same = pair.every((clip) => clip.prompt === pair[0].prompt);
    byId('pair-prompt').textContent = same && pair[0].prompt ? t('compare.prompt', { prompt: pair[0].prompt }) : '';
    const why = pair.length === 2 ? reasons(pair[0], pair[1], this.#clips) : [[same ? 'same_prompt' : 'other_prompt', {}]];
    byId('pair-why').textContent = [t('compare.judge'), ...why.map(([name, values]) => t(`compare.why_${name}`, values))].join(' ');
    const voted = new Set([...this.#compared, pairKey(pair[0], pair[1])]);
    this.#next = this.#mode === 'worst' ? this.#choose() : choosePair(this.#clips, voted, this.#seen);
    if (this.#next) this.#player.preload(this.#next);
  }

  vote(winner) {
    const pair = this.#pair;
    if (pair?.length !== 2) return;
    const action = outbox.add('compare', { left: pair[0].name, right: pair[1].name, winner });
    this.#done.push({ actions: [action.id], pair });
    this.#compared.add(pairKey(pair[0], pair[1]));
    byId('last').textContent = t('compare.said', { vote: t(`vote.${winner}`) });
    const won = { left: 0, right: 1 }[winner] ?? -1;
    this.#reveal(pair, (i) => i === won && h('span.badge.good', t('compare.won')));
    this.#advance();
  }

  /** The other three are better than the one picked: three comparisons. */
  pickWorst(worst) {
    const four = this.#pair;
    if (four?.length !== 4) return;
    const actions = four.filter((_, i) => i !== worst).map((clip) => {
      this.#compared.add(pairKey(clip, four[worst]));
      return outbox.add('compare', { left: clip.name, right: four[worst].name, winner: 'left' }).id;
    });
    this.#done.push({ actions, pair: four });
    byId('last').textContent = t('compare.said_worst', { letter: 'ABCD'[worst] });
    this.#reveal(four, (i) => i === worst && h('span.badge.poor', t('compare.worst')));
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

  /** What was just voted on: only what differs. */
  #reveal(clips, badge) {
    const rows = differences(...clips).map(({ field, values }) => h('tr', h('th', { scope: 'row', text: t(`field.${field}`) }), ...values.map((value) => h('td.mono', short(value)))));
    const row = (name, text) => rows.push(h('tr', h('th', { scope: 'row', text: t(name) }), ...clips.map((clip) => h('td', text(clip)))));
    const settings = rows.length;
    if (clips.every((clip) => typeof clip.score === 'number')) row('field.score', (clip) => fixed(clip.score));
    if (clips.some((clip) => clip.predicted)) row('compare.predicted', (clip) => predictedText(clip.predicted) || '–');
    if (clips.some((clip) => clip.prompt !== clips[0].prompt)) row('review.prompt', (clip) => clip.prompt ?? '–');
    byId('revealed').hidden = false;
    byId('revealed').replaceChildren(
      h('table.differences',
        h('thead', h('tr', h('th', t('compare.revealed')), ...clips.map((clip, i) => h('th', { scope: 'col' }, h('a', { href: watchUrl(clip.name), text: fileOf(clip.name) }), ' ', badge(i))))),
        h('tbody', ...rows)),
      settings ? '' : h('p.muted', t('compare.same')),
    );
  }
}

startPage('compare').then(() => new ComparePage().load());
