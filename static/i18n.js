/** Texts of the pages in the reader's language. Both languages say the same things: a test holds that. */

export const LANGUAGES = { en: 'English', uk: 'Українська' };

let texts = {};
let current = 'en';
let plural = new Intl.PluralRules('en');

async function load(lang) {
  const response = await fetch(`/static/i18n/${lang}.json`);
  if (!response.ok) throw new Error(`texts for ${lang}: ${response.status}`);
  return response.json();
}

/**
 * Loads the texts and fills in every `data-i18n` element of the document.
 * @param {() => Promise<string>} serverDefault asked only where nobody chose a language yet
 */
export async function initI18n(serverDefault) {
  const wanted = document.documentElement.dataset.lang ?? (await serverDefault()); // chosen on a page before: boot.js
  if (wanted in LANGUAGES) current = wanted;
  texts = await load(current);
  plural = new Intl.PluralRules(current);
  document.documentElement.lang = current;
  translate(document.body);
}

/** @param {string} lang one of LANGUAGES; the page is loaded anew in it */
export function chooseLanguage(lang) {
  localStorage.setItem('eva.lang', lang);
  location.reload();
}

export const language = () => current;

/** @param {Record<string, string | number>} [values] put in place of `{name}` */
export function t(key, values = {}) {
  const text = texts[key];
  if (text === undefined) {
    console.warn(`no text for ${key}`);
    return key;
  }
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/**
 * A text that depends on a count: `key.one`, `key.few`, `key.many`, `key.other`.
 * @param {Record<string, string | number>} [values]
 */
export function tn(key, n, values = {}) {
  const form = `${key}.${plural.select(n)}`;
  return t(form in texts ? form : `${key}.other`, { n, ...values });
}

/** True when the text exists, for names that come from the server. */
export const hasText = (key) => key in texts;

/** That text, or what stands for it where there is none. */
export const textOr = (key, other) => (hasText(key) ? t(key) : other);

/** Fills `data-i18n` (text) and `data-i18n-ATTRIBUTE` (placeholder, aria-label, title) below `root`. */
function translate(root) {
  for (const element of root.querySelectorAll('[data-i18n]')) element.textContent = t(element.dataset.i18n ?? '');
  for (const attribute of ['placeholder', 'aria-label', 'title']) {
    for (const element of root.querySelectorAll(`[data-i18n-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-i18n-${attribute}`) ?? ''));
    }
  }
}
