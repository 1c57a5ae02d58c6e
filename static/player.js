/**
 * One clip, large, muted and looping, with frame steps, speed, a filmstrip and a scrub bar.
 * A small pool of video elements holds the clips that come next, already loaded and decoded, so that
 * showing one is a matter of making it visible; the pool's fixed size keeps memory flat.
 */
import { filmstripUrl, videoUrl } from './api.js';
import { button, h } from './dom.js';
import { clock } from './format.js';
import { t } from './i18n.js';
import { keys } from './shell.js';
import { ScrubBar } from './scrub.js';

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 3];
const POOL = 5; // the one shown, three to come, the one before
const USUAL_FPS = 16;
const WHOLE_BYTES = 80e6; // a larger clip is streamed instead of held in memory

/** @typedef {{name: string, fps?: number | null, findings?: Array<{kind: string, start_s: number, end_s: number}>}} Clip */

/** Events: `frame` ({seconds, frame}), `shown` (the clip's first frame is on screen), `broken` (Clip). */
export class Player extends EventTarget {
  /** @type {Map<string, HTMLVideoElement>} name -> element, least recently wanted first */
  #pool = new Map();
  /** @type {string[]} names still to be loaded ahead, nearest first */
  #ahead = [];
  /** @type {{name: string, abort: AbortController} | null} the one being loaded ahead */
  #loading = null;
  /** @type {Clip | null} */
  clip = null;
  #speed = Number(sessionStorage.getItem('eva.speed')) || 1;
  #paused = false;
  #marked = 0; // the length for which the findings were drawn
  #scrub = new ScrubBar();
  #stage = h('div', { class: 'stage' });
  #cover = h('div', { class: 'stage-cover', role: 'status', hidden: true });
  #time = h('span', { class: 'mono player-time' });
  #frames = h('span', { class: 'mono player-time player-frames' });
  #play = button({ label: t('player.pause'), icon: 'pause', iconOnly: true, onClick: () => this.togglePlay() });
  #speedText = h('span', { class: 'mono player-speed' });

