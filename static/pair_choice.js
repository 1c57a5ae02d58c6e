/** Which two clips to compare next. A plain model without page or network. */

/**
 * @typedef {{name: string, score: number|null, prompt?: string|null, combo_key?: string|null, params?: Record<string, any>}} Candidate
 */

/** One name for a pair, whichever side is which. @param {{name: string}} a @param {{name: string}} b */
export const pairKey = (a, b) => [a.name, b.name].sort().join('\n');

/**
 * A vote teaches most where the outcome is open and only the settings differ: clips of the same prompt and
 * different combos, close in score, of the same shape, and seldom compared so far.
 * @param {Candidate[]} clips
 * @param {Set<string>} compared pair keys that had their vote
 * @param {Map<string, number>} seen how often a clip was shown
 * @param {() => number} random in [0,1)
 * @param {number} [tries] pairs looked at
 * @returns {Candidate[] | null} two clips, sides shuffled
 */
export function choosePair(clips, compared, seen, random = Math.random, tries = 300) {
  /** @type {Candidate[] | null} */
  let best = null;
  let most = -Infinity;
  const pick = () => clips[Math.floor(random() * clips.length)];
  const small = clips.length * (clips.length - 1) <= tries;
  const pairs = small ? clips.flatMap((a, i) => clips.slice(i + 1).map((b) => [a, b])) : Array.from({ length: tries }, () => [pick(), pick()]);
  for (const [a, b] of pairs) {
    if (a.name === b.name || compared.has(pairKey(a, b))) continue;
    const value = worth(a, b) - 0.3 * ((seen.get(a.name) ?? 0) + (seen.get(b.name) ?? 0)) + 0.3 * random();
    if (value > most) {
      most = value;
      best = [a, b];
    }
  }
  if (best && random() < 0.5) best.reverse();
  return best;
}

/** @param {Candidate} a @param {Candidate} b */
function worth(a, b) {
  const samePrompt = a.prompt && a.prompt === b.prompt ? 1 : 0;
  const otherCombo = a.combo_key && a.combo_key !== b.combo_key ? 1 : 0;
  const sameShape = a.params?.width === b.params?.width && a.params?.height === b.params?.height ? 0.3 : 0;
  const open = a.score !== null && b.score !== null ? 1 - Math.abs(a.score - b.score) : 0.5;
  return samePrompt + otherCombo + sameShape + open;
}

/**
 * The parameters in which two clips differ.
 * @param {Candidate} a @param {Candidate} b
 * @returns {Array<{field: string, values: [any, any]}>}
 */
export function differences(a, b) {
  const of = (/** @type {Candidate} */ clip) => {
    const p = clip.params ?? {};
    return { sampler: p.sampler, scheduler: p.scheduler, fps: p.fps, cfg: p.cfg_scale, steps: p.steps, size: p.width ? `${p.width}×${p.height}` : undefined };
  };
  const [left, right] = [of(a), of(b)];
  return Object.keys(left)
    .filter((field) => left[/** @type {keyof typeof left} */ (field)] !== right[/** @type {keyof typeof right} */ (field)])
    .map((field) => ({ field, values: [left[/** @type {keyof typeof left} */ (field)], right[/** @type {keyof typeof right} */ (field)]] }));
}
