/** The page: its buttons, settings and numbers around a `Player`. */

import { asset, standalone, startWorker } from "./assets.js";
import { Camera } from "./camera.js";
import { Client } from "./client.js";
import { openFile } from "./films.js";
import { Flicker } from "./flicker.js";
import { NO_SIMD, VisibleError } from "./messages.js";
import { Meter } from "./meter.js";
import { Models } from "./models.js";
import { Player } from "./player.js";
import { SAMPLES, credit } from "./samples.js";
import { Table } from "./table.js";
import { View, colour } from "./view.js";

const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const PANELS = {
  rwr: [{ title: "", of: (face) => face.found?.points }],
  alone: [{ title: "", of: (face) => face.found?.points }],
  both: [
    { title: "each frame alone", of: (face) => face.alone },
    { title: "with recurrence", of: (face) => face.found?.points },
  ],
};
// A program of WebAssembly that needs SIMD.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
];

const view = new View($("picture"));
const meter = new Meter($("meter"), { alone: "--alone", rwr: "--rwr" });
let player;
let models;
let flicker;
let table;
let source = null; // what is shown: {open(), caption, loop}
let clock = { time: 0, offset: 0 }; // the meter's, which goes on when a film begins again
let rates = null;

function state(name) {
  document.body.dataset.state = name;
  $("pause").disabled = !["running", "paused", "done"].includes(name);
  const words = { paused: "Go on", done: source?.live ? "Start again" : "Play again" };
  $("pause").textContent = words[name] ?? "Pause";
  const filming = source?.live && ["running", "paused"].includes(name);
  $("camera").textContent = filming ? "Camera off" : "Camera";
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function complain(error) {
  if (!(error instanceof VisibleError)) console.error(error);
  const text = error instanceof VisibleError ? error.message : `Something went wrong: ${error.message}`;
  $("trouble").textContent = text;
  $("trouble").hidden = false;
}

/** Shows a source from its beginning. */
async function play(next) {
  player.stop();
  $("trouble").hidden = true;
  let opened;
  try {
    opened = await next.open();
  } catch (error) {
    complain(error);
    say(source ? "What was shown before has been stopped." : "Nothing is shown.");
    state(source ? "done" : "ready");
    return;
  }
  source = next;
  view.mirrored = Boolean(opened.mirrored);
  $("source").replaceChildren(...(next.caption ?? []));
  restart();
  table = new Table(models.schema.num_landmarks);
  let again = false;
  try {
    do {
      for (const one of Object.values(flicker)) one.restart();
      view.restart();
      clock.offset = clock.time;
      rates = { times: [], computing: [] };
      if (again) table = new Table(models.schema.num_landmarks);
      state("running");
      const end = await player.play(opened);
      if (!end) return;
      again = next.loop && !opened.still;
      if (again) opened = await next.open();
      else finish(opened, end.frames);
    } while (again);
  } catch (error) {
    complain(error);
    finish(opened, table.rows.length ? Number(table.rows.at(-1).split(",")[0]) + 1 : 0);
  }
}

/** Forgets what was measured. */
function restart() {
  meter.restart();
  clock = { time: 0, offset: 0 };
  for (const one of Object.values(flicker ?? {})) one.restart();
  write({});
}

function finish(opened, frames) {
  state("done");
  if (!frames) say("Nothing is shown.");
  else if (opened.still) say("A picture: no recurrence here. The table has its landmarks.");
  else if (opened.live) say("The camera is off.");
  else say(`The film has ended: ${frames} frames, ${skipped(opened)}.`);
}

const skipped = ({ skipped }) => (skipped ? `${skipped} skipped` : "none skipped");

/** Shows a frame that is done. */
function show({ frame, result, index, milliseconds }) {
  view.show(frame, result.faces);
  table.add(index, frame.time, result.faces);
  const points = (of) =>
    new Map(result.faces.filter((face) => of(face)).map((face) => [face.id, of(face)]));
  const mode = chosen("show");
  const main = flicker.main.add(points((face) => face.found?.points), frame.time);
  const other = flicker.alone.add(points((face) => face.alone), frame.time);
  clock.time = clock.offset + frame.time;
  if (mode === "both") meter.add(clock.time, { rwr: main, alone: other });
  else meter.add(clock.time, { [mode]: main });
  const now = performance.now();
  rates.times.push(now);
  rates.computing.push(result.milliseconds.all);
  for (const list of [rates.times, rates.computing]) if (list.length > 30) list.shift();
  rates.latency = rates.latency ? 0.9 * rates.latency + 0.1 * milliseconds : milliseconds;
  write({ faces: result.faces, frames: index + 1 });
}

let written = 0; // when the numbers were

/** Writes the numbers, not so often that nobody can read them. */
function write({ faces, frames }) {
  meter.draw();
  if (faces && performance.now() - written < 250 && frames > 1) return;
  written = performance.now();
  const { times = [], computing = [], latency } = rates ?? {};
  const seconds = (times.at(-1) - times[0]) / 1000;
  const rate = times.length > 1 ? (times.length - 1) / seconds : null;
  const median = [...computing].sort((a, b) => a - b)[computing.length >> 1];
  const number = (value, digits = 0) => (value ?? null) === null ? "–" : value.toFixed(digits);
  $("rate").textContent = number(rate, 1);
  $("computing").textContent = number(median);
  $("latency").textContent = number(latency);
  $("frames").textContent = frames ?? "–";
  $("skipped").textContent = player?.source?.skipped ?? "–";
  $("used").textContent = models?.used ?? "–";
  $("download").disabled = !table?.rows.length;
  const means = { rwr: meter.mean("rwr"), alone: meter.mean("alone") };
  for (const [name, { value }] of Object.entries(means)) {
    $(`flicker-${name}`).textContent = value === null ? "–" : `${value.toFixed(2)} %`;
  }
  const [ours, others] = [means.rwr.value, means.alone.value];
  const share = ours !== null && others ? Math.round(100 * (ours / others - 1)) : null;
  const words = share < 0 ? `${-share} % less` : `${share} % more`;
  $("flicker-gain").textContent = share === null ? "" : `${words} with recurrence`;
  if (!faces) return;
  const found = faces.filter((face) => face.found);
  const count = found.length === 1 ? "1 face" : `${found.length || "no"} faces`;
  const doing = source.still ? "" : "Running: ";
  say(`${doing}${count}.`);
  $("picture").setAttribute("aria-label", `${player.source?.name ?? "Film"}, ${count} with landmarks`);
  const rows = faces.map((face) => {
    const row = document.createElement("tr");
    const cells = [face.id, face.status, face.found ? `${Math.round(100 * face.found.confidence)} %` : ""];
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    const dot = Object.assign(document.createElement("span"), { className: "dot" });
    dot.style.background = colour(face.id);
    row.firstChild.prepend(dot);
    return row;
  });
  if (rows.length) $("faces").replaceChildren(...rows);
  else $("faces").innerHTML = '<tr><td colspan="3">none</td></tr>';
}

function download() {
  const address = URL.createObjectURL(new Blob([table.text()], { type: "text/csv" }));
  const name = `${(player.source?.name ?? source?.name ?? "landmarks").replace(/\.\w+$/, "")}.csv`;
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function togglePause() {
  if (document.body.dataset.state === "done") play(source);
  else if (player.paused) {
    player.resume();
    state("running");
  } else {
    player.pause();
    state("paused");
    say("Paused.");
  }
}

/** Switches the camera on, or off. */
function toggleCamera() {
  if (player.source?.live) {
    const camera = player.source;
    player.stop();
    finish(camera, 1);
  } else {
    $("sample").value = "";
    play({ open: Camera.open, name: "camera", caption: ["Your camera, as in a mirror"], live: true });
  }
}

function openTheFile(file) {
  $("sample").value = "";
  play({ open: () => openFile(file, file.name), name: file.name, caption: [file.name] });
}

function playSample(name) {
  const sample = SAMPLES[name];
  $("sample").value = name;
  samples[name] ??= asset(sample.file);
  closeUp(sample.closeUp);
  return play({
    open: async () => openFile(new Blob([await samples[name]], { type: "video/mp4" }), sample.name),
    name: sample.name,
    caption: credit(sample),
    loop: true,
  });
}
const samples = {};

function closeUp(on) {
  $("close-up").checked = view.closeUp = on;
  view.draw();
}

function prepareControls() {
  $("pause").addEventListener("click", togglePause);
  $("camera").addEventListener("click", toggleCamera);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (file) openTheFile(file);
  });
  $("sample").addEventListener("change", () => $("sample").value && playSample($("sample").value));
  $("download").addEventListener("click", download);
  $("close-up").addEventListener("change", () => closeUp($("close-up").checked));
  $("hurry").addEventListener("change", () => (player.hurry = $("hurry").checked));
  for (const input of document.querySelectorAll("input[name=show], input[name=strength]")) {
    input.addEventListener("change", () => {
      view.panels = PANELS[chosen("show")];
      view.draw();
      restart();
    });
  }
  $("model").addEventListener("change", async () => {
    say("Changing the model …");
    player.stop();
    await models.use($("model").value);
    if (source) play(source);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) openTheFile(file);
  });
  addEventListener("keydown", onKey);
}

