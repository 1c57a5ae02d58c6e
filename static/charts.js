/** From the numbers of /api/insights to Plotly's figures. Knows neither page nor network; colours and words come in. */
import { comboText, fieldName, fixed, short } from './format.js';
import { t, textOr } from './i18n.js';

/** @typedef {Record<string, string>} Colours text muted line accent good fair poor surface */
/** @typedef {{data: any[], layout: Record<string, any>}} Figure */

const label = (value) => (typeof value === 'string' ? value.replace(/^(\d+)x(\d+)$/, '$1×$2') : short(value));
/** A metric as people call it. */
export const metricName = (name) => (name === 'score' ? t('field.score') : textOr(`score.${name}`, name));

function layout(c, more = {}) {
  return {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { color: c.text, size: 12, family: 'system-ui, sans-serif' },
    margin: { l: 48, r: 16, t: 8, b: 40 }, hoverlabel: { bgcolor: c.surface, bordercolor: c.line, font: { color: c.text } },
    legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0 }, dragmode: false, ...more,
  };
}

const axis = (c, more = {}) => ({ gridcolor: c.line, zerolinecolor: c.line, linecolor: c.line, fixedrange: true, automargin: true, ...more });

/** Best so far over tries or GPU minutes. @param {'pull'|'minutes'} by */
export function progressChart(progress, by, c) {
  const x = progress[by];
  const line = (name, y, more) => ({ type: 'scatter', x, y, name, ...more });
  const data = [
    line(t('insights.score'), progress.score, { mode: 'markers', text: progress.name, marker: progress.score.length < 300 ? { size: 7, color: c.accent } : { size: 4, color: c.accent, opacity: 0.35 }, hovertemplate: '%{text}<br>%{y:.2f}<extra></extra>' }),
    line(t('insights.best_score'), progress.best, { mode: 'lines', line: { color: c.accent, width: 2.5, shape: 'hv' }, connectgaps: true }),
  ];
  if (progress.rating.some((value) => value !== null)) {
    data.push(
      line(t('insights.rating'), progress.rating, { mode: 'markers', yaxis: 'y2', text: progress.name, marker: { size: 7, color: c.fair, symbol: 'diamond' }, hovertemplate: '%{text}<br>%{y}<extra></extra>' }),
      line(t('insights.best_rating'), progress.best_rating, { mode: 'lines', yaxis: 'y2', line: { color: c.fair, width: 2, dash: 'dot', shape: 'hv' }, connectgaps: true }),
    );
  }
  return { data, layout: layout(c, {
    xaxis: axis(c, { title: { text: t(by === 'pull' ? 'insights.pulls' : 'insights.minutes') } }),
    yaxis: axis(c, { range: [0, 1.03], title: { text: t('field.score') } }),
    yaxis2: axis(c, { range: [1, 10.27], tickvals: [1, 4, 7, 10], overlaying: 'y', side: 'right', showgrid: false, title: { text: t('insights.rating') } }),
  }) };
}

const RANGES = { rating: [1, 10], score: [0, 1], agent: [-1, 1] }; // an interval may reach beyond what can be given

/** Dots with their intervals, an item with `mean low high` each. */
const dots = (items, c, { marker = {}, line = c.accent, ...more }) => ({
  type: 'scatter', mode: 'markers', x: items.map((item) => item.mean), showlegend: false, cliponaxis: false,
  error_x: { type: 'data', symmetric: false, array: items.map((item) => item.high - item.mean), arrayminus: items.map((item) => item.mean - item.low), color: line, thickness: 1.5, width: 4 },
  marker: { size: 9, color: c.accent, ...marker }, ...more,
});

