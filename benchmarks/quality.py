"""What a recipe reaches: its variants, over several seeds, into `saved_models/<recipe>/`.

    python -m benchmarks.quality japanese_vowels --seeds 5

Each run keeps its folder below `--runs`; a finished one is not repeated, an interrupted one is
resumed.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from kerasrnn import recipes
from kerasrnn.recipes import cards
from kerasrnn.recipes.command import quietly_import_tensorflow
from kerasrnn.recipes.runs import Run, atomic


def main() -> None:
    """Train every variant with every seed, then write results and card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=recipes.NAMES)
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    parser.add_argument("--output", type=Path, default=Path("saved_models"))
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    quietly_import_tensorflow()
    from kerasrnn.recipes.training import train

    recipe = recipes.load(arguments.recipe)
    data = recipe.load(arguments.data_dir)
    folders: dict[str, list[Path]] = {}
    for name, overrides in recipe.variants.items():
        for seed in range(arguments.seeds):
            config = dataclasses.replace(recipe.Config(), seed=seed, **overrides)
            folder = arguments.runs / recipe.name / f"{name.replace(' ', '_')}-{seed}"
            if (folder / "config.json").is_file():
                run, kept = Run.open(recipe, folder)
                if kept != config:
                    parser.error(f"{folder} holds a run of another configuration; choose --runs")
            else:
                run = Run.create(recipe, config, folder)
            if not run.finished:
                train(recipe, config, run, data, verbose=0)
            value = run.read_json("metrics.json")[recipe.metric]
            print(f"{name}, seed {seed}: {recipe.metric} {value:.4f}", flush=True)
            folders.setdefault(name, []).append(folder)
    results = cards.collect(recipe, folders)
    command = f"python -m benchmarks.quality {recipe.name} --seeds {arguments.seeds}"
    place = arguments.output / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    with atomic(place / "results.json") as scratch:
        scratch.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    with atomic(place / "CARD.md") as scratch:
        scratch.write_text(cards.card(recipe, results, command))
    print((place / "CARD.md").read_text())


if __name__ == "__main__":
    main()
