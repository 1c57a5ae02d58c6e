/** Follows what happens on the server: asks for changes every so often while the page is visible. */
import { ApiError, getResponse } from './api.js';

const POLL_MS = 1500;
const AWAY_MS = [1500, 3000, 6000, 10000];

/**
 * Events: `changes` (array of {kind, name, key, event_id}), `reset` (too much happened: load anew),
 * `stats`, `agent` ({alive, status}), `connection` (boolean).
 */
export class Live extends EventTarget {
  #cursor = '';
  #etag = '';
  #failures = 0;
  #running = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  connected = true;

  start() {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#ask();
    });
    this.#ask();
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
      if (error instanceof ApiError && error.status === 401) this.dispatchEvent(new CustomEvent('signin'));
      this.#failures += 1;
      this.#connection(false);
    } finally {
      this.#running = false;
      const wait = this.#failures ? AWAY_MS[Math.min(this.#failures, AWAY_MS.length) - 1] : POLL_MS;
      if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), wait);
    }
  }

  /** @param {Record<string, any>} answer */
  #take(answer) {
    const first = this.#cursor === '';
    this.#cursor = String(answer.cursor);
    if (answer.stats) this.dispatchEvent(new CustomEvent('stats', { detail: answer.stats }));
    if ('agent' in answer) this.dispatchEvent(new CustomEvent('agent', { detail: answer.agent }));
    if (first) return;
    if (answer.reset) this.dispatchEvent(new CustomEvent('reset'));
    else if (answer.changes?.length) this.dispatchEvent(new CustomEvent('changes', { detail: answer.changes }));
  }

  /** @param {boolean} connected */
  #connection(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.dispatchEvent(new CustomEvent('connection', { detail: connected }));
  }
}

export const live = new Live();
