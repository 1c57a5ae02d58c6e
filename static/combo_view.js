/** The parameters a clip was made with, as a small table, and a badge row for its standing. */
import { queryString } from './api.js';
import { byId, h } from './dom.js';
import { FIELDS, ownFields, predictedText, short, splitCombo } from './format.js';
import { t } from './i18n.js';
import { scoreList } from './scores.js';

/**
 * @param {string | null} key combo key
 * @param {Record<string, any>} [extra] further facts by text key, shown below
 */
function comboTable(key, extra = {}) {
  const fields = splitCombo(key);
  const facts = fields ? FIELDS.map((field) => [t(`field.${field}`), fields[field].replace(/^(\d+)x(\d+)$/, '$1×$2')]) : [];
  for (const name of ownFields(fields)) facts.push([name, fields?.[name] ?? '']);
  for (const [name, value] of Object.entries(extra)) if (value !== undefined && value !== null && value !== '') facts.push([t(`field.${name}`), short(value)]);
  if (!facts.length) return h('p.muted', t('combo.unknown'));
  return h('dl.facts', ...facts.map(([name, value]) => h('div', { class: value.length > 12 ? 'wide' : '' }, h('dt', name), h('dd.mono', { text: value }))));
}

/**
 * Fills the rail: parameters, prompt, scores.
 * @param {Record<string, any>} extra as for comboTable
 * @param {Record<string, any>} clip its `prompt` and `predicted` rating
 */
export function showAbout(key, extra, { prompt, predicted }, metrics) {
  byId('combo').replaceChildren(comboTable(key, extra));
  byId('combo-links').replaceChildren(...comboLinks(key));
  byId('prompt').replaceChildren(longText(prompt ?? '', t('review.no_prompt')));
  const expected = predicted && h('p.predicted', { title: t('predicted.why') }, h('span.muted', t('predicted.title')), ' ', h('strong.mono', predictedText(predicted)));
  byId('scores').replaceChildren(expected ?? '', scoreList(metrics));
}

/** The search page with every clip of that combo. */
export function siblingsUrl(key) {
  return `/search?${queryString({ combo: key })}`; // the search page knows `combo` as a filter of its own
}

/** From a combo to its clips, and to a ban that starts from it. */
function comboLinks(key) {
  if (!key) return [];
  return [h('a', { href: siblingsUrl(key), text: t('review.siblings') }), h('a', { href: `/qa?${queryString({ key })}`, text: t('review.wider_ban') })];
}

/** A text that is shown short and opens on demand. */
export function longText(text, empty) {
  if (!text) return h('p.muted', empty);
  const p = h('p.prompt', text);
  if (text.length < 220) return p;
  p.classList.add('clamp');
  const toggle = () => {
    const closed = p.classList.toggle('clamp');
    more.textContent = t(closed ? 'more' : 'less');
    more.setAttribute('aria-expanded', String(!closed));
  };
  const more = h('button.link', { text: t('more'), 'aria-expanded': 'false', on: { click: toggle } });
  return h('div', p, more);
}
