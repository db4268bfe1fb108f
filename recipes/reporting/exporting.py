"""Export of a recipe's models to several formats, with verification: `kerasrnn export`."""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.export.formats import FORMATS, Format
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
        formats: names in `kerasrnn.export.formats`.
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
    wanted = [format for name, format in FORMATS.items() if name in formats]
    kinds = {f"{name}.{format.suffix}": format.kind for name in exports for format in wanted}
    if vocabulary:
        kinds[VOCABULARY] = WRITTEN
    lines = []
    with replacing_together(folder, kinds) as staged:
        if vocabulary:
            Run(staged).write_json(VOCABULARY, vocabulary, WRITTEN)
            lines.append(f"vocabulary of inputs and outputs: {folder / VOCABULARY}")
        trained = (recipe, model, data, config)
        lines += _written(trained, exports, staged, folder, wanted, tolerance)
    return lines


def _written(
    trained: tuple[Recipe, "keras.Model", Data, Config],
    exports: Mapping[str, tuple["keras.Model", Any]],
    staged: Path,
    folder: Path,
    formats: Sequence[Format],
    tolerance: float | None,
) -> list[str]:
    """Write all exports to a scratch folder; returns the lines about them in `folder`."""

    def line_of(report: "Report") -> str:
        return _line(dataclasses.replace(report, path=folder / report.path.name))

    lines = []
    first = next(iter(exports))
    for name, (exported, batches) in exports.items():
        texts = any(tensor.dtype == "string" for tensor in exported.inputs)
        options: dict[str, Any] = {"check": batches, "tolerance": tolerance}
        reports: dict[str, Report] = {}
        with tempfile.TemporaryDirectory() as scratch:
            for format in formats:
                # The models of the other formats take ids.
                if texts and not format.takes_text:
                    continue
                path = staged / f"{name}.{format.suffix}"
                if not format.source:
                    reports[format.name] = format.write(exported, path, **options)
                    lines.append(line_of(reports[format.name]))
                    continue
                source = FORMATS[format.source]
                if source.name not in reports:
                    unwanted = Path(scratch) / f"{name}.{source.suffix}"
                    reports[source.name] = source.write(exported, unwanted, **options)
                original = reports[source.name]
                converted = format.write(original.path, path)
                part = converted.bytes / original.bytes
                line = f"{line_of(converted)}: {part:.2f} of the size of the {original.format} file"
                if name == first:
                    files = (format, converted.path), (source, original.path)
                    results = [
                        compared(row.load(file, exported), *trained, batches) for row, file in files
                    ]
                    line += _compared(trained[0], *results, original.format)
                lines.append(line)
    return lines


def _is_vocabulary(path: Path) -> bool:
    """Whether a file was written by an earlier export."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and all(
        isinstance(entry, dict) and set(entry) <= ENTRIES | {"classes"}
        for entry in content.values()
    )


WRITTEN = Kind("a vocabulary of an export", _is_vocabulary)


def compared(
    run: Runtime, recipe: Recipe, model: "keras.Model", data: Data, config: Config, batches: Any
) -> dict[str, float]:
    """Evaluate an exported file: the test metrics, and the median `seconds` for one example.

    Args:
        run: runs the file of the recipe's first export.
        recipe: the recipe.
        model: the saved model.
        data: as returned by `recipe.load`.
        config: the run's configuration.
        batches: the batches for its verification.
    """
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


def _step(trained: "keras.Model") -> "keras.Model":
    from kerasrnn.export import to_step

    try:
        return to_step(trained)
    except ValueError as error:
        raise ConfigError(f"--step: {error}") from None


def _line(report: "Report") -> str:
    line = f"{report.format}: {report.path} ({report.bytes / 1024:.0f} KiB)"
    if report.difference is None:
        return line
    return (
        f"{line}; largest difference from the Keras model over "
        f"{counted(report.batches, 'batch', 'batches')}: "
        f"{report.difference:.1e}"
    )


def _compared(
    recipe: Recipe, converted: Mapping[str, float], original: Mapping[str, float], other: str
) -> str:
    """The results of a converted file, with those of the other one that it was made from."""
    from kerasrnn.recipes.reporting.cards import figure

    parts = [
        f"{name.replace('_', ' ')} {figure(converted[name])} ({other}: {figure(original[name])})"
        for name in recipe.card.metrics
        if name in converted
    ]
    times = (
        f"{converted['seconds'] * 1e3:.2f} ms for one example "
        f"({other}: {original['seconds'] * 1e3:.2f})"
    )
    return f"; {', '.join(parts)}; {times}"
