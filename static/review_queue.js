/**
 * The clips of this sitting, in the order a person meets them: rated ones behind, waiting ones ahead.
 * A plain model without page or network, so that it can be reasoned about and tested alone.
 */

/**
 * @typedef {Record<string, any> & {name: string}} Clip
 * @typedef {{clip: Clip, rated: number | null, rating?: Record<string, any> | null, skipped: boolean, gone: boolean, shared?: boolean}} Item
 * `gone`: somebody else rated it; `shared`: another reviewer has it on screen too.
 */

export class ReviewQueue {
  /** @type {Item[]} */
  items = [];
  position = 0;
  /** @type {Set<string>} */
  #names = new Set();
  /** Clips on the screens of other reviewers: they are left to them. @type {Set<string>} */
  elsewhere = new Set();
  /** Arrivals enter behind the clips that are already loaded, so that nothing ready is thrown away. */
  static READY = 3;
  /** How many a person may browse back. */
  static BEHIND = 60;

  /** @returns {Item | null} */
  get current() {
    return this.items[this.position] ?? null;
  }

  /** @returns {Item | undefined} */
  find(name) {
    return this.items.find((item) => item.clip.name === name);
  }

  /** Clips neither rated nor skipped nor gone, from here on. @returns {Item[]} */
  ahead() {
    return this.items.slice(this.position + 1).filter((item) => this.#open(item));
  }

  /** @returns {Item[]} */
  skipped() {
    return this.items.filter((item) => item.skipped && item.rated === null && !item.gone);
  }

  /** How many of the known clips still want a rating. */
  get left() {
    return this.items.filter((item) => item.rated === null && !item.gone && !item.clip.repeat).length;
  }

  #open(item) {
    return item.rated === null && !item.skipped && !item.gone && !this.elsewhere.has(item.clip.name);
  }

  /**
   * Takes in clips from the server's list of unrated ones.
   * @param {{soon?: boolean, skipped?: Set<string>}} [options] `soon`: they are new, show them next
   * @returns {number} how many were not known before
   */
  add(clips, options = {}) {
    const fresh = clips.filter((clip) => !this.#names.has(clip.name));
    const items = fresh.map((clip) => ({ clip, rated: null, skipped: options.skipped?.has(clip.name) ?? false, gone: false }));
    for (const clip of fresh) this.#names.add(clip.name);
    const at = options.soon ? Math.min(this.position + 1 + ReviewQueue.READY, this.items.length) : this.items.length;
    this.items.splice(at, 0, ...items);
    return fresh.length;
  }

  /** Brings the clips that are not loaded yet into the server's order; those it does not name come after. */
  reorder(names) {
    const from = this.position + 1 + ReviewQueue.READY;
    const rank = new Map(names.map((name, i) => [name, i]));
    const at = (item) => (item.clip.repeat ? null : rank.get(item.clip.name) ?? names.length);
    const tail = this.items.slice(from);
    const sorted = tail.filter((item) => at(item) !== null).sort((a, b) => Number(at(a)) - Number(at(b)));
    this.items.splice(from, tail.length, ...tail.map((item) => (item.clip.repeat ? item : sorted.shift())));
  }

  /** Lets go of what lies far behind, so that a long sitting costs no more than a short one. */
  forget() {
    const cut = this.position - ReviewQueue.BEHIND;
    if (cut < ReviewQueue.BEHIND / 4) return; // a few at once
    const old = this.items.slice(0, cut).filter((item) => item.rated !== null || item.gone);
    for (const item of old) this.#names.delete(item.clip.name);
    this.items = this.items.filter((item) => !old.includes(item));
    this.position -= old.length;
  }

  /** Puts a clip where the person is and goes there, whatever the filters say. */
  show(clip) {
    const known = this.items.findIndex((item) => item.clip.name === clip.name);
    if (known >= 0) {
      this.position = known;
      return;
    }
    this.#names.add(clip.name);
    this.items.splice(this.position, 0, { clip, rated: null, skipped: false, gone: false });
  }

  /** Goes to the next clip that wants a rating; behind the last one lies the end. */
  advance() {
    const next = this.items.findIndex((item, i) => i > this.position && this.#open(item));
    if (next >= 0) this.position = next;
    else {
      const before = this.items.findIndex((item) => this.#open(item));
      this.position = before >= 0 && before !== this.position ? before : this.items.length;
    }
  }

  /** Browses by one, rated clips too; behind the last one lies the end. @returns {boolean} false before the first */
  browse(by) {
    let at = this.position + by;
    while (this.items[at]?.gone) at += by;
    if (at < 0) return false;
    this.position = Math.min(at, this.items.length);
    return true;
  }

  /** Brings the skipped ones back. */
  unskip() {
    for (const item of this.items) item.skipped = false;
    this.position = this.items.findIndex((item) => this.#open(item));
    if (this.position < 0) this.position = this.items.length;
  }

  /** Someone else rated it: it is not offered any more. */
  drop(name) {
    const item = this.find(name);
    if (item) item.gone = true;
  }
}