/** One small chart a setting: means with intervals, the dotted line what all have in common. @param {'rating'|'score'|'agent'} outcome */
export function effectsChart(effects, outcome, narrow, c) {
  const shown = Object.keys(effects.fields).filter((name) => effects.fields[name].length > 1);
  const columns = narrow ? 1 : Math.min(3, shown.length);
  const rows = Math.ceil(shown.length / columns);
  const data = [];
  const axes = {};
  const annotations = [];
  const all = shown.flatMap((name) => effects.fields[name]);
  const [least, most] = RANGES[outcome];
  const range = [Math.max(least, Math.min(...all.map((item) => item.low))), Math.min(most, Math.max(...all.map((item) => item.high)))];
  const room = (range[1] - range[0]) * 0.05 || 0.05;
  shown.forEach((name, i) => {
    const [column, row] = [i % columns, Math.floor(i / columns)];
    const items = effects.fields[name];
    const n = i ? String(i + 1) : '';
    const xs = [column / columns + (column ? 0.075 : 0), (column + 1) / columns - 0.02];
    const ys = [1 - (row + 1) / rows + 0.07 * (2 / rows), 1 - row / rows - 0.05 * (2 / rows)];
    axes[`xaxis${n}`] = axis(c, { domain: xs, range: [range[0] - room, range[1] + room], anchor: `y${n}`, nticks: 5 });
    axes[`yaxis${n}`] = axis(c, { domain: ys, anchor: `x${n}`, type: 'category', autorange: 'reversed', showgrid: false });
    annotations.push({ text: fieldName(name), x: xs[0], y: ys[1], xref: 'paper', yref: 'paper', xanchor: 'left', yanchor: 'bottom', showarrow: false, font: { color: c.muted, size: 12 } });
    data.push(dots(items, c, {
      xaxis: `x${n}`, yaxis: `y${n}`, y: items.map((item) => label(item.value)), customdata: items.map((item) => [item.n, fixed(item.low), fixed(item.high), fixed(item.raw)]),
      hovertemplate: `%{y}: %{x:.2f}<br>%{customdata[1]} – %{customdata[2]}${outcome === 'agent' ? '' : `<br>n = %{customdata[0]}, ${t('insights.plain')} %{customdata[3]}`}<extra></extra>`,
    }));
  });
  const shapes = shown.map((_, i) => ({ type: 'line', xref: i ? `x${i + 1}` : 'x', yref: `${i ? `y${i + 1}` : 'y'} domain`, x0: effects.mean, x1: effects.mean, y0: 0, y1: 1, line: { color: c.muted, width: 1, dash: 'dot' } }));
  return { data, layout: layout(c, { ...axes, annotations, shapes, height: Math.max(rows, 2) * (narrow ? 185 : 220), margin: { l: 90, r: 8, t: 22, b: 28 } }) };
}

/** The combos the agent expects most of, best on top. @param {Array<{combo_key: string, mean: number, low: number, high: number, tries: number}>} best */
export function betsChart(best, narrow, c) {
  return {
    data: [dots(best, c, { y: best.map((_, i) => i), text: best.map((item) => comboText(item.combo_key)), customdata: best.map((item) => item.tries), hovertemplate: `%{text}<br>%{x:.2f} · n = %{customdata}<extra></extra>` })],
    layout: layout(c, { margin: { l: 24, r: 12, t: 8, b: 40 }, xaxis: axis(c, { title: { text: t('insights.reward') } }), yaxis: axis(c, { autorange: 'reversed', tickvals: best.map((_, i) => i), ticktext: best.map((item, i) => (narrow ? String(i + 1) : item.combo_key.replaceAll('|', ' '))), tickfont: { size: 10 } }) }),
  };
}

/** Sampler against scheduler. */
export function pairsChart(effects, c) {
  const names = (side) => [...new Set(effects.pairs.map((cell) => cell[side]))].sort();
  const [samplers, schedulers] = [names('sampler'), names('scheduler')];
  const cell = (s, k) => effects.pairs.find((item) => item.sampler === s && item.scheduler === k);
  const values = effects.pairs.map((item) => item.mean);
  const far = Math.max(...values.map((v) => Math.abs(v - effects.mean))) || 1;
  // Drawn as rectangles: Plotly's heat map sets a style attribute, which the pages' security policy does not allow.
  const cells = samplers.flatMap((s, y) => schedulers.map((k, x) => ({ x, y, s, k, item: cell(s, k) }))).filter(({ item }) => item);
  const shapes = cells.map(({ x, y, item }) => ({ type: 'rect', layer: 'below', x0: x - 0.48, x1: x + 0.48, y0: y - 0.46, y1: y + 0.46, line: { width: 0 },
    fillcolor: mix(c.surface, item.mean < effects.mean ? c.poor : c.good, 0.08 + 0.42 * (Math.abs(item.mean - effects.mean) / far)) }));
  return {
    data: [{ type: 'scatter', mode: 'text', x: cells.map((one) => one.x), y: cells.map((one) => one.y), text: cells.map(({ item }) => `${fixed(item.mean)} (${item.n})`), textfont: { color: c.text },
      customdata: cells.map((one) => `${one.s} · ${one.k}`), hovertemplate: '%{customdata}<br>%{text}<extra></extra>' }],
    layout: layout(c, { shapes, margin: { l: 90, r: 8, t: 8, b: 40 },
      xaxis: axis(c, { tickvals: schedulers.map((_, i) => i), ticktext: schedulers, range: [-0.55, schedulers.length - 0.45], showgrid: false, zeroline: false }),
      yaxis: axis(c, { tickvals: samplers.map((_, i) => i), ticktext: samplers, range: [-0.55, samplers.length - 0.45], showgrid: false, zeroline: false }) }),
  };
}

