/** What a person did in this tab and may take back, and what was skipped; both outlive a reload of the tab. */
import { store, stored } from './dom.js';

const UNDO_DEPTH = 50;

/** @typedef {{action: string, kind: 'rate'|'ban', clip: Record<string, any> & {name: string}, before: Record<string, any> | null}} Done */

export class Sitting {
  /** @type {Done[]} newest last */
  done = stored('eva.done', [], sessionStorage);
  /** @type {Set<string>} names */
  skipped = new Set(stored('eva.skipped', [], sessionStorage));

  /** @param {Done} done */
  remember(done) {
    this.done = [...this.done, done].slice(-UNDO_DEPTH);
  }

  /** @param {string} action the id of one that was refused: there is nothing to take back */
  forget(action) {
    this.done = this.done.filter((done) => done.action !== action);
    this.keep();
  }

  keep() {
    store('eva.done', this.done, sessionStorage);
    store('eva.skipped', [...this.skipped], sessionStorage);
  }
}
