import assert from "node:assert/strict";
import test from "node:test";
import { Detector, decode, landmarkExtent, makeInput } from "../../src/yunet.js";
import { golden, picture } from "./pictures.js";

const RULE = { longer_side: 640, most_overlap: 0.3, box_scale: Math.exp(-0.1), box_down: 0.134 };
const close = (found, expected) =>
  expected.forEach((value, n) =>
    assert.ok(Math.abs(value - found[n]) < 1e-3, `${found} ${expected}`),
  );

function numbers(width, height) {
  const found = {};
  for (const stride of [8, 16, 32]) {
    const count = (width / stride) * (height / stride);
    for (const name of ["cls", "obj"]) found[`${name}_${stride}`] = new Float32Array(count);
    found[`bbox_${stride}`] = new Float32Array(4 * count);
  }
  return found;
}

test("YuNet's numbers become the faces that OpenCV finds", () => {
  const found = numbers(640, 640);
  for (const [stride, places] of Object.entries(golden.detector.numbers)) {
    for (const [k, [cls, obj, ...box]] of Object.entries(places)) {
      found[`cls_${stride}`][k] = cls;
      found[`obj_${stride}`][k] = obj;
      found[`bbox_${stride}`].set(box, 4 * k);
    }
  }
  const faces = decode(found, 640, 640, 0.6, 0.3);
  assert.equal(faces.length, golden.detector.faces.length);
  faces.forEach(({ x, y, w, h, score }, n) => {
    close([x, y, w, h, score], golden.detector.faces[n]);
    close(landmarkExtent({ x, y, w, h }, RULE), golden.detector.extents[n]);
  });
});

test("rows and columns of pictures that are not square", () => {
  const found = numbers(96, 64);
  const k = 3 * 12 + 5; // row 3, column 5 of stride 8
  found.cls_8[k] = found.obj_8[k] = 0.9;
  const [face] = decode(found, 96, 64, 0.6, 0.3);
  close([face.x, face.y, face.w, face.h], [36, 20, 8, 8]);
});

test("the input is blue, green, red, with black below and to the right", () => {
  const { data, width, height } = makeInput(picture(40, 33), 40, 33);
  assert.deepEqual([width, height], [64, 64]);
  const at = (c, x, y) => data[(c * 64 + y) * 64 + x];
  assert.deepEqual([at(0, 2, 0), at(1, 2, 0), at(2, 2, 0)], [72, 43, 14]);
  assert.equal(at(0, 40, 0) + at(1, 0, 33), 0);
});

test("faces come back in pixels of the picture; large ones are looked at again in half", async () => {
  const asked = [];
  const network = async (data, width, height) => {
    asked.push([width, height]);
    const found = numbers(width, height);
    const [columns, stride] = [width / 32, 32];
    const k = 3 * columns + 3;
    found.cls_32[k] = found.obj_32[k] = 1;
    found.bbox_32.fill(Math.log((0.5 * width) / stride), 4 * k + 2, 4 * k + 4);
    return found;
  };
  const [face] = await new Detector(network, RULE).detect(picture(1280, 720));
  assert.deepEqual(asked, [
    [640, 384],
    [320, 192],
  ]);
  // The centre (96, 96) of 320 pixels is (384, 384) of 1280; the side is half the picture.
  close([(face.box[0] + face.box[2]) / 2, face.box[2] - face.box[0]], [384, 640 * RULE.box_scale]);
});
