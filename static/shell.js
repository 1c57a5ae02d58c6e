/** What every page has: the head with its links, the agent's line, the state of saving, theme and language. */
import { AgentStrip } from './agent_strip.js';
import { getJSON } from './api.js';
import { button, h, icon, loadIcons, select } from './dom.js';
import { LANGUAGES, chooseLanguage, initI18n, language, t, tn } from './i18n.js';
import { Keys } from './keys.js';
import { live } from './live.js';
import { outbox } from './outbox.js';
import { toast } from './toast.js';

const PAGES = [
  ['review', '/'],
  ['compare', '/compare'],
  ['search', '/search'],
  ['qa', '/qa'],
  ['insights', '/insights'],
];

export const keys = new Keys();

/**
 * Builds the head and starts what all pages share.
 * @param {'review'|'compare'|'search'|'qa'|'insights'|'watch'} page
 * @returns {Promise<{config: Record<string, any>}>}
 */
export async function startPage(page) {
  let config = {};
  loadIcons().catch((error) => console.warn('the icons could not be loaded:', error.message));
  const asked = getJSON('/api/config').then(
    (answer) => (config = answer),
    (error) => console.warn('the server did not tell its settings:', error.message),
  );
  await initI18n(async () => {
    await asked;
    return config.lang ?? 'en';
  });
  const strip = new AgentStrip(keys);
  document.body.prepend(
    h('a.skip-link', { href: '#main', text: t('shell.skip') }),
    head(page),
    strip.element,
  );
  keys.add('help', ['?'], () => keys.showHelp());
  outbox.on('refused', ({ action, error }) => {
    const name = action.body.video_name ?? action.body.combo_key ?? '';
    toast(t('save.refused', { what: t(`save.kind.${action.kind}`), name, why: error.message }), { kind: 'error' });
  });
  live.addEventListener('signin', () => location.reload(), { once: true });
  outbox.start();
  live.start();
  await asked;
  simulatorBadge(Boolean(config.simulator));
  live.on('agent', (agent) => simulatorBadge(Boolean(agent?.status?.simulator)));
  if (config.video_dir_found === false) toast(t('shell.no_video_dir'), { kind: 'error' });
  return { config };
}

/** Nobody shall take the simulator's clips for a model's. */
function simulatorBadge(on) {
  const there = document.querySelector('.badge.sim');
  if (on && !there) document.querySelector('.brand')?.after(h('span.badge.sim', { title: t('shell.simulator_why'), text: t('shell.simulator') }));
  else if (!on) there?.remove();
}

function head(page) {
  const links = PAGES.map(([name, href]) => h('a', { href, class: 'nav-link', 'aria-current': name === page && 'page', text: t(`nav.${name}`) }));
  return h('header.head',
    h('a.brand', { href: '/', 'aria-label': t('shell.home') }, h('img', { src: '/static/favicon.svg', alt: '', width: 24, height: 24 }), h('span', 'EVA')),
    h('nav.nav', { 'aria-label': t('shell.nav') }, ...links),
    h('span.spacer'),
    saveState(),
    languageSwitch(),
    button({ label: t('shell.theme'), icon: 'theme', iconOnly: true, class: 'quiet', onClick: switchTheme }),
    button({ label: t('shell.help'), icon: 'help', iconOnly: true, hint: '?', class: 'quiet', onClick: () => keys.showHelp() }),
  );
}

function languageSwitch() {
  const list = select(Object.entries(LANGUAGES), { class: 'select lang', 'aria-label': t('shell.language'), on: { change: () => chooseLanguage(list.value) } });
  list.value = language();
  return list;
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem('eva.theme', root.dataset.theme);
}

/** The pill that says whether everything is saved; pressing it tries again at once. */
function saveState() {
  const label = h('span.save-text');
  const symbol = h('span.save-icon');
  const pill = h('button.save', { id: 'save-state', 'aria-live': 'polite', on: { click: () => outbox.retryNow() } }, symbol, label);
  let shown = '';
  const show = () => {
    const { status, waiting, message } = outbox.state;
    const now = `${status} ${waiting} ${message}`;
    if (now === shown) return;
    shown = now;
    pill.dataset.status = status;
    symbol.replaceChildren(icon({ saved: 'check', saving: 'cloud' }[status] ?? 'cloud-off'));
    const texts = {
      saved: () => t('save.saved'),
      saving: () => t('save.saving'),
      offline: () => tn('save.offline', waiting),
      signin: () => t('save.signin'),
      trouble: () => tn('save.trouble', waiting),
    };
    label.textContent = texts[status]();
    pill.title = status === 'saved' ? t('save.saved_why') : message || t('save.retry_why');
  };
  pill.addEventListener('click', () => {
    if (outbox.state.status === 'signin') location.reload();
  });
  outbox.on('state', show);
  show();
  return pill;
}
