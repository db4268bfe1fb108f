"""Compare the results of training in float32, bfloat16 and float16.

    python -m benchmarks.training.precision japanese_vowels reverse --seeds 3

Each run has its folder below `--runs`; finished runs are not repeated. Results:
`benchmarks/training/results/precision.{json,md}`.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from kerasrnn import recipes
from kerasrnn.files import replacing
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.reporting.cards import figure
from kerasrnn.training.names import Precision

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Train each recipe with each precision and seed, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", choices=recipes.NAMES, metavar="RECIPE")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds (default: %(default)s)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    path = arguments.output / "precision.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for name in arguments.recipes:
        results[name] = {
            precision: [
                _trained(name, precision, seed, arguments.runs, arguments.data_dir)
                for seed in range(arguments.seeds)
            ]
            for precision in get_args(Precision)
        }
        arguments.output.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
        with replacing(arguments.output / "precision.md") as scratch:
            scratch.write_text(report(results), encoding="utf-8")
    print(report(results))


def _trained(name: str, precision: str, seed: int, runs: Path, data_dir: str | None) -> Any:
    folder = runs / name / f"{precision}-{seed}"
    if not Run(folder).finished:
        command = [sys.executable, "-m", "kerasrnn", "train", name, "--precision", precision]
        command += ["--seed", str(seed), "--output", str(folder), "--progress", "lines"]
        command += ["--resume"] if (folder / "config.json").is_file() else []
        command += ["--data-dir", data_dir] if data_dir else []
        subprocess.run(command, check=True)
    run, config = Run.open(recipes.load(name), folder)
    metrics = run.read_json("metrics.json")
    reported = {
        metric: metrics[metric] for metric in recipes.load(name).card.metrics if metric in metrics
    }
    return {**reported, "seconds": metrics["seconds"], "config": dataclasses.asdict(config)}


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Half precision",
        "",
        "Written by `python -m benchmarks.training.precision`. The same training runs in float32, "
        "bfloat16 and float16 (with dynamic loss scaling); weights and optimizer state are always "
        "float32. "
        "The metrics are on the test set: mean, lowest and highest over the seeds. Speed is not "
        "compared: the runs used a CPU without faster arithmetic for half precision.",
        "",
        "| recipe | metric | precision | seeds | mean (lowest to highest) |",
        "|---|---|---|---|---|",
    ]
    for name, by_precision in sorted(results.items()):
        metric = recipes.load(name).card.metrics[0]
        for precision in get_args(Precision):
            values = [run[metric] for run in by_precision[precision]]
            lines.append(
                f"| {name} | {metric.replace('_', ' ')} | {precision} | {len(values)} | "
                f"{figure(statistics.mean(values))} ({figure(min(values))} to "
                f"{figure(max(values))}) |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
