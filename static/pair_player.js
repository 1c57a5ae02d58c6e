/**
 * Two or four clips that play as one: they start, wrap and stop together, whatever their lengths and
 * frame rates, and stay within a few hundredths of a second of each other. The next pair loads behind them.
 */
import { videoUrl } from './api.js';
import { h } from './dom.js';
import { Playback, emptyVideo, fpsOf, newVideo, stepped } from './playback.js';

const CATCH_UP_S = 0.015; // a smaller difference is left alone
const JUMP_S = 0.2; // a larger one is not caught up but sought

/** @typedef {{name: string, params?: Record<string, any>}} PairClip */

/** Events: `broken` (PairClip), `pick` (side). */
export class PairPlayer extends Playback {
  #sides;
  /** @type {HTMLVideoElement[]} those on screen */
  #videos = [];
  /** @type {Map<string, HTMLVideoElement[]>} loaded pairs by their names */
  #ready = new Map();
  #clips = [];

  constructor(root) {
    super();
    this.#sides = ['A', 'B', 'C', 'D'].map((letter) => h('div.stage.pair-side', h('span.pair-letter.badge', letter)));
    root.append(...this.#sides);
    this.#sides.forEach((element, side) => element.addEventListener('click', () => {
      // With four on screen a click says which; with two it stops and goes on.
      if (this.#clips.length === 4) this.emit('pick', side);
      else this.togglePlay();
    }));
    this.#tick();
  }

  /** @param {PairClip[]} clips left and right; empty for none */
  show(clips) {
    for (const video of this.#videos) this.#release(video);
    this.#clips = clips;
    this.#sides.forEach((element, side) => { element.hidden = side >= Math.max(2, clips.length); });
    this.#videos = clips.length ? this.#load(clips) : [];
    this.#ready.delete(nameOf(clips));
    this.paused = false;
    for (const video of this.#videos) {
      video.classList.add('on');
      if (video.currentTime !== 0) video.currentTime = 0;
      this.play(video);
    }
  }

  /** Loads a pair that will be wanted next. */
  preload(clips) {
    for (const [name, videos] of this.#ready) {
      if (name === nameOf(clips)) return;
      videos.forEach((video) => this.#release(video));
      this.#ready.delete(name);
    }
    this.#ready.set(nameOf(clips), this.#load(clips));
  }

  #load(clips) {
    const there = this.#ready.get(nameOf(clips));
    if (there) return there;
    return clips.map((clip, side) => {
      const video = newVideo();
      video.addEventListener('error', () => this.#videos.includes(video) && this.emit('broken', clip));
      video.src = videoUrl(clip.name);
      this.#sides[side].append(video);
      return video;
    });
  }

  #release(video) {
    emptyVideo(video);
    video.remove();
  }

  togglePlay() {
    this.paused = !this.paused;
    for (const video of this.#videos) {
      if (this.paused) video.pause();
      else this.play(video);
    }
  }

  /** The time all share: the shortest clip's. */
  get duration() {
    const found = this.#videos.map((video) => video.duration);
    return found.length && found.every(Boolean) ? Math.min(...found) : 0;
  }

  /** Stops all and moves them by one frame of the slowest clip. */
  step(by) {
    const { duration } = this;
    if (!duration) return;
    this.paused = true;
    const fps = Math.min(...this.#clips.map((clip) => fpsOf(clip.params?.fps)));
    const at = stepped(this.#videos[0].currentTime, by, fps, Math.floor(duration * fps) / fps);
    for (const video of this.#videos) {
      video.pause();
      video.currentTime = at;
    }
  }

  setSpeed() {} // what keeps the clips together sets their rates

  #tick() {
    if (!this.paused && this.#videos.length && this.#videos.every((video) => video.readyState >= 2)) this.#keepTogether(this.#videos);
    requestAnimationFrame(() => this.#tick());
  }

  /** The first leads, the others follow it. */
  #keepTogether(videos) {
    const end = this.duration - 0.02 * this.speed;
    if (videos.some((video) => video.ended || video.currentTime >= end)) {
      for (const video of videos) {
        video.currentTime = 0;
        this.play(video);
      }
      return;
    }
    if (videos.some((video) => video.seeking)) return;
    const [first, ...others] = videos;
    if (first.playbackRate !== this.speed) first.playbackRate = this.speed;
    for (const video of others) {
      const ahead = first.currentTime - video.currentTime;
      if (Math.abs(ahead) > JUMP_S) video.currentTime = first.currentTime;
      const rate = Math.abs(ahead) < CATCH_UP_S ? this.speed : this.speed * (1 + Math.max(-0.25, Math.min(0.25, ahead * 3)));
      if (Math.abs(video.playbackRate - rate) > 0.01) video.playbackRate = rate;
    }
  }
}

const nameOf = (clips) => clips.map((clip) => clip.name).join('\n');
