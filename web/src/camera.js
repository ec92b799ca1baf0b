/** The camera as a source of frames: `Camera`. */

import { VisibleError, cameraMessage, noCameraMessage } from "./messages.js";

/**
 * @typedef {object} Frame
 * @property {VideoFrame | ImageBitmap} image
 * @property {number} width
 * @property {number} height
 * @property {number} time seconds
 * @property {number} [taken] when a camera's came, on the clock of `performance.now`
 */

export class Camera {
  live = true;
  name = "camera";

  /** Asks for the camera. */
  static async open() {
    const file = location.protocol === "file:";
    if (!navigator.mediaDevices?.getUserMedia) throw new VisibleError(noCameraMessage(file));
    try {
      const size = { width: { ideal: 640 }, height: { ideal: 480 } };
      const stream = await navigator.mediaDevices.getUserMedia({
        video: { ...size, facingMode: "user" },
      });
      return new Camera(stream);
    } catch (error) {
      throw new VisibleError(cameraMessage(error, file));
    }
  }

  constructor(stream) {
    this.stream = stream;
    // A camera that looks away from the visitor is no mirror.
    this.mirrored = stream.getVideoTracks()[0]?.getSettings().facingMode !== "environment";
  }

  /**
   * Its frames, always the newest one.
   *
   * @returns {AsyncGenerator<Frame>}
   */
  async *frames() {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, srcObject: this.stream });
    const [track] = this.stream.getVideoTracks();
    const ended = new Promise((resolve) => track.addEventListener("ended", () => resolve(null)));
    try {
      await video.play();
      let begun = null;
      let last = -1;
      for (;;) {
        const news = await Promise.race([nextFrame(video), ended, this.stopped]);
        if (!news) break;
        begun ??= news.now;
        const time = (news.now - begun) / 1000;
        if (time <= last) continue;
        last = time;
        const image = await createImageBitmap(video);
        const { width, height } = image;
        yield { image, width, height, time, taken: news.captureTime ?? news.now };
      }
      if (track.readyState === "ended" && !this.closed) {
        throw new VisibleError("The camera has stopped. Press Camera to start it again.");
      }
    } finally {
      video.srcObject = null;
      this.close();
    }
  }

  stopped = new Promise((resolve) => (this.stop = () => resolve(null)));

  /** Switches it off. */
  close() {
    this.closed = true;
    this.stop();
    for (const track of this.stream.getTracks()) track.stop();
  }
}

/** Waits for the next frame of a video element; says when it came. */
export function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((now, about) => resolve({ now, ...about }));
    } else {
      requestAnimationFrame((now) => resolve({ now }));
    }
  });
}
