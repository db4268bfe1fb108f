// Runs ONNX files with one package of node's, `onnxruntime-node` or `onnxruntime-web` (WASM).
//
//     node run_node.mjs onnxruntime-web CASES.json RESULTS.json
//
// The package is looked for from the current folder. Of each case it writes the outputs by name, or
// the error.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [name, cases, results] = process.argv.slice(2);
const ort = createRequire(process.cwd() + "/")(name);
const arrays = { float32: Float32Array, int32: Int32Array };
if (name === "onnxruntime-web") ort.env.wasm.numThreads = 1;

const found = [];
for (const { file, batches } of JSON.parse(readFileSync(cases, "utf8"))) {
  try {
    const session = await ort.InferenceSession.create(readFileSync(file));
    const answers = [];
    for (const batch of batches) {
      const inputs = {};
      for (const [key, { dtype, shape, values }] of Object.entries(batch))
        inputs[key] = new ort.Tensor(dtype, arrays[dtype].from(values), shape);
      const outputs = await session.run(inputs);
      const answer = {};
      for (const [key, { dims, data }] of Object.entries(outputs))
        answer[key] = { shape: [...dims], values: Array.from(data, Number) };
      answers.push(answer);
    }
    found.push({ batches: answers });
  } catch (error) {
    found.push({ error: String(error) });
  }
}
// JSON has no NaN: such a value becomes null, which is no number either.
writeFileSync(results, JSON.stringify(found));
process.exit(0);
