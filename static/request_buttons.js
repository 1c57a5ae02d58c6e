/** Buttons that ask the agent for a clip: this one once more, one like it, one with parameters chosen here. */
import { ApiError, getJSON, newId, postJSON, watchUrl } from './api.js';
import { button, h } from './dom.js';
import { t } from './i18n.js';
import { live } from './live.js';
import { toast } from './toast.js';

const FIELDS = ['sampler', 'scheduler', 'fps', 'cfg_scale', 'steps', 'size'];
const CHOICES = { sampler: 'samplers', scheduler: 'schedulers', fps: 'fps', cfg_scale: 'cfg', steps: 'steps', size: 'sizes' };
const TOLD_ENOUGH = new Set(['made', 'failed', 'refused', 'obeyed']);

/**
 * @param {{name: string, params?: Record<string, any> | null}} clip `params`: what the clip was made with
 * @returns {HTMLElement}
 */
export function requestButtons(clip) {
  const said = h('p', { class: 'muted request-said', role: 'status' });
  /** @type {string | null} */
  let id = null;

  const show = async () => {
    if (!id) return;
    try {
      const item = (await getJSON('/api/requests', { limit: 100 })).requests.find((one) => one.id === id);
      if (!item) return;
      said.replaceChildren(t(`request.${item.state}`, { why: item.message ?? '' }));
      if (item.video) said.append(' ', h('a', { href: watchUrl(item.video), text: t('request.open') }));
      if (TOLD_ENOUGH.has(item.state)) id = null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      console.warn('what came of the request is not known yet:', error.message);
    }
  };
  live.addEventListener('changes', (event) => {
    if (/** @type {CustomEvent} */ (event).detail.some((change) => change.kind === 'answer')) show();
  });

  /** @param {Record<string, any>} body */
  const ask = async (body) => {
    try {
      const answer = await postJSON('/api/request', { ...body, id: newId() });
      id = answer.event_id;
      said.textContent = t(answer.agent_alive ? 'request.waiting' : 'request.no_agent');
      live.now();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(t('request.not_possible', { why: error.message }), { kind: 'error' });
    }
  };

  const known = Boolean(clip.params && FIELDS.slice(0, 5).every((name) => clip.params?.[name] !== undefined));
  const attrs = { disabled: !known };
  const row = h(
    'div',
    { class: 'row wrap request-row' },
    button({ label: t('request.again'), icon: 'plus', class: 'small', onClick: () => ask({ kind: 'again', name: clip.name }), attrs: { ...attrs, title: t('request.again_why') } }),
    button({ label: t('request.vary'), icon: 'compare', class: 'small', onClick: () => ask({ kind: 'vary', name: clip.name }), attrs: { ...attrs, title: t('request.vary_why') } }),
    button({ label: t('request.try'), icon: 'filter', class: 'small', onClick: () => chooseParams(clip, ask), attrs: { ...attrs, title: t('request.try_why') } }),
  );
  if (!known) said.textContent = t('request.unknown');
  return h('div', { class: 'request-buttons' }, row, said);
}

/** @param {any} value how a choice is written: a size as WxH */
const shown = (value) => (Array.isArray(value) ? value.join('×') : String(value));

/**
 * The form of "try these parameters", filled with the clip's.
 * @param {{name: string, params?: Record<string, any> | null}} clip
 * @param {(body: Record<string, any>) => void} ask
 */
async function chooseParams(clip, ask) {
  if (document.querySelector('dialog[open]')) return;
  const params = clip.params ?? {};
  const current = { ...params, size: [params.width, params.height] };
  let options = {};
  try {
    options = await getJSON('/api/options');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(t('request.not_possible', { why: error.message }), { kind: 'error' });
    return;
  }
  /** @type {Record<string, {select: HTMLSelectElement, values: any[]}>} */
  const chosen = {};
  const fields = FIELDS.map((name) => {
    const offered = options[CHOICES[name]] ?? [];
    const values = offered.some((value) => shown(value) === shown(current[name])) ? offered : [current[name], ...offered];
    const select = /** @type {HTMLSelectElement} */ (
      h('select', { class: 'select', name }, ...values.map((value, i) => h('option', { value: i, text: shown(value) })))
    );
    select.value = String(values.findIndex((value) => shown(value) === shown(current[name])));
    chosen[name] = { select, values };
    return h('label', { class: 'field' }, h('span', { text: t(`request.field_${name}`) }), select);
  });
  const dialog = /** @type {HTMLDialogElement} */ (h('dialog', { class: 'dialog', 'aria-labelledby': 'try-title' }));
  const send = (event) => {
    event.preventDefault();
    const value = (name) => chosen[name].values[Number(chosen[name].select.value)];
    const [width, height] = value('size');
    const wanted = Object.fromEntries(FIELDS.slice(0, 5).map((name) => [name, value(name)]));
    ask({ kind: 'try', name: clip.name, params: { ...wanted, width, height } });
    dialog.close();
  };
  dialog.append(
    h('h2', { id: 'try-title', text: t('request.try_title') }),
    h('p', { class: 'muted', text: t('request.try_why') }),
    h(
      'form',
      { class: 'try-form', on: { submit: send } },
      h('div', { class: 'try-fields' }, ...fields),
      h('div', { class: 'row' }, h('span', { class: 'spacer' }), button({ label: t('cancel'), class: 'quiet', onClick: () => dialog.close() }), h('button', { type: 'submit', class: 'btn primary', text: t('request.ask') })),
    ),
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
