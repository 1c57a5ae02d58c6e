/** Automatic scores with what they mean in words. All are in [0,1] and 1 is best. */
import { h } from './dom.js';
import { fixed } from './format.js';
import { hasText, t } from './i18n.js';

export const METRICS = ['blur', 'exposure', 'blockiness', 'flicker', 'anatomy_score', 'face_quality_score', 'artifact_score', 'temporal_consistency', 'frequency_artifact_score', 'deep_quality', 'overall_simple'];

/** @param {number} score @returns {'good'|'fair'|'poor'} */
export const grade = (score) => (score >= 0.7 ? 'good' : score >= 0.45 ? 'fair' : 'poor');

/** A person's mark, on the same three grades. @param {number} mark 1 to 10 */
export const markGrade = (mark) => (mark >= 7 ? 'good' : mark >= 4 ? 'fair' : 'poor');

/**
 * The overall figure, then one line a metric: name, bar, figure, what it means.
 * @param {Record<string, any> | null | undefined} metrics
 * @returns {HTMLElement}
 */
export function scoreList(metrics) {
  const known = METRICS.filter((name) => metrics && name in metrics);
  if (!metrics || (known.length === 0 && typeof metrics.overall !== 'number')) return h('p', { class: 'muted', text: t('score.none') });
  return h('div', { class: 'scores' }, typeof metrics.overall === 'number' && overall(metrics.overall), h('ul', { class: 'score-list' }, ...known.map((name) => line(name, metrics[name]))));
}

/** @param {number} score */
function overall(score) {
  return h('p', { class: 'score-overall' }, h('strong', { class: grade(score), text: fixed(score) }), h('span', { class: 'muted', text: t(`score.overall.${grade(score)}`) }));
}

/** @param {string} name @param {any} score */
function line(name, score) {
  const label = hasText(`score.${name}`) ? t(`score.${name}`) : name;
  const why = hasText(`score.${name}.why`) ? t(`score.${name}.why`) : '';
  if (typeof score !== 'number') {
    return h('li', { class: 'score', title: why }, h('span', { class: 'score-name', text: label }), h('span', { class: 'score-word muted', text: t('score.absent') }));
  }
  const g = grade(score);
  const word = hasText(`score.${name}.${g}`) ? t(`score.${name}.${g}`) : t(`score.word.${g}`);
  return h(
    'li',
    { class: 'score', title: why },
    h('span', { class: 'score-name', text: label }),
    h('span', { class: `score-bar ${g}`, 'aria-hidden': 'true', style: { '--v': String(Math.min(Math.max(score, 0), 1)) } }),
    h('span', { class: 'mono score-n', text: fixed(score) }),
    h('span', { class: `score-word ${g}`, text: word }),
  );
}
