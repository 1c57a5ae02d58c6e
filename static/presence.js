/** Tells the server which clip this page shows and asks which ones other reviewers have, so that nobody is given the same one twice. */
import { newId, orElse, postJSON } from './api.js';
import { Emitter } from './dom.js';

const STORE = 'eva.page';
const AGAIN_MS = 5000; // the server forgets a page that is silent for longer

/** Events: `others` ({others: Set<string>, name}): clips on other screens, and what was on this one when it was asked. */
export class Presence extends Emitter {
  #page = sessionStorage.getItem(STORE) ?? newId(); // the same after a reload: a page does not give way to itself
  #name = null;

  constructor() {
    super();
    sessionStorage.removeItem(STORE); // a tab made as a copy of this one is another page
    setInterval(() => document.hidden || this.#tell(), AGAIN_MS);
    document.addEventListener('visibilitychange', () => !document.hidden && this.#tell());
    addEventListener('pagehide', () => {
      sessionStorage.setItem(STORE, this.#page);
      this.show(null);
    });
  }

  /** @param {string | null} name */
  show(name) {
    if (name === this.#name) return;
    this.#name = name;
    this.#tell();
  }

  async #tell() {
    const name = this.#name;
    const answer = await orElse(postJSON('/api/showing', { page: this.#page, name }), (error) => console.info('what others look at is not known:', error.message));
    if (answer) this.emit('others', { others: new Set(answer.others), name });
  }
}
