// Runs one ONNX file, beside the page so that it stays awake. Every call is answered under its id.
"use strict";
let ort, session, given;

const calls = {
  // ONNX Runtime from its text and its machine code; one thread, which needs no server's headers.
  async start({ text, wasm }) {
    ort = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1;
  },

  async load({ model }) {
    await session?.release();
    session = undefined;
    const found = await ort.InferenceSession.create(new Uint8Array(model));
    const inputs = found.inputMetadata;
    if (!found.outputNames.includes("descriptor") || inputs.length !== 1)
      throw new Error("it has no output “descriptor”, or more than one input: no NetVLAD of this project");
    const [batch, ...shape] = inputs[0].shape;
    const planes = shape[0] === 3 && shape[2] !== 3;
    const [height, width] = planes ? shape.slice(1) : shape;
    const fixed = typeof height === "number" && typeof width === "number";
    if (shape.length !== 3 || (typeof batch === "number" && batch !== 1))
      throw new Error(`it takes [${inputs[0].shape}], not one picture`);
    session = found;
    given = { name: inputs[0].name, type: inputs[0].type, planes, size: fixed && { height, width } };
  },

  // RGBA as decoded; smaller first if its longer side is above `longest`, as load_image does it.
  async describe({ pixels, width, height, longest, smallest }) {
    let size = given.size || { width, height };
    const side = Math.max(width, height);
    if (!given.size && longest && side > longest) {
      const scaled = n => Math.max(1, Math.floor((2 * n * longest + side) / (2 * side)));
      size = { width: scaled(width), height: scaled(height) };
    }
    if (Math.min(size.width, size.height) < smallest)
      throw new Error(`${size.width} × ${size.height} pixels; the net needs ${smallest} on either side`);
    const image = resized({ values: rgb(pixels), width, height }, size);
    const count = size.width * size.height;
    const values = given.type === "uint8" ? new Uint8Array(3 * count) : new Float32Array(3 * count);
    if (given.planes) for (let n = 0; n < 3 * count; n++) values[(n % 3) * count + Math.floor(n / 3)] = image[n];
    else values.set(image);
    const shape = given.planes ? [1, 3, size.height, size.width] : [1, size.height, size.width, 3];
    const started = performance.now();
    const tensor = new ort.Tensor(given.type, values, shape);
    const { descriptor } = await session.run({ [given.name]: tensor }, ["descriptor"]);
    return { ...size, values: Float32Array.from(descriptor.data), seconds: (performance.now() - started) / 1000 };
  },
};

// Without alpha; the colours below it stay.
function rgb(pixels) {
  const values = new Uint8Array(pixels.length / 4 * 3);
  for (let n = 0, m = 0; n < pixels.length; n += 4) {
    values[m++] = pixels[n]; values[m++] = pixels[n + 1]; values[m++] = pixels[n + 2];
  }
  return values;
}

// Pillow's bilinear filter, widened when shrinking: across, then down, each rounded to whole numbers,
// with weights in units of 2^-22 as there, so that it is the same to the bit.
const UNIT = 1 << 22;

function resized({ values, width, height }, to) {
  if (width !== to.width) values = along(values, width, to.width, height, 3, 3 * width, 3 * to.width);
  if (height !== to.height) values = along(values, height, to.height, to.width, 3 * to.width, 3, 3);
  return values;
}

// `lines` lines of `from` pixels become `to` long; `step` from pixel to pixel, `stride` from line to line.
function along(values, from, to, lines, step, stride, target) {
  const found = new Uint8Array(lines * to * 3);
  const scale = from / to, reach = Math.max(scale, 1);
  for (let n = 0; n < to; n++) {
    const centre = (n + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = [];
    for (let m = first; m < end; m++) weights.push(Math.max(0, 1 - Math.abs((m - centre + 0.5) / reach)));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = weights.map(weight => Math.floor(weight / sum * UNIT + 0.5));
    for (let line = 0; line < lines; line++)
      for (let c = 0; c < 3; c++) {
        let value = UNIT / 2;
        for (let m = first, at = line * stride + first * step + c; m < end; m++, at += step)
          value += values[at] * whole[m - first];
        found[line * target + n * step + c] = Math.min(255, Math.floor(value / UNIT));
      }
  }
  return found;
}

onmessage = async ({ data: { id, call, ...rest } }) => {
  try {
    postMessage({ id, value: await calls[call](rest) });
  } catch (error) {
    // Of what goes wrong in the machine code a bare number may arrive.
    const reason = typeof error === "number" ? "not enough memory, or not a file it can run" : `${error?.message ?? error}`;
    postMessage({ id, error: reason });
  }
};
