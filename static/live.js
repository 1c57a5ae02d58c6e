/** Follows what happens on the server: asks for changes every so often while the page is visible. */
import { ApiError, getResponse } from './api.js';
import { Emitter } from './dom.js';

const POLL_MS = 1500;
const AWAY_MS = [1500, 3000, 6000, 10000];

/**
 * Events: `changes` (array of {kind, name, key, event_id}), `reset` (too much happened: load anew),
 * `stats`, `agent` ({alive, status}), `connection` (boolean).
 */
export class Live extends Emitter {
  #cursor = '';
  #etag = '';
  #failures = 0;
  #running = false;
  #timer;
  connected = true;

  start() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#ask();
    });
    this.#ask();
  }

  /** Calls `again` whenever what a page shows may be out of date. */
  onNews(again) {
    this.on('changes', again);
    this.on('reset', again);
    this.on('connection', (connected) => connected && again());
  }

  /** Asks at once, for example after something was saved. */
  now() {
    this.#ask();
  }

  async #ask() {
    if (this.#running) return;
    clearTimeout(this.#timer);
    this.#running = true;
    try {
      const headers = this.#etag ? { 'If-None-Match': this.#etag } : {};
      const response = await getResponse('/api/changes', { since: this.#cursor }, { headers });
      this.#failures = 0;
      this.#connection(true);
      if (response.status !== 304) {
        this.#etag = response.headers.get('ETag') ?? '';
        this.#take(await response.json());
      }
    } catch (error) {
      if (!(error instanceof ApiError)) console.error('following the changes failed', error);
      if (error instanceof ApiError && error.status === 401) this.emit('signin');
      this.#failures += 1;
      this.#connection(false);
    } finally {
      this.#running = false;
      const wait = this.#failures ? AWAY_MS[Math.min(this.#failures, AWAY_MS.length) - 1] : POLL_MS;
      if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), wait);
    }
  }

  #take(answer) {
    const first = this.#cursor === '';
    this.#cursor = String(answer.cursor);
    if (answer.stats) this.emit('stats', answer.stats);
    if ('agent' in answer) this.emit('agent', answer.agent);
    if (first) return;
    if (answer.reset) this.emit('reset');
    else if (answer.changes?.length) this.emit('changes', answer.changes);
  }

  #connection(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.emit('connection', connected);
  }
}

export const live = new Live();
