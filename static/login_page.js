/** The login page. Without JavaScript the form works too; with it a wrong token is told without leaving the page. */
import { orElse, postJSON } from './api.js';
import { byId } from './dom.js';
import { initI18n, t } from './i18n.js';

const form = byId('login-form');
const token = byId('token');
const next = byId('next');
const query = new URLSearchParams(location.search);
// any page without the token shows this form under its own address, and goes on there
next.value = query.get('next') ?? (location.pathname === '/login' || query.has('token') ? '/' : location.pathname + location.search);

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const problem = byId('login-error');
  problem.hidden = true;
  const answer = await orElse(postJSON('/login', { token: token.value.trim(), next: next.value }), (error) => {
    problem.textContent = error.status === 401 ? t('login.wrong') : error.message;
    problem.hidden = false;
    token.select();
  });
  if (answer) location.replace(answer.next ?? '/');
});

await initI18n(async () => 'en');
