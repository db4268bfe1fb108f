"""Runs SavedModels with TensorFlow alone; a program for a process of its own.

It imports no kerasrnn and no Keras, and could not. For each line of JSON that it reads, `{"model":
folder, "inputs": file, "outputs": file}`, it calls the model on the arrays of the one npz file and
writes what comes out to the other; it answers with `{}`, or with `{"error": ...}`.
"""

import json
import sys

for name in ("kerasrnn", "keras"):
    sys.modules[name] = None  # type: ignore[assignment]


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever else is printed
    import numpy as np
    import tensorflow as tf

    loaded = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["model"] not in loaded:
                loaded = {request["model"]: tf.saved_model.load(request["model"])}
            with np.load(request["inputs"]) as file:
                inputs = [tf.constant(file[name]) for name in file]
            outputs = loaded[request["model"]].serve(inputs if len(inputs) > 1 else inputs[0])
            arrays = [np.asarray(y) for y in tf.nest.flatten(outputs)]
            # Texts, as bytes: an array of objects could not be read without unpickling.
            np.savez(
                request["outputs"],
                *[y.astype("S") if y.dtype == object else y for y in arrays],
            )
            answer = {}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
