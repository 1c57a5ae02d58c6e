/** Short messages at the foot of the page, with a way to take back what they tell. */
import { button, h, icon, openDialog } from './dom.js';
import { t } from './i18n.js';

const SHOWN_MS = 6000;
const ERROR_MS = 12000;
const AT_ONCE = 3;

function place() {
  let box = document.getElementById('toasts');
  if (!box) {
    box = h('div', { id: 'toasts', class: 'toasts', role: 'status', 'aria-live': 'polite' });
    document.body.append(box);
  }
  return box;
}

/** A button that tries again what failed. */
export const retryButton = (run) => button({ label: t('retry'), class: 'small', onClick: run });

/** @param {{kind?: 'info'|'good'|'error', undo?: () => void}} [options] */
export function toast(text, options = {}) {
  const box = place();
  const kind = options.kind ?? 'info';
  const close = () => element.remove();
  const element = h(
    'div',
    { class: `toast ${kind}`, role: kind === 'error' ? 'alert' : undefined },
    kind === 'error' && icon('warn'),
    h('span.toast-text', text),
    options.undo && button({ label: t('undo'), icon: 'undo', class: 'quiet', onClick: () => { options.undo?.(); close(); } }),
    button({ label: t('close'), icon: 'close', iconOnly: true, class: 'quiet', onClick: close }),
  );
  while (box.children.length >= AT_ONCE) box.firstElementChild?.remove();
  box.append(element);
  let timer = setTimeout(close, kind === 'error' ? ERROR_MS : SHOWN_MS);
  // What a person points at or has focused must not vanish under the hand.
  for (const hold of ['mouseenter', 'focusin']) element.addEventListener(hold, () => clearTimeout(timer));
  for (const leave of ['mouseleave', 'focusout']) {
    element.addEventListener(leave, () => {
      clearTimeout(timer);
      timer = setTimeout(close, SHOWN_MS);
    });
  }
  return close;
}

/**
 * A question in a dialog; resolves to the text of the reason field (empty without one), or null when cancelled.
 * @param {{title: string, text: string, ok: string, danger?: boolean, reason?: string | null, details?: Node}} options
 * @returns {Promise<string | null>}
 */
export function ask(options) {
  return new Promise((resolve) => {
    const reason = h('input', { type: 'text', class: 'input', id: 'ask-reason', maxlength: 300, value: options.reason ?? '' });
    const form = h(
      'form',
      { method: 'dialog', class: 'stack' },
      h('h2', { id: 'ask-title', text: options.title }),
      h('p.muted', options.text),
      options.details,
      typeof options.reason === 'string' && h('label.field', h('span', t('reason')), reason),
      h('div.row.end',
        button({ label: t('cancel'), onClick: () => dialog.close('cancel') }),
        h('button', { type: 'submit', class: `btn ${options.danger ? 'danger' : 'primary'}`, value: 'ok', text: options.ok }),
      ),
    );
    const dialog = openDialog('ask-title', form);
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'ok' ? reason.value.trim() : null);
    });
  });
}
