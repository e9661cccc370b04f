// Runs an ONNX file at another program's word, as the bench program's `serve` does: one line of JSON out for every line in.
//
//     node onnx_step.js MODEL.onnx THREADS INPUTS.json
//
// INPUTS.json holds {name: {type, dims, file}}, the files raw values. "run" answers with the time of one run, "verify" with the output.
"use strict";
const fs = require("fs");
const readline = require("readline");
const { performance } = require("perf_hooks");
const ort = require("onnxruntime-node");

const TYPES = { float32: Float32Array, int64: BigInt64Array };

async function main([model, threads, inputs]) {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: Number(threads), interOpNumThreads: 1, graphOptimizationLevel: "all" });
  const feeds = {};
  for (const [name, { type, dims, file }] of Object.entries(JSON.parse(fs.readFileSync(inputs, "utf8")))) {
    if (session.inputNames.includes(name)) {
      const bytes = fs.readFileSync(file);
      feeds[name] = new ort.Tensor(type, new TYPES[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)), dims);
    }
  }
  console.log(JSON.stringify({ version: require("onnxruntime-node/package.json").version }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const start = performance.now();
    const { x_next: output } = await session.run(feeds);
    const ms = performance.now() - start;
    console.log(JSON.stringify(line.trim() === "verify" ? { x_next: Buffer.from(output.data.buffer, output.data.byteOffset, output.data.byteLength).toString("base64") } : { ms }));
  }
}

main(process.argv.slice(2)).catch((e) => {
  console.error(String(e && e.message || e));
  process.exit(1);
});
