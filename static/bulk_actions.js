/** What can be done to many clips of a list at once: rate, ban their combos, tag, export. Every change can be undone. */
import { getJSON, orElse } from './api.js';
import { CONFIRM_ABOVE, banPreview, previewText } from './ban_wrapper.js';
import { Emitter, button, h, select } from './dom.js';
import { comboText } from './format.js';
import { t, tn } from './i18n.js';
import { outbox } from './outbox.js';
import { ask, toast } from './toast.js';

export const MOST = 500; // clips in a selection
const AT_ONCE = 4; // looked up at the same time
const LISTED = 20; // combos shown before they are banned

/** @typedef {import('./clip_card.js').Found} Found */

/** Events: `change` (the selection changed). */
export class BulkActions extends Emitter {
  /** @type {Map<string, Found>} */
  chosen = new Map();
  #count = h('strong', { role: 'status', 'aria-live': 'polite' });
  #tag = h('input.input', { maxlength: 60, placeholder: t('bulk.tag_hint'), 'aria-label': t('bulk.tag_hint') });
  element;

  /** @param {() => Promise<Found[]>} all every clip found, up to MOST */
  constructor(all) {
    super();
    const marks = select([['', t('bulk.rate')], ...Array.from({ length: 10 }, (_, i) => [i + 1, String(i + 1)])], { 'aria-label': t('bulk.rate') });
    marks.addEventListener('change', () => {
      const mark = Number(marks.value);
      marks.value = '';
      if (mark) this.#rate(mark);
    });
    this.#tag.addEventListener('keydown', (event) => event.key === 'Enter' && this.#addTag());
    this.element = h('div.bulk', { role: 'group', 'aria-label': t('bulk.title'), hidden: true }, this.#count, marks,
      h('span.row', this.#tag, button({ label: t('bulk.tag'), class: 'small', onClick: () => this.#addTag() })),
      button({ label: t('bulk.ban'), icon: 'ban', class: 'small', onClick: () => this.#ban() }),
      button({ label: t('bulk.csv'), class: 'small', onClick: () => this.#csv() }),
      button({ label: t('bulk.all'), class: 'small', onClick: async () => this.set(await all()) }),
      button({ label: t('bulk.none'), icon: 'close', class: 'small quiet', onClick: () => this.set([]) }));
  }

  set(clips) {
    this.chosen = new Map(clips.slice(0, MOST).map((clip) => [clip.name, clip]));
    if (clips.length > MOST) toast(t('bulk.most', { n: MOST }));
    this.#changed();
  }

  put(clips, on) {
    for (const clip of clips) {
      if (on && this.chosen.size < MOST) this.chosen.set(clip.name, clip);
      else this.chosen.delete(clip.name);
    }
    this.#changed();
  }

  #changed() {
    this.element.hidden = this.chosen.size === 0;
    this.#count.textContent = tn('bulk.chosen', this.chosen.size);
    this.emit('change');
  }

  #did(said, ids) {
    toast(said, { kind: 'good', undo: () => ids.reverse().forEach((id) => outbox.undo(id)) });
  }

  /** Rates what each clip's rating becomes; null leaves the clip alone. */
  async #each(change) {
    const clips = [...this.chosen.values()];
    const ids = [];
    let left = 0;
    const stopped = (error) => toast(t('bulk.stopped', { n: ids.length, why: error.message }), { kind: 'error' });
    // A rating replaces the one before, so what it said beside the mark is read first and kept.
    await orElse(inTurn(clips, (clip) => (clip.rated ? getJSON('/api/video_details', { name: clip.name }) : null), (clip, before) => {
      const rating = change(before?.manual_rating?.rating ?? null);
      if (rating) ids.push(outbox.add('rate', { video_name: clip.name, rating }).id);
      else left += 1;
    }), stopped);
    return { ids, left };
  }

  async #rate(mark) {
    if (this.chosen.size > CONFIRM_ABOVE && (await ask({ title: tn('bulk.sure_rate', this.chosen.size, { mark }), text: t('bulk.sure_rate_why'), ok: t('bulk.rate') })) === null) return;
    const { ids } = await this.#each((rating) => ({ ...rating, overall_quality: mark }));
    if (ids.length) this.#did(tn('bulk.rated', ids.length, { mark }), ids);
  }

  async #addTag() {
    const tag = this.#tag.value.trim();
    if (!tag) return;
    const { ids, left } = await this.#each((rating) => rating && { ...rating, tags: [...new Set([...(rating.tags ?? []), tag])] });
    this.#tag.value = '';
    if (left) toast(tn('bulk.unrated', left));
    if (ids.length) this.#did(tn('bulk.tagged', ids.length, { tag }), ids);
  }

