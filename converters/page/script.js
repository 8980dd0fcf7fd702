"use strict";
const $ = id => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const fromDisk = location.protocol === "file:";
const slots = ["first", "second"].map(id => ({ id, picture: undefined }));
let net;           // one of facts.nets, or somebody's own: {name, smallest, notice, bytes}
let ready;         // the worker's calls, once it runs
let loaded;        // the net that the worker holds
let running = false, again = false;

class Told extends Error {}   // words for whoever looks at the page

// --- the worker ------------------------------------------------------------------------------

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function script(address) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = address;
    element.onload = resolve;
    element.onerror = () => reject(new Told(`${address} cannot be loaded: keep the folder web/ beside this page`));
    document.head.append(element);
  });
}

async function started() {
  await script(facts.runtime);
  const { text, wasm } = globalThis.onnxruntimeWeb;
  const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
  const waiting = new Map();
  worker.onmessage = ({ data: { id, value, error } }) => {
    const [resolve, reject] = waiting.get(id);
    waiting.delete(id);
    error === undefined ? resolve(value) : reject(new Told(error));
  };
  worker.onerror = event => {
    for (const [, reject] of waiting.values()) reject(new Told(`this browser cannot run it: ${event.message || "no module workers"}`));
    waiting.clear();
  };
  let count = 0;
  const call = (name, given, moved = []) => new Promise((resolve, reject) => {
    waiting.set(++count, [resolve, reject]);
    worker.postMessage({ id: count, call: name, ...given }, moved);
  });
  const code = await unpacked(wasm);
  await call("start", { text: new TextDecoder().decode(await unpacked(text)), wasm: code }, [code]);
  return call;
}

// --- the net ---------------------------------------------------------------------------------

const listed = () => facts.nets[$("net").selectedIndex];

async function fetched(wanted) {
  const answer = await fetch(wanted.file).catch(() => null);
  if (!answer?.ok) throw new Told(`${wanted.file} cannot be loaded${answer ? `: ${answer.status} ${answer.statusText}` : ""}. Is it still beside this page?`);
  const parts = [];
  let done = 0;
  const reader = answer.body.getReader();
  for (let part; !(part = await reader.read()).done;) {
    parts.push(part.value);
    progress(`Loading ${wanted.name}: ${megabytes(done += part.value.length)} of ${megabytes(wanted.size)}`, done / wanted.size);
  }
  return new Blob(parts).arrayBuffer();
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;   // over plain http, but from this machine
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(digest)].map(b => b.toString(16).padStart(2, "0")).join("");
}

// A file that was chosen: one of this page's by its checksum, or somebody's own.
async function choose(file) {
  const bytes = await file.arrayBuffer();
  const digest = await sha256(bytes);
  const place = facts.nets.findIndex(each => each.sha256 === digest);
  if (place >= 0) $("net").selectedIndex = place;
  net = place >= 0 ? Object.assign(listed(), { bytes }) : { name: file.name, smallest: 1, notice: "", bytes };
  const known = place >= 0 ? "the file of this page, by its sha256"
    : digest ? "not a file of this page, by its sha256; it is tried all the same" : "its sha256 cannot be computed here";
  $("chosen").textContent = `${file.name}: ${known}`;
  $("chosen").hidden = false;
  tell();
  again = running;
  compare();
}

async function prepared() {
  if (loaded === net) return;
  if (!net.bytes) net.bytes = await fetched(net);
  if (net.sha256) {
    const digest = await sha256(net.bytes);
    if (digest && digest !== net.sha256) {
      net.bytes = undefined;
      throw new Told(`${net.name} is not the file of this page: its sha256 is ${digest}`);
    }
  }
  progress(`Preparing ${net.name}`);
  try {
    await ready("load", { model: net.bytes });
  } catch (error) {
    loaded = undefined;
    throw new Told(`${net.name} cannot be run: ${error.message}`);
  }
  loaded = net;
}

// --- the pictures ----------------------------------------------------------------------------

// Upright, colours as they are stored: no profile is applied, nothing is composited.
async function pixels(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options).catch(() => {
    throw new Told(`${file.name}: this browser cannot read it as a picture`);
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  let clear = false;
  for (let n = 3; n < data.length && !clear; n += 4) clear = data[n] < 255;
  return { data, width, height, clear };
}

function put(slot, file) {
  const box = $(slot.id);
  const image = box.querySelector("img");
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  box.classList.add("full");
  box.querySelector(".name").textContent = file.name;
  box.querySelector(".facts").textContent = "";
  const link = box.querySelector("a");
  link.hidden = true;
  slot.picture = { file, found: new Map() };
  again = running;
}

async function described(slot) {
  const picture = slot.picture, longest = Number($("longest").value), key = longest;
  if (picture.net !== net) { picture.net = net; picture.found.clear(); }
  if (!picture.found.has(key)) {
    const { data, width, height, clear } = await pixels(picture.file);
    const stop = clock(`Describing ${picture.file.name} on one processor core`);
    try {
      const given = { pixels: data, width, height, longest, smallest: net.smallest };
      picture.found.set(key, { ...await ready("describe", given, [data.buffer]), clear, from: { width, height } });
    } catch (error) {
      throw new Told(`${picture.file.name}: ${error.message}`);
    } finally {
      stop();
    }
  }
  const found = picture.found.get(key);
  if (slot.picture === picture) show(slot, found);
  return found;
}

function show(slot, found) {
  const box = $(slot.id), { from } = found;
  const smaller = from.width === found.width && from.height === found.height ? "as it is" : `made smaller from ${from.width} × ${from.height}`;
  box.querySelector(".facts").textContent = `${found.width} × ${found.height}, ${smaller}; ${found.seconds.toFixed(found.seconds < 1 ? 2 : 1)} s`
    + (found.clear ? "; it has transparent pixels, whose colours a browser does not keep" : "");
  const link = box.querySelector("a");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([npy(found.values)]));
  link.download = `${slot.picture.file.name}.npy`;
  link.hidden = false;
}

