"""Train the variants of a recipe over several seeds, and write its results and its card.

    python -m benchmarks.quality japanese_vowels --seeds 5

Each run has its folder below `--runs`; finished runs are not repeated, and interrupted runs are
resumed. The results go to `saved_models/<recipe>/`.
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.files import replacing
from kerasrnn.recipes.base.config import Config
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.command import quietly_import_tensorflow
from kerasrnn.recipes.reporting import cards


def main() -> None:
    """Train every variant with every seed, then write the results and the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=recipes.NAMES)
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of seeds (default: %(default)s)"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help="variants to train (default: all of the recipe)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    parser.add_argument("--output", type=Path, default=Path("saved_models"))
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    for name in arguments.variants or ():
        if name not in recipes.load(arguments.recipe).variants:
            variants = ", ".join(map(repr, recipes.load(arguments.recipe).variants))
            parser.error(f"--variants {name!r}: expected some of {variants}")
    quietly_import_tensorflow()

    recipe = recipes.load(arguments.recipe)
    chosen = arguments.variants or list(recipe.variants)
    folders: dict[str, list[Path]] = {}
    for name, overrides in recipe.variants.items():
        place = arguments.runs / recipe.name
        stem = re.sub(r"\W+", "_", name)
        if name in chosen:
            for seed in range(arguments.seeds):
                config = dataclasses.replace(recipe.Config(), seed=seed, **overrides)
                _train(recipe, config, place / f"{stem}-{seed}", arguments.data_dir)
        # Variants that were not requested keep the results of their existing runs.
        finished = [path.parent for path in sorted(place.glob(f"{stem}-*/metrics.json"))]
        finished = [path for path in finished if re.fullmatch(rf"{stem}-\d+", path.name)]
        if finished:
            folders[name] = finished
    results = cards.collect(recipe, folders)
    place = arguments.output / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    if (place / "results.json").is_file():
        # Earlier results remain until they are measured again.
        old = json.loads((place / "results.json").read_text())
        for part in ("variants", "pictures"):
            results[part] = {**old.get(part, {}), **results.get(part, {})}
    _write(place, results)
    drawn = dict(recipe.compare(folders, place))
    _write(place, {**results, "pictures": {**results.get("pictures", {}), **drawn}})
    cards.write(recipe, place)
    print((place / "CARD.md").read_text())


def _write(place: Path, results: dict[str, Any]) -> None:
    with replacing(place / "results.json") as scratch:
        scratch.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def _train(recipe: Recipe, config: Config, folder: Path, data_dir: str | None) -> None:
    from kerasrnn.recipes.training import train
    from kerasrnn.training.progress import Progress

    if (folder / "config.json").is_file():
        run, kept = Run.open(recipe, folder)
        if kept != config:
            raise SystemExit(
                f"{folder} holds a run with another configuration; choose another --runs"
            )
    else:
        run = Run.create(recipe, config, folder)
    if not run.finished:
        train(recipe, config, run, recipe.load(config, data_dir), progress=Progress("lines"))
    metrics = run.read_json("metrics.json")
    known = [metric for metric in recipe.card.metrics if metric in metrics]
    figures = ", ".join(f"{metric} {cards.figure(metrics[metric])}" for metric in known)
    print(f"{folder.name}: {figures} in {metrics['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
