/** How fast people rate and how fast clips are made, from the server's counts as the browser saw them over the last half hour. */
import { store, stored } from './dom.js';

const STORE = 'eva.pace';
const SPAN_MS = 30 * 60_000;
const APART_MS = 20_000; // between two counts that are kept
const LEAST_MS = 60_000; // a shorter time says nothing
const SOON_MIN = 3;

/** @typedef {{at: number, rated: number, made: number}} Count */

/** The counts kept in this browser, the newest among them. @param {Count} now @returns {Count[]} oldest first */
export function keepCount(now) {
  // Fewer clips than before: another state is served at this address.
  const kept = stored(STORE, []).filter((one) => now.at - one.at < SPAN_MS && one.at <= now.at && one.made <= now.made);
  if (now.at - (kept.at(-1)?.at ?? 0) >= APART_MS) {
    kept.push(now);
    store(STORE, kept);
  }
  return kept;
}

/**
 * Ratings and clips an hour, and which of the two waits for the other: `starving` where a person rates faster than clips are made and has
 * done so within minutes, `overflowing` where clips are made faster and more than an hour's rating waits. Nothing while nobody rates.
 * @param {Count[]} counts oldest first @param {Count} now @param {number} pending unrated clips
 * @returns {{rated: number, made: number, flow: ''|'starving'|'overflowing'} | null} null: not known yet
 */
export function paceOf(counts, now, pending) {
  const first = counts[0];
  if (!first || now.at - first.at < LEAST_MS) return null;
  const hours = (now.at - first.at) / 3_600_000;
  const rated = Math.max(0, now.rated - first.rated) / hours;
  const made = Math.max(0, now.made - first.made) / hours;
  const starving = rated > made && pending / (rated - made) < SOON_MIN / 60;
  const overflowing = rated > 0 && made > rated && pending > rated;
  return { rated, made, flow: starving ? 'starving' : overflowing ? 'overflowing' : '' };
}
