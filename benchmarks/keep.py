"""Keep a trained model: from a run's folder into `saved_models/<recipe>/`, which `zoo.load` reads.

    python -m benchmarks.quality g2p --seeds 1 --variants Bahdanau
    python -m benchmarks.keep g2p --run runs/quality/g2p/Bahdanau-0

The run is of the variant that the recipe names as `kept`. Weights are rounded to nine significant
bits, with which a compressed file is less than half as large, and what is kept is judged anew: the
Keras model, and its ONNX file with weights in eight bits beside the one with floats. With
`--run saved_models/g2p` what is kept is judged and exported again; with `--exports` instead the
Keras model and its metrics stay, as after a change of the exports alone.
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
from kerasrnn.recipes import cards
from kerasrnn.recipes.command import quietly_import_tensorflow
from kerasrnn.recipes.recipe import Data, Recipe
from kerasrnn.recipes.runs import Run, sha256

LARGEST = 5_000_000
"""Bytes of a file."""

LARGEST_CHANGE = 0.005
"""Of the first metric, relative, that a file in eight bits may make."""

LARGEST_PART = 0.3
"""Of the file of floats, that a file in eight bits may have."""

COPIED = ("config.json", "environment.json", "facts.json")
"""Of the run's files, those that are kept as they are."""

FEWEST = 1024
"""Weights of a tensor that is left as it is."""


def main() -> None:
    """Round, judge, export, hash; then write the card again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=recipes.NAMES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="the run's folder")
    what.add_argument("--exports", action="store_true", help="write what is kept's exports anew")
    parser.add_argument("--output", type=Path, default=Path("saved_models"))
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    quietly_import_tensorflow()

    recipe = recipes.load(arguments.recipe)
    place = Run(arguments.output / recipe.name)
    run, config = Run.open(recipe, arguments.run or place.folder)
    kept = recipe.variants.get(recipe.kept)
    if kept is None:
        raise SystemExit(f"{recipe.name} names no variant to be kept")
    if config != dataclasses.replace(recipe.Config(), seed=config.seed, **kept):
        raise SystemExit(f"{run.folder} is no run of the variant {recipe.kept!r}")
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
    """The Keras model, rounded, and its metrics."""
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
        metrics = recipe.judge(place.load_model(), data, config, Path(scratch))
    of_run = run.read_json("metrics.json")
    metrics |= {name: of_run[name] for name in ("parameters", "seconds", "epochs")}
    place.write_json("metrics.json", metrics)


def _export(recipe: Recipe, model: Any, data: Data, config: Any, place: Run) -> list[str]:
    """The ONNX file that serves, its figures beside those of the file of floats, and the numbers'
    meaning."""
    from kerasrnn.export import to_int8, to_onnx
    from kerasrnn.recipes import exporting

    files = []
    vocabulary = recipe.vocabulary(model, data.facts)
    if vocabulary:
        place.write_json(exporting.VOCABULARY, vocabulary)
        files.append(exporting.VOCABULARY)
    name, (exported, batches) = next(iter(recipe.exports(model, data, config).items()))
    with tempfile.TemporaryDirectory() as scratch:
        whole = to_onnx(exported, Path(scratch) / f"{name}.onnx", check=batches)
        small = to_int8(whole.path, Path(scratch) / f"{name}.int8.onnx")
        given = (recipe, model, data, config, exported, batches)
        found = {
            key: {"bytes": report.bytes, **exporting.compared(report.path, *given)}
            for key, report in (("float32", whole), ("int8", small))
        }
        metric = next(metric for metric in recipe.metrics if metric in found["int8"])
        change = abs(found["int8"][metric] / found["float32"][metric] - 1)
        serves = change <= LARGEST_CHANGE and small.bytes <= LARGEST_PART * whole.bytes
        kept = small if serves else whole
        shutil.copyfile(kept.path, place.path(kept.path.name))
    place.write_json(
        "exports.json", {"file": kept.path.name, "difference": whole.difference, **found}
    )
    return [*files, kept.path.name, "exports.json"]


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 with nine significant bits."""
    if values.size < FEWEST:
        return values
    spare = 23 - 8  # of the bits that are stored; the first one is not
    bits = np.ascontiguousarray(values).view("uint32").astype("uint64")
    bits = (bits + (1 << (spare - 1))) >> spare << spare
    return bits.astype("uint32").view("float32")


def save(model: Any, path: Path) -> None:
    """A Keras file, compressed; Keras leaves its parts as they are."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "model.keras"
        model.save(whole)
        with (
            zipfile.ZipFile(whole) as read,
            # A sixth smaller than DEFLATE's; of the methods that every Python reads, the best one.
            zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2, compresslevel=9) as written,
        ):
            for name in read.namelist():
                # With no time of its own, the same model is the same file.
                written.writestr(zipfile.ZipInfo(name), read.read(name), zipfile.ZIP_BZIP2)


if __name__ == "__main__":
    main()
