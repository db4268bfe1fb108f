"""Does training wait for its data?

    python -m benchmarks.training.input

Each recipe trains for some steps with its default configuration, one recipe at a time, in its own
process. The benchmark measures how long the loop waits for the next batch, and the time per batch
of the input pipeline when nothing else runs. The first step with each input shape is excluded,
since it includes XLA's compilation. Results: `benchmarks/training/results/input.{json,md,png}`.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.files import replacing
from kerasrnn.recipes.command import quietly_import_tensorflow

LIMIT = 0.05
"""The largest acceptable share of a step spent waiting."""

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure the recipes one by one and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", choices=[[], *recipes.NAMES], metavar="RECIPE")
    parser.add_argument(
        "--steps", type=int, default=100, help="steps to measure (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time limit per recipe (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--data-dir")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        (name,) = arguments.recipes
        quietly_import_tensorflow()
        measured = measure(name, arguments.steps, arguments.seconds, arguments.data_dir)
        print(json.dumps(measured))
        return
    path = arguments.output / "input.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for name in arguments.recipes or recipes.NAMES:
        command = [sys.executable, "-m", "benchmarks.training.input", name, "--worker"]
        command += ["--steps", str(arguments.steps), "--seconds", str(arguments.seconds)]
        command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: not measured: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            continue
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {results[name]['waiting']:.2%} of the time spent waiting", flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    with replacing(arguments.output / "input.md") as scratch:
        scratch.write_text(report(results), encoding="utf-8")
    draw(results, arguments.output / "input.png")
    print(report(results))


def measure(name: str, steps: int, seconds: float, data_dir: str | None) -> dict[str, Any]:
    """Measure the time that the loop spends waiting and working."""
    from benchmarks.training.prepared import prepared
    from kerasrnn.recipes.base import runs
    from kerasrnn.training.loop import Loop

    setup = prepared(name, data_dir)
    loop = Loop(setup.model)
    seen: set[Any] = set()
    waited = worked = 0.0
    count = 0
    # Twice the limit, to leave time for the steps that compile.
    end = time.perf_counter() + 2 * seconds
    with loop.source(setup.batches.train()) as source:
        timed = Timed(source)
        while count < steps and waited + worked < seconds and time.perf_counter() < end:
            began = time.perf_counter()
            loop.train(timed, 1)
            setup.model.optimizer.iterations.numpy()  # waits for the step
            took = time.perf_counter() - began
            if timed.shape in seen:
                waited += timed.seconds
                worked += took - timed.seconds
                count += 1
            seen.add(timed.shape)
    alone, count_alone = time.perf_counter(), 0
    for _ in setup.batches.train().take(max(count, 1)):
        count_alone += 1
    alone = time.perf_counter() - alone
    return {
        "steps": count,
        "batch_size": setup.config.batch_size,
        "waiting": waited / (waited + worked),
        "ms_of_a_step": 1e3 * (waited + worked) / count,
        "ms_of_a_batch_alone": 1e3 * alone / count_alone,
        "processors": runs.environment()["processors"],
    }


class Timed:
    """An iterator over batches that records the waiting time for the latest one."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.seconds, self.shape = 0.0, None

    def __next__(self) -> Any:
        import keras

        began = time.perf_counter()
        batch = next(self.batches)
        self.seconds = time.perf_counter() - began
        self.shape = tuple(tuple(part.shape) for part in keras.tree.flatten(batch))
        return batch


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Does training wait for its data?",
        "",
        "Written by `python -m benchmarks.training.input`. Each recipe has its default "
        "configuration. "
        "`waiting` is the share of the time in which the loop waits for the next batch, which the "
        f"pipeline prepares concurrently on the same processors ({_processors(results)}). "
        "`ms per batch, alone` is the time per batch of the pipeline when nothing else runs, "
        "including its startup.",
        "",
        f"| recipe | batch size | ms per step | waiting (limit {LIMIT:.0%}) "
        "| ms per batch, alone |",
        "|---|---|---|---|---|",
    ]
    for name, found in sorted(results.items()):
        met = "" if found["waiting"] <= LIMIT else ": missed"
        lines.append(
            f"| {name} | {found['batch_size']} | {found['ms_of_a_step']:.1f} | "
            f"{found['waiting']:.2%}{met} | {found['ms_of_a_batch_alone']:.2f} |"
        )
    return "\n".join([*lines, "", "![The share of time spent waiting](input.png)", ""])


def _processors(results: dict[str, Any]) -> str:
    counts = sorted({found["processors"] for found in results.values()})
    return " or ".join(map(str, counts))


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the share of time that each recipe spends waiting."""
    from matplotlib.figure import Figure

    from kerasrnn.recipes.reporting import pictures

    names = sorted(results, key=lambda name: results[name]["waiting"])
    picture = Figure(figsize=(7, 0.35 * len(names) + 1.2), layout="constrained")
    panel = picture.subplots()
    shares = [100 * results[name]["waiting"] for name in names]
    bars = panel.barh([name.replace("_", " ") for name in names], shares)
    panel.bar_label(bars, [f"{share:.2g}%" for share in shares], padding=3)
    panel.axvline(100 * LIMIT, color="black", linestyle="--", linewidth=1)
    panel.set(xlabel="waiting for data, % of the time", xlim=(0, 1.15 * max(6.0, *shares)))
    pictures.save(picture, path)


if __name__ == "__main__":
    main()