/** A colour between two, as `rgb(r, g, b)`. */
function mix(from, to, share) {
  const [a, b] = [from, to].map((color) => (color.match(/[\d.]+/g) ?? []).map(Number));
  return `rgb(${a.slice(0, 3).map((v, i) => Math.round(v + (b[i] - v) * share)).join(', ')})`;
}

/** Correlation of every metric with the rating. @param {any[]} metrics those with one, best first */
export function metricsChart(metrics, c) {
  const items = [...metrics].reverse();
  const tone = (item) => (item.low > 0 ? c.good : item.high < 0 ? c.poor : c.muted);
  return {
    data: [dots(items.map((item) => ({ ...item, mean: item.rho })), c, {
      y: items.map((item) => metricName(item.name)), customdata: items.map((item) => item.n), marker: { size: 10, color: items.map(tone) }, line: c.muted, hovertemplate: '%{y}: %{x:.2f}, n = %{customdata}<extra></extra>',
    })],
    layout: layout(c, { xaxis: axis(c, { range: [-1.02, 1.02], zeroline: true, zerolinecolor: c.muted, title: { text: t('insights.rho') } }), yaxis: axis(c, { type: 'category' }), margin: { l: 110, r: 12, t: 8, b: 40 } }),
  };
}

/** Clips by one metric and their rating. */
export function dotsChart(metric, c) {
  const spread = (i) => (((i * 7919) % 100) / 100 - 0.5) * 0.3; // equal marks side by side
  return {
    data: [{ type: 'scatter', mode: 'markers', x: metric.points.map((p) => p[0]), y: metric.points.map((p, i) => p[1] + spread(i)),
      text: metric.points.map((p) => p[2]), customdata: metric.points.map((p) => p[1]), marker: { size: 7, color: c.accent, opacity: 0.6 }, hovertemplate: '%{text}<br>%{x:.2f} · %{customdata}<extra></extra>' }],
    layout: layout(c, { xaxis: axis(c, { title: { text: metricName(metric.name) } }), yaxis: axis(c, { range: [0.5, 10.5], title: { text: t('insights.rating') } }) }),
  };
}

/** First mark against the repeated one. */
export function repeatsChart(pairs, c) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const pair of pairs) counts.set(pair.join(), (counts.get(pair.join()) ?? 0) + 1);
  const found = [...counts].map(([key, n]) => [...key.split(',').map(Number), n]);
  return {
    data: [{ type: 'scatter', mode: 'markers', x: found.map((item) => item[0]), y: found.map((item) => item[1]), marker: { size: found.map((item) => 8 + 6 * Math.sqrt(item[2])), color: c.accent, opacity: 0.7 },
      customdata: found.map((item) => item[2]), hovertemplate: '%{x} → %{y}: %{customdata}×<extra></extra>' }],
    layout: layout(c, { shapes: [{ type: 'line', x0: 1, y0: 1, x1: 10, y1: 10, line: { color: c.muted, dash: 'dot', width: 1 } }],
      xaxis: axis(c, { range: [0.5, 10.5], dtick: 1, title: { text: t('insights.first_mark') } }), yaxis: axis(c, { range: [0.5, 10.5], dtick: 1, title: { text: t('insights.second_mark') } }) }),
  };
}

/** GPU minutes a day. */
export function costChart(days, c) {
  return {
    data: [{ type: 'bar', width: days.length < 8 ? 0.1 * days.length : undefined, x: days.map((day) => day[0]), y: days.map((day) => day[1]), customdata: days.map((day) => day[2]), marker: { color: c.accent }, hovertemplate: `%{x}<br>%{y:.1f} · ${t('insights.clips')} %{customdata}<extra></extra>` }],
    layout: layout(c, { bargap: 0.3, xaxis: axis(c, { type: 'category', showgrid: false }), yaxis: axis(c, { rangemode: 'tozero', title: { text: t('insights.minutes') } }) }),
  };
}
