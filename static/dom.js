/** Small helpers to build and find elements. Data only ever enters the page as text, never as markup. */

/** The same for a drawing: an SVG element with attributes. */
export const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
};

/**
 * Builds an element: `h('p.muted', text)`, `h('a.btn', { href }, icon('ban'), text)`. `props`: `class`, `text`, `data` (dataset),
 * `on` (listeners), `style` (custom properties and styles set through CSSOM); anything else is an attribute (`false`/`null` leaves it out).
 * @param {string} tag with its classes, `tag.class.class`
 * @param {Record<string, any> | Node | string | null | false} [props] or the first child
 * @returns {any} the element; whoever builds it knows which
 */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split('.');
  const element = document.createElement(name);
  if (name === 'button') element.setAttribute('type', 'button');
  if (classes.length) element.className = classes.join(' ');
  if (props?.constructor !== Object) children.unshift(props);
  else {
    for (const [key, value] of Object.entries(props)) {
      if (value === undefined || value === null || value === false) continue;
      if (key === 'class') element.classList.add(...value.split(' ').filter(Boolean));
      else if (key === 'text') element.textContent = value;
      else if (key === 'data') Object.assign(element.dataset, value);
      else if (key === 'on') for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
      else if (key === 'style') for (const [name_, v] of Object.entries(value)) element.style.setProperty(name_, v);
      else element.setAttribute(key, value === true ? '' : String(value));
    }
  }
  for (const child of children) if (child || child === 0) element.append(child);
  return element;
}

/** Brings the icons of `icons.svg` into the page: one that is first needed when the server is away is there. */
export async function loadIcons() {
  const answer = await fetch('/static/icons.svg');
  const sprite = new DOMParser().parseFromString(await answer.text(), 'image/svg+xml').documentElement;
  for (const symbol of sprite.children) symbol.id = `icon-${symbol.id}`;
  sprite.style.display = 'none';
  document.body.append(sprite);
}

/** One of these icons. Decorative: the control that holds it carries the label. */
export const icon = (name) => svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#icon-${name}` }));

/**
 * A button with an icon, a label and, where a key does the same, the key's hint.
 * @param {{label: string, icon?: string, hint?: string, class?: string, onClick: (event: MouseEvent) => void, iconOnly?: boolean, attrs?: object}} options
 */
export function button(options) {
  const label = options.iconOnly ? null : h('span.btn-label', options.label);
  const element = h(
    'button',
    {
      type: 'button',
      class: `btn ${options.class ?? ''}`.trim(),
      'aria-label': options.iconOnly ? options.label : undefined,
      title: options.iconOnly ? options.label + (options.hint ? ` (${options.hint})` : '') : undefined,
      on: { click: options.onClick },
      ...options.attrs,
    },
    options.icon && icon(options.icon),
    label,
    options.hint && !options.iconOnly && h('kbd', { text: options.hint, 'aria-hidden': 'true' }),
  );
  return element;
}

/** The element of that id; a missing one is a mistake in the page, so it is reported at once. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element;
}

/** A control of choices `[value, text]`. @param {Record<string, any>} [props] as for `h` */
export const select = (choices, props = {}) => h('select.select', { ...props }, ...options(choices));
export const options = (choices) => choices.map(([value, text]) => h('option', { value, text }));

/**
 * Buttons of which one is pressed; `data-value` tells which.
 * @param {Array<[string, string, string?]>} choices value, text and, where needed, a longer explanation
 */
export const segments = (choices, choose) =>
  choices.map(([value, text, title]) => h('button.btn.small', { data: { value }, title, text, on: { click: () => choose(value) } }));

/** Tells which of some buttons are pressed. */
export function press(elements, on) {
  for (const element of elements) element.setAttribute('aria-pressed', String(on(element)));
}

/** Something others listen to: `on` hands over the detail that `emit` was given. */
export class Emitter extends EventTarget {
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  on(type, action) {
    this.addEventListener(type, (event) => action(event.detail));
  }
}

/**
 * Keeps the keyboard focus where it is when a control is clicked with the mouse: otherwise Space, meant
 * for the player, would press the button clicked last.
 */
export function clicksKeepFocus(root) {
  root.addEventListener('mousedown', (event) => {
    const target = event.target;
    if (target.closest('button, summary, a') && !target.closest('input, textarea, select')) event.preventDefault();
  });
}

/** What was stored under a key, or `usual` where nothing was or it cannot be read. */
export function stored(key, usual, storage = localStorage) {
  try {
    return JSON.parse(storage.getItem(key) ?? 'null') ?? usual;
  } catch (error) {
    console.warn(`${key} cannot be read and is left aside:`, error.message);
    return usual;
  }
}

/** Keeps a value for `stored`, as long as the browser has room. */
export function store(key, value, storage = localStorage) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch (error) {
    console.warn(`${key} cannot be kept:`, error.message);
  }
}

/**
 * An open dialog; Escape and a click beside it close it.
 * @param {string} id of the element in it that is its title
 * @returns {HTMLDialogElement}
 */
export function openDialog(id, ...content) {
  const dialog = h('dialog.dialog', { 'aria-labelledby': id }, ...content);
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Does something once the page as it stands now is on the screen. */
export const afterPaint = (action) => (document.hidden ? action() : requestAnimationFrame(() => setTimeout(action, 0)));

/**
 * Calls `action` once, `ms` after the last call.
 * @param {(...args: A) => void} action
 * @returns {(...args: A) => void}
 */
export function debounce(action, ms) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), ms);
  };
}
