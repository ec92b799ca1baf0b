/**
 * Builds the page: dist/ for any static host, and dist/standalone.html, one file that also works
 * when it is opened from a disk.
 *
 *     node build.mjs
 *
 * build/models must hold the models, see export_models.py; `make web` does both.
 */

import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import * as esbuild from "esbuild";

const here = import.meta.dirname;
const at = (...parts) => path.join(here, ...parts);
const dist = at("dist");
const ORT = at("node_modules", "onnxruntime-web", "dist");
const EXAMPLES = at("..", "examples");

const MODELS = ["faces-68-tiny", "faces-68"].flatMap((name) =>
  ["manifest.json", "first.onnx", "next.onnx", "weights.bin"].map((part) => `${name}/${part}`),
);
/** What the page loads: its name beside the page, and where it is now. */
const FILES = {
  ...Object.fromEntries(MODELS.map((name) => [`models/${name}`, at("build", "models", name)])),
  "models/face_detector.onnx": at("build", "models", "face_detector.onnx"),
  "ort/ort-wasm-simd-threaded.wasm": path.join(ORT, "ort-wasm-simd-threaded.wasm"),
  "samples/intel_three_people_walking.mp4": path.join(EXAMPLES, "intel_three_people_walking.mp4"),
  "samples/intel_head_pose_male.mp4": path.join(
    EXAMPLES,
    "wflw_v",
    "videos",
    "intel_head_pose_male.mp4",
  ),
};

async function bundled(name, { standalone }) {
  const { outputFiles } = await esbuild.build({
    entryPoints: [at("src", name)],
    bundle: true,
    minify: true,
    write: false,
    // A page that is opened from a disk can start no modules as threads.
    format: standalone && name === "worker.js" ? "iife" : "esm",
    define: standalone ? { "import.meta.url": "self.location.href" } : {},
    target: "es2022",
    legalComments: "none",
    // The page that is one file has onnxruntime's loader within; else it is a file of its own, which
    // threads load too.
    conditions: standalone ? [] : ["onnxruntime-web-use-extern-wasm"],
    logLevel: "warning",
  });
  return outputFiles[0].text;
}

/** The rules by which the browser itself keeps the page from the network. */
function policy(rules) {
  const text = Object.entries(rules)
    .map(([name, value]) => `${name} ${value}`)
    .join("; ");
  return `<meta http-equiv="Content-Security-Policy" content="${text}" />`;
}

function filled(html, parts) {
  return Object.entries(parts).reduce(
    (text, [name, part]) => text.replace(`<!--${name}-->`, () => part),
    html,
  );
}

/** The licences of all that is in the page. */
function licences() {
  const packages = ["onnxruntime-web", "mediabunny"].map((name) => {
    const about = JSON.parse(fs.readFileSync(at("node_modules", name, "package.json")));
    const file = at("node_modules", name, "LICENSE");
    const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : MIT;
    return `${name} ${about.version}, ${about.license}, ${SOURCES[name]}\n\n${text}`;
  });
  const model = JSON.parse(fs.readFileSync(at("build", "models", "faces-68", "manifest.json")));
  return [
    "This page is part of ldeq_jax, under the Apache licence 2.0.\n\n" +
      fs.readFileSync(at("..", "LICENSE"), "utf8"),
    `The models faces-68 and faces-68-tiny: ${model.model.licence}.\n`,
    "The face detector YuNet:\n\n" +
      fs.readFileSync(at("build", "models", "face_detector_LICENSE"), "utf8"),
    "The sample films: from sample-videos by Intel IoT DevKit,\n" +
      "https://github.com/intel-iot-devkit/sample-videos, under CC BY 4.0,\n" +
      "https://creativecommons.org/licenses/by/4.0/, offered as-is and without warranties of any\n" +
      "kind. Changes: the animated GIF previews were re-encoded as H.264.\n",
    ...packages,
  ].join(`\n${"-".repeat(80)}\n\n`);
}

const SOURCES = {
  "onnxruntime-web": "https://github.com/microsoft/onnxruntime",
  mediabunny: "https://github.com/Vanilagy/mediabunny",
};
const MIT = `MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`;

function write(name, data) {
  fs.mkdirSync(path.dirname(path.join(dist, name)), { recursive: true });
  fs.writeFileSync(path.join(dist, name), data);
}

fs.rmSync(dist, { recursive: true, force: true });
const html = fs.readFileSync(at("src", "index.html"), "utf8");
const css = fs.readFileSync(at("src", "style.css"), "utf8");

write("page.js", await bundled("main.js", { standalone: false }));
write("worker.js", await bundled("worker.js", { standalone: false }));
write("style.css", css);
write("LICENCES.txt", licences());
for (const [name, file] of Object.entries(FILES)) write(name, fs.readFileSync(file));
write(
  "ort/ort-wasm-simd-threaded.mjs",
  fs.readFileSync(path.join(ORT, "ort-wasm-simd-threaded.mjs")),
);
write(
  "index.html",
  filled(html, {
    policy: policy({
      "default-src": "'none'",
      "script-src": "'self' 'wasm-unsafe-eval'",
      "worker-src": "'self' blob:",
      "connect-src": "'self'",
      "style-src": "'self'",
      "img-src": "data:",
      "media-src": "blob: mediastream:",
    }),
    style: '<link rel="stylesheet" href="style.css" />',
    files: "",
    script: '<script type="module" src="page.js"></script>',
  }),
);

const script = (text) => text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
const inside = Object.entries(FILES).map(([name, file]) => {
  const data = zlib.gzipSync(fs.readFileSync(file), { level: 9 }).toString("base64");
  return `<script type="text/plain" id="file:${name}">${data}</script>`;
});
inside.push(
  '<script type="text/plain" id="file:worker.js">' +
    `${script(await bundled("worker.js", { standalone: true }))}</script>`,
);
const texts = licences().replaceAll("&", "&amp;").replaceAll("<", "&lt;");
write(
  "standalone.html",
  filled(html, {
    policy: policy({
      "default-src": "'none'",
      "script-src": "'unsafe-inline' 'wasm-unsafe-eval' blob:",
      "worker-src": "blob:",
      "style-src": "'unsafe-inline'",
      "img-src": "data:",
      "media-src": "blob: mediastream:",
    }),
    style: `<style>${css}</style>`,
    files: inside.join("\n"),
    script: `<script type="module">${script(await bundled("main.js", { standalone: true }))}</script>`,
  }).replace(
    /<a id="licences"[^>]*>([^<]*)<\/a>\./,
    (_, title) => `</p><details><summary>${title}</summary><pre>${texts}</pre></details><p>`,
  ),
);

for (const name of ["index.html", "standalone.html"]) {
  const size = fs.statSync(path.join(dist, name)).size;
  console.log(
    `${path.join(path.relative(process.cwd(), dist), name)}: ${(size / 1e6).toFixed(2)} MB`,
  );
}
