"""Export of a recipe's models to several formats, with verification: `kerasrnn export`."""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.files import Kind, replacing_together
from kerasrnn.recipes.base.config import Config, ConfigError
from kerasrnn.recipes.base.recipe import Data, Recipe, Runtime
from kerasrnn.recipes.base.runs import Run
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras

    from kerasrnn.export import Report

VOCABULARY = "vocabulary.json"
ENTRIES = {"symbols", "cut", "lower", "strip_punctuation", "scores", "separator", "start", "end"}
"""The keys of an input or output in `VOCABULARY`, besides `classes`: see docs/export.md."""

PACKAGES = {
    "saved_model": (),
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "onnx_int8": ("onnx", "tf2onnx", "onnxruntime"),
    "litert": ("ai_edge_litert",),
}


SUFFIXES = {
    "saved_model": "saved_model",
    "onnx": "onnx",
    "onnx_int8": "int8.onnx",
    "litert": "tflite",
}


def check_packages(formats: Sequence[str]) -> None:
    """Raise ModuleNotFoundError, naming what to install, before any work is done."""
    from kerasrnn.export import parity

    for format in formats:
        for package in PACKAGES[format]:
            parity.require(package, format.removesuffix("_int8"))


def export(
    recipe: Recipe,
    model: "keras.Model",
    data: Data,
    config: Config,
    folder: Path,
    formats: Sequence[str],
    step: bool = False,
    tolerance: float | None = None,
) -> list[str]:
    """Export a run's models, together with a file that explains their ids.

    No file is moved into place before all have been written and verified.

    Args:
        recipe: the run's recipe.
        model: the saved model.
        data: as returned by `recipe.load`.
        config: the run's configuration.
        folder: the output folder.
        formats: keys of `PACKAGES`.
        step: whether to export the single-step model, too.
        tolerance: the largest accepted difference; None: the exporters' default.

    Returns:
        A line of text for each file.

    Raises:
        ConfigError: `step` is set for a model without a single-step form.
        OccupiedError: `folder` has another file under one of the names.
        WriteError: `folder` cannot be written.
        ParityError: a file does not reproduce the model's outputs; nothing is left behind.
    """
    exports = dict(recipe.exports(model, data, config))
    if step and "step" not in exports:
        exports["step"] = (_step(recipe.trained_model(model)), True)
    vocabulary = recipe.vocabulary(model, data.metadata)
    kinds = {f"{name}.{SUFFIXES[format]}": _kind(format) for name in exports for format in formats}
    if vocabulary:
        kinds[VOCABULARY] = WRITTEN
    lines = []
    with replacing_together(folder, kinds) as staged:
        if vocabulary:
            Run(staged).write_json(VOCABULARY, vocabulary, WRITTEN)
            lines.append(f"vocabulary of inputs and outputs: {folder / VOCABULARY}")
        given = (recipe, model, data, config)
        lines += _written(given, exports, staged, folder, formats, tolerance)
    return lines


def _written(
    given: tuple[Recipe, "keras.Model", Data, Config],
    exports: Mapping[str, tuple["keras.Model", Any]],
    staged: Path,
    folder: Path,
    formats: Sequence[str],
    tolerance: float | None,
) -> list[str]:
    """Write all exports to a scratch folder; returns the lines about them in `folder`."""
    from kerasrnn.export import to_int8, to_litert, to_onnx, to_saved_model

    def told(report: "Report") -> str:
        return _told(dataclasses.replace(report, path=folder / report.path.name))

    lines = []
    first = next(iter(exports))
    for name, (exported, batches) in exports.items():
        texts = any(tensor.dtype == "string" for tensor in exported.inputs)
        # Neither ONNX nor LiteRT has text operators: their models take ids.
        wanted = set(formats) & {"saved_model"} if texts else set(formats)
        options: dict[str, Any] = {"check": batches, "tolerance": tolerance}
        if "saved_model" in wanted:
            lines.append(told(to_saved_model(exported, staged / f"{name}.saved_model", **options)))
        if wanted & {"onnx", "onnx_int8"}:
            with tempfile.TemporaryDirectory() as scratch:
                place = staged if "onnx" in wanted else Path(scratch)
                whole = to_onnx(exported, place / f"{name}.onnx", **options)
                if "onnx" in wanted:
                    lines.append(told(whole))
                if "onnx_int8" in wanted:
                    small = to_int8(whole.path, staged / f"{name}.int8.onnx")
                    line = f"{told(small)}: {small.bytes / whole.bytes:.2f} of the file of floats"
                    if name == first:
                        paths = {"eight bits": small.path, "floats": whole.path}
                        found = {
                            key: compared(path, *given, exported, batches)
                            for key, path in paths.items()
                        }
                        line += _beside(given[0], found)
                    lines.append(line)
        if "litert" in wanted:
            lines.append(told(to_litert(exported, staged / f"{name}.tflite", **options)))
    return lines


