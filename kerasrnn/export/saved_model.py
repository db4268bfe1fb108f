"""Export to TensorFlow's SavedModel."""

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.export import parity, signature, tracing
from kerasrnn.export.kinds import SAVED_MODEL
from kerasrnn.export.parity import Check, Report, Run
from kerasrnn.keras_internals import attach
from kerasrnn.text.pieces import without_python
from kerasrnn.validation import NonNegativeNumber


@validation.checked
def to_saved_model(
    model: keras.Model,
    path: str | Path,
    check: Check = True,
    tolerance: NonNegativeNumber | None = None,
) -> Report:
    """Write a SavedModel, run it with TensorFlow only, and compare it with the model.

    It is run in a separate process, in which neither kerasrnn nor Keras can be imported. Batch and
    time stay dynamic if the model's are. Its single signature, `serving_default`, has the names of
    the model's inputs and outputs; its function `serve` takes and returns the model's structures.

    Args:
        model: a functional or Sequential model, or one of the zoo's models that take texts.
        path: the folder to write; an existing SavedModel, with nothing else in its folder, is
            replaced once the new one has been checked; any other folder is rejected.
        check: whether to compare on random inputs of several sizes and lengths, masked and
            unmasked; or batches of inputs, as passed to the model, which are compared in addition.
        tolerance: the largest difference accepted, relative to the output's largest absolute value
            if that is above 1. Default: 1e-5; for a model with layers of half precision 8 units in
            the last place of the coarsest, 0.0078 for float16 and 0.0625 for bfloat16.

    Returns:
        A `Report`.

    Raises:
        ParityError: the difference exceeds the tolerance. No file is written.
        ValueError: the model has no symbolic inputs, or is stateful; there are no inputs for the
            check; the backend is not TensorFlow.
        FileExistsError: `path` contains something else, or is the working folder or above it.
        OSError: it cannot be written.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.LSTM(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_saved_model(model, f"{folder}/model")
        >>> report.difference <= 1e-5
        True
    """

    def save(new: Path) -> None:
        with without_python(), tracing.for_export(model):
            _write(model, new)

    def runtime(new: Path) -> Run:
        names = {"inputs": signature.inputs(model)[0], "outputs": signature.output_names(model)}
        return functools.partial(_served, new, names)

    return parity.write(model, path, "SavedModel", SAVED_MODEL, check, tolerance, save, runtime)


def _write(model: keras.Model, path: Path) -> None:
    import tensorflow as tf

    specs, output_names = tracing.specs(model), signature.output_names(model)

    @tf.function(input_signature=[signature.packed(model, specs)], autograph=False)
    def serve(inputs: Any) -> Any:
        return model(inputs, training=False)

    def named(*inputs: Any) -> dict[str, Any]:
        outputs = keras.tree.flatten(serve(signature.packed(model, inputs)))
        return dict(zip(output_names, outputs, strict=True))

    archive = keras.export.ExportArchive()
    archive.track(model)  # its lookup tables
    archive.add_endpoint("serving_default", named, specs)
    # Not an endpoint of the archive, which would also get a signature, without names, and could not
    # return nested outputs.
    attach(archive, "serve", serve)
    archive.write_out(path, verbose=False)


def _served(
    model: Path, names: dict[str, list[str]], inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Run the signature `serving_default` in the other process."""
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("inputs.npz", "outputs.npz")]
        np.savez(files[0], *map(_storable, inputs))
        request = {"model": str(model.resolve()), "names": names, "files": files}
        process = _process()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            _process.cache_clear()
            raise parity.ParityError(
                f"the separate TensorFlow process ended with {process.wait()} on {model}."
            )
        error = json.loads(answer).get("error")
        if error is not None:
            raise parity.ParityError(
                f"TensorFlow without kerasrnn cannot run the SavedModel: {error}"
            )
        with np.load(files[1]) as file:
            return [file[name] for name in file]


def _storable(x: np.ndarray) -> np.ndarray:
    """Convert to an array that needs no pickling: texts to bytes, bfloat16 to float32."""
    if x.dtype.kind in "OU":
        return np.array([str(text).encode() for text in x.reshape(-1)]).reshape(x.shape)
    return x.astype("float32") if x.dtype.name == "bfloat16" else x


@functools.cache
def _process() -> subprocess.Popen:
    """Start the process once: importing TensorFlow takes seconds."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("_alone.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # The comparison runs on the CPU, even if the model is on an accelerator.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )

    def end() -> None:
        with contextlib.suppress(OSError):  # it may have ended before
            process.stdin.close()
        process.stdout.close()
        process.terminate()
        process.wait()

    atexit.register(end)
    return process
