/** Automatic scores with what they mean in words. All are in [0,1] and 1 is best. */
import { h } from './dom.js';
import { fixed } from './format.js';
import { t, textOr } from './i18n.js';

export const METRICS = ['blur', 'exposure', 'blockiness', 'flicker', 'anatomy_score', 'face_quality_score', 'artifact_score', 'temporal_consistency', 'frequency_artifact_score', 'deep_quality', 'overall_simple'];

/** @returns {'good'|'fair'|'poor'} */
export const grade = (score) => (score >= 0.7 ? 'good' : score >= 0.45 ? 'fair' : 'poor');

/** A person's mark, on the same three grades. @param {number} mark 1 to 10 */
export const markGrade = (mark) => (mark >= 7 ? 'good' : mark >= 4 ? 'fair' : 'poor');

/** The overall figure, then one line a metric: name, bar, figure, what it means. */
export function scoreList(metrics) {
  const known = METRICS.filter((name) => metrics && name in metrics);
  if (!metrics || (known.length === 0 && typeof metrics.overall !== 'number')) return h('p.muted', t('score.none'));
  return h('div.scores', typeof metrics.overall === 'number' && overall(metrics.overall), h('ul.score-list', ...known.map((name) => line(name, metrics[name]))));
}

function overall(score) {
  return h('p.score-overall', h('strong', { class: grade(score), text: fixed(score) }), h('span.muted', t(`score.overall.${grade(score)}`)));
}

function line(name, score) {
  const label = textOr(`score.${name}`, name);
  const why = textOr(`score.${name}.why`, '');
  if (typeof score !== 'number') {
    return h('li.score', { title: why }, h('span.score-name', label), h('span.score-word.muted', t('score.absent')));
  }
  const g = grade(score);
  const word = textOr(`score.${name}.${g}`, t(`score.word.${g}`));
  return h('li.score', { title: why },
    h('span.score-name', label),
    h('span', { class: `score-bar ${g}`, 'aria-hidden': 'true', style: { '--v': String(Math.min(Math.max(score, 0), 1)) } }),
    h('span.mono.score-n', fixed(score)),
    h('span', { class: `score-word ${g}`, text: word }),
  );
}
