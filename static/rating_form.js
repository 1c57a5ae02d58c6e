/**
 * What a person says about a clip: the overall mark, five finer ones, defects, reference, a note.
 * The form keeps a draft per clip in this tab, so that browsing away and a reload lose nothing.
 */
import { Emitter, byId, h, icon, press, stored } from './dom.js';
import { t } from './i18n.js';
import { keys } from './shell.js';

const DIMENSIONS = ['visual_quality', 'motion_quality', 'prompt_adherence', 'creativity', 'technical_quality'];
const DEFECTS = [
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
export class RatingForm extends Emitter {
  #draft = {};
  #name = '';
  #active = 0;
  #given = DIMENSIONS.map(() => 0); // the finer marks and, below, whether all is switched off, as they stand on the page
  #off = false;
  #marks = h('div.marks', { role: 'group', 'aria-label': t('rate.overall') });
  #dims = h('div.dims');
  #defects = h('div.chips', { role: 'group', 'aria-label': t('rate.defects') });
  #note = h('textarea.input.note', { rows: 1, maxlength: 2000, placeholder: t('rate.note_hint'), 'aria-label': t('rate.note') });
  #reference = this.#toggle('reference', 'star', t('rate.reference'), () => this.toggleReference());

  constructor() {
    super();
    this.#marks.append(
      ...MARKS.map((mark) =>
        h('button.mark', { data: { mark: String(mark) }, 'aria-label': t('rate.give', { n: mark }), on: { click: () => this.#rate(mark) } },
          h('span.mark-n', String(mark)), h('kbd', { text: String(mark % 10), 'aria-hidden': 'true' })),
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

  /** Puts the parts where the page has room for them; returns the reference button, for the row of actions. */
  place() {
    byId('marks-row').append(this.#marks);
    byId('dims').append(this.#dims);
    byId('defects').append(this.#defects);
    byId('note').append(this.#note);
    return this.#reference;
  }

  /**
   * The draft as it would be sent with an overall mark.
   * @param {string[]} [more] defects added to those chosen
   */
  ratingWith(overall, more = []) {
    const { comments = '', defects = [], ...rest } = this.#draft;
    const rating = { ...rest, overall_quality: overall };
    if (comments.trim()) rating.comments = comments.trim();
    const all = [...new Set([...defects, ...more])];
    if (all.length) rating.defects = all;
    return rating;
  }

  /**
   * Takes a clip's rating, or its draft where this tab has one. It is seen with the next `draw`.
   * @param {Rating | null} rating what is saved or on its way
   */
  take(name, rating) {
    this.#name = name;
    this.#draft = stored(DRAFTS + name, { ...rating }, sessionStorage);
    this.#active = 0;
    this.#note.value = this.#draft.comments ?? '';
  }

  /** @see take */
  show(name, rating) {
    this.take(name, rating);
    this.draw();
  }

  /** Fills the draft with what a taken-back rating said, but for its mark. */
  restore(rating) {
    const { overall_quality: _, defects = [], ...rest } = rating;
    this.#set({ ...rest, defects: defects.filter((id) => id !== 'unusable') });
    this.#note.value = this.#draft.comments ?? '';
  }

  /** Shows an overall mark without touching what is being typed. */
  mark(overall) {
    this.#draft = { ...this.#draft, overall_quality: overall };
    this.draw();
  }

  /** Once sent, the draft is no longer one. */
  static forget(name) {
    sessionStorage.removeItem(DRAFTS + name);
  }

  toggleDefect(id) {
    const defects = this.#draft.defects ?? [];
    this.#set({ defects: defects.includes(id) ? defects.filter((other) => other !== id) : [...defects, id] });
  }

  toggleReference() {
    this.#set({ is_reference: !this.#draft.is_reference });
  }

  focusNote() {
    this.#note.closest('details')?.setAttribute('open', '');
    this.#note.focus();
  }

  /** Marks the highlighted finer dimension and goes to the next one. */
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
    keys.onChange(() => this.#hints());
  }

  #hints() {
    this.#note.placeholder = `${t('rate.note_hint')} (${keys.hint('note')})`;
    for (const element of [...this.#defects.children, this.#reference]) {
      element.querySelector('kbd').textContent = keys.hint(element.dataset.command);
    }
  }

  #rate(mark) {
    if (this.#name) this.emit('rate', mark);
  }

  #set(change) {
    this.#draft = { ...this.#draft, ...change };
    sessionStorage.setItem(DRAFTS + this.#name, JSON.stringify(this.#draft));
    this.draw();
    this.emit('edit');
  }

  #toggle(id, symbol, label, run, command = id) {
    return h('button.chip', { 'aria-pressed': 'false', data: { id, command }, on: { click: run } },
      symbol && icon(symbol), h('span', label), h('kbd', { 'aria-hidden': 'true' }));
  }

  #dimension(dim, i) {
    const marks = MARKS.map((mark) =>
      h('button.dim-mark', { 'aria-pressed': 'false', data: { mark: String(mark) }, 'aria-label': t('rate.dim_give', { dim: t(`dim.${dim}`), n: mark }), text: String(mark),
        on: { click: () => { this.#active = i; this.#set({ [dim]: this.#draft[dim] === mark ? undefined : mark }); } } }),
    );
    return h('div.dim', { role: 'group', 'aria-label': t(`dim.${dim}`), data: { dim } }, h('span.dim-name', t(`dim.${dim}`)), h('div.dim-marks', ...marks));
  }

  draw() {
    const draft = this.#draft;
    const off = !this.#name;
    if (off !== this.#off) {
      this.#off = off;
      const dims = this.#dims.querySelectorAll('button');
      for (const control of [...this.#marks.children, ...this.#defects.children, ...dims, this.#reference, this.#note]) control.toggleAttribute('disabled', off);
    }
    press(this.#marks.children, (element) => Number(element.dataset.mark) === draft.overall_quality);
    [...this.#dims.children].forEach((row, i) => {
      const given = draft[DIMENSIONS[i]] ?? 0;
      row.classList.toggle('active', i === this.#active && !off);
      if (given === this.#given[i]) return;
      this.#given[i] = given;
      for (const element of row.querySelectorAll('button')) {
        const mark = Number(element.dataset.mark);
        element.setAttribute('aria-pressed', String(mark === given));
        element.classList.toggle('below', mark < given);
      }
    });
    press(this.#defects.children, (element) => (draft.defects ?? []).includes(element.dataset.id));
    press([this.#reference], () => Boolean(draft.is_reference));
  }
}
