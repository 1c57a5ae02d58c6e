/**
 * One clip, large, muted and looping, with frame steps, speed, a filmstrip and a scrub bar.
 * A small pool of video elements holds the clips that come next, already loaded and decoded, so that
 * showing one is a matter of making it visible; the pool's fixed size keeps memory flat.
 */
import { filmstripUrl, videoUrl } from './api.js';
import { button, h } from './dom.js';
import { clock } from './format.js';
import { t } from './i18n.js';
import { Playback, emptyVideo, fpsOf, frameAt, newVideo, stepped } from './playback.js';
import { keys } from './shell.js';
import { ScrubBar } from './scrub.js';
import { retryButton } from './toast.js';

const POOL = 5; // the one shown, three to come, the one before
const WHOLE_BYTES = 80e6; // a larger clip is streamed instead of held in memory

/** @typedef {{name: string, fps?: number | null, findings?: Array<{kind: string, start_s: number, end_s: number}>}} Clip */

/** Events: `frame` (the number of the frame on screen), `broken` (Clip). */
export class Player extends Playback {
  /** @type {Map<string, HTMLVideoElement>} name -> element, least recently wanted first */
  #pool = new Map();
  /** @type {string[]} names still to be loaded ahead, nearest first */
  #ahead = [];
  /** @type {{name: string, abort: AbortController} | null} the one being loaded ahead */
  #loading = null;
  clip = null;
  #drawn = ''; // the frame and length that the bar shows
  #marked = 0; // the length for which the findings were drawn
  #scrub = new ScrubBar();
  #stage = h('div.stage');
  #cover = h('div.stage-cover', { role: 'status', hidden: true });
  #time = h('span.mono.player-time');
  #frames = h('span.mono.player-time.player-frames');
  #play = this.#button('pause', 'pause', '␣', () => this.togglePlay());
  #speedText = h('span.mono.player-speed');

  constructor(root) {
    super();
    root.classList.add('player');
    this.#stage.append(this.#cover);
    this.#stage.addEventListener('click', (event) => event.target instanceof HTMLVideoElement && this.togglePlay());
    root.append(
      this.#stage,
      this.#scrub.element,
      h('div.player-bar',
        this.#play,
        this.#button('frame_back', 'frame-back', ',', () => this.step(-1)),
        this.#button('frame_forward', 'frame-forward', '.', () => this.step(1)),
        this.#time,
        this.#frames,
        h('span.spacer'),
        this.#button('slower', 'minus', '[', () => this.faster(-1)),
        this.#speedText,
        this.#button('faster', 'plus', ']', () => this.faster(1)),
        this.#button('fullscreen', 'expand', 'G', () => this.#fullscreen()),
      ),
    );
    this.#scrub.on('seek', (fraction) => this.#seek(fraction));
    this.setSpeed();
    this.#tick();
  }

