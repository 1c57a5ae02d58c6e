/**
 * What a person says about a clip: the overall mark, five finer ones, defects, reference, a note.
 * The form keeps a draft per clip in this tab, so that browsing away and a reload lose nothing.
 */
import { h, icon } from './dom.js';
import { t } from './i18n.js';
import { keys } from './shell.js';

export const DIMENSIONS = ['visual_quality', 'motion_quality', 'prompt_adherence', 'creativity', 'technical_quality'];
export const DEFECTS = [
  ['blur', 'q'],
  ['flicker', 'w'],
  ['anatomy', 'e'],
  ['artifacts', 'r'],
  ['motion', 't'],
  ['prompt', 'y'],
];
const MARKS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
const DRAFTS = 'eva.draft.';

/** @typedef {Record<string, any>} Rating an item's `rating` of manual_ratings.json, perhaps not complete */

/** Events: `rate` (overall mark, 1 to 10), `edit` (the draft changed). */
export class RatingForm extends EventTarget {
  /** @type {Rating} */
  #draft = {};
  #name = '';
  #active = 0;
  #marks = h('div', { class: 'marks', role: 'group', 'aria-label': t('rate.overall') });
  #dims = h('div', { class: 'dims' });
  #defects = h('div', { class: 'chips', role: 'group', 'aria-label': t('rate.defects') });
  #note = /** @type {HTMLTextAreaElement} */ (h('textarea', { class: 'input note', rows: 1, maxlength: 2000, placeholder: t('rate.note_hint'), 'aria-label': t('rate.note') }));
  #reference = this.#toggle('reference', 'star', t('rate.reference'), () => this.toggleReference());

