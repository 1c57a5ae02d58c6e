/** The agent's line: what it makes, how far, what comes next; a panel with the picture so far, and its controls. */
import { newId, orElse, postJSON } from './api.js';
import { button, h, icon } from './dom.js';
import { comboText, duration, fixed, whole } from './format.js';
import { t, textOr, tn } from './i18n.js';
import { live } from './live.js';
import { keepCount, paceOf } from './pace.js';
import { toast } from './toast.js';

const ASKED_MS = 6000; // the agent obeys within two seconds; longer than this, and the button may be pressed again

/** @typedef {'pause'|'resume'|'skip'|'stop_after'} Action */

export class AgentStrip {
  #keys;
  #dot = h('span.dot');
  #text = h('span.agent-text');
  #bar = h('progress.agent-bar', { max: 1, value: 0 });
  #more = h('span.agent-more.muted');
  #flow = h('span.agent-flow');
  #stats = h('span.agent-stats');
  #panel = h('div.agent-panel', { id: 'agent-panel', role: 'region', hidden: true });
  #picture = h('img.agent-picture', { alt: '' });
  #facts = h('dl.agent-facts');
  #servers = h('ul.agent-servers', { 'aria-label': t('agent.servers') });
  #say = h('p.agent-say', { role: 'status' });
  #agent = {};
  #pace = null;
  /** @type {{action: Action, until: number} | null} what was asked and is not done yet */
  #asked = null;

