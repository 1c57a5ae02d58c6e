/** Banning with its safeguards, for every page: what it would touch, a question where that is much, and undo. */
import { getJSON, orElse } from './api.js';
import { comboText } from './format.js';
import { t, tn } from './i18n.js';
import { outbox } from './outbox.js';
import { ask, toast } from './toast.js';

/** More clips than this are not banned by a single key press. */
export const CONFIRM_ABOVE = 20;

/**
 * @typedef {{queued: number, rated: number, mean: number | null, armsBefore: number | null, armsLeft: number | null, total: number}} Preview
 * @typedef {{name?: string, key?: string, label?: string}} Target a clip (with its combo key as label), or a combo key or pattern
 */

/**
 * Asks what a ban would touch.
 * @returns {Promise<Preview>}
 */
export async function banPreview(target) {
  const answer = await getJSON('/api/ban_preview', target.key ? { combo_key: target.key } : { video_name: target.name });
  const queued = answer.queued ?? 0;
  const rated = answer.rated ?? 0;
  return { queued, rated, mean: answer.rated_mean ?? null, armsBefore: answer.arms_before ?? null, armsLeft: answer.arms_left ?? null, total: queued + rated };
}

export function previewText(preview) {
  const parts = [tn('ban.queued', preview.queued), tn('ban.rated', preview.rated)];
  if (preview.rated && preview.mean !== null) parts.push(t('ban.mean', { n: preview.mean.toFixed(1) }));
  if (preview.armsLeft !== null) parts.push(tn('ban.arms_left', preview.armsLeft));
  return parts.join(' · ');
}

/**
 * Bans after looking: refuses what leaves nothing to try, asks where many clips are touched.
 * Where the server cannot be asked, the ban waits in the outbox; the server refuses a ruinous one itself.
 * @param {{reason?: string, onUndo?: () => void, quiet?: boolean}} [options]
 * @returns {Promise<import('./outbox.js').Action | null>} null when nothing was banned
 */
export async function ban(target, options = {}) {
  let { reason = '' } = options;
  const no = (text) => {
    toast(text, { kind: 'error' });
    return null;
  };
  const preview = await orElse(banPreview(target), (error) => (error.temporary ? undefined : no(t('ban.refused', { why: error.message }))));
  if (preview === null) return null;
  if (preview?.armsLeft === 0) return no(t('ban.leaves_nothing'));
  if (preview?.total > CONFIRM_ABOVE) {
    const answer = await ask({ title: tn('ban.sure', preview.total), text: `${comboText(target.key ?? target.label ?? '')} — ${previewText(preview)}`, ok: t('ban.do'), danger: true, reason });
    if (answer === null) return null;
    reason = answer;
  }
  const body = { ...(target.name ? { video_name: target.name } : { combo_key: target.key }), ...(reason && { reason }) };
  const action = outbox.add('ban', body);
  if (!options.quiet) {
    const undo = () => {
      outbox.undo(action.id);
      options.onUndo?.();
    };
    toast(t('ban.done', { what: comboText(target.key ?? target.label ?? target.name) }), { kind: 'good', undo });
  }
  return action;
}

/** @returns {import('./outbox.js').Action} */
export function unban(key) {
  const action = outbox.add('unban', { combo_key: key });
  toast(t('ban.lifted', { what: comboText(key) }), { kind: 'good', undo: () => outbox.undo(action.id) });
  return action;
}
