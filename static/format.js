/** Numbers, times and combos as people read them. */
import { language, t, textOr } from './i18n.js';

export function fixed(value, digits = 2) {
  return typeof value === 'number' && Number.isFinite(value) ? value.toFixed(digits) : '–';
}

/** The rating expected for a clip, with how sure that is: 6.4 ± 0.9. @param {{mean: number, sd: number} | null | undefined} predicted */
export const predictedText = (predicted) => (predicted ? `${fixed(predicted.mean, 1)} ± ${fixed(predicted.sd, 1)}` : '');

/** Shortest form: 7, not 7.0. */
export const short = (value) => (typeof value === 'number' ? String(Number(value.toFixed(6))) : value === null || value === undefined ? '–' : String(value));

export const whole = (value) => new Intl.NumberFormat(language()).format(value);

/** Clock in a clip: 0:03.25. */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return '0:00.00';
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - minutes * 60).toFixed(2).padStart(5, '0')}`;
}

export const fileSize = (megabytes) => (megabytes < 1 ? t('unit.kb', { n: Math.max(1, Math.round(megabytes * 1000)) }) : t('unit.mb', { n: fixed(megabytes, 1) }));

/** Time left: "40 s", "3 min", "2 h 5 min". */
export function duration(seconds) {
  if (seconds < 90) return t('time.s', { n: Math.max(1, Math.round(seconds)) });
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return t('time.min', { n: minutes });
  return t('time.h', { h: whole(Math.floor(minutes / 60)), min: minutes % 60 });
}

/**
 * A moment, as the reader's language writes it; short for today.
 * @param {number | string | null | undefined} when unix seconds, or a text the server made
 * @param {'medium' | 'short'} [dateStyle] `short` for a narrow column
 */
export function moment(when, dateStyle = 'medium') {
  if (when === null || when === undefined || when === '') return '–';
  const date = typeof when === 'number' ? new Date(when * 1000) : new Date(when.includes('T') ? when : when.replace(' ', 'T'));
  if (Number.isNaN(date.getTime())) return String(when);
  const today = new Date().toDateString() === date.toDateString();
  const options = today ? { timeStyle: 'short' } : { dateStyle, timeStyle: 'short' };
  return new Intl.DateTimeFormat(language(), options).format(date);
}

export const FIELDS = ['sampler', 'scheduler', 'fps', 'cfg', 'steps', 'size'];

/** A setting as people call it; the user's own dimensions go by their own names. */
export const fieldName = (name) => textOr(`field.${name === 'cfg_scale' ? 'cfg' : name}`, name);

/** Splits a combo key (or a pattern with `*`) into its six fields and the user's own dimensions; null when it is not one. */
export function splitCombo(key) {
  const parts = (key ?? '').split('|');
  const own = parts.slice(FIELDS.length).map((part) => part.split('='));
  if (parts.length < FIELDS.length || own.some((pair) => pair.length !== 2)) return null;
  return Object.fromEntries([...FIELDS.map((field, i) => [field, parts[i]]), ...own].map(([field, value]) => [field.trim(), value.trim()]));
}

/** The user's own dimensions among the fields of a combo, in the order of a key. @returns {string[]} */
export const ownFields = (fields) => Object.keys(fields ?? {}).filter((field) => !FIELDS.includes(field)).sort();

/** @param {Record<string, string>} fields an empty field means any */
export function joinCombo(fields) {
  const text = (/** @type {string} */ field) => (fields[field] ?? '').trim();
  const own = ownFields(fields).filter((field) => !['', '*'].includes(text(field)));
  return [...FIELDS.map((field) => text(field) || '*'), ...own.map((field) => `${field}=${text(field)}`)].join('|');
}

/** The combo key of params as the server writes it, or null where one is missing. */
export function comboOf(params) {
  if (!params) return null;
  const { sampler, scheduler, fps, cfg_scale: cfg, steps, width, height } = params;
  if ([sampler, scheduler, fps, cfg, steps, width, height].some((value) => value === undefined || value === null)) return null;
  const own = Object.keys(params.extra ?? {}).sort().map((name) => `|${name}=${short(params.extra[name])}`);
  return `${sampler}|${scheduler}|${short(fps)}|${short(cfg)}|${short(steps)}|${short(width)}x${short(height)}${own.join('')}`;
}

/** A combo for a sentence: euler · beta · 16 fps · cfg 7 · 20 steps · 832×480. */
export function comboText(key) {
  const fields = splitCombo(key);
  if (!fields) return key ?? '–';
  const any = t('any');
  const say = (field) => (fields[field] === '*' ? any : fields[field]);
  return [
    say('sampler'),
    say('scheduler'),
    t('combo.fps', { v: say('fps') }),
    t('combo.cfg', { v: say('cfg') }),
    t('combo.steps', { v: say('steps') }),
    say('size').replace('x', '×'),
    ...ownFields(fields).map((field) => `${field} ${say(field)}`),
  ].join(' · ');
}

/** @param {{combo_key?: string|null, params?: Record<string, any>}} clip */
export const keyOf = (clip) => clip.combo_key ?? comboOf(clip.params);

/** The last part of a clip's name. */
export const fileOf = (name) => splitName(name).file;

/** The same, and the folder before it. */
export function splitName(name) {
  const cut = name.lastIndexOf('/') + 1;
  return { folder: name.slice(0, cut), file: name.slice(cut) };
}