  async #ban() {
    const combos = [...new Set([...this.chosen.values()].filter((clip) => !clip.banned).map((clip) => clip.combo_key))].filter(Boolean);
    if (!combos.length) {
      toast(t('bulk.no_combo'));
      return;
    }
    /** @type {import('./ban_wrapper.js').Preview[]} */
    const previews = [];
    const failed = (error) => toast(t('ban.refused', { why: error.message }), { kind: 'error' }) && false;
    if ((await orElse(inTurn(combos, (key) => banPreview({ key }), (_, preview) => previews.push(preview)), failed)) === false) return;
    const all = together(previews);
    if (all.armsLeft !== null && all.armsLeft <= 0) {
      toast(t('ban.leaves_nothing'), { kind: 'error' });
      return;
    }
    const rows = combos.slice(0, LISTED).map((key, i) => h('tr', h('td.mono', comboText(key)), h('td', previewText({ ...previews[i], armsLeft: null }))));
    const details = h('div.numbers-box', { tabindex: 0 }, h('table', ...rows), combos.length > LISTED && h('p.muted', tn('bulk.more_combos', combos.length - LISTED)));
    const reason = await ask({ title: tn('bulk.sure_ban', combos.length), text: previewText(all), details, ok: t('ban.do'), danger: true, reason: '' });
    if (reason === null) return;
    const ids = combos.map((key) => outbox.add('ban', { combo_key: key, ...(reason && { reason }) }).id);
    this.#did(tn('bulk.banned', ids.length), ids);
  }

  #csv() {
    const columns = ['name', 'created', 'score', 'manual_overall', 'banned', 'reference', 'defects', 'tags', 'combo_key', 'prompt'];
    // A text that begins like a formula would be run by a spreadsheet: an apostrophe keeps it a text.
    const cell = (value) => `"${String(value ?? '').replace(/^(?=[=+\-@\t\r]\D)/, "'").replaceAll('"', '""')}"`;
    const lines = [...this.chosen.values()].map((clip) => columns.map((name) => cell(Array.isArray(clip[name]) ? clip[name].join(' ') : clip[name])).join(','));
    const url = URL.createObjectURL(new Blob(['\ufeff', [columns.join(','), ...lines].join('\r\n'), '\r\n'], { type: 'text/csv' }));
    h('a', { href: url, download: 'clips.csv' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
}

/**
 * Asks about each, a few at once, and takes the answers in the order of the items.
 * @param {T[]} items @param {(item: T) => Promise<A> | A} look @param {(item: T, answer: A) => void} take
 */
async function inTurn(items, look, take) {
  for (let i = 0; i < items.length; i += AT_ONCE) {
    const some = items.slice(i, i + AT_ONCE);
    const answers = await Promise.all(some.map(look));
    some.forEach((item, j) => take(item, answers[j]));
  }
}

/** What several bans of single combos touch: none of their clips and arms is another's. */
function together(previews) {
  const sum = (of) => previews.reduce((total, one) => total + of(one), 0);
  const rated = sum((one) => one.rated);
  const before = previews[0].armsBefore;
  return {
    queued: sum((one) => one.queued), rated, total: sum((one) => one.total), mean: rated ? sum((one) => one.rated * (one.mean ?? 0)) / rated : null,
    armsBefore: before, armsLeft: before === null ? null : sum((one) => one.armsLeft - before) + before,
  };
}
