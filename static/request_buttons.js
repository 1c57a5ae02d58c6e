/** Buttons that ask the agent for a clip (this one once more, one like it, one with parameters chosen here) and the requests that still wait. */
import { getJSON, newId, orElse, postJSON, watchUrl } from './api.js';
import { button, h, openDialog, select } from './dom.js';
import { comboText, moment } from './format.js';
import { t } from './i18n.js';
import { live } from './live.js';
import { toast } from './toast.js';

const FIELDS = ['sampler', 'scheduler', 'fps', 'cfg_scale', 'steps', 'size'];
const CHOICES = { sampler: 'samplers', scheduler: 'schedulers', fps: 'fps', cfg_scale: 'cfg', steps: 'steps', size: 'sizes' };
const TOLD_ENOUGH = new Set(['made', 'failed', 'refused', 'cancelled']);
const MAKING = new Set(['again', 'vary', 'try']);
const ASKED = 100; // requests looked through

const refused = (error) => toast(t('request.not_possible', { why: error.message }), { kind: 'error' });

/** @param {{name: string, params?: Record<string, any> | null}} clip `params`: what the clip was made with */
export function requestButtons(clip) {
  const said = h('p.muted.request-said', { role: 'status' });
  const line = h('ul.requests');
  /** @type {string | null} the request made here, until its end was told */
  let mine = null;

  const show = async () => {
    const found = await orElse(getJSON('/api/requests', { limit: ASKED }), (error) => console.warn('what came of the requests is not known yet:', error.message));
    if (!found) return;
    const waiting = found.requests.filter((one) => MAKING.has(one.action) && (one.state === 'waiting' || one.state === 'taken'));
    line.replaceChildren(...waiting.reverse().map((one) => requestLine(one, show)));
    const item = found.requests.find((one) => one.id === mine);
    if (!item) return;
    said.replaceChildren(item.state === 'waiting' && !found.agent_alive ? t('request.no_agent') : t(`request.${item.state}`, { why: item.message ?? '' }));
    if (item.video) said.append(' ', h('a', { href: watchUrl(item.video), text: t('request.open') }));
    if (TOLD_ENOUGH.has(item.state)) mine = null;
  };
  live.on('changes', (changes) => changes.some(({ kind }) => kind === 'answer' || kind === 'request') && show());

  const ask = async (body) => {
    const answer = await orElse(postJSON('/api/request', { ...body, id: newId() }), refused);
    if (!answer) return;
    mine = answer.event_id;
    await show();
  };

  const known = Boolean(clip.params && FIELDS.slice(0, 5).every((name) => clip.params?.[name] !== undefined));
  const one = (kind, icon, onClick) => button({ label: t(`request.${kind}`), icon, class: 'small', onClick, attrs: { disabled: !known, title: t(`request.${kind}_why`) } });
  const row = h('div.row.wrap.request-row',
    one('again', 'plus', () => ask({ kind: 'again', name: clip.name })),
    one('vary', 'compare', () => ask({ kind: 'vary', name: clip.name })),
    one('try', 'filter', () => chooseParams(clip, ask)));
  if (!known) said.textContent = t('request.unknown');
  show();
  return h('div.request-buttons', row, said, line);
}

/** A request that waits or is under way, with a way to take back the former. */
function requestLine(item, again) {
  const cancel = async () => {
    await orElse(postJSON('/api/cancel_request', { event_id: item.id }), refused);
    again();
  };
  return h('li.row',
    h('span.request-what', h('strong', t(`request.${item.action}`).replace('…', '')), ' ', h('span.mono', comboText(item.combo_key)), ' ', h('span.muted', `${t(`request.state_${item.state}`)} · ${moment(item.ts)}`)),
    item.state === 'waiting' && button({ label: t('request.cancel'), icon: 'close', class: 'quiet small', onClick: cancel }));
}

/** How a choice is written: a size as WxH. */
const shown = (value) => (Array.isArray(value) ? value.join('×') : String(value));

/** The form of "try these parameters", filled with the clip's. */
async function chooseParams(clip, ask) {
  if (document.querySelector('dialog[open]')) return;
  const params = clip.params ?? {};
  const current = { ...params, size: [params.width, params.height] };
  const options = await orElse(getJSON('/api/options'), refused);
  if (!options) return;
  /** @type {Record<string, () => any>} what was chosen, by field */
  const chosen = {};
  const fields = FIELDS.map((name) => {
    const offered = options[CHOICES[name]] ?? [];
    const is = (value) => shown(value) === shown(current[name]);
    const values = offered.some(is) ? offered : [current[name], ...offered];
    const list = select(values.map((value, i) => [i, shown(value)]), { name });
    list.value = String(values.findIndex(is));
    chosen[name] = () => values[Number(list.value)];
    return h('label.field', h('span', t(`request.field_${name}`)), list);
  });
  const send = (event) => {
    event.preventDefault();
    const { size, ...wanted } = Object.fromEntries(FIELDS.map((name) => [name, chosen[name]()]));
    ask({ kind: 'try', name: clip.name, params: { ...wanted, width: size[0], height: size[1] } });
    dialog.close();
  };
  const dialog = openDialog('try-title',
    h('h2', { id: 'try-title', text: t('request.try_title') }),
    h('p.muted', t('request.try_why')),
    h('form.try-form', { on: { submit: send } },
      h('div.try-fields', ...fields),
      h('div.row.end', button({ label: t('cancel'), class: 'quiet', onClick: () => dialog.close() }), h('button.btn.primary', { type: 'submit', text: t('request.ask') }))));
}
