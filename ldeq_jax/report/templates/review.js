(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const windows = new Map(data.windows.map((one) => [one.id, one]));
  const $ = (id) => document.getElementById(id);
  const WORDS = ["keep", "drop", "easy", "hard", "none"];
  const HEAD = "id,choice,digest";
  const SLOW = 0.25;
  const FORGETS = "This browser keeps nothing when the page is closed: save your choices before that.";

  // What a person says of a window; "none": looked at and left as it is; absent: not looked at.
  const words = new Map();
  const applied = new Map(Object.entries(data.applied));
  const wordOf = (id) => words.get(id) || "";
  const isByHand = (word) => word !== "" && word !== "none";
  const outcome = (one, word = wordOf(one.id)) =>
    word === "drop" ? "dropped" : word === "keep" ? one.ranked : isByHand(word) ? word : one.decided;

  const FILTERS = [
    ["all", "all", () => true],
    ["kept", "kept", (one) => outcome(one) !== "dropped"],
    ["dropped", "dropped", (one) => outcome(one) === "dropped"],
    ["easy", "easy", (one) => outcome(one) === "easy"],
    ["hard", "hard", (one) => outcome(one) === "hard"],
    ["undecided", "undecided", (one) => !isByHand(wordOf(one.id))],
    ["unseen", "not looked at", (one) => !words.has(one.id)],
    ["by-hand", "decided by hand", (one) => isByHand(wordOf(one.id))],
  ];
  const ORDERS = [
    ["set", "as in labels.csv", null],
    ["disagreement", "most disagreement first", "disagreement"],
    ["worst", "worst frame first", "worst"],
    ["motion", "most motion first", "motion"],
    ["face", "largest face first", "face"],
  ];

  const state = { at: data.windows.length ? data.windows[0].id : null, filter: "all", order: "set", advance: true, playing: true, slow: false };
  let order = [];
  let others = {}; // entries of windows that are not on this page now
  let saved = null;
  const undos = [];

  // ---- What the browser keeps. An entry counts as long as the set has not been given another choice since.

  let storage = (() => {
    try {
      localStorage.setItem("ldeq", "");
      localStorage.removeItem("ldeq");
      return localStorage;
    } catch {
      return null;
    }
  })();

  function restore() {
    words.clear();
    for (const [id, word] of applied) words.set(id, word);
    let found = {};
    try {
      found = JSON.parse(storage.getItem(data.key)) || {};
    } catch {
      return; // nothing there, or it cannot be read
    }
    others = {};
    for (const [id, entry] of Object.entries(found.entries || {})) {
      const one = windows.get(id);
      if (!one || one.digest !== entry.digest) others[id] = entry;
      else if (entry.before !== (applied.get(id) || "")) continue;
      else if (WORDS.includes(entry.word)) words.set(id, entry.word);
      else words.delete(id);
    }
    saved = typeof found.saved === "string" ? found.saved : null;
    for (const name of Object.keys(state)) if (name in (found.state || {})) state[name] = found.state[name];
    if (!windows.has(state.at)) state.at = data.windows.length ? data.windows[0].id : null;
  }

  function keep() {
    const entries = { ...others };
    for (const { id, digest } of data.windows) {
      const before = applied.get(id) || "";
      if (wordOf(id) !== before) entries[id] = { word: wordOf(id), before, digest };
    }
    try {
      if (storage) storage.setItem(data.key, JSON.stringify({ entries, saved, state }));
    } catch {
      storage = null;
      say(FORGETS);
    }
  }

  // ---- Files.

  const decided = (map) => data.windows.filter(({ id }) => isByHand(map.get(id) || "")).map(({ id }) => `${id},${map.get(id)}`).join("\n");
  const unsaved = () => ![saved, decided(applied)].includes(decided(words));

  function toText() {
    const rows = data.windows.filter(({ id }) => words.has(id)).map(({ id, digest }) => `${id},${words.get(id)},${digest}`);
    const waiting = data.waiting.filter((row) => !words.has(row.split(",")[0])); // an ID has one choice
    return [HEAD, ...rows, ...waiting, ""].join("\n");
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([toText()], { type: "text/csv" }));
    link.download = "choices.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    saved = decided(words);
    keep();
    show();
    say(`Saved as choices.csv. To change the set: ${data.command}`);
  }

  function decode(buffer) {
    const bytes = new Uint8Array(buffer);
    const kind = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : "utf-8";
    return new TextDecoder(kind).decode(bytes);
  }

  function load(name, text) {
    const lines = text.split(/\r\n|\r|\n/).filter((line) => line.replace(/[,;\t ]/g, ""));
    const head = lines.shift() || "";
    const mark = [";", "\t"].find((one) => head.includes(one)) || ",";
    const cells = (line) => line.split(mark).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
    const names = cells(head.toLowerCase());
    const [id, word, digest] = HEAD.split(",").map((column) => names.indexOf(column));
    if (id < 0 || word < 0) {
      say(`${name} is no file of choices: its first line must be ${HEAD}`);
      return;
    }
    const before = [];
    const bad = [];
    const theirs = new Map();
    for (const line of lines) {
      const row = cells(line);
      const one = windows.get(row[id]);
      const said = (row[word] || "").toLowerCase();
      if (said === "") continue;
      const stranger = !one || (row[digest] && row[digest] !== one.digest);
      if (stranger || !WORDS.includes(said) || !may(one, said)) {
        bad.push(row[id]);
        continue;
      }
      before.push([row[id], wordOf(row[id])]);
      theirs.set(row[id], said);
      words.set(row[id], said);
    }
    if (before.length) undos.push({ rows: before, at: state.at });
    if (decided(theirs) === decided(words)) saved = decided(words);
    keep();
    list();
    show();
    const not = bad.length ? ` ${bad.length} are for windows that are not on this page, or cannot be read: ${bad.slice(0, 3).join(", ")}${bad.length > 3 ? " …" : ""}.` : "";
    say(`Loaded ${before.length} choices from ${name}.${not}`);
  }

  // ---- Choices.

  const may = (one, word) => one.labelled || word === "drop" || word === "none";

  function choose(word) {
    const one = windows.get(state.at);
    if (!one) return;
    if (!may(one, word)) {
      say("This window has no labels, so it cannot be kept.");
      return;
    }
    undos.push({ rows: [[one.id, wordOf(one.id)]], at: one.id });
    words.set(one.id, word);
    keep();
    changed(one.id);
    const becomes = word === "none" ? `as the rules say, ${outcome(one)}` : outcome(one);
    if (!(state.advance && move(1, true))) show();
    say(`${one.id}: ${becomes}.`);
  }

  function undo() {
    const last = undos.pop();
    if (!last) {
      say("Nothing to undo.");
      return;
    }
    for (const [id, word] of last.rows) {
      if (word) words.set(id, word);
      else words.delete(id);
    }
    state.at = last.at;
    keep();
    list();
    show();
    say(last.rows.length === 1 ? `${last.rows[0][0]}: undone.` : "Undone.");
  }

  // ---- From window to window.

  const matches = (one) => FILTERS.find(([name]) => name === state.filter)[2](one);

  function search(step, fits) {
    const from = order.findIndex((one) => one.id === state.at);
    for (let k = from + step; k >= 0 && k < order.length; k += step) if (fits(order[k])) return order[k];
    return null;
  }

  function goTo(id) {
    state.at = id;
    keep();
    show();
  }

  function look(id) {
    if (windows.has(id) && !words.has(id)) {
      words.set(id, "none");
      changed(id);
    }
  }

  function move(step, quiet = false) {
    if (step > 0) look(state.at);
    const one = search(step, matches);
    if (one) goTo(one.id);
    else if (!quiet) {
      keep();
      show();
      say(step > 0 ? "This is the last window of those shown." : "This is the first window of those shown.");
    }
    return Boolean(one);
  }

  function unseen() {
    look(state.at);
    const fits = (one) => !words.has(one.id) && matches(one);
    const one = search(1, fits) || order.find(fits);
    if (one) goTo(one.id);
    else {
      keep();
      show();
      say("You have looked at all windows of those shown.");
    }
  }

  function filterBy(name) {
    state.filter = name;
    keep();
    list();
    const one = windows.get(state.at);
    const first = one && matches(one) ? one : search(1, matches) || order.find(matches);
    if (first) state.at = first.id;
    keep();
    show();
    const count = order.filter(matches).length;
    say(`Shown: ${FILTERS.find(([one]) => one === name)[1]}, ${count} of ${order.length}.`);
  }

  // ---- What is seen.

  function element(tag, text, kind) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function say(text) {
    $("said").textContent = text;
  }

  const buttons = new Map();

  function mark(id) {
    const button = buttons.get(id);
    if (!button) return;
    const one = windows.get(id);
    const word = wordOf(id);
    button.className = `${words.has(id) ? "" : "new"} ${isByHand(word) ? "by-hand" : ""}`;
    button.lastChild.textContent = outcome(one);
    const said = [id, outcome(one), isByHand(word) ? "by hand" : "", words.has(id) ? "" : "not looked at"];
    button.setAttribute("aria-label", said.filter(Boolean).join(", "));
    button.title = id;
    if (id === state.at) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  function list() {
    const by = ORDERS.find(([name]) => name === state.order)[2];
    const value = (one) => (one[by] === null ? Infinity : one[by]);
    order = by ? [...data.windows].sort((one, other) => (value(other) > value(one) ? 1 : value(other) < value(one) ? -1 : 0)) : data.windows;
    buttons.clear();
    const items = order.filter(matches).map((one) => {
      const item = element("li");
      const button = element("button");
      button.type = "button";
      const name = element("b");
      const inner = element("bdi", one.id); // its end is what tells windows of a film apart
      name.append(inner);
      button.append(name, element("i"));
      button.addEventListener("click", () => {
        goTo(one.id);
        $("content").focus(); // which also scrolls there
      });
      item.append(button);
      buttons.set(one.id, button);
      return item;
    });
    $("list").replaceChildren(...(items.length ? items : [element("li", "No window is like that.", "empty")]));
    for (const id of buttons.keys()) mark(id);
  }

  function changed(id) {
    if (state.filter === "all") mark(id);
    else list(); // it may be in or out now
  }

  let shown = null;

  function tag(kind) {
    return element("span", kind, `tag ${kind}`);
  }

  function show() {
    const before = shown;
    const one = windows.get(state.at);
    const counts = { easy: 0, hard: 0, dropped: 0 };
    for (const other of data.windows) counts[outcome(other)] += 1;
    const byHand = data.windows.filter(({ id }) => isByHand(wordOf(id))).length;
    $("count").textContent =
      `${words.size} of ${windows.size} looked at · ${byHand} decided by hand${unsaved() ? ", not saved" : ""} · ` +
      `now ${counts.easy} easy, ${counts.hard} hard, ${counts.dropped} dropped`;
    $("filter").value = state.filter;
    $("order").value = state.order;
    $("advance").checked = state.advance;
    $("undo").disabled = !undos.length;
    for (const part of document.querySelectorAll(".decide, .seen, .heading button")) part.hidden = !one;
    if (!one) {
      $("name").textContent = "The set has no windows";
      return;
    }
    $("name").textContent = one.id;
    const some = order.filter(matches);
    const number = some.indexOf(one) + 1;
    $("place").textContent = number ? `${number} of ${some.length}${state.filter === "all" ? "" : " shown"}` : "";
    const word = wordOf(one.id);
    const verdict = ["The rules say ", tag(one.decided)];
    if (one.faults) verdict.push(`: ${one.faults}.`);
    if (isByHand(word)) verdict.push(" You say ", element("strong", word), ", so it is ", tag(outcome(one)), ".");
    $("verdict").replaceChildren(...verdict);
    for (const button of document.querySelectorAll("[data-choice]")) {
      const said = button.dataset.choice;
      button.setAttribute("aria-pressed", String(said === word));
      button.disabled = !may(one, said);
    }
    if (before !== one.id) {
      shown = one.id;
      figures(one);
      pictures(one);
      if (before) mark(before);
    }
    mark(one.id);
    const current = buttons.get(one.id);
    if (current) {
      const box = current.closest("nav");
      const top = current.offsetTop - box.offsetTop;
      if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 40) box.scrollTop = top - box.clientHeight / 2;
    }
  }

  function percentile(one, name) {
    const values = data.windows.map((other) => other[name]).filter((value) => value !== null);
    if (values.length < 5) return "";
    return ` more than ${Math.round((100 * values.filter((value) => value < one[name]).length) / values.length)} % of all`;
  }

  function figures(one) {
    const rows = [];
    const add = (name, text, more = "") => {
      const group = element("div");
      const value = element("dd", text);
      if (more) value.append(element("small", more));
      if (name === "Film") group.className = "film";
      group.append(element("dt", name), value);
      rows.push(group);
    };
    if (one.labelled) {
      add("Disagreement", `${one.disagreement.toFixed(2)} %`, percentile(one, "disagreement"));
      add("Worst frame", `${one.worst.toFixed(2)} %`, ` frame ${one.worstFrame}`);
      add("Motion", `${one.motion.toFixed(2)} %`, percentile(one, "motion"));
      add("Face", `${Math.round(one.face)} px`, ` where it is smallest; video ${one.width}\u00a0×\u00a0${one.height}`);
      add("Brightness", `${Math.round(one.brightness)}`, " of 255");
    }
    add("Lost", one.lost || "in no frame by no member");
    add("Length", `${one.frames} frames`, ` ${one.seconds.toFixed(1)} s at ${one.fps.toFixed(1)} per second`);
    add("Starts", `${one.start.toFixed(1)} s`, ` frame ${one.startFrame}, face ${one.person}`);
    add("Film", one.film);
    $("figures").replaceChildren(...rows);
  }

  const clip = $("clip");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  function pictures(one) {
    $("broken").hidden = Boolean(one.clip);
    $("broken").textContent = one.broken;
    $("sheet").classList.remove("full");
    $("sheet").hidden = clip.hidden = !one.clip;
    curve(one);
    clip.pause();
    if (!one.clip) {
      clip.removeAttribute("src");
      return;
    }
    $("sheet").src = one.sheet;
    $("sheet").alt = `Contact sheet of ${one.id}: faces with their labels`;
    clip.setAttribute("aria-label", `Clip of ${one.id}: the face with its labels`);
    clip.classList.remove("bare");
    clip.preload = "auto";
    clip.src = one.clip;
    clip.playbackRate = clip.defaultPlaybackRate = state.slow ? SLOW : 1;
    if (state.playing && !calm) clip.play().catch(() => {});
    const after = search(1, matches);
    if (after && after.sheet) new Image().src = after.sheet;
  }

  function curve(one) {
    const values = one.curve;
    const box = $("curve");
    box.replaceChildren();
    if (!values) return;
    const { limit } = data;
    const top = Math.max(1.15 * Math.max(...values), 0.4 * limit, 1e-6);
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", `0 0 ${values.length} 1`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `Disagreement over time, greatest in frame ${one.worstFrame}: ${one.worst.toFixed(1)} %`);
    const line = (kind, tagName, attributes) => {
      const made = document.createElementNS(space, tagName);
      made.setAttribute("class", kind);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      svg.append(made);
    };
    line("values", "path", { d: "M" + values.map((value, k) => `${k + 0.5} ${1 - value / top}`).join("L") });
    if (limit < top) line("limit", "line", { x1: 0, x2: values.length, y1: 1 - limit / top, y2: 1 - limit / top });
    line("now", "line", { x1: 0, x2: 0, y1: 0, y2: 1 });
    box.append(svg, element("span", `disagreement in each frame, up to ${Math.max(...values).toFixed(1)} %`));
  }

  const frameNow = (one) => Math.min(one.frames - 1, Math.floor(clip.currentTime * one.fps + 0.01));

  function seek(index) {
    const one = windows.get(state.at);
    if (!one || !one.clip) return;
    clip.pause();
    state.playing = false;
    clip.currentTime = (Math.max(0, Math.min(one.frames - 1, index)) + 0.5) / one.fps;
  }

  function follow() {
    const now = $("curve").querySelector(".now");
    if (now && windows.has(state.at)) {
      const x = String(frameNow(windows.get(state.at)) + 0.5);
      if (now.getAttribute("x1") !== x) {
        now.setAttribute("x1", x);
        now.setAttribute("x2", x);
      }
    }
    requestAnimationFrame(follow);
  }

  function play() {
    state.playing = clip.paused;
    if (clip.paused) clip.play().catch(() => {});
    else clip.pause();
    keep();
  }

  function slow() {
    state.slow = !state.slow;
    clip.playbackRate = clip.defaultPlaybackRate = state.slow ? SLOW : 1;
    keep();
    say(state.slow ? `Slow motion, ${SLOW} of the speed.` : "Usual speed.");
  }

  // ---- Keys and buttons.

  const here = () => windows.get(state.at);
  const KEYS = {
    k: () => choose("keep"),
    d: () => choose("drop"),
    e: () => choose("easy"),
    h: () => choose("hard"),
    n: () => choose("none"),
    u: undo,
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    g: unseen,
    " ": play,
    ",": () => here() && seek(frameNow(here()) - 1),
    ".": () => here() && seek(frameNow(here()) + 1),
    x: () => clip.classList.toggle("bare"),
    w: () => here() && seek(here().worstFrame),
    v: slow,
    z: () => $("sheet").classList.toggle("full"),
    s: save,
    l: () => $("file").click(),
    "?": () => $("help").showModal(),
  };
  FILTERS.forEach(([name], k) => (KEYS[String(k + 1)] = () => filterBy(name)));

  document.addEventListener(
    "keydown",
    (event) => {
      if ($("help").open) return;
      const { target } = event;
      const command = event.ctrlKey || event.metaKey;
      const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (event.altKey || (command && !["s", "z"].includes(letter)) || event.isComposing) return;
      const inSelect = target.matches("select, input:not([type=checkbox])");
      const pressing = letter === " " && target.matches("button, input, summary, a");
      const scrolling = letter.startsWith("Arrow") && target.matches(".wide");
      if (inSelect || pressing || scrolling) return;
      const action = command ? { s: save, z: undo }[letter] : KEYS[letter];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      if (!event.repeat || ["ArrowRight", "ArrowLeft", ",", "."].includes(letter)) action();
    },
    true, // before the player, which has keys of its own
  );

  for (const [id, action] of Object.entries({ previous: () => move(-1), next: () => move(1), unseen, save, undo, load: KEYS.l, explain: KEYS["?"], sheet: KEYS.z })) {
    $(id).addEventListener("click", action);
  }
  for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => choose(button.dataset.choice));
  for (const [id, rows] of [["filter", FILTERS], ["order", ORDERS]]) {
    $(id).append(...rows.map(([value, text]) => Object.assign(element("option", text), { value })));
  }
  $("filter").addEventListener("change", (event) => {
    filterBy(event.target.value);
    event.target.blur(); // so that the keys are those of the page again
  });
  $("order").addEventListener("change", (event) => {
    state.order = event.target.value;
    keep();
    list();
    show();
    event.target.blur();
  });
  $("advance").addEventListener("change", (event) => {
    state.advance = event.target.checked;
    keep();
  });
  $("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    load(file.name, decode(await file.arrayBuffer()));
    event.target.value = "";
  });
  $("curve").addEventListener("click", (event) => {
    const box = $("curve").getBoundingClientRect();
    if (here()) seek(Math.floor(((event.clientX - box.left) / box.width) * here().frames));
  });
  clip.addEventListener("error", () => {
    if (!clip.hasAttribute("src")) return;
    $("broken").hidden = false;
    $("broken").textContent = "This browser cannot play the clip, or the folder review is not beside this page.";
  });
  window.addEventListener("beforeunload", (event) => {
    if (!unsaved()) return;
    event.preventDefault();
    event.returnValue = "";
  });
  window.addEventListener("storage", (event) => {
    if (event.key !== data.key) return; // another tab with this page
    const { at } = state;
    restore();
    state.at = at;
    list();
    show();
  });

  restore();
  list();
  show();
  follow();
  if (!storage) say(FORGETS);
})();
