/**
 * Tracks the faces of raw frames with the page's engine, in node.
 *
 *     node web/tests/track_frames.mjs FOLDER MODEL SHOW STRENGTH
 *
 * FOLDER holds frames.json with width, height and the times of the frames, and frames.rgb with
 * their bytes; found.csv is written there, and alone.json with the landmarks of SHOW=both.
 */

import fs from "node:fs";
import path from "node:path";
import { Engine } from "../src/engine.js";
import { prepare } from "../src/network.js";
import { Table } from "../src/table.js";

const [folder, model, show, strength] = process.argv.slice(2);
const models = path.join(import.meta.dirname, "..", "build", "models");
const read = (...name) => fs.readFileSync(path.join(models, ...name));

prepare(undefined, undefined);
const engine = await Engine.load(read("face_detector.onnx"));
await engine.use({
  manifest: JSON.parse(read(model, "manifest.json")),
  first: read(model, "first.onnx"),
  next: read(model, "next.onnx"),
  weights: read(model, "weights.bin"),
});
const { width, height, times } = JSON.parse(fs.readFileSync(path.join(folder, "frames.json")));
const bytes = fs.readFileSync(path.join(folder, "frames.rgb"));
const table = new Table(engine.manifest.schema.num_landmarks);
const alone = [];
const WARM = 10; // frames after which speed is measured
let start;
for (const [index, time] of times.entries()) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let pixel = 0, from = 3 * index * width * height; pixel < width * height; pixel++) {
    for (let c = 0; c < 3; c++) data[4 * pixel + c] = bytes[from++];
  }
  const how = { show, strength: Number(strength) };
  if (index === WARM) start = [performance.now(), process.cpuUsage()];
  const { faces } = await engine.step({ data, width, height }, time, how);
  table.add(index, time, faces);
  alone.push(faces.map((face) => face.alone && Array.from(face.alone)));
}
fs.writeFileSync(path.join(folder, "found.csv"), table.text());
fs.writeFileSync(path.join(folder, "alone.json"), JSON.stringify(alone));
if (start) {
  const { user, system } = process.cpuUsage(start[1]);
  const spent = [performance.now() - start[0], (user + system) / 1000];
  const [wall, cpu] = spent.map((ms) => (ms / (times.length - WARM)).toFixed(1));
  console.log(`${wall} ms a frame, ${cpu} ms of the processor`);
}
process.exit(0);
