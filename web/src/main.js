/** The page: its buttons, settings and numbers around a `Player`. */

import { asset, standalone, startWorker } from "./assets.js";
import { Camera } from "./camera.js";
import { Client } from "./client.js";
import { openFile } from "./films.js";
import { Flicker } from "./flicker.js";
import { NO_SIMD, VisibleError } from "./messages.js";
import { listenToKeys } from "./keyboard.js";
import { Meter } from "./meter.js";
import { Models } from "./models.js";
import { Player } from "./player.js";
import { Readout, inWords } from "./readout.js";
import { SAMPLES, credit } from "./samples.js";
import { Table } from "./table.js";
import { View } from "./view.js";

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
const readout = new Readout(meter);
let player;
let models;
let flicker;
let table;
let met = false; // whether a face was found since the source began
let source = null; // what is shown: {open(), caption, loop}
let turns = 0; // how often something was chosen
let changed; // a promise that the model is the chosen one
let clock = { time: 0, offset: 0 }; // the meter's, which goes on when a film begins again

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
  const text =
    error instanceof VisibleError ? error.message : `Something went wrong: ${error.message}`;
  $("trouble").textContent = text;
  $("trouble").hidden = false;
}

/** Shows a source from its beginning. */
async function play(next) {
  const turn = ++turns;
  player.stop();
  $("trouble").hidden = true;
  await changed;
  let opened;
  try {
    opened = await next.open();
    if (turn !== turns) return opened.close(); // something else was chosen meanwhile
  } catch (error) {
    if (turn !== turns) return;
    complain(error);
    say(source ? "What was shown before has been stopped." : "Nothing is shown.");
    state(source ? "done" : "ready");
    return;
  }
  source = next;
  view.mirrored = Boolean(opened.mirrored);
  const ofCamera = opened.mirrored ? "Your camera, as in a mirror." : "Your camera.";
  $("source").replaceChildren(...(next.live ? [ofCamera] : next.caption));
  restart();
  table = new Table(models.schema.num_landmarks);
  met = false;
  let again = false;
  try {
    do {
      for (const one of Object.values(flicker)) one.restart();
      view.restart();
      clock.offset = clock.time;
      readout.restart();
      if (again) table = new Table(models.schema.num_landmarks);
      state("running");
      const end = await player.play(opened);
      if (!end) return;
      again = next.loop && !opened.still;
      if (again) opened = await next.open();
      if (turn !== turns) return opened.close();
      if (!again) finish(opened, end.frames);
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
  write([], null);
}

function finish(opened, frames) {
  readout.flush();
  state("done");
  if (!frames) say("Nothing is shown.");
  else if (opened.live) say("The camera is off.");
  else if (!met && opened.still) say("No face was found in this picture.");
  else if (!met) say(`No face was found in this film: ${frames} frames, ${skipped(opened)}.`);
  else if (opened.still) say("A picture: no recurrence here. The table has its landmarks.");
  else say(`The film has ended: ${frames} frames, ${skipped(opened)}.`);
}

const skipped = ({ skipped }) => (skipped ? `${skipped} skipped` : "none skipped");

/** Shows a frame that is done. */
function show({ frame, result, index, milliseconds }) {
  view.show(frame, result.faces);
  met ||= result.faces.some(({ found }) => found);
  table.add(index, frame.time, result.faces);
  const points = (of) =>
    new Map(result.faces.filter((face) => of(face)).map((face) => [face.id, of(face)]));
  const mode = chosen("show");
  const main = flicker.main.add(
    points((face) => face.found?.points),
    frame.time,
  );
  const other = flicker.alone.add(
    points((face) => face.alone),
    frame.time,
  );
  clock.time = clock.offset + frame.time;
  if (mode === "both") meter.add(clock.time, { rwr: main, alone: other });
  else meter.add(clock.time, { [mode]: main });
  readout.count(result.milliseconds.all, milliseconds);
  write(result.faces, index + 1);
}

/** Writes the numbers, and says how many faces there are. */
function write(faces, frames) {
  const count = inWords(faces.filter(({ found }) => found).length);
  if (frames && document.body.dataset.state === "running") say(`Running: ${count}.`);
  if (frames) $("picture").setAttribute("aria-label", `${source.name}, ${count} with landmarks`);
  $("download").disabled = !table?.rows.length;
  meter.draw();
  const skipped = player?.source?.skipped ?? null;
  readout.write({ frames, skipped, model: models?.used ?? null, faces });
}

function download() {
  const address = URL.createObjectURL(new Blob([table.text()], { type: "text/csv" }));
  const name = `${source.name.replace(/\.\w+$/, "")}.csv`;
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
    turns++;
    player.stop();
    finish(camera, 1);
  } else {
    $("sample").value = "";
    play({
      open: Camera.open,
      name: "camera",
      live: true,
    });
  }
}

function openTheFile(file) {
  if (!player) return; // still loading
  $("sample").value = "";
  play({ open: () => openFile(file, file.name), name: file.name, caption: [file.name] });
}

function playSample(name) {
  const sample = SAMPLES[name];
  $("sample").value = name;
  loadSample(name);
  closeUp(sample.closeUp);
  return play({
    open: async () => openFile(new Blob([await samples[name]], { type: "video/mp4" }), sample.name),
    name: sample.name,
    caption: credit(sample),
    loop: true,
  });
}

const samples = {};

/** Loads a sample film, once. */
function loadSample(name) {
  samples[name] ??= asset(SAMPLES[name].file);
  samples[name].catch(() => delete samples[name]); // so that it is tried again
  return samples[name];
}

/** Takes another model, and shows what was shown with it. */
async function changeModel() {
  if (!player) return; // it is read when all is loaded
  const turn = ++turns;
  player.stop();
  say("Changing the model …");
  changed = models.use($("model").value).catch(complain);
  await changed;
  if (turn !== turns) return;
  if (source) play(source);
  else say("Ready.");
}

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
  $("model").addEventListener("change", changeModel);
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
  listenToKeys();
}

async function begin() {
  if (!WebAssembly.validate(new Uint8Array(SIMD))) throw new VisibleError(NO_SIMD);
  let bytes = 0;
  const progress = (more) => {
    bytes += more;
    $("curtain").textContent = `Loading … ${(bytes / 1e6).toFixed(0)} MB`;
  };
  $("curtain").textContent = $("status").textContent = "Loading …";
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
  flicker = {
    main: new Flicker(models.schema.eye_corners),
    alone: new Flicker(models.schema.eye_corners),
  };
  player = new Player(
    client,
    () => ({ show: chosen("show"), strength: Number(chosen("strength")) }),
    show,
  );
  view.panels = PANELS[chosen("show")];
  player.hurry = $("hurry").checked;
  $("curtain").textContent = "";
  for (const id of ["camera", "open", "sample"]) $(id).disabled = false;
  state("ready");
  say("Ready.");
  const rest = Promise.all([models.rest(), ...Object.keys(SAMPLES).map(loadSample)]).then(
    () => (document.body.dataset.loaded = "all"),
  );
  rest.catch((error) => console.warn(error)); // what is missing is asked for again when it is used
  const choice = $("model").value;
  if (models.meant(choice) !== models.used) {
    changed = rest.then(() => models.use(choice)).catch(() => {});
    await changed;
  }
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!turns && !calm) playSample("head");
}

prepareControls();
begin().catch((error) => {
  complain(error);
  $("curtain").textContent = "";
  say("The page cannot be used.");
  state("broken");
});
