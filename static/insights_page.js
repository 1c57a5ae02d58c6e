/** The insights page: charts of everything so far, each with one line that says what it shows and its numbers as a table. */
import { getJSON, orElse, watchUrl } from './api.js';
import { betsChart, costChart, dotsChart, effectsChart, metricName, metricsChart, pairsChart, progressChart, repeatsChart } from './charts.js';
import { byId, debounce, h, press, segments, select } from './dom.js';
import { FIELDS, comboText, duration, fieldName, fileOf, fixed, moment, short, whole } from './format.js';
import { t, tn } from './i18n.js';
import { live } from './live.js';
import { Parallel } from './parallel.js';
import { startPage } from './shell.js';
import { retryButton } from './toast.js';

const ASK_AGAIN_MS = 400;
const QUIET_MS = 4000; // after the last change until the charts follow
const COLOURS = ['text', 'muted', 'line', 'accent', 'good', 'fair', 'poor', 'surface'];
const CARDS = ['progress', 'metrics', 'bets', 'repeats', 'effects', 'pairs', 'cost', 'parallel'];
const WIDE = ['effects', 'parallel'];
const LISTED = 100; // rows of a table
const [FEW_TRIES, SURE] = [10, 0.9]; // fewer tries say nothing of when to stop; from this probability on stopping is fine

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

function table(head, rows) {
  const cell = (value) => (value instanceof Node ? h('td', value) : h('td', String(value ?? '–')));
  return h('div.numbers-box', { tabindex: 0 }, h('table', h('thead', h('tr', ...head.map((text) => h('th', { scope: 'col', text })))), h('tbody', ...rows.map((row) => h('tr', ...row.map(cell))))));
}

const clipLink = (name) => h('a', { href: watchUrl(name), text: fileOf(name) });
const minutesText = (n) => (n < 10 ? fixed(n, 1) : whole(Math.round(n)));
const interval = (item) => (item.low === undefined ? '–' : `${fixed(item.low)} – ${fixed(item.high)}`);

/** What the agent says of each setting, in the form of the server's effects. */
const believed = (report) => ({
  mean: 0,
  fields: Object.fromEntries(report.main_effects.map(({ axis, levels }) => [axis, levels.map(({ level, effect, low, high }) => ({ value: level, mean: effect, low, high }))])),
});

class InsightsPage {
  #data = {};
  /** What `/api/bandit` answered. */
  #agent = {};
  /** Plotly, once loaded. */
  #plotly = null;
  #chosen = { progress: 'pull', outcome: '', metric: '' };
  /** @type {Map<string, {says: HTMLElement, controls: HTMLElement, chart: HTMLElement, numbers: HTMLDetailsElement}>} */
  #cards = new Map(CARDS.map((name) => [name, this.#card(name)]));
  #parallel = new Parallel();
  #asking = false;
  #c = colours();

  constructor() {
    live.onNews(debounce(() => this.load(), QUIET_MS));
    live.on('connection', (connected) => {
      if (!connected) byId('fresh').textContent = t('insights.offline');
    });
    const redraw = debounce(() => this.#draw(), 200);
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
    addEventListener('resize', redraw);
    this.#cards.get('parallel').chart.replaceWith(this.#parallel.element);
  }

  #card(name) {
    const parts = { says: h('p.says'), controls: h('div.row.wrap'), chart: h('div.chart.wait'), numbers: h('details.numbers', { hidden: true }) };
    byId('cards').append(
      h(`section.card.chart-card${WIDE.includes(name) ? '.wide' : ''}`, { data: { chart: name } },
        h('div.row.wrap', h('h2', t(`insights.${name}.title`)), h('span.spacer'), parts.controls), h('p.muted', t(`insights.${name}.why`)), parts.says, parts.chart, parts.numbers));
    return parts;
  }