  constructor(keys) {
    this.#keys = keys;
    this.open = button({ label: t('agent.details'), icon: 'plus', iconOnly: true, class: 'quiet small agent-open', onClick: () => this.toggle(), attrs: { 'aria-expanded': 'false', 'aria-controls': 'agent-panel', id: 'agent-open' } });
    const control = (id, names, run, options) => keys.button(`agent_${id}`, names, run, 'agent', { class: 'small', ...options, label: t(`agent.${id}`), attrs: { id: `agent-${id}` } });
    this.pause = control('pause', ['p'], () => this.ask(this.#paused ? 'resume' : 'pause'), { icon: 'pause', class: 'quiet small', hint: '' });
    this.skip = control('skip', ['Shift+k'], () => this.ask('skip'), { icon: 'skip' });
    this.stop = control('stop_after', ['Shift+l'], () => this.ask(this.#last ? 'resume' : 'stop_after'), { icon: 'close' });
    keys.add('agent_panel', ['i'], () => this.toggle(), 'agent');
    this.#bar.setAttribute('aria-label', t('agent.progress'));
    this.#bar.hidden = true;
    this.#picture.hidden = true;
    this.#picture.addEventListener('error', () => (this.#picture.hidden = true)); // the clip ended while it was asked for
    this.#panel.setAttribute('aria-label', t('agent.panel'));
    this.#panel.append(this.#picture, h('div.agent-about', this.#say, this.#facts, this.#servers, h('div.row.wrap', this.skip, this.stop)));
    const line = h('div.strip', { id: 'agent' }, this.#dot, this.#text, this.#bar, this.#more, h('span.spacer'), this.#flow, this.#stats, this.pause, this.open);
    this.element = h('div.strip-box', line, this.#panel);
    this.#line('off', t('agent.asking'));
    this.#buttons();
    live.on('agent', (agent) => this.#take(agent));
    live.on('stats', (stats) => this.#count(stats));
    live.on('connection', (connected) => connected || this.#line('away', t('agent.no_server')));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.#panel.hidden && !document.querySelector('dialog[open]')) this.toggle();
    });
  }

  get #status() {
    return this.#agent.status ?? {};
  }

  get #paused() {
    return Boolean(this.#agent.alive && this.#status.paused);
  }

  get #last() {
    return Boolean(this.#agent.alive && this.#status.stop_after);
  }

  toggle() {
    this.#panel.hidden = !this.#panel.hidden;
    this.open.setAttribute('aria-expanded', String(!this.#panel.hidden));
    this.#draw();
  }

  /** Whether this was asked and is not done yet. */
  #waitsFor(action) {
    return this.#asked?.action === action && this.#asked.until > Date.now();
  }

  /** Asks the agent through the server; what came of it shows in its status. */
  async ask(action) {
    if (this.#waitsFor(action)) return; // another wish is taken at once, the same one not twice
    const prompt = action === 'skip' ? this.#status.now?.prompt_id : undefined;
    this.#asked = { action, until: Date.now() + ASKED_MS };
    this.#buttons();
    const done = await orElse(postJSON('/api/agent_control', { action, prompt_id: prompt, id: newId() }), (error) => {
      this.#asked = null;
      toast(t('agent.refused', { why: error.message }), { kind: 'error' });
    });
    if (done) {
      this.#say.textContent = t(`agent.asked_${action}`);
      for (const ms of [400, 900, 1600]) setTimeout(() => live.now(), ms);
    }
    this.#buttons();
  }

  #take(agent) {
    this.#agent = agent ?? {};
    const asked = this.#asked?.action;
    const now = this.#status;
    const done = { pause: now.paused, resume: !now.paused && !now.stop_after, stop_after: now.stop_after, skip: now.last?.kind === 'skipped' };
    if (asked && (done[asked] || !this.#agent.alive)) {
      this.#asked = null;
      this.#say.textContent = '';
    }
    this.#draw();
  }

  #line(mood, text) {
    this.#dot.dataset.mood = mood;
    this.#text.textContent = text;
    this.#text.title = text;
    this.#more.textContent = '';
    this.#bar.hidden = true;
  }

  #draw() {
    const { alive } = this.#agent;
    const status = this.#status;
    const { now, next } = status;
    if (!alive) this.#line('off', this.#offText());
    else {
      const words = now?.combo_key ? t('agent.making', { combo: comboText(now.combo_key) }) : '';
      if (this.#paused) this.#line('idle', words ? t('agent.pausing', { what: words }) : t('agent.paused'));
      else if (this.#last) this.#line('busy', words ? t('agent.last_clip', { what: words }) : t('agent.stopping'));
      else if (words) this.#line('busy', words);
      else this.#line('idle', this.#idleText());
      const rest = [];
      if (now?.steps) {
        this.#bar.hidden = false;
        this.#bar.setAttribute('value', String((now.step ?? 0) / now.steps));
        rest.push(t('agent.step', { i: now.step ?? 0, n: now.steps }));
      }
      const others = this.#jobs().length - 1;
      if (others > 0) rest.push(tn('agent.more_jobs', others));
      if (now?.seconds_left) rest.push(t('agent.ready_in', { time: duration(now.seconds_left) }));
      if (status.iterations) rest.push(t('agent.of', { i: whole(status.iteration ?? 0), n: whole(status.iterations) }));
      if (status.eta_seconds && !this.#paused) rest.push(t('agent.eta', { time: duration(status.eta_seconds) }));
      if (next?.combo_key) rest.push(t('agent.next', { combo: comboText(next.combo_key) }));
      if (typeof status.best_score === 'number') rest.push(t('agent.best', { score: fixed(status.best_score) }));
      this.#more.textContent = rest.join('  ·  ');
    }
    this.#flowText();
    this.#buttons();
    if (!this.#panel.hidden) this.#drawPanel();
  }

  #offText() {
    const status = this.#agent.status;
    if (!status) return t('agent.off');
    const made = tn('agent.made', status.scored ?? 0);
    return status.state === 'stopped' ? t('agent.ended', { made }) : t('agent.lost', { made, ago: duration(this.#agent.age_seconds ?? 0) });
  }

  #idleText() {
    const { state, message } = this.#status;
    if (state === 'starting') return t('agent.starting');
    if (state === 'stopping') return t('agent.stopping');
    return state === 'waiting_for_server' ? message || t('agent.waiting_server') : t('agent.idle');
  }

  /** Whether person and agent keep up with each other. */
  #flowText() {
    const flow = this.#agent.alive && !this.#paused && this.#pace ? this.#pace.flow : '';
    this.#flow.textContent = flow ? t(`agent.${flow}`) : '';
    this.#flow.title = flow ? `${t(`agent.${flow}_why`)} ${this.#paceText()}` : '';
    this.#flow.dataset.flow = flow;
  }

  #paceText() {
    return this.#pace ? t('agent.pace', { made: whole(Math.round(this.#pace.made)), rated: whole(Math.round(this.#pace.rated)) }) : '';
  }

  /** What is being made now, at every server. */
  #jobs() {
    return this.#agent.alive ? (this.#status.servers ?? []).filter((server) => server.now) : [];
  }

  #buttons() {
    const { alive } = this.#agent;
    const label = (element, text) => {
      const span = element.querySelector('.btn-label');
      if (span) span.textContent = text;
    };
    const goesOn = this.#paused;
    const waiting = new Map([
      [this.pause, this.#waitsFor(goesOn ? 'resume' : 'pause')],
      [this.skip, this.#waitsFor('skip') || !this.#status.now],
      [this.stop, this.#waitsFor(this.#last ? 'resume' : 'stop_after')],
    ]);
    for (const [element, idle] of waiting) {
      element.toggleAttribute('disabled', !alive || idle);
      element.hidden = !alive;
    }
    label(this.pause, t(goesOn ? 'agent.resume' : 'agent.pause'));
    this.pause.title = `${t(goesOn ? 'agent.resume_why' : 'agent.pause_why')} (${this.#keys.hint('agent_pause')})`;
    this.pause.querySelector('svg')?.replaceWith(icon(goesOn ? 'play' : 'pause'));
    label(this.stop, t(this.#last ? 'agent.go_on' : 'agent.stop_after'));
    this.skip.title = t('agent.skip_why');
    this.stop.title = t('agent.stop_why');
  }

  #drawPanel() {
    const status = this.#status;
    const now = this.#agent.alive ? status.now : null;
    const url = now?.preview ? `/api/agent/preview?v=${encodeURIComponent(`${now.prompt_id}-${now.preview}`)}` : '';
    this.#picture.hidden = !url;
    if (url && this.#picture.getAttribute('src') !== url) this.#picture.src = url;
    this.#picture.alt = url ? t('agent.picture') : '';
    /** @type {Array<[string, string]>} */
    const rows = [];
    const put = (key, text) => text && rows.push([t(`agent.fact_${key}`), text]);
    if (now) {
      put('now', comboText(now.combo_key));
      put('prompt', now.prompt);
      put('node', [now.node, now.steps ? t('agent.step', { i: now.step ?? 0, n: now.steps }) : ''].filter(Boolean).join(', '));
      put('left', now.seconds_left === null ? t('agent.unknown_time') : duration(now.seconds_left));
    } else put('now', this.#agent.alive ? this.#text.textContent : this.#offText());
    if (this.#agent.alive) {
      put('next', status.next ? comboText(status.next.combo_key) : status.requests ? tn('agent.requests', status.requests) : t('agent.next_open'));
      put('flow', this.#flow.title || this.#paceText());
      put('messages', status.message);
    }
    this.#facts.replaceChildren(...rows.flatMap(([name, text]) => [h('dt', name), h('dd', text)]));
    const servers = this.#agent.alive ? (status.servers ?? []) : [];
    this.#servers.hidden = servers.length < 2;
    this.#servers.replaceChildren(...servers.map(serverLine));
  }

  #count(stats) {
    const pending = stats.pending_count ?? 0;
    const now = { at: Date.now(), rated: stats.total_rated ?? 0, made: stats.total_generated ?? 0 };
    this.#pace = paceOf(keepCount(now), now, pending);
    const parts = [['pending', pending], ['rated', stats.total_rated ?? 0]].map(([what, n]) => tn(`stats.${what}`, n, { n: whole(n) }));
    if (stats.avg_rating) parts.push(t('stats.avg', { n: fixed(stats.avg_rating, 1) }));
    this.#stats.replaceChildren(...parts.map((text) => h('span', text)));
    this.#flowText();
  }
}

/** One of several servers: where, what, how far. */
function serverLine({ api, now, state, message }) {
  const far = now?.steps ? (now.step ?? 0) / now.steps : 0;
  const left = now?.seconds_left ? t('agent.ready_in', { time: duration(now.seconds_left) }) : '';
  return h('li', { title: message || null },
    h('span.mono', api.replace(/^https?:\/\//, '')),
    h('span', { class: 'agent-job', text: now ? comboText(now.combo_key) : textOr(`agent.state_${state}`, message) || state }),
    now && h('progress.agent-bar', { max: 1, value: far, 'aria-label': t('agent.progress') }),
    h('span.muted', left));
}
