/** The parameters a clip was made with, as a small table, and a badge row for its standing. */
import { queryString } from './api.js';
import { h } from './dom.js';
import { FIELDS, short, splitCombo } from './format.js';
import { t } from './i18n.js';

/**
 * @param {string | null} key combo key
 * @param {Record<string, any>} [extra] further facts by text key, shown below
 */
export function comboTable(key, extra = {}) {
  const fields = splitCombo(key);
  const facts = fields ? FIELDS.map((field) => [t(`field.${field}`), fields[field].replace(/^(\d+)x(\d+)$/, '$1×$2')]) : [];
  for (const [name, value] of Object.entries(extra)) if (value !== undefined && value !== null && value !== '') facts.push([t(`field.${name}`), short(value)]);
  if (!facts.length) return h('p', { class: 'muted', text: t('combo.unknown') });
  return h('dl', { class: 'facts' }, ...facts.map(([name, value]) => h('div', { class: value.length > 12 ? 'wide' : '' }, h('dt', { text: name }), h('dd', { class: 'mono', text: value }))));
}

/** The search page with every clip of that combo. @param {string | null} key */
export function siblingsUrl(key) {
  return `/search?${queryString({ combo: key })}`; // the search page knows `combo` as a filter of its own
}

/** From a combo to its clips, and to a ban that starts from it. @param {string | null} key */
export function comboLinks(key) {
  if (!key) return [];
  return [h('a', { href: siblingsUrl(key), text: t('review.siblings') }), h('a', { href: `/qa?${queryString({ key })}`, text: t('review.wider_ban') })];
}

/** A text that is shown short and opens on demand. @param {string} text @param {string} empty */
export function longText(text, empty) {
  if (!text) return h('p', { class: 'muted', text: empty });
  const p = h('p', { class: 'prompt', text });
  if (text.length < 220) return p;
  p.classList.add('clamp');
  const more = h('button', { type: 'button', class: 'link', text: t('more'), 'aria-expanded': 'false' });
  more.addEventListener('click', () => {
    const open = p.classList.toggle('clamp');
    more.textContent = t(open ? 'more' : 'less');
    more.setAttribute('aria-expanded', String(!open));
  });
  return h('div', {}, p, more);
}
