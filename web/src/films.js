/**
 * Films and pictures from files, as sources of frames. `openFile` says which there is:
 *
 * - `Film` decodes every frame, with its own time (WebCodecs);
 * - `PlayedFilm` lets a video element play, where that is not possible, and counts what it skips;
 * - `Picture` is a film of one frame.
 */

import { ALL_FORMATS, BlobSource, Input, VideoSampleSink } from "mediabunny";
import { nextFrame } from "./camera.js";
import {
  VisibleError,
  brokenMessage,
  codecMessage,
  fileMessage,
  shortMessage,
  soundMessage,
} from "./messages.js";

/**
 * Opens a file.
 *
 * @param {Blob} file
 * @param {string} name for messages
 * @throws {VisibleError} it is no film or picture, or the browser cannot decode it
 */
export async function openFile(file, name) {
  if (file.type.startsWith("image/")) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (picture) return new Picture(picture, name);
  }
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  const track = await input.getPrimaryVideoTrack().catch(() => null);
  if (track && globalThis.VideoDecoder && (await track.canDecode().catch(() => false))) {
    return new Film(track, name);
  }
  const video = file.size ? await playable(file) : null;
  if (video) return new PlayedFilm(video, name);
  if (track) throw new VisibleError(codecMessage(name, await track.getCodec().catch(() => null)));
  const sound = await input.getPrimaryAudioTrack().catch(() => null);
  throw new VisibleError(sound ? soundMessage(name) : fileMessage(name));
}

/** A film whose frames are all decoded. */
export class Film {
  skipped = 0;

  constructor(track, name) {
    this.track = track;
    this.name = name;
  }

  /** @returns {AsyncGenerator<import("./camera.js").Frame>} */
  async *frames() {
    let count = 0;
    let begun = null;
    let last = -1;
    let end = 0;
    try {
      for await (const sample of new VideoSampleSink(this.track).samples()) {
        begun ??= sample.timestamp;
        const time = sample.timestamp - begun;
        if (time <= last) {
          sample.close();
          this.skipped++; // two frames of one time are one
          continue;
        }
        last = time;
        end = sample.timestamp + sample.duration;
        const { displayWidth: width, displayHeight: height } = sample;
        const image = upright(sample, width, height);
        sample.close();
        yield { image, width, height, time };
        count++;
      }
    } catch (error) {
      if (error instanceof VisibleError) throw error;
      throw new VisibleError(brokenMessage(this.name, count), { cause: error });
    }
    if (!count) throw new VisibleError(brokenMessage(this.name, 0));
    const whole = await this.track.getDurationFromMetadata().catch(() => null);
    if (whole > end + 0.5) throw new VisibleError(shortMessage(this.name, end, whole));
  }

  close() {}
}

/** The picture of a sample, turned as the film says. */
function upright(sample, width, height) {
  if (!sample.rotation && !sample.flip) return sample.toVideoFrame();
  const canvas = new OffscreenCanvas(width, height);
  sample.draw(canvas.getContext("2d"), 0, 0, width, height);
  return canvas.transferToImageBitmap();
}

/** A film that a video element plays; it stops while a frame is looked at. */
export class PlayedFilm {
  skipped = 0;

  constructor(video, name) {
    this.video = video;
    this.name = name;
  }

  /** @returns {AsyncGenerator<import("./camera.js").Frame>} */
  async *frames() {
    const { video } = this;
    const ended = new Promise((resolve) => {
      video.addEventListener("ended", () => setTimeout(() => resolve(null), 200), { once: true });
    });
    const failed = new Promise((_, reject) => {
      video.addEventListener("error", () => reject(new Error(video.error?.message)));
    });
    failed.catch(() => {});
    let count = 0;
    let begun = null;
    let presented = 0;
    let last = -1;
    try {
      video.currentTime = 0;
      for (;;) {
        const coming = nextFrame(video);
        await Promise.race([video.play(), failed]);
        const news = await Promise.race([coming, ended, failed]);
        if (!news) break;
        video.pause();
        begun ??= news.mediaTime;
        const time = news.mediaTime - begun;
        if (count) this.skipped += Math.max(0, news.presentedFrames - presented - 1);
        presented = news.presentedFrames;
        if (time <= last) continue;
        last = time;
        const image = await createImageBitmap(video);
        const { width, height } = image;
        yield { image, width, height, time };
        count++;
      }
    } catch (error) {
      throw new VisibleError(brokenMessage(this.name, count), { cause: error });
    }
    this.skipped += video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0;
  }

  close() {
    this.video.pause();
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
  }
}

/** A video element that can play a file, or null. */
async function playable(file) {
  const video = document.createElement("video");
  if (!video.requestVideoFrameCallback) return null;
  Object.assign(video, { muted: true, playsInline: true, preload: "auto" });
  video.src = URL.createObjectURL(file);
  const loaded = await new Promise((resolve) => {
    video.addEventListener("loadeddata", () => resolve(true));
    video.addEventListener("error", () => resolve(false));
  });
  return loaded && video.videoWidth ? video : null;
}

/** A film of one frame. */
export class Picture {
  skipped = 0;
  still = true;

  constructor(bitmap, name) {
    this.bitmap = bitmap;
    this.name = name;
  }

  /** @returns {AsyncGenerator<import("./camera.js").Frame>} */
  async *frames() {
    const image = await createImageBitmap(this.bitmap);
    yield { image, width: image.width, height: image.height, time: 0 };
  }

  close() {
    this.bitmap.close();
  }
}
