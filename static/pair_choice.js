/** Which two clips to compare next. A plain model without page or network. */

/**
 * @typedef {{name: string, score: number|null, prompt?: string|null, combo_key?: string|null, params?: Record<string, any>}} Candidate
 */

/** One name for a pair, whichever side is which. @param {{name: string}} a @param {{name: string}} b */
export const pairKey = (a, b) => [a.name, b.name].sort().join('\n');

/**
 * A vote teaches most where the outcome is open and only the settings differ: clips of the same prompt and
 * different combos, close in score, of the same shape, seldom compared so far, and of combos that few clips speak for.
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
  const rare = rarity(clips);
  for (const [a, b] of pairs) {
    if (a.name === b.name || compared.has(pairKey(a, b))) continue;
    const value = worth(a, b) + 0.4 * (rare(a) + rare(b)) - 0.3 * ((seen.get(a.name) ?? 0) + (seen.get(b.name) ?? 0)) + 0.3 * random();
    if (value > most) {
      most = value;
      best = [a, b];
    }
  }
  if (best && random() < 0.5) best.reverse();
  return best;
}

/**
 * Four clips for "which is the worst": a pair worth a vote and two more that fit it.
 * @param {Candidate[]} clips @param {Map<string, number>} seen @param {() => number} random
 * @returns {Candidate[] | null}
 */
export function chooseFour(clips, seen, random = Math.random) {
  const four = choosePair(clips, new Set(), seen, random);
  while (four && four.length < 4) {
    let best = null;
    let most = -Infinity;
    for (const clip of clips.length > 120 ? Array.from({ length: 120 }, () => clips[Math.floor(random() * clips.length)]) : clips) {
      if (four.some((other) => other.name === clip.name)) continue;
      const value = four.reduce((sum, other) => sum + worth(clip, other), 0) - (seen.get(clip.name) ?? 0) + 0.3 * random();
      if (value > most) [most, best] = [value, clip];
    }
    if (!best) return null;
    four.push(best);
  }
  return four && four.sort(() => random() - 0.5);
}

/** How uncertain a clip's combo is: 1 where it is the only clip of it, less the more there are. @param {Candidate[]} clips */
function rarity(clips) {
  const counts = new Map();
  for (const { combo_key: key } of clips) counts.set(key, (counts.get(key) ?? 0) + 1);
  return (/** @type {Candidate} */ clip) => 1 / Math.sqrt(counts.get(clip.combo_key) ?? 1);
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
 * The parameters in which the clips differ.
 * @param {...Candidate} clips
 * @returns {Array<{field: string, values: any[]}>}
 */
export function differences(...clips) {
  const of = (/** @type {Candidate} */ clip) => {
    const p = clip.params ?? {};
    return { sampler: p.sampler, scheduler: p.scheduler, fps: p.fps, cfg: p.cfg_scale, steps: p.steps, size: p.width ? `${p.width}×${p.height}` : undefined };
  };
  const all = clips.map(of);
  return Object.keys(all[0]).map((field) => ({ field, values: all.map((one) => one[field]) })).filter(({ values }) => values.some((value) => value !== values[0]));
}
