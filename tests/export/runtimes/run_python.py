"""Runs ONNX files with one runtime, `onnxruntime` or `openvino`; for a process of its own.

    python run_python.py onnxruntime CASES.json RESULTS.json

It needs the runtime and numpy alone. Of each case it writes the outputs by name, or the error.
"""

import json
import sys

import numpy as np


def onnxruntime_runs(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def openvino_runs(path):
    import openvino

    # Otherwise it may compute in bfloat16, and quantizes the inputs of weights in eight bits.
    model = openvino.Core().compile_model(path, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})

    def run(inputs):
        return {output.get_any_name(): value for output, value in model(inputs).items()}

    return run


def main():
    runtime, cases, results = sys.argv[1:]
    load = {"onnxruntime": onnxruntime_runs, "openvino": openvino_runs}[runtime]
    with open(cases, encoding="utf-8") as file:
        cases = json.load(file)
    found = []
    for case in cases:
        try:
            run = load(case["file"])
            batches = []
            for batch in case["batches"]:
                inputs = {
                    name: np.array(x["values"], x["dtype"]).reshape(x["shape"])
                    for name, x in batch.items()
                }
                batches.append(
                    {
                        name: {"shape": list(y.shape), "values": y.ravel().tolist()}
                        for name, y in run(inputs).items()
                    }
                )
            found.append({"batches": batches})
        except Exception as error:
            found.append({"error": f"{type(error).__name__}: {error}"})
    with open(results, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
