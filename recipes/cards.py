"""Cards: what a recipe reaches, written from the files of its runs and never by hand."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrnn.recipes.recipe import Recipe
from kerasrnn.recipes.runs import Run, RunError


def collect(recipe: Recipe, folders: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """The results of finished runs, by the variant that they are of.

    Raises:
        RunError: a run is unfinished, or the runs of a variant differ in more than their seeds.
    """
    variants = {}
    environments = []
    for name, of_variant in folders.items():
        configs, metrics = [], []
        for folder in of_variant:
            run, _ = Run.open(recipe, folder)
            configs.append(run.read_json("config.json")["config"])
            metrics.append(run.read_json("metrics.json"))
            environments.append(run.read_json("environment.json"))
        common = [{k: v for k, v in config.items() if k != "seed"} for config in configs]
        if any(config != common[0] for config in common):
            raise RunError(f"the runs of {name} differ in more than their seeds.")
        variants[name] = {
            "config": common[0],
            "seeds": [config["seed"] for config in configs],
            "metrics": metrics,
        }
    return {"recipe": recipe.name, "variants": variants, "environment": environments[-1]}


def card(recipe: Recipe, results: Mapping[str, Any], command: str) -> str:
    """The card, in Markdown."""
    metric = recipe.metric.replace("_", " ")
    header = f"| model | {metric}: median | lowest | highest | parameters | seconds of training |"
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.title}. Topology: {recipe.topology}; dataset: `{recipe.dataset}`.",
        "",
        header,
        "|---|---|---|---|---|---|",
    ]
    # In the recipe's order: a results file that was read back has lost its own.
    for name in (name for name in recipe.variants if name in results["variants"]):
        variant = results["variants"][name]
        values = [run[recipe.metric] for run in variant["metrics"]]
        seconds = statistics.median(run["seconds"] for run in variant["metrics"])
        lines.append(
            f"| {name} | {statistics.median(values):.4f} | {min(values):.4f} | {max(values):.4f} "
            f"| {variant['metrics'][0]['parameters']:,} | {seconds:.0f} |"
        )
    first = next(iter(results["variants"].values()))
    environment = results["environment"]
    versions = ", ".join(f"{name} {value}" for name, value in environment["versions"].items())
    seeds = ", ".join(str(seed) for seed in first["seeds"])
    shared = dict(first["config"])
    for variant in results["variants"].values():
        shared = {k: v for k, v in shared.items() if variant["config"].get(k) == v}
    lines += [
        "",
        f"Over the seeds {seeds}. Common to all: "
        + ", ".join(f"{name} {value}" for name, value in shared.items())
        + ".",
        "",
        "Trained with AdamW, weight decay 0.01, the learning rate falling to zero along a cosine, "
        "gradients clipped to a global norm of 1.",
        "",
        recipe.protocol,
        "",
        f"Measured with `{command}` on {environment['processors']} processors "
        f"({', '.join(environment['devices'])}), Python {environment['python']}, {versions}.",
        "",
    ]
    return "\n".join(lines)