def _kind(format: str) -> Kind:
    from kerasrnn.export.litert import LITERT_FILE
    from kerasrnn.export.onnx import ONNX_FILE
    from kerasrnn.export.saved_model import SAVED_MODEL

    return {"saved_model": SAVED_MODEL, "litert": LITERT_FILE}.get(format, ONNX_FILE)


def _is_vocabulary(path: Path) -> bool:
    """Whether a file was written by an earlier export."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and all(
        isinstance(entry, dict) and set(entry) <= ENTRIES | {"classes"} for entry in found.values()
    )


WRITTEN = Kind("a vocabulary of an export", _is_vocabulary)


def compared(
    path: Path,
    recipe: Recipe,
    model: "keras.Model",
    data: Data,
    config: Config,
    exported: "keras.Model",
    batches: Any,
) -> dict[str, float]:
    """Evaluate an ONNX file: the test metrics, and the median `seconds` for one example.

    Args:
        path: the file of the recipe's first export.
        recipe: the recipe.
        model: the saved model.
        data: as returned by `recipe.load`.
        config: the run's configuration.
        exported: the first of the recipe's exports.
        batches: the batches for its verification.
    """
    run = onnx_runtime(path, exported)
    with tempfile.TemporaryDirectory() as scratch:
        metrics = recipe.evaluate_exported(run, model, data, config, Path(scratch))
    one = batches[0] if isinstance(batches[0], (list, tuple)) else [batches[0]]
    one = [x[:1] for x in one]
    run(one)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        run(one)
        seconds.append(time.perf_counter() - start)
    known = {name: metrics[name] for name in recipe.card.metrics if name in metrics}
    return {**known, "seconds": statistics.median(seconds)}


def onnx_runtime(path: Path, exported: "keras.Model") -> Runtime:
    """Run onnxruntime on the inputs of an exported model, in their order."""
    import onnxruntime

    from kerasrnn.keras_internals import operation_of

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kinds = {tensor.name: tensor.type for tensor in session.get_inputs()}
    types = {"tensor(int32)": "int32", "tensor(float)": "float32"}
    names = [operation_of(tensor).name for tensor in exported.inputs]

    def run(inputs: Sequence[Any]) -> Any:
        given = zip(names, inputs, strict=True)
        return session.run(None, {n: x.astype(types.get(kinds[n], x.dtype)) for n, x in given})

    return run


def _step(trained: "keras.Model") -> "keras.Model":
    from kerasrnn.export import to_step

    try:
        return to_step(trained)
    except ValueError as error:
        raise ConfigError(f"--step: {error}") from None


def _told(report: "Report") -> str:
    line = f"{report.format}: {report.path} ({report.bytes / 1024:.0f} KiB)"
    if report.difference is None:
        return line
    return (
        f"{line}; largest difference from the Keras model over "
        f"{counted(report.batches, 'batch', 'batches')}: "
        f"{report.difference:.1e}"
    )


def _beside(recipe: Recipe, found: dict[str, dict[str, float]]) -> str:
    from kerasrnn.recipes.reporting.cards import figure

    small, whole = found["eight bits"], found["floats"]
    parts = [
        f"{name.replace('_', ' ')} {figure(small[name])} (floats: {figure(whole[name])})"
        for name in recipe.card.metrics
        if name in small
    ]
    times = (
        f"{small['seconds'] * 1e3:.2f} ms for one example (floats: {whole['seconds'] * 1e3:.2f})"
    )
    return f"; {', '.join(parts)}; {times}"
