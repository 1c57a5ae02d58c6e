/** What the players of one clip and of several share: video elements, speed, and the keys for both. */
import { Emitter, h } from './dom.js';
import { keys } from './shell.js';

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 3];
const USUAL_FPS = 16;
const NO_FAULT = ['AbortError', 'NotSupportedError', 'NotAllowedError']; // something newer took over, or an `error` event tells more

/** What is known of a clip's frame rate. */
export const fpsOf = (fps) => fps || USUAL_FPS;

/** @returns {HTMLVideoElement} one that makes no sound and takes no focus */
export function newVideo(props = {}) {
  const video = h('video', { playsinline: true, preload: 'auto', tabindex: -1, disablepictureinpicture: true, ...props });
  video.muted = true;
  return video;
}

/** Frees what an element holds. */
export function emptyVideo(video) {
  if (video.src.startsWith('blob:')) URL.revokeObjectURL(video.src);
  video.removeAttribute('src');
  video.load();
}

/** A player offers `togglePlay`, `step` and what `setSpeed` does with its videos. */
export class Playback extends Emitter {
  paused = false;
  speed = Number(localStorage.getItem('eva.speed')) || 1;

  /** Adds the player's keys to the page. */
  bindKeys() {
    keys.add('pause', [' '], () => this.togglePlay(), 'player');
    keys.add('frame_back', [','], () => this.step(-1), 'player');
    keys.add('frame_forward', ['.'], () => this.step(1), 'player');
    keys.add('slower', ['['], () => this.faster(-1), 'player');
    keys.add('faster', [']'], () => this.faster(1), 'player');
  }

  /** @param {number} by steps in the list of speeds */
  faster(by) {
    const at = SPEEDS.findIndex((speed) => speed >= this.speed);
    this.speed = SPEEDS[Math.min(Math.max((at < 0 ? SPEEDS.length - 1 : at) + by, 0), SPEEDS.length - 1)];
    localStorage.setItem('eva.speed', String(this.speed));
    this.setSpeed();
  }

  /** Plays, or says through `blocked` that the browser wants a click first. */
  play(video, blocked = () => {}) {
    video.play().catch((error) => {
      if (error.name === 'NotAllowedError') blocked();
      else if (!NO_FAULT.includes(error.name)) console.warn('playing failed', error);
    });
  }
}

/** The frame at that moment. A little is added, as a moment may fall short of its frame by rounding. */
export const frameAt = (seconds, fps) => Math.floor(seconds * fps + 1e-3);

/** The frame `by` frames on from a moment, around the ends too, as a moment in the middle of it. */
export function stepped(seconds, by, fps, duration) {
  const count = Math.max(1, Math.round(duration * fps));
  return ((((frameAt(seconds, fps) + by) % count) + count) % count + 0.5) / fps;
}