  #button(id, icon, hint, onClick) {
    return button({ label: t(`player.${id}`), icon, hint, iconOnly: true, class: 'quiet', onClick });
  }

  bindKeys() {
    super.bindKeys();
    keys.add('fullscreen', ['g'], () => this.#fullscreen(), 'player');
  }

  get video() {
    return (this.clip && this.#pool.get(this.clip.name)) ?? null;
  }

  get fps() {
    return fpsOf(this.clip?.fps);
  }

  /** Shows a clip from its start, or nothing. What is not needed for its first frame waits for `details`. */
  show(clip) {
    const before = this.video;
    this.clip = clip;
    this.#cover.hidden = true;
    if (before && before.getAttribute('src') && before !== this.#pool.get(clip?.name ?? '')) {
      before.pause();
      before.classList.remove('on');
    }
    if (!clip) return;
    const video = this.#element(clip.name);
    if (this.#loading?.name === clip.name) this.#loading.abort.abort();
    if (!video.getAttribute('src')) video.src = videoUrl(clip.name); // not loaded ahead: stream it
    video.classList.add('on');
    if (video.currentTime !== 0) video.currentTime = 0; // even a seek to where it stands would decode anew
    if (video.playbackRate !== this.speed) video.playbackRate = this.speed;
    this.paused = false;
    if (video.error) this.#broken(video);
    else this.#start(video);
  }

  /** The filmstrip, the button and the time of the clip shown. */
  details() {
    this.#scrub.show(this.clip && filmstripUrl(this.clip.name));
    this.#marked = 0;
    this.#drawn = '';
    this.#time.textContent = '';
    this.#frames.textContent = '';
    this.#showPlaying();
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

  /** @returns {Promise<string | null>} null: try later */
  async #fetchWhole(name, signal) {
    try {
      const response = await fetch(videoUrl(name), { signal, priority: 'low' });
      if (!response.ok || Number(response.headers.get('Content-Length')) > WHOLE_BYTES) {
        await response.body?.cancel();
        return videoUrl(name); // the element streams it, or tells what is wrong with it
      }
      const source = URL.createObjectURL(await response.blob());
      fetch(filmstripUrl(name), { priority: 'low' }).then((strip) => strip.blob()).catch((error) => console.info('no filmstrip ahead:', error.message));
      return source;
    } catch (error) {
      if (error.name !== 'AbortError') console.info(`${name} could not be loaded ahead:`, error.message);
      return null;
    }
  }

  /** The element of a clip: its own, a new one, or the one that was not wanted for longest. */
  #element(name) {
    let video = this.#pool.get(name);
    if (!video && this.#pool.size >= POOL) {
      const oldest = [...this.#pool.keys()].find((other) => other !== this.clip?.name);
      video = this.#pool.get(oldest);
      this.#pool.delete(oldest);
      video.classList.remove('on');
      emptyVideo(video);
    } else if (!video) {
      const element = newVideo({ loop: true });
      element.addEventListener('error', () => element === this.video && element.getAttribute('src') && this.#broken(element));
      this.#stage.prepend(element);
      video = element;
    }
    this.#pool.delete(name);
    this.#pool.set(name, video);
    return video;
  }

  #start(video) {
    this.play(video, () => {
      this.paused = true;
      this.#showPlaying();
    });
  }

  #broken(video) {
    const { clip } = this;
    const retry = () => {
      if (this.clip !== clip || !clip) return;
      video.src = videoUrl(clip.name);
      this.show(clip);
    };
    this.message(t('player.broken'), t('player.broken_why'), retryButton(retry));
    this.emit('broken', clip);
  }

  /** Covers the stage with a few words until the next clip is shown. */
  message(title, text = '', ...controls) {
    this.#cover.replaceChildren(h('p.cover-title', title), h('p.muted', text), h('div.row.wrap.center', ...controls));
    this.#cover.hidden = false;
  }

  togglePlay() {
    const { video } = this;
    if (!video) return;
    this.paused = !video.paused;
    if (this.paused) video.pause();
    else this.#start(video);
    this.#showPlaying();
  }

  #showPlaying() {
    const label = t(this.paused ? 'player.play' : 'player.pause');
    this.#play.setAttribute('aria-label', label);
    this.#play.title = `${label} (Space)`;
    this.#play.querySelector('use')?.setAttribute('href', `#icon-${this.paused ? 'play' : 'pause'}`);
  }

  /** Stops and moves by whole frames, around the ends too. */
  step(frames) {
    const { video } = this;
    if (!video || !video.duration) return;
    this.paused = true;
    video.pause();
    this.#showPlaying();
    video.currentTime = stepped(video.currentTime, frames, this.fps, video.duration);
  }

  setSpeed() {
    if (this.video) this.video.playbackRate = this.speed;
    this.#speedText.textContent = `${this.speed}×`;
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

  /** Follows the video, frame by frame: what has not changed is not drawn again. */
  #tick() {
    requestAnimationFrame(() => this.#tick());
    const { video } = this;
    if (!video?.duration) return;
    const frame = frameAt(video.currentTime, this.fps);
    const drawn = `${frame} ${video.duration} ${this.fps}`;
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    if (this.#marked !== video.duration) {
      this.#marked = video.duration;
      this.#scrub.mark(this.clip?.findings ?? [], video.duration);
    }
    const frames = Math.round(video.duration * this.fps);
    const time = `${clock(video.currentTime)} / ${clock(video.duration)}`;
    this.#scrub.at(video.currentTime / video.duration, time);
    this.#time.textContent = time;
    this.#frames.textContent = t('player.frame', { i: Math.min(frame + 1, frames), n: frames });
    this.emit('frame', frame);
  }
}