  async load() {
    if (this.#asking) return;
    this.#asking = true;
    await orElse(this.#read(), (error) => byId('fresh').replaceChildren(h('span', `${t('insights.failed')} ${error.message} `), retryButton(() => this.load())));
    this.#asking = false;
  }

  async #read() {
    for (;;) {
      [this.#data, this.#agent] = await Promise.all([getJSON('/api/insights'), getJSON('/api/bandit')]);
      if (this.#data.ready) this.#show();
      byId('fresh').textContent = this.#data.stale ? t('insights.working') : tn('insights.of', this.#data.clips, { n: whole(this.#data.clips) });
      if (!this.#data.stale) return;
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS * (this.#data.ready ? 5 : 1)));
    }
  }

  #show() {
    const { cost, progress, clips, rated } = this.#data;
    const time = (minutes) => (minutes ? duration(minutes * 60) : '–');
    const facts = { clips: whole(clips), rated: whole(rated), best_score: fixed(progress.best.at(-1)), gpu: time(cost.gpu_minutes), per_good: time(cost.minutes_per_good), review: time(cost.review_minutes) };
    byId('sums').replaceChildren(...Object.entries(facts).map(([name, value]) => h('div', { title: t(`insights.sum.${name}.why`) }, h('dt', t(`insights.sum.${name}`)), h('dd', value))));
    this.#draw();
    if (!this.#plotly) this.#fetchPlotly();
  }

  #fetchPlotly() {
    const note = byId('no-plotly');
    note.hidden = Boolean(this.#data.plotly);
    note.textContent = t('insights.no_plotly');
    if (!this.#data.plotly || document.getElementById('plotly')) return;
    // Plotly adds inline styles for its maps, which the security policy refuses, unless elements of these ids are there.
    document.head.append(...this.#data.plotly_styles.map((id) => h('meta', { id })));
    const script = h('script', { id: 'plotly', src: this.#data.plotly });
    script.addEventListener('load', () => {
      this.#plotly = window.Plotly;
      this.#draw();
    });
    script.addEventListener('error', () => {
      script.remove();
      note.hidden = false;
      note.textContent = t('insights.plotly_failed');
    });
    document.head.append(script);
  }

  /** What a card says, and its numbers; returns the card. */
  #tell(name, says, numbers) {
    const card = this.#cards.get(name);
    card.says.textContent = says;
    card.says.hidden = !says;
    const open = card.numbers.open || !this.#data.plotly;
    card.numbers.replaceChildren(h('summary', t('insights.numbers')), numbers ?? '');
    card.numbers.hidden = !numbers;
    card.numbers.open = open;
    return card;
  }

  /** @param {import('./charts.js').Figure | null} figure null: there is nothing to draw */
  #fill(name, says, figure, numbers) {
    const { chart } = this.#tell(name, figure ? says : says || t('insights.none'), figure && numbers);
    chart.hidden = !figure || !this.#data.plotly;
    if (!this.#plotly) return;
    chart.classList.remove('wait');
    if (!figure) {
      this.#plotly.purge(chart);
      chart.replaceChildren();
      return;
    }
    chart.setAttribute('role', 'img');
    chart.setAttribute('aria-label', `${t(`insights.${name}.title`)}. ${says}`);
    this.#plotly.react(chart, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  }

  #draw() {
    if (!this.#data.ready) return;
    this.#c = colours();
    this.#progress(this.#data.progress);
    this.#bets(this.#agent.report);
    this.#effects(this.#data.effects, this.#agent.report);
    this.#metrics(this.#data);
    const repeats = this.#data.consistency;
    const values = { sd: fixed(repeats.sd, 1), within: Math.round((repeats.within_one ?? 0) * 100), gap: fixed(repeats.mean_gap, 1) };
    this.#fill('repeats', repeats.n ? tn('insights.repeats.says', repeats.n, values) : t('insights.repeats.none'), repeats.n ? repeatsChart(repeats.pairs, this.#c) : null,
      repeats.n && table([t('insights.first_mark'), t('insights.second_mark')], repeats.pairs));
    const rows = this.#data.parallel.length > 2 ? this.#data.parallel : [];
    this.#tell('parallel', t(rows.length ? 'insights.parallel.says' : 'insights.none'),
      rows.length && table([...[...FIELDS, 'score'].map(fieldName), t('insights.rating'), t('field.clip')], rows.slice(-LISTED).map((row) => [...row.slice(0, 8).map((value) => value !== null && short(value)), clipLink(row[8])])));
    this.#parallel.element.hidden = !rows.length;
    this.#parallel.show(rows);
    const { cost } = this.#data;
    const spent = { min: minutesText(cost.gpu_minutes), clips: whole(cost.clips), failed: whole(cost.failed), lost: minutesText(cost.failed_minutes), good: whole(cost.good) };
    this.#fill('cost', cost.clips ? t('insights.cost.says', spent) : '', cost.days.length ? costChart(cost.days, this.#c) : null, table([t('insights.day'), t('insights.minutes'), t('insights.clips')], cost.days));
  }

  #progress(p) {
    this.#choice('progress', 'progress', [['pull', t('insights.pulls')], ['minutes', t('insights.minutes')]], 'pull');
    const says = t('insights.progress.says', { n: whole(p.pull.at(-1) ?? 0), min: minutesText(p.minutes.at(-1)), best: fixed(p.best.at(-1)) });
    const head = ['insights.pulls', 'insights.minutes', 'insights.score', 'insights.best_score', 'insights.rating', 'field.clip'];
    const rows = p.pull.map((pull, i) => [pull, p.minutes[i], fixed(p.score[i]), fixed(p.best[i]), p.rating[i], clipLink(p.name[i])]);
    this.#fill('progress', p.pull.length ? says : '', p.pull.length ? progressChart(p, this.#chosen.progress, this.#c) : null, table(head.map((key) => t(key)), rows.slice(-LISTED).reverse()));
  }

  /** The agent's report: what it expects most of, whether to go on, what comes next. */
  #bets(report) {
    const best = report?.best ?? [];
    if (!best.length) {
      this.#fill('bets', t('insights.bets.none'), null);
      return;
    }
    const { tries, p_close: close, gap, next } = report;
    const figures = { n: whole(tries), percent: Math.round(close * 100), close: report.close, gap: fixed(gap), combo: comboText(best[0].combo_key) };
    const says = [t(`insights.bets.${tries < FEW_TRIES ? 'early' : close >= SURE ? 'stop' : 'go_on'}`, figures)];
    if (next) says.push(t('insights.bets.next', { combo: comboText(next.combo_key), mean: fixed(next.mean), sd: fixed(next.sd) }));
    says.push(`(${[t('qa.advice_age', { when: moment(Date.now() / 1000 - this.#agent.age_seconds) }), !this.#agent.agent_alive && t('qa.advice_old')].filter(Boolean).join(', ')})`);
    this.#fill('bets', says.join(' '), betsChart(best, innerWidth < 700, this.#c),
      table(['', t('review.combo'), 'n', t('insights.estimate'), '90 %'], best.map((item, i) => [i + 1, comboText(item.combo_key), item.tries, fixed(item.mean), interval(item)])));
  }

  /** What the clips say of each setting, by score or rating, or what the agent believes. Pairs are counted, so the agent has none. */
  #effects(all, report) {
    const usual = all.rating ? 'rating' : 'score';
    const known = report?.main_effects?.length ? { ...all, agent: believed(report) } : all;
    const outcome = known[this.#chosen.outcome] ? this.#chosen.outcome : usual;
    const effects = known[outcome];
    const choices = (from) => Object.keys(from).map((key) => [key, t(`insights.${key}`)]);
    this.#choice('effects', 'outcome', choices(known), outcome);
    const counted = all[outcome] ? outcome : usual;
    this.#choice('pairs', 'outcome', choices(all), counted);
    const items = Object.entries(effects.fields).flatMap(([name, list]) => list.map((item) => ({ name, ...item })));
    const sure = items.filter((item) => item.low > effects.mean).sort((a, b) => b.low - a.low)[0];
    const bad = items.filter((item) => item.high < effects.mean).sort((a, b) => a.high - b.high)[0];
    const say = (key, item) => item && t(`insights.effects.${key}`, { what: `${fieldName(item.name)} ${short(item.value)} (${fixed(item.mean)})` });
    const said = [outcome === 'agent' && t('insights.effects.agent'), say('good', sure), say('bad', bad)].filter(Boolean).join(' ') || t('insights.effects.unsure');
    const together = outcome === 'agent' ? report.interactions ?? [] : [];
    this.#fill('effects', items.length ? said : '', items.length ? effectsChart(effects, outcome, innerWidth < 700, this.#c) : null,
      table([t('insights.setting'), t('insights.value'), 'n', t('insights.plain'), t('insights.estimate'), outcome === 'agent' ? '90 %' : '95 %'], [
        ...items.map((item) => [fieldName(item.name), short(item.value), item.n, fixed(item.raw), fixed(item.mean), interval(item)]),
        ...together.map((item) => [item.axes.map(fieldName).join(' × '), item.levels.join(' × '), null, '–', fixed(item.effect), interval(item)])]));
    const pairs = [...all[counted].pairs].sort((a, b) => b.mean - a.mean);
    this.#fill('pairs', pairs.length ? t('insights.pairs.says', { what: `${pairs[0].sampler} · ${pairs[0].scheduler}`, mean: fixed(pairs[0].mean), n: pairs[0].n }) : '', pairs.length ? pairsChart(all[counted], this.#c) : null,
      table([fieldName('sampler'), fieldName('scheduler'), 'n', t('insights.estimate')], pairs.map((cell) => [cell.sampler, cell.scheduler, cell.n, fixed(cell.mean)])));
  }

  #metrics({ metrics, trust }) {
    const known = metrics.filter((item) => typeof item.rho === 'number');
    const values = { metric: trust.metric ? metricName(trust.metric) : '', rho: fixed(trust.rho), low: fixed(trust.low), high: fixed(trust.high), n: trust.n };
    let says = trust.kind === 'few' ? tn('insights.trust.few', trust.need) : t(`insights.trust.${trust.kind}`, values);
    if (trust.against?.length) says += ` ${t('insights.trust.against', { what: trust.against.map(metricName).join(', ') })}`;
    const chosen = known.find((item) => item.name === this.#chosen.metric);
    this.#choice('metrics', 'metric', [['', t('insights.all_metrics')], ...known.map((item) => [item.name, metricName(item.name)])], chosen?.name ?? '');
    this.#fill('metrics', says, chosen ? dotsChart(chosen, this.#c) : known.length ? metricsChart(known, this.#c) : null,
      table([t('insights.metric'), t('insights.rho'), '95 %', 'n'], metrics.map((item) => [metricName(item.name), fixed(item.rho), interval(item), item.n])));
  }

  /** Two choices are buttons, more are a list. One that has the focus is not built anew under the hand. */
  #choice(card, key, options, now) {
    const { controls } = this.#cards.get(card);
    const label = { 'aria-label': t(`insights.${card}.title`) };
    const choose = (value) => {
      this.#chosen[key] = value;
      this.#draw();
    };
    if (!controls.contains(document.activeElement) || controls.querySelectorAll('option, button').length !== options.length) {
      if (options.length < 2) controls.replaceChildren();
      else if (key !== 'metric') controls.replaceChildren(h('div.segmented', { role: 'group', ...label }, ...segments(options, choose)));
      else controls.replaceChildren(select(options, { ...label, on: { change: (event) => choose(event.target.value) } }));
    }
    press(controls.querySelectorAll('button'), (element) => element.dataset.value === now);
    for (const list of controls.querySelectorAll('select')) list.value = now;
  }
}

startPage('insights').then(() => new InsightsPage().load());
