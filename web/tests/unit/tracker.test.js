import assert from "node:assert/strict";
import test from "node:test";
import { Alone } from "../../src/alone.js";
import { overlap } from "../../src/boxes.js";
import { Follower } from "../../src/follower.js";
import { Model } from "../../src/model.js";
import { Tracker } from "../../src/tracker.js";

const FRAME = { data: new Uint8ClampedArray(4 * 400 * 200).fill(90), width: 400, height: 200 };
const HOW = { recurrence: true, strength: 1 };
const MANIFEST = {
  crop: { kind: "landmarks", size: 16, scale: 1.3 },
  recurrence: { longest_gap: 1 },
  lost: { least_confidence: 0.2, least_extent: 0.5 },
};

/** A world of faces, which a detector and a model see as they are. */
class World {
  constructor(limits) {
    this.boxes = []; // of the faces that are there
    this.hidden = false; // whether the detector sees none
    this.looks = [];
    this.detections = 0;
    const model = {
      manifest: MANIFEST,
      look: async (_, looks) => looks.map((one) => this.look(one)),
    };
    const detect = async () => {
      this.detections++;
      return this.hidden ? [] : this.boxes.map((box) => ({ box, score: 0.9 }));
    };
    this.tracker = new Tracker(new Follower(model), detect, limits);
    this.alone = new Alone(new Follower(model));
    this.time = 0;
  }

  look(one) {
    this.looks.push(one);
    const best = this.boxes.toSorted((a, b) => overlap(b, one.box) - overlap(a, one.box))[0];
    const there = best && overlap(best, one.box) > 0.1;
    const [x1, y1, x2, y2] = there ? best : one.box;
    return {
      points: Float64Array.from([x1, y1, x2, y1, x2, y2, x1, y2]),
      confidence: there ? 0.95 : 0.05,
      memory: { of: best },
    };
  }

  async step(boxes, seconds = 0.04, how = HOW) {
    this.boxes = boxes;
    this.time += seconds;
    this.looks = [];
    return (await this.tracker.step(FRAME, this.time, how)).faces;
  }
}

const at = (x, side = 40) => [x, 50, x + side, 50 + side];
const summary = (faces) => faces.map(({ id, status }) => `${id} ${status}`);

test("ids stay with faces that move, and detection is every fifth frame", async () => {
  const world = new World();
  for (let n = 0; n < 12; n++) {
    const faces = await world.step([at(20 + 4 * n), at(300 - 4 * n, 30)]);
    const status = n % 5 ? "tracked" : "detected";
    assert.deepEqual(summary(faces), [`0 ${status}`, `1 ${status}`]);
    assert.deepEqual(
      [faces[0].found.points[0], faces[1].found.points[0]],
      [20 + 4 * n, 300 - 4 * n],
    );
  }
  assert.equal(world.detections, 3);
});

test("a new face is looked at twice, then follows its memory", async () => {
  const world = new World();
  await world.step([at(20)]);
  assert.deepEqual(
    world.looks.map(({ memory }) => Boolean(memory)),
    [false, false],
  );
  await world.step([at(24)], 0.08);
  const [{ memory, interval }, ...others] = world.looks;
  assert.deepEqual([Boolean(memory), interval.toFixed(6), others.length], [true, "0.080000", 0]);
  await world.step([at(28)], 0.04, { recurrence: false, strength: 1 });
  assert.deepEqual(
    world.looks.map(({ memory }) => Boolean(memory)),
    [false],
  );
});

test("a lost face that is back within two seconds keeps its id; later it is a new one", async () => {
  for (const [frames, id] of [
    [20, 0],
    [70, 1],
  ]) {
    const world = new World();
    await world.step([at(20)]);
    const [lost] = await world.step([]);
    assert.equal(lost.status, "lost");
    assert.match(lost.trouble, /does not look like a face/);
    for (let n = 0; n < frames; n++) await world.step([]);
    let faces = [];
    for (let n = 0; n < 5 && !faces[0]?.found; n++) faces = await world.step([at(30)]);
    assert.deepEqual(summary(faces), [`${id} detected`]);
  }
});

test("a face that appears far from the lost one is a new one", async () => {
  const world = new World();
  await world.step([at(20)]);
  await world.step([]);
  assert.deepEqual(summary(await world.step([at(300)])), ["0 lost", "1 detected"]);
});

test("while a face is lost, every frame is looked at", async () => {
  const world = new World();
  await world.step([at(20)]);
  const before = world.detections;
  for (let n = 0; n < 3; n++) await world.step([]);
  assert.equal(world.detections, before + 3);
});

