/** What can be done to many clips of a list at once: rate, ban their combos, tag, export. Every change can be undone. */
import { ApiError, getJSON } from './api.js';
import { button, h } from './dom.js';
import { comboText } from './format.js';
import { t, tn } from './i18n.js';
import { outbox } from './outbox.js';
import { ask, toast } from './toast.js';

export const MOST = 500; // clips in a selection
const AT_ONCE = 4; // clips looked up at the same time
const CONFIRM_ABOVE = 20;

/** @typedef {import('./clip_card.js').Found} Found */

/** Events: `change` (the selection changed). */
export class BulkActions extends EventTarget {
  /** @type {Map<string, Found>} */
  chosen = new Map();
  #count = h('strong', { role: 'status', 'aria-live': 'polite' });
  #tag = /** @type {HTMLInputElement} */ (h('input', { class: 'input', maxlength: 60, placeholder: t('bulk.tag_hint'), 'aria-label': t('bulk.tag_hint') }));
  element;

  /** @param {() => Promise<Found[]>} all every clip found, up to MOST */
  constructor(all) {
    super();
    const marks = /** @type {HTMLSelectElement} */ (h('select', { class: 'select', 'aria-label': t('bulk.rate') }, h('option', { value: '', text: t('bulk.rate') }), ...Array.from({ length: 10 }, (_, i) => h('option', { value: i + 1, text: String(i + 1) }))));
    marks.addEventListener('change', () => {
      const mark = Number(marks.value);
      marks.value = '';
      if (mark) this.#rate(mark);
    });
    this.#tag.addEventListener('keydown', (event) => event.key === 'Enter' && this.#addTag());
    this.element = h('div', { class: 'bulk', role: 'group', 'aria-label': t('bulk.title'), hidden: true }, this.#count, marks,
      h('span', { class: 'row' }, this.#tag, button({ label: t('bulk.tag'), class: 'small', onClick: () => this.#addTag() })),
      button({ label: t('bulk.ban'), icon: 'ban', class: 'small', onClick: () => this.#ban() }),
      button({ label: t('bulk.csv'), class: 'small', onClick: () => this.#csv() }),
      button({ label: t('bulk.all'), class: 'small', onClick: async () => this.set(await all()) }),
      button({ label: t('bulk.none'), icon: 'close', class: 'small quiet', onClick: () => this.set([]) }));
  }

  /** @param {Found[]} clips */
  set(clips) {
    this.chosen = new Map(clips.slice(0, MOST).map((clip) => [clip.name, clip]));
    if (clips.length > MOST) toast(t('bulk.most', { n: MOST }));
    this.#changed();
  }

  /** @param {Found[]} clips @param {boolean} on */
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
    this.dispatchEvent(new Event('change'));
  }

  /** @param {string} said @param {string[]} ids */
  #did(said, ids) {
    toast(said, { kind: 'good', undo: () => ids.reverse().forEach((id) => outbox.undo(id)) });
  }

  /** Rates what each clip's rating becomes; null leaves the clip alone. @param {(rating: Record<string, any> | null) => Record<string, any> | null} change */
  async #each(change) {
    const clips = [...this.chosen.values()];
    /** @type {string[]} */
    const ids = [];
    let left = 0;
    try {
      for (let i = 0; i < clips.length; i += AT_ONCE) {
        const some = clips.slice(i, i + AT_ONCE);
        // A rating replaces the one before, so what it said beside the mark is read first and kept.
        const before = await Promise.all(some.map((clip) => (clip.rated ? getJSON('/api/video_details', { name: clip.name }) : null)));
        some.forEach((clip, j) => {
          const rating = change(before[j]?.manual_rating?.rating ?? null);
          if (rating) ids.push(outbox.add('rate', { video_name: clip.name, rating }).id);
          else left += 1;
        });
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(t('bulk.stopped', { n: ids.length, why: error.message }), { kind: 'error' });
    }
    return { ids, left };
  }

  /** @param {number} mark */
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
    const text = combos.slice(0, 5).map(comboText).join('\n') + (combos.length > 5 ? '\n…' : '');
    const reason = await ask({ title: tn('bulk.sure_ban', combos.length), text, ok: t('ban.do'), danger: true, reason: '' });
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