  constructor() {
    super();
    this.#marks.append(
      ...MARKS.map((mark) =>
        h('button', { type: 'button', class: 'mark', data: { mark: String(mark) }, 'aria-label': t('rate.give', { n: mark }), on: { click: () => this.#rate(mark) } },
          h('span', { class: 'mark-n', text: String(mark) }), h('kbd', { text: String(mark % 10), 'aria-hidden': 'true' })),
      ),
    );
    this.#dims.append(...DIMENSIONS.map((dim, i) => this.#dimension(dim, i)));
    this.#defects.append(...DEFECTS.map(([id]) => this.#toggle(id, null, t(`defect.${id}`), () => this.toggleDefect(id), `defect_${id}`)));
    this.#note.addEventListener('input', () => this.#set({ comments: this.#note.value }));
    this.#note.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' || (event.key === 'Enter' && (event.ctrlKey || event.metaKey))) {
        event.preventDefault();
        this.#note.blur();
      }
    });
  }

  /** The row of ten marks. */
  get marks() { return this.#marks; }

  /** Reference, defects, finer marks and the note, for the rail. */
  get parts() {
    return { reference: this.#reference, dims: this.#dims, defects: this.#defects, note: this.#note };
  }

  /** The draft as it would be sent with an overall mark. @param {number} overall @returns {Rating} */
  ratingWith(overall) {
    const { comments = '', defects = [], ...rest } = this.#draft;
    const rating = { ...rest, overall_quality: overall };
    if (comments.trim()) rating.comments = comments.trim();
    else delete rating.comments;
    if (defects.length) rating.defects = defects;
    return rating;
  }

  get draft() { return this.#draft; }

  /**
   * Shows a clip's rating, or its draft where this tab has one.
   * @param {string} name
   * @param {Rating | null} rating what is saved or on its way
   */
  show(name, rating) {
    this.#name = name;
    const stored = name && sessionStorage.getItem(DRAFTS + name);
    this.#draft = stored ? JSON.parse(stored) : { ...rating };
    this.#active = 0;
    this.#note.value = this.#draft.comments ?? '';
    for (const control of [...this.#marks.children, ...this.#defects.children, this.#reference, this.#note]) {
      control.toggleAttribute('disabled', !name);
    }
    for (const input of this.#dims.querySelectorAll('button')) input.toggleAttribute('disabled', !name);
    this.#draw();
  }

  /** Fills the draft with what a taken-back rating said, but for its mark. @param {Rating} rating */
  restore(rating) {
    const { overall_quality: _, defects = [], ...rest } = rating;
    this.#set({ ...rest, defects: defects.filter((/** @type {string} */ id) => id !== 'unusable') });
    this.#note.value = this.#draft.comments ?? '';
  }

  /** Shows an overall mark without touching what is being typed. @param {number} overall */
  mark(overall) {
    this.#draft = { ...this.#draft, overall_quality: overall };
    this.#draw();
  }

  /** Once sent, the draft is no longer one. @param {string} name */
  static forget(name) {
    sessionStorage.removeItem(DRAFTS + name);
  }

  /** @param {string} id */
  toggleDefect(id) {
    const defects = this.#draft.defects ?? [];
    this.#set({ defects: defects.includes(id) ? defects.filter((/** @type {string} */ other) => other !== id) : [...defects, id] });
  }

  toggleReference() {
    this.#set({ is_reference: !this.#draft.is_reference });
  }

  focusNote() {
    this.#note.closest('details')?.setAttribute('open', '');
    this.#note.focus();
  }

  /** Marks the highlighted finer dimension and goes to the next one. @param {number} mark */
  markActive(mark) {
    const dim = DIMENSIONS[this.#active];
    this.#active = (this.#active + 1) % DIMENSIONS.length;
    this.#set({ [dim]: mark });
  }

  bindKeys() {
    for (const mark of MARKS) {
      keys.add(`rate_${mark}`, [String(mark % 10)], () => this.#rate(mark), 'rate');
      keys.add(`dim_${mark}`, [`Shift+${mark % 10}`], () => this.#name && this.markActive(mark), 'rate');
    }
    keys.add('rate', [], () => {}, 'rate', '1 … 9, 0');
    keys.add('dim', [], () => {}, 'rate', 'Shift + 1 … 0');
    keys.add('reference', ['f'], () => this.#name && this.toggleReference(), 'rate');
    for (const [id, key] of DEFECTS) keys.add(`defect_${id}`, [key], () => this.#name && this.toggleDefect(id), 'defects');
    keys.add('note', ['n'], () => this.#name && this.focusNote(), 'rate');
    this.#hints();
    document.addEventListener('eva:keys', () => this.#hints());
  }

  #hints() {
    for (const element of [...this.#defects.children, this.#reference]) {
      const command = /** @type {HTMLElement} */ (element).dataset.command ?? '';
      const cap = element.querySelector('kbd');
      if (cap) cap.textContent = keys.hint(command);
    }
  }

  /** @param {number} mark */
  #rate(mark) {
    if (this.#name) this.dispatchEvent(new CustomEvent('rate', { detail: mark }));
  }

  /** @param {Rating} change */
  #set(change) {
    this.#draft = { ...this.#draft, ...change };
    sessionStorage.setItem(DRAFTS + this.#name, JSON.stringify(this.#draft));
    this.#draw();
    this.dispatchEvent(new CustomEvent('edit'));
  }

  /** @param {string} id @param {string | null} symbol @param {string} label @param {() => void} run @param {string} [command] */
  #toggle(id, symbol, label, run, command = id) {
    return h('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', data: { id, command }, on: { click: run } },
      symbol && icon(symbol), h('span', { text: label }), h('kbd', { 'aria-hidden': 'true' }));
  }

  /** @param {string} dim @param {number} i */
  #dimension(dim, i) {
    const marks = MARKS.map((mark) =>
      h('button', { type: 'button', class: 'dim-mark', data: { mark: String(mark) }, 'aria-label': t('rate.dim_give', { dim: t(`dim.${dim}`), n: mark }), text: String(mark),
        on: { click: () => { this.#active = i; this.#set({ [dim]: this.#draft[dim] === mark ? undefined : mark }); } } }),
    );
    return h('div', { class: 'dim', role: 'group', 'aria-label': t(`dim.${dim}`), data: { dim } }, h('span', { class: 'dim-name', text: t(`dim.${dim}`) }), h('div', { class: 'dim-marks' }, ...marks));
  }

  #draw() {
    const draft = this.#draft;
    for (const element of this.#marks.children) {
      const on = Number(/** @type {HTMLElement} */ (element).dataset.mark) === draft.overall_quality;
      element.setAttribute('aria-pressed', String(on));
    }
    for (const [i, row] of [...this.#dims.children].entries()) {
      row.classList.toggle('active', i === this.#active && Boolean(this.#name));
      for (const element of row.querySelectorAll('button')) {
        const mark = Number(element.dataset.mark);
        element.setAttribute('aria-pressed', String(mark === draft[DIMENSIONS[i]]));
        element.classList.toggle('below', mark < (draft[DIMENSIONS[i]] ?? 0));
      }
    }
    for (const element of this.#defects.children) {
      element.setAttribute('aria-pressed', String((draft.defects ?? []).includes(/** @type {HTMLElement} */ (element).dataset.id)));
    }
    this.#reference.setAttribute('aria-pressed', String(Boolean(draft.is_reference)));
  }
}
