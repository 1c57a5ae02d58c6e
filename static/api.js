/** The only module that talks to the server. */

/** An answer that is not a success. `status` 0: no answer at all (offline, server away). */
export class ApiError extends Error {
  constructor(message, status, body = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.body = body;
  }

  /** True when the same request may succeed later. */
  get temporary() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/**
 * What a request answers, or what `failed` makes of a refusal or a lost connection. A mistake in the page is thrown on.
 * @param {Promise<T>} asked
 * @param {(error: ApiError) => any} failed
 * @returns {Promise<T>}
 */
export async function orElse(asked, failed) {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return failed(error);
  }
}

const TIMEOUT_MS = 20000;

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: 'same-origin', signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error; // the caller gave it up
    throw new ApiError('The server cannot be reached', 0);
  }
  if (response.ok || response.status === 304) return response;
  let body = {};
  try {
    body = await response.json();
  } catch (error) {
    console.warn(`${path}: the error ${response.status} came without JSON`, error);
  }
  throw new ApiError(body.message || `${response.status} ${response.statusText}`, response.status, body);
}

/**
 * @param {Record<string, any>} [query] empty values are left out
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} [options]
 */
export async function getResponse(path, query = {}, options = {}) {
  const text = queryString(query);
  return send(text ? `${path}?${text}` : path, { headers: { Accept: 'application/json', ...options.headers }, ...(options.signal && { signal: options.signal }) });
}

/** @see getResponse */
export async function getJSON(path, query = {}, options = {}) {
  return (await getResponse(path, query, options)).json();
}

export async function postJSON(path, body) {
  const text = JSON.stringify(body);
  // A kept-alive request survives the tab being closed; browsers allow that up to 64 KiB.
  const keepalive = text.length < 60000;
  const response = await send(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: text, keepalive });
  return response.json();
}

/** The values that occur, for lists to choose from; empty where the server cannot say. */
export const getOptions = () => orElse(getJSON('/api/options'), (error) => (console.warn('the values to choose from are not known:', error.message), {}));

export function queryString(query) {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') params.set(key, String(value));
  }
  return params.toString();
}

/** @param {string} name a clip's name: a path below the video folder */
const clipPath = (name) => name.split('/').map(encodeURIComponent).join('/');
export const videoUrl = (name) => `/video/${clipPath(name)}`;
export const thumbUrl = (name) => `/thumb/${clipPath(name)}`;
export const filmstripUrl = (name) => `/filmstrip/${clipPath(name)}`;
export const watchUrl = (name) => `/watch?${queryString({ name })}`;
export const compareUrl = (name) => `/compare?${queryString({ name })}`;

/** A new id for an action: the server applies the same id only once. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
