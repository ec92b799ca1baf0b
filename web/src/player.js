/** Takes the frames of a source through the model, one after another: `Player`. */

/**
 * @typedef {object} Shown a frame with what was found in it
 * @property {import("./camera.js").Frame} frame its image must be closed by whoever takes it
 * @property {object} result of `Engine.step`
 * @property {number} index number of the frame
 * @property {number} milliseconds from when it came until its landmarks were known
 */

export class Player {
  /**
   * @param {import("./client.js").Client} client
   * @param {() => import("./engine.js").How} how
   * @param {(shown: Shown) => void} show
   */
  constructor(client, how, show) {
    this.client = client;
    this.how = how;
    this.show = show;
    this.hurry = false; // whether a film goes as fast as it can
    this.run = 0;
    this.resume();
  }

  /** Stands still before the next frame. */
  pause() {
    if (this.paused) return;
    this.paused = true;
    this.gate = new Promise((resolve) => (this.open = resolve));
  }

  /** Goes on. */
  resume() {
    this.paused = false;
    this.open?.();
    this.gate = null;
  }

  /** Ends what is played. */
  stop() {
    this.run++;
    this.resume();
    this.source?.close();
    this.source = null;
  }

  /**
   * Plays a source to its end.
   *
   * @param {object} source with `frames()`, see `films.js` and `camera.js`
   * @returns {Promise<{frames: number} | null>} null if it was stopped
   */
  async play(source) {
    this.stop();
    const run = this.run;
    this.source = source;
    await this.client.do("restart");
    const frames = source.frames();
    const next = () =>
      frames.next().then(
        (item) => item,
        (error) => ({ error }),
      );
    let index = 0;
    let clock = null; // when the film's time 0 should have been shown
    let coming = next();
    for (;;) {
      const { value: frame, done, error } = await coming;
      if (run !== this.run) {
        frame?.image.close();
        frames.return().catch(() => {});
        return null;
      }
      if (error) throw error;
      if (done) break;
      if (this.gate) {
        const since = performance.now();
        await this.gate;
        if (clock !== null) clock += performance.now() - since;
        if (run !== this.run) {
          frame.image.close();
          frames.return().catch(() => {});
          return null;
        }
      }
      // A film decodes its next frame meanwhile; a camera's would be old by then.
      coming = source.live ? null : next();
      const { image, width, height, time } = frame;
      const taken = source.live ? frame.taken : performance.now();
      const { result, image: back } = await this.client.do(
        "step",
        { image, width, height, time, how: this.how() },
        [image],
      );
      const now = performance.now();
      const shown = { frame: { ...frame, image: back }, result, index, milliseconds: now - taken };
      if (!source.live && !source.still && !this.hurry) {
        clock ??= now - 1000 * time;
        const early = clock + 1000 * time - now;
        if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
        else clock -= early; // a film that is late goes slower, no frame is left out
      } else {
        clock = null;
      }
      if (run === this.run) this.show(shown);
      else back.close();
      index++;
      coming ??= next();
    }
    source.close();
    return { frames: index };
  }
}
