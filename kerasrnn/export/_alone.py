"""Runs SavedModels with TensorFlow only; a program for a separate process.

It neither imports nor can import kerasrnn or Keras. For each line of JSON that it reads, `{"model":
folder, "names": {"inputs": [...], "outputs": [...]}, "files": [npz, npz]}`, it calls the model's
signature on the arrays of the first file and writes its outputs to the second, both in the order of
their names; it responds with `{}`, or with `{"error": ...}`.
"""

import json
import sys

for name in ("kerasrnn", "keras"):
    sys.modules[name] = None  # type: ignore[assignment]


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # for anything else that is printed
    import numpy as np
    import tensorflow as tf

    def stored(y: tf.Tensor) -> np.ndarray:
        """Convert to an array that can be read without unpickling."""
        if y.dtype == tf.string:
            return y.numpy().astype("S")
        return tf.cast(y, tf.float32).numpy() if y.dtype == tf.bfloat16 else y.numpy()

    loaded = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["model"] not in loaded:
                loaded = {request["model"]: tf.saved_model.load(request["model"])}
            function = loaded[request["model"]].signatures["serving_default"]
            specs = {s.name: s for s in function.structured_input_signature[1].values()}
            names, (input_file, output_file) = request["names"], request["files"]
            with np.load(input_file) as file:
                arrays = zip(names["inputs"], [file[name] for name in file], strict=True)
                inputs = {
                    name: tf.cast(x, specs[name].dtype) if x.dtype.kind == "f" else tf.constant(x)
                    for name, x in arrays
                }
            outputs = function(**inputs)
            if set(outputs) != set(names["outputs"]):
                raise ValueError(f"outputs named {sorted(outputs)}; expected {names['outputs']}")
            np.savez(output_file, *[stored(outputs[name]) for name in names["outputs"]])
            answer = {}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