test("a face that the detector never sees again is lost after three seconds", async () => {
  const world = new World();
  await world.step([at(20)]);
  world.hidden = true;
  let faces;
  for (let n = 0; n < 74; n++) faces = await world.step([at(20)]);
  assert.deepEqual(summary(faces), ["0 tracked"]);
  for (let n = 0; n < 4; n++) faces = await world.step([at(20)]);
  assert.deepEqual(summary(faces), ["0 lost"]);
  assert.match(faces[0].trouble, /not detected for more than 3 s/);
});

test("of two that come to be one face, that stays which was expected there", async () => {
  const world = new World();
  for (let n = 0; n < 5; n++) await world.step([at(100), at(200 - 10 * n)]);
  const faces = await world.step([at(100)]); // the second one is gone
  assert.equal(faces[0].status, "detected");
  assert.equal(faces[1].status, "lost");
});

test("all ids end where the scene is cut", async () => {
  const world = new World();
  await world.step([at(20)]);
  world.tracker.scene.hsv.fill(250);
  assert.deepEqual(summary(await world.step([at(20)])), ["1 detected"]);
});

test("small faces, unsure ones and too many are left out", async () => {
  const world = new World({ maxFaces: 2 });
  assert.deepEqual(summary(await world.step([at(20), at(100), at(200)])), [
    "0 detected",
    "1 detected",
  ]);
  assert.deepEqual(await new World().step([at(20, 9)]), []);
});

test("frames must come in their order", async () => {
  const world = new World();
  await world.step([]);
  await assert.rejects(world.step([], 0), /order/);
});

test("each frame alone starts at the tracked face and never follows a memory", async () => {
  const world = new World();
  const faces = await world.step([at(20)]);
  world.looks = [];
  assert.equal((await world.alone.step(FRAME, faces)).get(0).points[0], 20);
  const again = await world.step([at(24)]);
  world.looks = [];
  await world.alone.step(FRAME, again);
  assert.deepEqual(world.looks, [{ box: at(20) }]);
});

test("faces of a frame are one batch, and results go to their faces", async () => {
  const manifest = {
    ...MANIFEST,
    programs: {
      next: {
        inputs: [
          ["image", ["B", 16, 16, 3]],
          ["frame_from_crop", ["B", 3, 3]],
          ["interval", ["B"]],
          ["strength", ["B"]],
          ["previous_heatmaps", ["B", 2]],
          ["previous_motion", ["B", 4]],
          ["previous_frame_from_crop", ["B", 3, 3]],
        ].map(([name, shape]) => ({ name, shape })),
      },
    },
  };
  const asked = [];
  const run = async (program, inputs) => {
    asked.push([program, inputs]);
    const rows = inputs.image[2][0];
    const of = (count, value) => Float32Array.from({ length: rows * count }, value);
    return {
      landmarks: of(4, (_, n) => n),
      spread: of(2, () => 1),
      probability: of(2, () => 1),
      confidence: of(1, (_, n) => n / 10),
      heatmaps: of(2, (_, n) => n),
      motion: of(4, (_, n) => n),
    };
  };
  const model = new Model(run, manifest);
  const memory = { heatmaps: [5, 6], motion: [1, 2, 3, 4], matrix: [1, 0, 0, 0, 1, 0, 0, 0, 1] };
  const looks = [
    { box: at(20), memory, interval: 0.04 },
    { box: at(100) },
    { box: at(200), memory, interval: 0.05 },
    { box: at(300), memory, interval: 1.5 }, // too late
  ];
  const found = await model.look(FRAME, looks, 2);
  assert.deepEqual(
    asked.map(([program, { image }]) => [program, image[2]]),
    [
      ["first", [2, 16, 16, 3]],
      ["next", [2, 16, 16, 3]],
    ],
  );
  const [, inputs] = asked[1];
  assert.deepEqual(Array.from(inputs.interval[1]), [0.04, 0.05].map(Math.fround));
  assert.deepEqual(Array.from(inputs.strength[1]), [2, 2]);
  assert.deepEqual(Array.from(inputs.previous_heatmaps[1]), [5, 6, 5, 6]);
  assert.deepEqual(inputs.frame_from_crop[2], [2, 3, 3]);
  assert.deepEqual(
    found.map(({ confidence }) => confidence),
    [0, 0, 0.1, 0.1].map(Math.fround),
  );
  const step = (1.3 * 40) / 16;
  const x = 220 - 8 * step; // of the third box's crop
  assert.deepEqual(
    Array.from(found[2].points),
    [4, 5, 6, 7].map((v, k) => step * v + (k % 2 ? 70 - 8 * step : x)),
  );
  assert.deepEqual(Array.from(found[2].memory.heatmaps), [2, 3]);
});
