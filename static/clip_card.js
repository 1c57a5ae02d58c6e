/** One clip among many: as a poster that plays while pointed at, or as a row of a table. */
import { thumbUrl, videoUrl, watchUrl } from './api.js';
import { h } from './dom.js';
import { fileOf, fixed, moment, short } from './format.js';
import { t } from './i18n.js';
import { grade, markGrade } from './scores.js';

const TAIL = 16; // characters at a name's end that are always shown
const HOVER_MS = 120; // a pointer that only passes starts nothing

/** @typedef {{name: string, score: number|null, manual_overall: number|null, rated: boolean, banned: boolean, reference: boolean,
 *             params: Record<string, any>, combo_key?: string|null, prompt?: string|null, created?: number, exists: boolean}} Found */

/** A still of the clip; while the pointer rests on it or the link has focus, the clip plays in its place. */
export function poster(name, exists) {
  const box = h('span.poster');
  if (!exists) {
    box.append(h('span.poster-gone.muted', t('clip.gone')));
    return box;
  }
  const image = h('img', { src: thumbUrl(name), alt: '', loading: 'lazy', decoding: 'async' });
  image.addEventListener('error', () => image.replaceWith(h('span.poster-gone.muted', t('clip.no_picture'))));
  box.append(image);
  let video = null;
  let timer;
  const stop = () => {
    clearTimeout(timer);
    if (video) {
      video.removeAttribute('src');
      video.load(); // lets the browser drop the download at once
      video.remove();
      video = null;
    }
  };
  const play = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (video) return;
      video = h('video', { playsinline: true, loop: true, disablepictureinpicture: true, tabindex: -1 });
      video.muted = true;
      video.src = videoUrl(name);
      box.append(video);
      video.play().catch((error) => {
        if (error.name !== 'AbortError') stop();
      });
    }, HOVER_MS);
  };
  box.addEventListener('mouseenter', play);
  box.addEventListener('mouseleave', stop);
  return box;
}

/** Rating, reference, ban, missing file: whatever applies. */
export function badges(clip) {
  const all = [];
  if (typeof clip.manual_overall === 'number') {
    all.push(h('span', { class: `badge ${markGrade(clip.manual_overall)}`, title: t('clip.your_mark'), text: t('clip.mark', { n: short(clip.manual_overall) }) }));
  }
  if (clip.reference) all.push(h('span.badge.fair', t('clip.reference')));
  if (clip.banned) all.push(h('span.badge.poor', t('clip.banned')));
  return all;
}

/** A file's name; where room is short its middle gives way, as names often begin alike. */
export function fileName(name, title = name) {
  const file = fileOf(name);
  const cut = Math.max(file.length - TAIL, 0);
  return h('span.tile-name', { title }, h('span', file.slice(0, cut)), h('span', file.slice(cut)));
}

export function posterCard(clip) {
  const p = clip.params ?? {};
  return h('div.tile',
    h('a.tile-link', { href: watchUrl(clip.name) },
      poster(clip.name, clip.exists), fileName(clip.name)),
    h('span.tile-line.muted', p.sampler ? `${p.sampler} · ${p.scheduler} · cfg ${short(p.cfg_scale)} · ${t('combo.steps', { v: short(p.steps) })}` : t('combo.unknown')),
    h('span.tile-line.badges', typeof clip.score === 'number' && h('span', { class: `badge plain ${grade(clip.score)}`, title: t('clip.auto'), text: fixed(clip.score) }), ...badges(clip)),
  );
}

export const COLUMNS = ['clip', 'score', 'mark', 'sampler', 'scheduler', 'fps', 'cfg', 'steps', 'size', 'made'];

/** The table's head row. @param {boolean} turned the order is the other way round @param {(by: string) => void} choose */
export function tableHead(sort, turned, choose) {
  const sorts = { clip: 'name', score: 'score', mark: 'manual', made: 'newest' };
  return h('div.trow.thead',
    ...COLUMNS.map((column) => {
      const by = sorts[column];
      const label = t(`column.${column}`);
      if (!by) return h('span', { class: `tc tc-${column}`, text: label });
      return h('span', { class: `tc tc-${column}` }, h('button.th', { 'aria-pressed': String(sort === by), text: sort === by ? `${label} ${turned === (by === 'name') ? '↓' : '↑'}` : label, on: { click: () => choose(by) } }));
    }),
  );
}

export function tableRow(clip) {
  const p = clip.params ?? {};
  const cell = (column, content) => h('span', { class: `tc tc-${column}` }, content);
  const text = (value) => (value === undefined || value === null ? '–' : short(value));
  return h('div.trow',
    cell('clip', h('a', { href: watchUrl(clip.name), class: 'row' }, poster(clip.name, clip.exists), fileName(clip.name))),
    cell('score', typeof clip.score === 'number' ? h('span', { class: `mono ${grade(clip.score)}`, text: fixed(clip.score) }) : '–'),
    cell('mark', h('span.badges', ...badges(clip))),
    cell('sampler', text(p.sampler)),
    cell('scheduler', text(p.scheduler)),
    cell('fps', text(p.fps)),
    cell('cfg', text(p.cfg_scale)),
    cell('steps', text(p.steps)),
    cell('size', p.width ? `${p.width}×${p.height}` : '–'),
    cell('made', moment(clip.created, 'short')),
  );
}
