/**
 * Actions on their way to the server. Each is written to the browser's storage under its own id before
 * anything is sent and leaves it only when the server has acknowledged it, so that a lost connection, a
 * reload or a closed tab loses nothing. The server applies an id once, so sending again is always safe.
 */
import { ApiError, newId, postJSON } from './api.js';
import { Emitter } from './dom.js';

/**
 * @typedef {{id: string, kind: 'rate'|'ban'|'unban'|'undo'|'compare', body: Record<string, any>, ref?: string,
 *            created: number, tries: number}} Action
 * `ref` (undo only): the action to take back, whose event id is known once it is acknowledged.
 * @typedef {{status: 'saved'|'saving'|'offline'|'signin'|'trouble', waiting: number, message: string}} OutboxState
 */

const PREFIX = 'eva.outbox.';
const ACKS = 'eva.outbox-acks';
const ACKS_KEPT = 300; // enough for any undo a person still remembers
const ROUTES = { rate: '/api/rate', ban: '/api/ban_combo', unban: '/api/unban_combo', undo: '/api/undo', compare: '/api/compare' };
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];

/** Storage that works, or one that lasts as long as the page. */
function usableStorage() {
  try {
    localStorage.setItem('eva.probe', '1');
    localStorage.removeItem('eva.probe');
    return localStorage;
  } catch (error) {
    console.warn('this browser refuses storage; unsent actions live only as long as this page:', error.message);
    return new MemoryStorage();
  }
}

class MemoryStorage {
  #items = new Map();
  get length() { return this.#items.size; }
  key(i) { return [...this.#items.keys()][i] ?? null; }
  getItem(key) { return this.#items.get(key) ?? null; }
  setItem(key, value) { this.#items.set(key, value); }
  removeItem(key) { this.#items.delete(key); }
}

/** Events: `state` (OutboxState), `ack` ({action, answer}), `refused` ({action, error}). */
export class Outbox extends Emitter {
  #storage = usableStorage();
  #draining = false;
  #sending = null;
  #failures = 0;
  #timer;
  /** @type {OutboxState} */
  state = { status: 'saved', waiting: 0, message: '' };

  start() {
    addEventListener('online', () => this.retryNow());
    addEventListener('storage', (event) => {
      if (event.key?.startsWith(PREFIX)) {
        this.#show();
        this.#drainSoon(0); // another tab may have been closed with work left
      }
    });
    this.#show();
    this.#drainSoon(0);
  }

  /**
   * Stores an action and sends it as soon as it is its turn.
   * @param {Action['kind']} kind
   * @returns {Action}
   */
  add(kind, body) {
    const id = newId();
    return this.#store({ id, kind, body: { ...body, id }, created: Date.now(), tries: 0 });
  }

  /**
   * Takes an action back: unsent ones are dropped, others are undone by the server once they arrived.
   * @param {string} id the action's id, or the event id of something done elsewhere
   */
  undo(id) {
    const action = this.#read(id);
    if (action && action.tries === 0 && this.#sending !== id) {
      this.#storage.removeItem(PREFIX + id);
      this.#show();
      return;
    }
    this.#store({ id: newId(), kind: 'undo', body: {}, ref: id, created: Date.now(), tries: 0 });
  }

  /** Every action not yet acknowledged, oldest first. @returns {Action[]} */
  waiting() {
    const found = [];
    for (let i = 0; i < this.#storage.length; i += 1) {
      const key = this.#storage.key(i);
      if (key?.startsWith(PREFIX)) {
        const action = this.#read(key.slice(PREFIX.length));
        if (action) found.push(action);
      }
    }
    return found.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
  }

  retryNow() {
    this.#failures = 0;
    this.#drainSoon(0);
  }

  #read(id) {
    const text = this.#storage.getItem(PREFIX + id);
    if (!text) return null;
    try {
      return JSON.parse(text);
    } catch (error) {
      console.error(`a stored action cannot be read and is dropped: ${text}`, error);
      this.#storage.removeItem(PREFIX + id);
      return null;
    }
  }

  #store(action) {
    const last = this.waiting().at(-1);
    if (last && last.created >= action.created) action.created = last.created + 1; // two keys in one millisecond keep their order
    this.#put(PREFIX + action.id, action);
    this.#show();
    this.#drainSoon(0);
    return action;
  }

  /** Keeps a value in the browser or, where that has no room left, as long as this page lives, with all that waits: sent twice it counts once. */
  #put(key, value) {
    try {
      this.#storage.setItem(key, JSON.stringify(value));
    } catch (error) {
      console.warn('the browser has no room left; what is not sent yet lives only as long as this page:', error.message);
      const kept = new MemoryStorage();
      for (const action of this.waiting()) kept.setItem(PREFIX + action.id, JSON.stringify(action));
      kept.setItem(ACKS, JSON.stringify(this.#acks()));
      this.#storage = kept;
      this.#put(key, value);
    }
  }

  #drainSoon(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#drain(), ms);
  }

  async #drain() {
    if (this.#draining) return;
    this.#draining = true;
    try {
      // One tab sends at a time where the browser offers locks; without them double sends are harmless.
      if (navigator.locks) await navigator.locks.request('eva.outbox', () => this.#sendAll());
      else await this.#sendAll();
    } finally {
      this.#draining = false;
      if (this.state.status === 'saved' && this.waiting().length) this.#drainSoon(0);
    }
  }

  async #sendAll() {
    for (let action = this.waiting()[0]; action; action = this.waiting()[0]) {
      this.#show('saving');
      this.#sending = action.id;
      try {
        const body = action.kind === 'undo' ? { event_id: this.#eventId(action.ref ?? ''), id: action.id } : action.body;
        this.#put(PREFIX + action.id, { ...action, tries: action.tries + 1 });
        const answer = await postJSON(ROUTES[action.kind], body);
        this.#rememberEvent(action.id, answer.event_id);
        this.#storage.removeItem(PREFIX + action.id);
        this.#failures = 0;
        this.emit('ack', { action, answer });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) return this.#show('signin');
        if (error.temporary) {
          const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)];
          this.#failures += 1;
          this.#drainSoon(wait);
          return this.#show(error.status === 0 ? 'offline' : 'trouble', error.message);
        }
        this.#storage.removeItem(PREFIX + action.id);
        this.emit('refused', { action, error });
      } finally {
        this.#sending = null;
      }
    }
    return this.#show('saved');
  }

  #eventId(id) {
    return this.#acks()[id] ?? id;
  }

  #acks() {
    return JSON.parse(this.#storage.getItem(ACKS) ?? '{}');
  }

  #rememberEvent(id, eventId) {
    if (!eventId || eventId === id) return;
    const entries = Object.entries({ ...this.#acks(), [id]: eventId });
    this.#put(ACKS, Object.fromEntries(entries.slice(-ACKS_KEPT)));
  }

  #show(status, message = '') {
    const waiting = this.waiting().length;
    let next = status ?? this.state.status;
    if (waiting === 0) next = 'saved';
    else if (next === 'saved') next = 'saving';
    this.state = { status: next, waiting, message: message || (status ? '' : this.state.message) };
    this.emit('state', this.state);
  }
}

export const outbox = new Outbox();
