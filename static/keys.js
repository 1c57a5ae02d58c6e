/**
 * Keyboard: which key does what, remapping, and the help overlay.
 * Keys are inert while a person types or a dialog is open, and a key held down counts once.
 */
import { button, h, openDialog, store, stored } from './dom.js';
import { hasText, t } from './i18n.js';

const STORE = 'eva.keys';
const MODIFIERS = new Set(['Shift', 'Control', 'Alt', 'Meta', 'AltGraph', 'CapsLock']);
// Where a layout has no Latin letters (Ukrainian), the key's place on the board decides.
const BY_PLACE = { Comma: ',', Period: '.', Slash: '/', BracketLeft: '[', BracketRight: ']', Minus: '-', Equal: '=', Semicolon: ';', Quote: "'" };
const SHOWN = { ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', Backspace: '⌫', ' ': 'Space', Escape: 'Esc' };

/** The name a binding uses for a key press: `7`, `q`, `Shift+7`, `Ctrl+z`, `ArrowLeft`, `?`. */
function keyName(event) {
  let key = event.key;
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (digit && (event.code.startsWith('Digit') || event.getModifierState('NumLock') || /^\d$/.test(key))) key = digit[1];
  else if (event.code === 'Slash' && event.shiftKey) key = '?';
  else if (key.length === 1 && !/^[\x20-\x7e]$/.test(key)) key = /^Key([A-Z])$/.exec(event.code)?.[1] ?? BY_PLACE[event.code] ?? key;
  const letter = key.length === 1 ? key.toLowerCase() : key;
  // A character that needs Shift on some boards ("?") is named by itself; letters and digits keep the Shift.
  const shift = event.shiftKey && /^([a-z0-9]|[A-Z]\w+)$/.test(letter) ? 'Shift+' : '';
  return (event.ctrlKey || event.metaKey ? 'Ctrl+' : '') + (event.altKey ? 'Alt+' : '') + shift + letter;
}

/** How a key is written on a button. */
const keyLabel = (name) =>
  name
    .split('+')
    .map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part))
    .join('+');

/** True when the press belongs to a text field or another control. */
function typing(event) {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable) return true;
  if (target instanceof HTMLInputElement) return !['checkbox', 'radio', 'button', 'range'].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

export class Keys {
  /** @type {Map<string, {id: string, keys: string[], run: (event: KeyboardEvent) => void, group: string, shown?: string}>} */
  #commands = new Map();
  #changed = stored(STORE, {});
  /** @type {Map<string, string>} */
  #byKey = new Map();

  constructor() {
    document.addEventListener('keydown', (event) => this.#press(event));
  }

  /**
   * @param {string} id names the text `key.ID`
   * @param {(event: KeyboardEvent) => void} run
   * @param {string} [group] heading in the help: `keys.GROUP`
   * @param {string} [shown] what the help shows where a whole row of keys shares one line
   */
  add(id, keys, run, group = 'general', shown) {
    this.#commands.set(id, { id, keys, run, group, shown });
    this.#index();
  }

  /**
   * A button that is a key too; its hint follows the key where that is changed.
   * @param {Record<string, any>} options as for `button` of dom.js
   */
  button(id, keys, run, group, options) {
    this.add(id, keys, run, group);
    const element = button({ hint: this.hint(id), onClick: run, ...options });
    this.onChange(() => {
      const cap = element.querySelector('kbd');
      if (cap) cap.textContent = this.hint(id);
    });
    return element;
  }

  /** Runs `draw` whenever keys were changed. */
  onChange(draw) {
    document.addEventListener('eva:keys', draw);
  }

  /** The first key of a command, as written on buttons. */
  hint(id) {
    const keys = this.#keysOf(id);
    return keys.length ? keyLabel(keys[0]) : '';
  }

  #keysOf(id) {
    return this.#changed[id] ?? this.#commands.get(id)?.keys ?? [];
  }

  #index() {
    this.#byKey.clear();
    for (const id of this.#commands.keys()) for (const key of this.#keysOf(id)) this.#byKey.set(key, id);
  }

  #press(event) {
    if (event.defaultPrevented || MODIFIERS.has(event.key) || event.isComposing) return;
    if (typing(event) || document.querySelector('dialog[open]')) return;
    const focused = document.activeElement;
    if ((event.key === ' ' || event.key === 'Enter') && focused?.matches('button, summary, a, input')) return;
    if (event.key.startsWith('Arrow') && focused?.matches('input[type="range"], [role="listbox"], [role="grid"] *')) return;
    const id = this.#byKey.get(keyName(event));
    const command = id && this.#commands.get(id);
    if (!command) return;
    event.preventDefault();
    if (!event.repeat) command.run(event);
  }

  /** The overlay that lists every key and lets a person change it. */
  showHelp() {
    if (document.querySelector('dialog[open]')) return;
    const body = h('div.help-groups');
    const draw = () => body.replaceChildren(...this.#groups(draw));
    draw();
    const reset = button({
      label: t('keys.reset'),
      class: 'quiet',
      onClick: () => {
        this.#change({});
        draw();
      },
    });
    const dialog = openDialog('help-title',
      h('div.row', h('h2', { id: 'help-title', text: t('keys.title') }), h('span.spacer'), reset,
        button({ label: t('close'), icon: 'close', iconOnly: true, class: 'quiet', attrs: { autofocus: true }, onClick: () => dialog.close() })),
      h('p.muted', t('keys.how')),
      body);
    dialog.classList.add('help');
  }

  #groups(redraw) {
    /** @type {Map<string, Node[]>} */
    const groups = new Map();
    for (const command of this.#commands.values()) {
      if (!hasText(`key.${command.id}`)) continue; // members of a row that is listed once
      const keys = command.shown ? [command.shown] : this.#keysOf(command.id).map(keyLabel);
      const caps = h('span.keys', ...keys.map((key) => h('kbd', key)));
      const change = command.shown
        ? caps
        : h('button.key-change', { title: t('keys.change'), on: { click: () => this.#listen(change, command.id, redraw) } }, caps);
      const row = h('li', h('span', t(`key.${command.id}`)), change);
      groups.set(command.group, [...(groups.get(command.group) ?? []), row]);
    }
    return [...groups].map(([group, rows]) => h('section', h('h3', t(`keys.${group}`)), h('ul', ...rows)));
  }

  /** Waits for the key that shall do the command from now on. */
  #listen(element, id, redraw) {
    element.replaceChildren(h('span.keys.listening', t('keys.press')));
    const take = (event) => {
      if (MODIFIERS.has(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      element.removeEventListener('keydown', take);
      const key = keyName(event);
      if (key !== 'Escape') {
        const changed = { ...this.#changed, [id]: [key] };
        const other = this.#byKey.get(key);
        if (other && other !== id) changed[other] = this.#keysOf(other).filter((k) => k !== key);
        this.#change(changed);
      }
      redraw();
    };
    element.addEventListener('keydown', take);
    element.addEventListener('blur', redraw, { once: true });
    element.focus();
  }

  #change(changed) {
    this.#changed = changed;
    store(STORE, changed);
    this.#index();
    document.dispatchEvent(new CustomEvent('eva:keys'));
  }
}
