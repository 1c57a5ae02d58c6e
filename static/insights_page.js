/** The insights page: charts of everything so far, each with one line that says what it shows and its numbers as a table. */
import { ApiError, getJSON, watchUrl } from './api.js';
import { costChart, dotsChart, effectsChart, metricName, metricsChart, pairsChart, parallelChart, progressChart, repeatsChart } from './charts.js';
import { button, byId, debounce, h } from './dom.js';
import { duration, fixed, short, splitName, whole } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { startPage } from './shell.js';

const ASK_AGAIN_MS = 400;
const QUIET_MS = 4000; // after the last change until the charts follow
const COLOURS = ['text', 'muted', 'line', 'accent', 'good', 'fair', 'poor', 'surface'];
const narrow = () => innerWidth < 700;

/** The theme's colours as Plotly understands them. */
function colours() {
  const probe = h('span');
  document.body.append(probe);
  const found = COLOURS.map((name) => {
    probe.style.setProperty('color', `var(--${name})`);
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found);
}

/** @param {string[]} head @param {any[][]} rows */
function table(head, rows) {
  const cell = (/** @type {any} */ value) => (value instanceof Node ? h('td', {}, value) : h('td', { text: value === null || value === undefined ? '–' : String(value) }));
  return h('div', { class: 'numbers-box', tabindex: 0 }, h('table', {}, h('thead', {}, h('tr', {}, ...head.map((text) => h('th', { scope: 'col', text })))), h('tbody', {}, ...rows.map((row) => h('tr', {}, ...row.map(cell))))));
}

const clipLink = (/** @type {string} */ name) => h('a', { href: watchUrl(name), text: splitName(name).file });

class InsightsPage {
  /** @type {Record<string, any>} */
  #data = {};
  /** @type {any} Plotly, once loaded */
  #plotly = null;
  /** @type {Record<string, string>} */
  #chosen = { progress: 'pull', outcome: '', metric: '' };
  /** @type {Map<string, {card: HTMLElement, says: HTMLElement, controls: HTMLElement, chart: HTMLElement, numbers: HTMLElement}>} */
  #cards = new Map();
  #asking = false;

  constructor() {
    const again = debounce(() => this.load(), QUIET_MS);
    live.addEventListener('changes', again);
    live.addEventListener('reset', again);
    live.addEventListener('connection', (event) => {
      const on = /** @type {CustomEvent} */ (event).detail;
      if (!on) byId('fresh').textContent = t('insights.offline');
      else again();
    });
    const redraw = debounce(() => this.#draw(), 200);
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
    addEventListener('resize', redraw);
    for (const name of ['progress', 'metrics', 'effects', 'pairs', 'repeats', 'parallel', 'cost']) this.#card(name);
  }

  /** @param {string} name */
  #card(name) {
    const wide = ['effects', 'parallel', 'cost'].includes(name);
    const parts = { says: h('p', { class: 'says' }), controls: h('div', { class: 'row wrap' }), chart: h('div', { class: `chart wait${wide && name !== 'cost' ? ' tall' : ''}${name === 'effects' ? ' small-multiples' : ''}` }), numbers: h('details', { class: 'numbers' }) };
    const card = h('section', { class: `card chart-card${wide ? ' wide' : ''}`, data: { chart: name } },
      h('div', { class: 'row wrap' }, h('h2', { text: t(`insights.${name}.title`) }), h('span', { class: 'spacer' }), parts.controls), h('p', { class: 'muted', text: t(`insights.${name}.why`) }), parts.says, parts.chart, parts.numbers);
    this.#cards.set(name, { card, ...parts });
    byId('cards').append(card);
  }

  async load() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      for (;;) {
        this.#data = await getJSON('/api/insights');
        if (this.#data.ready) this.#show();
        byId('fresh').textContent = this.#data.stale ? t('insights.working') : tn('insights.of', this.#data.clips, { n: whole(this.#data.clips) });
        if (!this.#data.stale) break;
        await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS * (this.#data.ready ? 5 : 1)));
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      byId('fresh').replaceChildren(h('span', { text: `${t('insights.failed')} ${error.message} ` }), button({ label: t('retry'), class: 'small', onClick: () => this.load() }));
    } finally {
      this.#asking = false;
    }
  }

  #show() {
    const { cost, progress, clips, rated } = this.#data;
    const facts = [['clips', whole(clips)], ['rated', whole(rated)], ['best_score', fixed(progress.best.at(-1))], ['gpu', cost.gpu_minutes ? duration(cost.gpu_minutes * 60) : '–'],
      ['per_good', cost.minutes_per_good === null ? '–' : duration(cost.minutes_per_good * 60)], ['review', cost.review_minutes ? duration(cost.review_minutes * 60) : '–']];
    byId('sums').replaceChildren(...facts.map(([name, value]) => h('div', { title: t(`insights.sum.${name}.why`) }, h('dt', { text: t(`insights.sum.${name}`) }), h('dd', { text: value }))));
    this.#draw();
    if (!this.#plotly) this.#fetchPlotly();
  }

  async #fetchPlotly() {
    const note = byId('no-plotly');
    note.hidden = Boolean(this.#data.plotly);
    note.textContent = t('insights.no_plotly');
    if (!this.#data.plotly || document.getElementById('plotly')) return;
    // Plotly adds inline styles for its maps, which the security policy refuses, unless elements of these ids are there.
    document.head.append(...this.#data.plotly_styles.map((/** @type {string} */ id) => h('meta', { id })));
    const script = h('script', { id: 'plotly', src: this.#data.plotly });
    script.addEventListener('load', () => {
      this.#plotly = /** @type {any} */ (window).Plotly;
      this.#draw();
    });
    script.addEventListener('error', () => {
      script.remove();
      note.hidden = false;
      note.textContent = t('insights.plotly_failed');
    });
    document.head.append(script);
  }

  /** @param {string} name @param {string} says @param {(c: Record<string, string>) => import('./charts.js').Figure | null} make @param {Node | null} numbers */
  #fill(name, says, make, numbers) {
    const card = this.#cards.get(name);
    if (!card) return;
    card.says.textContent = says;
    card.says.hidden = !says;
    card.chart.hidden = !this.#plotly && !this.#data.plotly;
    const open = /** @type {HTMLDetailsElement} */ (card.numbers).open || !this.#data.plotly;
    card.numbers.replaceChildren(h('summary', { text: t('insights.numbers') }), ...(numbers ? [numbers] : []));
    card.numbers.hidden = !numbers;
    card.numbers.toggleAttribute('open', open);
    const figure = make(this.#c);
    if (!figure) {
      if (this.#plotly) this.#plotly.purge(card.chart);
      card.chart.classList.remove('wait');
      card.chart.replaceChildren();
      card.chart.hidden = true;
      return;
    }
    if (!this.#plotly) return;
    card.chart.classList.remove('wait');
    card.chart.setAttribute('role', 'img');
    card.chart.setAttribute('aria-label', `${t(`insights.${name}.title`)}. ${says}`);
    this.#plotly.react(card.chart, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  }

  #c = colours();

  #draw() {
    const d = this.#data;
    if (!d.ready) return;
    this.#c = colours();
    const p = d.progress;
    const last = (/** @type {any[]} */ list) => list.at(-1) ?? null;
    this.#choice('progress', 'progress', [['pull', t('insights.pulls')], ['minutes', t('insights.minutes')]], 'pull');
    this.#fill('progress', p.pull.length ? t('insights.progress.says', { n: whole(last(p.pull)), min: fixed(last(p.minutes), 0), best: fixed(last(p.best)) }) : t('insights.none'),
      (c) => (p.pull.length ? progressChart(p, /** @type {any} */ (this.#chosen.progress), c) : null),
      p.pull.length ? table([t('insights.pulls'), t('insights.minutes'), t('insights.score'), t('insights.best_score'), t('insights.rating'), t('field.clip')],
        p.pull.map((/** @type {any} */ pull, /** @type {number} */ i) => [pull, p.minutes[i], fixed(p.score[i]), fixed(p.best[i]), p.rating[i], clipLink(p.name[i])]).slice(-100).reverse()) : null);
    const outcome = d.effects[this.#chosen.outcome] ? this.#chosen.outcome : d.effects.rating ? 'rating' : 'score';
    const effects = d.effects[outcome];
    for (const name of ['effects', 'pairs']) this.#choice(name, 'outcome', Object.keys(d.effects).map((key) => [key, t(key === 'rating' ? 'insights.rating' : 'insights.score')]), outcome);
    const items = Object.entries(effects.fields).flatMap(([name, list]) => /** @type {any[]} */ (list).map((item) => ({ name, ...item })));
    const sure = items.filter((item) => item.low > effects.mean).sort((a, b) => b.low - a.low)[0];
    const bad = items.filter((item) => item.high < effects.mean).sort((a, b) => a.high - b.high)[0];
    const say = (/** @type {any} */ item) => `${t(`field.${item.name}`)} ${short(item.value)} (${fixed(item.mean)})`;
    const said = [sure && t('insights.effects.good', { what: say(sure) }), bad && t('insights.effects.bad', { what: say(bad) })].filter(Boolean).join(' ');
    this.#fill('effects', items.length ? said || t('insights.effects.unsure') : t('insights.none'), (c) => (items.length ? effectsChart(effects, narrow(), c) : null),
      items.length ? table([t('insights.setting'), t('insights.value'), 'n', t('insights.plain'), t('insights.estimate'), '95 %'], items.map((item) => [t(`field.${item.name}`), short(item.value), item.n, fixed(item.raw), fixed(item.mean), `${fixed(item.low)} – ${fixed(item.high)}`])) : null);
    const pairs = [...effects.pairs].sort((a, b) => b.mean - a.mean);
    this.#fill('pairs', pairs.length ? t('insights.pairs.says', { what: `${pairs[0].sampler} · ${pairs[0].scheduler}`, mean: fixed(pairs[0].mean), n: pairs[0].n }) : t('insights.none'), (c) => (pairs.length ? pairsChart(effects, c) : null),
      pairs.length ? table([t('field.sampler'), t('field.scheduler'), 'n', t('insights.estimate')], pairs.map((cell) => [cell.sampler, cell.scheduler, cell.n, fixed(cell.mean)])) : null);
    this.#fill('parallel', d.parallel.length > 2 ? t('insights.parallel.says') : t('insights.none'), (c) => (d.parallel.length > 2 ? parallelChart(d.parallel, c) : null),
      d.parallel.length > 2 ? table([...['sampler', 'scheduler', 'fps', 'cfg', 'steps', 'size', 'score'].map((name) => t(`field.${name}`)), t('insights.rating'), t('field.clip')], d.parallel.slice(-100).map((/** @type {any[]} */ row) => [...row.slice(0, 8).map((value) => (typeof value === 'number' ? short(value) : value)), clipLink(row[8])])) : null);
    this.#metrics();
    this.#repeats();
    const { cost } = d;
    this.#fill('cost', cost.clips ? t('insights.cost.says', { min: fixed(cost.gpu_minutes, 1), clips: whole(cost.clips), failed: whole(cost.failed), lost: fixed(cost.failed_minutes, 1), good: whole(cost.good) }) : t('insights.none'),
      (c) => (cost.days.length ? costChart(cost.days, c) : null), cost.days.length ? table([t('insights.day'), t('insights.minutes'), t('insights.clips')], cost.days) : null);
  }

  #metrics() {
    const { metrics, trust } = this.#data;
    const known = metrics.filter((/** @type {any} */ item) => typeof item.rho === 'number');
    const values = { metric: trust.metric ? metricName(trust.metric) : '', rho: fixed(trust.rho), low: fixed(trust.low), high: fixed(trust.high), n: trust.n };
    let says = trust.kind === 'few' ? tn('insights.trust.few', trust.need) : t(`insights.trust.${trust.kind}`, values);
    if (trust.against?.length) says += ` ${t('insights.trust.against', { what: trust.against.map(metricName).join(', ') })}`;
    const chosen = known.find((/** @type {any} */ item) => item.name === this.#chosen.metric);
    this.#choice('metrics', 'metric', [['', t('insights.all_metrics')], ...known.map((/** @type {any} */ item) => [item.name, metricName(item.name)])], chosen ? chosen.name : '');
    this.#fill('metrics', says, (c) => (chosen ? dotsChart(chosen, c) : known.length ? metricsChart(metrics, c) : null),
      metrics.length ? table([t('insights.metric'), t('insights.rho'), '95 %', 'n'], metrics.map((/** @type {any} */ item) => [metricName(item.name), fixed(item.rho), item.low === undefined ? '–' : `${fixed(item.low)} – ${fixed(item.high)}`, item.n])) : null);
  }

  #repeats() {
    const found = this.#data.consistency;
    const values = { sd: fixed(found.sd, 1), within: Math.round((found.within_one ?? 0) * 100), gap: fixed(found.mean_gap, 1) };
    this.#fill('repeats', found.n ? tn('insights.repeats.says', found.n, values) : t('insights.repeats.none'), (c) => (found.n ? repeatsChart(found.pairs, c) : null),
      found.n ? table([t('insights.first_mark'), t('insights.second_mark')], found.pairs) : null);
  }

  /** @param {string} card @param {string} key @param {string[][]} options @param {string} now */
  #choice(card, key, options, now) {
    const { controls } = /** @type {any} */ (this.#cards.get(card));
    if (controls.contains(document.activeElement) && controls.querySelectorAll('option, button').length === options.length) {
      for (const element of controls.querySelectorAll('button')) element.setAttribute('aria-pressed', String(element.dataset.value === (this.#chosen[key] || now)));
      return;
    }
    const choose = (/** @type {string} */ value) => { this.#chosen[key] = value; this.#draw(); };
    if (options.length < 2) controls.replaceChildren();
    else if (options.length === 2 && key !== 'metric') {
      controls.replaceChildren(h('div', { class: 'segmented', role: 'group', 'aria-label': t(`insights.${card}.title`) }, ...options.map(([value, text]) => h('button', { type: 'button', class: 'btn small', data: { value }, 'aria-pressed': String(value === (this.#chosen[key] || now)), text, on: { click: () => choose(value) } }))));
    } else {
      const select = /** @type {HTMLSelectElement} */ (h('select', { class: 'select', 'aria-label': t(`insights.${card}.title`), on: { change: () => choose(select.value) } }, ...options.map(([value, text]) => h('option', { value, text }))));
      select.value = now;
      controls.replaceChildren(select);
    }
  }
}

startPage('insights').then(() => new InsightsPage().load());
