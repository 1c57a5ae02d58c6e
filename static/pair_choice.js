/** Which clips to compare next, and why these. A plain model without page or network. */

/**
 * @typedef {{name: string, score: number|null, prompt?: string|null, combo_key?: string|null, params?: Record<string, any>,
 *            predicted?: {mean: number, sd: number} | null}} Candidate
 * `predicted`: the rating expected for the clip, 1 to 10, and how sure that is.
 */

/** One name for a pair, whichever side is which. @param {{name: string}} a @param {{name: string}} b */
export const pairKey = (a, b) => [a.name, b.name].sort().join('\n');

/**
 * A vote teaches most where the outcome is open and only the settings differ: clips of the same prompt and different combos,
 * predicted (or scored) alike, of the same shape, seldom compared so far, and of combos that few clips speak for.
 * @param {Candidate[]} clips
 * @param {Set<string>} compared pair keys that had their vote
 * @param {Map<string, number>} seen how often a clip was shown
 * @param {() => number} random in [0,1)
 * @param {number} [tries] pairs looked at
 * @returns {Candidate[] | null} two clips, sides shuffled
 */
export function choosePair(clips, compared, seen, random = Math.random, tries = 300) {
  const pick = () => clips[Math.floor(random() * clips.length)];
  const small = clips.length * (clips.length - 1) <= tries;
  const pairs = small ? clips.flatMap((a, i) => clips.slice(i + 1).map((b) => [a, b])) : Array.from({ length: tries }, () => [pick(), pick()]);
  const rare = rarity(clips);
  const best = most(pairs.filter(([a, b]) => a.name !== b.name && !compared.has(pairKey(a, b))),
    ([a, b]) => worth(a, b) + 0.4 * (rare(a) + rare(b)) - 0.3 * ((seen.get(a.name) ?? 0) + (seen.get(b.name) ?? 0)) + 0.3 * random());
  return best && (random() < 0.5 ? [...best].reverse() : best);
}

/**
 * A pair with that clip in it, sides shuffled; null where it is not among the clips or alone.
 * @param {string} name @param {Candidate[]} clips @param {() => number} random in [0,1)
 */
export function pairWith(name, clips, random = Math.random) {
  const clip = clips.find((one) => one.name === name);
  const other = clip && most(clips.filter((one) => one !== clip), (one) => worth(clip, one) + 0.3 * random());
  return other ? (random() < 0.5 ? [clip, other] : [other, clip]) : null;
}

/**
 * Four clips for "which is the worst": a pair worth a vote and two more that fit it.
 * @param {Candidate[]} clips @param {Map<string, number>} seen @param {() => number} random
 * @returns {Candidate[] | null}
 */
export function chooseFour(clips, seen, random = Math.random) {
  const four = choosePair(clips, new Set(), seen, random);
  while (four && four.length < 4) {
    const some = clips.length > 120 ? Array.from({ length: 120 }, () => clips[Math.floor(random() * clips.length)]) : clips;
    const next = most(some.filter((clip) => !four.some((other) => other.name === clip.name)),
      (clip) => four.reduce((sum, other) => sum + worth(clip, other), 0) - (seen.get(clip.name) ?? 0) + 0.3 * random());
    if (!next) return null;
    four.push(next);
  }
  return four && four.sort(() => random() - 0.5);
}

/** The one of which `value` is highest, or null of none. */
function most(all, value) {
  let [best, highest] = [null, -Infinity];
  for (const one of all) {
    const found = value(one);
    if (found > highest) [best, highest] = [one, found];
  }
  return best;
}

/** How uncertain a clip's combo is: 1 where it is the only clip of it, less the more there are. */
function rarity(clips) {
  const counts = new Map();
  for (const { combo_key: key } of clips) counts.set(key, (counts.get(key) ?? 0) + 1);
  return (clip) => 1 / Math.sqrt(counts.get(clip.combo_key) ?? 1);
}

function worth(a, b) {
  const samePrompt = a.prompt && a.prompt === b.prompt ? 1 : 0;
  const otherCombo = a.combo_key && a.combo_key !== b.combo_key ? 1 : 0;
  const sameShape = a.params?.width === b.params?.width && a.params?.height === b.params?.height ? 0.3 : 0;
  if (a.predicted && b.predicted) return samePrompt + otherCombo + sameShape + loss(a.predicted, b.predicted) + (a.predicted.mean + b.predicted.mean) / 20;
  const open = a.score !== null && b.score !== null ? 1 - Math.abs(a.score - b.score) : 0.5;
  return samePrompt + otherCombo + sameShape + open;
}

/**
 * What taking the one predicted higher is expected to cost, in marks: sd (phi(z) - z (1 - Phi(z))), the expected improvement
 * (Jones, Schonlau, Welch 1998, https://doi.org/10.1023/A:1008306431147) of the other over it. It is what knowing the better one is worth.
 */
function loss(a, b) {
  const sd = Math.hypot(a.sd, b.sd) || 1e-6;
  const z = Math.abs(a.mean - b.mean) / sd;
  return sd * (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) - z * above(z));
}

/** 1 - Phi(z) for z >= 0, by the logistic approximation, off by less than 0.0002 (https://doi.org/10.1504/IJMOR.2009.024282). */
const above = (z) => 1 / (1 + Math.exp(0.07056 * z ** 3 + 1.5976 * z));

/**
 * Why a pair was chosen, as names of texts and what to fill in; nothing in it tells which side is which.
 * @param {Candidate} a @param {Candidate} b @param {Candidate[]} clips
 * @returns {Array<[string, Record<string, any>]>}
 */
export function reasons(a, b, clips) {
  const said = [[a.prompt && a.prompt === b.prompt ? 'same_prompt' : 'other_prompt', {}]];
  if (a.predicted && b.predicted) {
    const gap = Math.abs(a.predicted.mean - b.predicted.mean);
    said.push(['predicted', { gap: gap.toFixed(1), percent: Math.round(100 * above(gap / (Math.hypot(a.predicted.sd, b.predicted.sd) || 1e-6))) }]);
  } else if (typeof a.score === 'number' && typeof b.score === 'number') said.push(['score', { gap: Math.abs(a.score - b.score).toFixed(2) }]);
  const few = Math.min(...[a, b].map((clip) => clips.filter((other) => other.combo_key === clip.combo_key).length));
  if (few === 1) said.push(['rare', {}]);
  return said;
}

/**
 * The parameters in which the clips differ.
 * @returns {Array<{field: string, values: any[]}>}
 */
export function differences(...clips) {
  const of = ({ params: p = {} }) => ({ sampler: p.sampler, scheduler: p.scheduler, fps: p.fps, cfg: p.cfg_scale, steps: p.steps, size: p.width ? `${p.width}×${p.height}` : undefined });
  const all = clips.map(of);
  return Object.keys(all[0]).map((field) => ({ field, values: all.map((one) => one[field]) })).filter(({ values }) => values.some((value) => value !== values[0]));
}
