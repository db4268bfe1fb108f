"""Copy a trained model from its run into `saved_models/<recipe>/`, where `zoo.load` finds it.

    python -m benchmarks.quality g2p --seeds 1 --variants Bahdanau
    python -m benchmarks.quality.publish_model g2p --run runs/quality/g2p/Bahdanau-0

The run must be of the variant that the recipe names as `published_variant`. The weights are rounded
to nine significant bits, which more than halves the size of the compressed file. The rounded Keras
model is evaluated again, and so are its ONNX files with int8 and with float32 weights. With
`--run saved_models/g2p`, a saved model is evaluated and exported again. With `--exports` instead,
only the exports are written again; the Keras model and its metrics stay.
"""

import argparse
import dataclasses
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kerasrnn import recipes
from kerasrnn.files import sha256
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.command import quietly_import_tensorflow
from kerasrnn.recipes.reporting import cards

LARGEST = 5_000_000
"""The largest size of a file, in bytes."""

LARGEST_CHANGE = 0.005
"""The largest acceptable relative change of the first metric by the int8 file."""

LARGEST_PART = 0.3
"""The largest acceptable size of the int8 file, as a fraction of the float32 file."""

COPIED = ("config.json", "environment.json", "metadata.json")
"""Files of the run that are copied unchanged."""

FEWEST = 1024
"""Tensors with fewer weights are not rounded."""


def main() -> None:
    """Round, evaluate, export and hash the model, then write its card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=recipes.NAMES)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run's folder")
    source.add_argument(
        "--exports", action="store_true", help="only write the exports of the saved model again"
    )
    parser.add_argument("--output", type=Path, default=Path("saved_models"))
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    quietly_import_tensorflow()

    recipe = recipes.load(arguments.recipe)
    place = Run(arguments.output / recipe.name)
    run, config = Run.open(recipe, arguments.run or place.folder)
    kept = recipe.variants.get(recipe.published_variant)
    if kept is None:
        raise SystemExit(f"{recipe.name} names no variant to publish")
    if config != dataclasses.replace(recipe.Config(), seed=config.seed, **kept):
        raise SystemExit(f"{run.folder} is not a run of the variant {recipe.published_variant!r}")
    data = recipe.load(config, arguments.data_dir)
    if arguments.run:
        _keep(recipe, run, data, config, place)
    files = [*COPIED, "model.keras", "metrics.json"]
    files += _export(recipe, place.load_model(), data, config, place)
    for old in place.folder.glob("*.onnx"):
        if old.name not in files:
            old.unlink()
    for name in files:
        size = place.path(name).stat().st_size
        print(f"{name}: {size:,} bytes")
        if size > LARGEST:
            raise SystemExit(f"{name} has {size:,} bytes; expected at most {LARGEST:,}")
    sums = "".join(f"{sha256(place.path(name))}  {name}\n" for name in sorted(files))
    place.path("SHA256SUMS").write_text(sums, encoding="utf-8")
    cards.write(recipe, place.folder)
    print(place.path("CARD.md").read_text(encoding="utf-8"))


def _keep(recipe: Recipe, run: Run, data: Data, config: Any, place: Run) -> None:
    """Write the rounded Keras model and its metrics."""
    place.folder.mkdir(parents=True, exist_ok=True)
    model = run.load_model()
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(rounded(np.asarray(weight)))
    save(model, place.path("model.keras"))
    for name in COPIED:
        if run.path(name) != place.path(name):
            shutil.copyfile(run.path(name), place.path(name))
    with tempfile.TemporaryDirectory() as scratch:
        metrics = recipe.evaluate(place.load_model(), data, config, Path(scratch))
    of_run = run.read_json("metrics.json")
    metrics |= {name: of_run[name] for name in ("parameters", "seconds", "epochs")}
    place.write_json("metrics.json", metrics)


def _export(recipe: Recipe, model: Any, data: Data, config: Any, place: Run) -> list[str]:
    """Write the ONNX file, in int8 if accurate and small enough, and the files that describe it.

    Returns:
        The names of the files: the vocabulary, if any, the ONNX file, and the metrics of both
        versions in `exports.json`.
    """
    from kerasrnn.export import to_int8, to_onnx
    from kerasrnn.export.onnx import runtime
    from kerasrnn.recipes.reporting import exporting

    files = []
    vocabulary = recipe.vocabulary(model, data.metadata)
    if vocabulary:
        place.write_json(exporting.VOCABULARY, vocabulary)
        files.append(exporting.VOCABULARY)
    name, (exported, batches) = next(iter(recipe.exports(model, data, config).items()))
    with tempfile.TemporaryDirectory() as scratch:
        original = to_onnx(exported, Path(scratch) / f"{name}.onnx", check=batches)
        small = to_int8(original.path, Path(scratch) / f"{name}.int8.onnx")
        arguments = (recipe, model, data, config, batches)
        exports = {
            key: {
                "bytes": report.bytes,
                **exporting.compared(runtime(report.path, exported), *arguments),
            }
            for key, report in (("float32", original), ("int8", small))
        }
        metric = next(metric for metric in recipe.card.metrics if metric in exports["int8"])
        change = abs(exports["int8"][metric] / exports["float32"][metric] - 1)
        serves = change <= LARGEST_CHANGE and small.bytes <= LARGEST_PART * original.bytes
        published = small if serves else original
        shutil.copyfile(published.path, place.path(published.path.name))
    place.write_json(
        "exports.json", {"file": published.path.name, "difference": original.difference, **exports}
    )
    return [*files, published.path.name, "exports.json"]


def rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 values to nine significant bits."""
    if values.size < FEWEST:
        return values
    spare = 23 - 8  # the first significant bit is implicit
    bits = np.ascontiguousarray(values).view("uint32").astype("uint64")
    bits = (bits + (1 << (spare - 1))) >> spare << spare
    return bits.astype("uint32").view("float32")


def save(model: Any, path: Path) -> None:
    """Save a compressed Keras file; Keras itself stores its parts uncompressed."""
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model.keras"
        model.save(saved)
        with (
            zipfile.ZipFile(saved) as read,
            # A sixth smaller than DEFLATE, and the best of the methods that every Python can read.
            zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2, compresslevel=9) as written,
        ):
            for name in read.namelist():
                # Without a timestamp, equal models give equal files.
                written.writestr(zipfile.ZipInfo(name), read.read(name), zipfile.ZIP_BZIP2)


if __name__ == "__main__":
    main()