function onKey(event) {
  const typing = event.target.closest?.("select, input:not([type=radio], [type=checkbox])");
  if (!$("keys").checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest?.("button, input, summary, a")) return;
  const press = (id) => () => $(id).disabled || $(id).click();
  const pick = (name, value) => () => document.querySelector(`input[name=${name}][value="${value}"]`).click();
  const names = Object.keys(SAMPLES);
  const keys = {
    " ": press("pause"),
    c: press("camera"),
    o: press("open"),
    s: () => playSample(names[(names.indexOf($("sample").value) + 1) % names.length]),
    b: pick("show", "both"),
    r: pick("show", "rwr"),
    a: pick("show", "alone"),
    1: pick("strength", "0.5"),
    2: pick("strength", "1"),
    3: pick("strength", "2"),
    z: press("close-up"),
    d: press("download"),
  };
  const action = keys[event.key.toLowerCase()];
  if (!action || !player) return;
  event.preventDefault();
  action();
}

async function begin() {
  if (!WebAssembly.validate(new Uint8Array(SIMD))) throw new VisibleError(NO_SIMD);
  let bytes = 0;
  const progress = (more) => {
    bytes += more;
    $("curtain").textContent = `Loading … ${(bytes / 1e6).toFixed(0)} MB`;
  };
  $("curtain").textContent = "Loading …";
  const client = new Client(startWorker());
  const [wasm, detector] = await Promise.all([
    asset("ort/ort-wasm-simd-threaded.wasm", progress),
    asset("models/face_detector.onnx", progress),
  ]);
  const folder = standalone() ? undefined : new URL("ort/", document.baseURI).href;
  const { threads } = await client.do("load", { wasm: wasm.buffer, folder, detector });
  models = new Models(client);
  await models.begin(progress);
  document.body.dataset.threads = threads;
  view.contours = models.schema.contours;
  flicker = { main: new Flicker(models.schema.eye_corners), alone: new Flicker(models.schema.eye_corners) };
  player = new Player(client, () => ({ show: chosen("show"), strength: Number(chosen("strength")) }), show);
  view.panels = PANELS[chosen("show")];
  player.hurry = $("hurry").checked;
  $("curtain").textContent = "";
  for (const id of ["camera", "open", "sample"]) $(id).disabled = false;
  state("ready");
  say("Ready.");
  const rest = Promise.all([
    models.rest(),
    ...Object.keys(SAMPLES).map((name) => (samples[name] ??= asset(SAMPLES[name].file))),
  ]).then(() => (document.body.dataset.loaded = "all"));
  rest.catch((error) => console.warn(error)); // what is missing is asked for again when it is used
  const choice = $("model").value;
  if (models.meant(choice) !== models.used) await rest.then(() => models.use(choice), () => {});
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!source && !calm) playSample("head");
}

prepareControls();
begin().catch((error) => {
  complain(error);
  $("curtain").textContent = "";
  say("The page cannot be used.");
  state("broken");
});