  /** @param {HTMLElement} root */
  constructor(root) {
    super();
    root.classList.add('player');
    this.#stage.append(this.#cover);
    this.#stage.addEventListener('click', (event) => {
      if (event.target instanceof HTMLVideoElement) this.togglePlay();
    });
    root.append(
      this.#stage,
      this.#scrub.element,
      h(
        'div',
        { class: 'player-bar' },
        this.#play,
        button({ label: t('player.frame_back'), icon: 'frame-back', hint: ',', iconOnly: true, class: 'quiet', onClick: () => this.step(-1) }),
        button({ label: t('player.frame_forward'), icon: 'frame-forward', hint: '.', iconOnly: true, class: 'quiet', onClick: () => this.step(1) }),
        this.#time,
        this.#frames,
        h('span', { class: 'spacer' }),
        button({ label: t('player.slower'), icon: 'minus', hint: '[', iconOnly: true, class: 'quiet', onClick: () => this.faster(-1) }),
        this.#speedText,
        button({ label: t('player.faster'), icon: 'plus', hint: ']', iconOnly: true, class: 'quiet', onClick: () => this.faster(1) }),
        button({ label: t('player.fullscreen'), icon: 'expand', iconOnly: true, class: 'quiet', onClick: () => this.#fullscreen() }),
      ),
    );
    this.#scrub.addEventListener('seek', (event) => this.#seek(/** @type {CustomEvent} */ (event).detail));
    this.#showSpeed();
    requestAnimationFrame(() => this.#tick());
  }

  /** Adds the player's keys to the page. */
  bindKeys() {
    keys.add('pause', [' '], () => this.togglePlay(), 'player');
    keys.add('frame_back', [','], () => this.step(-1), 'player');
    keys.add('frame_forward', ['.'], () => this.step(1), 'player');
    keys.add('slower', ['['], () => this.faster(-1), 'player');
    keys.add('faster', [']'], () => this.faster(1), 'player');
    keys.add('fullscreen', ['g'], () => this.#fullscreen(), 'player');
  }

  /** @returns {HTMLVideoElement | null} */
  get video() {
    return (this.clip && this.#pool.get(this.clip.name)) ?? null;
  }

  get fps() {
    return this.clip?.fps || USUAL_FPS;
  }

  /** Shows a clip from its start, or nothing. @param {Clip | null} clip */
  show(clip) {
    const before = this.video;
    this.clip = clip;
    this.#scrub.show(clip && filmstripUrl(clip.name));
    this.#marked = 0;
    this.#cover.hidden = true;
    if (!clip) {
      before?.pause();
      before?.classList.remove('on');
      this.#time.textContent = '';
      this.#frames.textContent = '';
      return;
    }
    const video = this.#element(clip.name);
    if (this.#loading?.name === clip.name) this.#loading.abort.abort();
    if (!video.getAttribute('src')) video.src = videoUrl(clip.name); // not loaded ahead: stream it
    if (before && before !== video) {
      before.pause();
      before.classList.remove('on');
    }
    video.classList.add('on');
    video.currentTime = 0;
    video.playbackRate = this.#speed;
    this.#paused = false;
    if (video.error) this.#broken(video);
    else this.#start(video);
    this.#showPlaying();
    const shown = () => this.clip === clip && this.dispatchEvent(new CustomEvent('shown', { detail: clip }));
    if ('requestVideoFrameCallback' in video) video.requestVideoFrameCallback(shown);
    else video.addEventListener('timeupdate', shown, { once: true });
  }

  /**
   * Loads clips that will be wanted soon, whole and one after the other: a video element that loads by
   * itself keeps a connection to the server open, and a browser grants only six, which saving needs too.
   * @param {Clip[]} clips nearest first
   */
  preload(clips) {
    for (const clip of [...clips].reverse()) this.#element(clip.name);
    if (this.clip) this.#element(this.clip.name); // the one shown is never the one recycled
    this.#ahead = clips.map((clip) => clip.name);
    if (this.#loading && !this.#ahead.includes(this.#loading.name)) this.#loading.abort.abort();
    this.#loadNext();
  }

  async #loadNext() {
    if (this.#loading) return;
    const name = this.#ahead.find((other) => this.#pool.get(other)?.getAttribute('src') === null);
    if (name === undefined) return;
    const abort = new AbortController();
    this.#loading = { name, abort };
    const source = await this.#fetchWhole(name, abort.signal);
    const video = this.#pool.get(name);
    if (video && !video.getAttribute('src') && source) video.src = source;
    else if (source?.startsWith('blob:')) URL.revokeObjectURL(source);
    this.#loading = null;
    if (source !== null || abort.signal.aborted) this.#loadNext();
  }

  /** @param {string} name @param {AbortSignal} signal @returns {Promise<string | null>} null: try later */
  async #fetchWhole(name, signal) {
    try {
      const response = await fetch(videoUrl(name), { signal, priority: 'low' });
      if (!response.ok || Number(response.headers.get('Content-Length')) > WHOLE_BYTES) {
        await response.body?.cancel();
        return videoUrl(name); // the element streams it, or tells what is wrong with it
      }
      const strip = new Image();
      strip.src = filmstripUrl(name);
      return URL.createObjectURL(await response.blob());
    } catch (error) {
      if (error.name !== 'AbortError') console.info(`${name} could not be loaded ahead:`, error.message);
      return null;
    }
  }

  /** @param {string} name @returns {HTMLVideoElement} */
  #element(name) {
    let video = this.#pool.get(name);
    if (video) {
      this.#pool.delete(name);
      this.#pool.set(name, video);
      return video;
    }
    if (this.#pool.size >= POOL) {
      const [oldest] = [...this.#pool.keys()].filter((other) => other !== this.clip?.name);
      video = /** @type {HTMLVideoElement} */ (this.#pool.get(oldest));
      this.#pool.delete(oldest);
      video.classList.remove('on');
      this.#empty(video);
    } else {
      video = /** @type {HTMLVideoElement} */ (h('video', { playsinline: true, preload: 'auto', tabindex: -1, disablepictureinpicture: true }));
      video.muted = true;
      video.loop = true;
      const element = video;
      video.addEventListener('error', () => element === this.video && element.getAttribute('src') && this.#broken(element));
      this.#stage.prepend(video);
    }
    this.#pool.set(name, video);
    return video;
  }

  /** Frees what the element holds. @param {HTMLVideoElement} video */
  #empty(video) {
    if (video.src.startsWith('blob:')) URL.revokeObjectURL(video.src);
    video.removeAttribute('src');
    video.load();
  }

  /** @param {HTMLVideoElement} video */
  #start(video) {
    video.play().catch((error) => {
      // A newer play() or pause() took over, or the browser wants a click first: the button then shows "play".
      if (error.name === 'NotAllowedError') {
        this.#paused = true;
        this.#showPlaying();
      } else if (error.name !== 'AbortError' && error.name !== 'NotSupportedError') console.warn('playing failed', error);
    });
  }

  /** @param {HTMLVideoElement} video */
  #broken(video) {
    const clip = this.clip;
    const retry = () => {
      if (this.clip !== clip || !clip) return;
      video.src = videoUrl(clip.name);
      this.show(clip);
    };
    this.message(t('player.broken'), t('player.broken_why'), button({ label: t('retry'), onClick: retry }));
    this.dispatchEvent(new CustomEvent('broken', { detail: clip }));
  }

  /**
   * Covers the stage with a few words until the next clip is shown.
   * @param {string} title @param {string} [text] @param {...Node} controls
   */
  message(title, text = '', ...controls) {
    this.#cover.replaceChildren(h('p', { class: 'cover-title', text: title }), h('p', { class: 'muted', text }), h('div', { class: 'row wrap center' }, ...controls));
    this.#cover.hidden = false;
  }

  togglePlay() {
    const { video } = this;
    if (!video) return;
    this.#paused = !video.paused;
    if (this.#paused) video.pause();
    else this.#start(video);
    this.#showPlaying();
  }

  #showPlaying() {
    const label = t(this.#paused ? 'player.play' : 'player.pause');
    this.#play.setAttribute('aria-label', label);
    this.#play.title = `${label} (Space)`;
    this.#play.querySelector('use')?.setAttribute('href', `/static/icons.svg#${this.#paused ? 'play' : 'pause'}`);
  }

  /** Stops and moves by whole frames, around the ends too. @param {number} frames */
  step(frames) {
    const { video } = this;
    if (!video || !video.duration) return;
    this.#paused = true;
    video.pause();
    this.#showPlaying();
    const count = Math.max(1, Math.round(video.duration * this.fps));
    const frame = (Math.floor(video.currentTime * this.fps + 1e-3) + frames + count) % count;
    video.currentTime = (frame + 0.5) / this.fps; // the middle of a frame is safe from rounding
  }

  /** @param {number} by steps in the list of speeds */
  faster(by) {
    const at = SPEEDS.findIndex((speed) => speed >= this.#speed);
    this.#speed = SPEEDS[Math.min(Math.max((at < 0 ? SPEEDS.length - 1 : at) + by, 0), SPEEDS.length - 1)];
    sessionStorage.setItem('eva.speed', String(this.#speed));
    if (this.video) this.video.playbackRate = this.#speed;
    this.#showSpeed();
  }

  #showSpeed() {
    this.#speedText.textContent = `${this.#speed}×`;
  }

  /** @param {number} fraction of the clip, 0 to 1 */
  #seek(fraction) {
    const { video } = this;
    if (video?.duration) video.currentTime = Math.min(fraction * video.duration, video.duration - 0.001);
  }

  #fullscreen() {
    const done = document.fullscreenElement ? document.exitFullscreen() : this.#stage.requestFullscreen();
    done.catch((error) => console.info('no full screen:', error.message));
  }

  #tick() {
    const { video } = this;
    if (video?.duration) {
      const frame = Math.floor(video.currentTime * this.fps + 1e-3);
      const frames = Math.round(video.duration * this.fps);
      if (this.#marked !== video.duration) {
        this.#marked = video.duration;
        this.#scrub.mark(this.clip?.findings ?? [], video.duration);
      }
      this.#scrub.at(video.currentTime / video.duration, `${clock(video.currentTime)} / ${clock(video.duration)}`);
      this.#time.textContent = `${clock(video.currentTime)} / ${clock(video.duration)}`;
      this.#frames.textContent = t('player.frame', { i: Math.min(frame + 1, frames), n: frames });
    }
    requestAnimationFrame(() => this.#tick());
  }
}