// NumPy's file format, version 1.0: float32 [1, D].
function npy(values) {
  let header = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, ${values.length}), }`;
  header = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = [0x93, ...[..."NUMPY"].map(c => c.charCodeAt(0)), 1, 0, header.length & 255, header.length >> 8];
  const file = new Uint8Array(start.length + header.length + 4 * values.length);
  file.set(start);
  file.set([...header].map(c => c.charCodeAt(0)), start.length);
  file.set(new Uint8Array(values.buffer, values.byteOffset, 4 * values.length), start.length + header.length);
  return file;
}

// --- the comparison --------------------------------------------------------------------------

async function compare() {
  if (running || !slots.every(slot => slot.picture)) return tell();
  if (!net) return tell();
  running = true;
  tell();
  $("result").hidden = true;
  fail("");
  do {
    again = false;
    try {
      progress("Starting ONNX Runtime");
      ready ||= await started();
      await prepared();
      const [a, b] = [await described(slots[0]), await described(slots[1])];
      if (!again) result(a, b);
    } catch (error) {
      if (!again) fail(error.message);
    }
  } while (again);
  running = false;
  progress("");
}

function result(a, b) {
  let sum = 0, dot = 0;
  a.values.forEach((x, n) => { sum += (x - b.values[n]) ** 2; dot += x * b.values[n]; });
  const distance = Math.sqrt(sum);
  $("distance").value = distance.toFixed(4);
  $("cosine").textContent = dot.toFixed(4);
  $("needle").style.left = `${Math.min(100, 50 * distance)}%`;
  $("notice").textContent = net.notice ? `This net: ${net.notice}.` : "";
  $("result").hidden = false;
  const row = $("earlier").tBodies[0].insertRow(0);
  for (const text of [...slots.map(slot => slot.picture.file.name), net.name, distance.toFixed(4)]) row.insertCell().textContent = text;
  $("log").hidden = $("earlier").tBodies[0].rows.length < 2;
}

// --- what it says ----------------------------------------------------------------------------

const megabytes = n => `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`;

function progress(text, share) {
  $("progress").hidden = !text;
  $("doing").textContent = text;
  const bar = $("bar");
  share === undefined ? bar.removeAttribute("value") : bar.value = share;
}

function clock(text) {
  const start = performance.now();
  const tick = () => progress(`${text}: ${Math.round((performance.now() - start) / 1000)} s`);
  tick();
  const timer = setInterval(tick, 1000);
  return () => clearInterval(timer);
}

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function tell() {
  const missing = slots.filter(slot => !slot.picture).length;
  $("ask").textContent = !net ? `Choose the net’s file first: ${listed()?.file ?? "an .onnx file"}, beside this page.`
    : missing ? `Now ${missing === 2 ? "two photographs" : "one more photograph"}.` : "";
  $("ask").hidden = !$("ask").textContent || running;
}

function take(files, slot) {
  const pictures = [...files].filter(file => !file.name.toLowerCase().endsWith(".onnx"));
  const model = [...files].find(file => file.name.toLowerCase().endsWith(".onnx"));
  const free = slot ? [slot, ...slots.filter(each => each !== slot)]
    : [...slots.filter(each => !each.picture), ...slots.filter(each => each.picture)];
  pictures.slice(0, 2).forEach((file, n) => put(free[n], file));
  model ? choose(model).catch(error => fail(error.message)) : compare();
}

function begin() {
  for (const slot of slots) {
    const box = $(slot.id), input = box.querySelector("input");
    input.onchange = () => { take(input.files, slot); input.value = ""; };
    box.ondragover = event => { event.preventDefault(); box.classList.add("over"); };
    box.ondragleave = () => box.classList.remove("over");
    box.ondrop = event => {
      event.preventDefault(); event.stopPropagation();
      box.classList.remove("over");
      take(event.dataTransfer.files, slot);
    };
  }
  ondragover = event => event.preventDefault();
  ondrop = event => { event.preventDefault(); take(event.dataTransfer.files); };
  $("model").onchange = () => {
    choose($("model").files[0]).catch(error => fail(error.message));
    $("model").value = "";
  };
  $("longest").onchange = () => { again = running; compare(); };
  $("net").onchange = () => {
    net = fromDisk ? undefined : listed();
    $("chosen").hidden = true;
    $("result").hidden = true;
    again = running;
    compare();
  };
  document.documentElement.classList.add(fromDisk ? "disk" : "served");
  if (!fromDisk) net = listed();
  $("own").open = fromDisk;
  tell();
}

if ($("facts")) begin();
