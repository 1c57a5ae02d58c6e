/** The login page. Without JavaScript the form works too; with it a wrong token is told without leaving the page. */
import { ApiError, postJSON } from './api.js';
import { byId } from './dom.js';
import { initI18n, t } from './i18n.js';

const form = /** @type {HTMLFormElement} */ (byId('login-form'));
const token = /** @type {HTMLInputElement} */ (byId('token'));
const next = /** @type {HTMLInputElement} */ (byId('next'));
const query = new URLSearchParams(location.search);
// any page without the token shows this form under its own address, and goes on there
next.value = query.get('next') ?? (location.pathname === '/login' || query.has('token') ? '/' : location.pathname + location.search);

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const problem = byId('login-error');
  problem.hidden = true;
  try {
    const answer = await postJSON('/login', { token: token.value.trim(), next: next.value });
    location.replace(answer.next ?? '/');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.textContent = error.status === 401 ? t('login.wrong') : error.message;
    problem.hidden = false;
    token.select();
  }
});

await initI18n(async () => 'en');
