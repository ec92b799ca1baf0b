/** The models of the page, and which of them is used: `Models`. */

import { asset } from "./assets.js";

const PARTS = ["manifest.json", "first.onnx", "next.onnx", "weights.bin"];
const SMALL = "faces-68-tiny";
const LARGE = "faces-68";
// A step of the large one takes two to three times as long; it is taken where both leave a camera's
// 30 frames a second to the rest.
const QUICK = 7; // milliseconds a step of the small one

export class Models {
  /** @param {import("./client.js").Client} client */
  constructor(client) {
    this.client = client;
    this.files = {};
    this.used = null;
    this.milliseconds = {};
  }

  /** Loads a model's files, once. */
  load(name, progress) {
    this.files[name] ??= (async () => {
      const parts = [];
      for (const part of PARTS) parts.push(await asset(`models/${name}/${part}`, progress));
      const [manifest, first, next, weights] = parts;
      return { manifest: JSON.parse(new TextDecoder().decode(manifest)), first, next, weights };
    })();
    this.files[name].catch(() => delete this.files[name]); // so that it is tried again
    return this.files[name];
  }

  /** Loads the small model and uses it. */
  async begin(progress) {
    await this.load(SMALL, progress);
    await this.use(SMALL);
  }

  /** Loads the rest, so that nothing is left to load. */
  async rest() {
    await this.load(LARGE);
  }

  /** The model that a choice means: "auto" is the large one where the small one is quick. */
  meant(choice) {
    if (choice !== "auto") return choice;
    return this.milliseconds[SMALL] < QUICK ? LARGE : SMALL;
  }

  /** The schema of the landmarks, of the model that is used. */
  get schema() {
    return this.manifest.schema;
  }

  /**
   * Uses a model.
   *
   * @param {string} choice its name, or "auto"
   */
  async use(choice) {
    const name = this.meant(choice);
    if (name === this.used) return;
    const files = await this.load(name);
    const { milliseconds } = await this.client.do("use", { files });
    this.milliseconds[name] = milliseconds;
    this.manifest = files.manifest;
    this.used = name;
  }
}
