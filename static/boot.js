// Runs before the first paint, so that a chosen theme or language never flashes the other one first.
(() => {
  let theme = null;
  let lang = null;
  try {
    theme = localStorage.getItem('eva.theme');
    lang = localStorage.getItem('eva.lang');
  } catch (error) {
    // Storage can be blocked by the browser's settings; the pages then follow the system's theme.
    console.info('settings of this page cannot be remembered:', error.message);
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  if (lang) document.documentElement.lang = document.documentElement.dataset.lang = lang;
})();
