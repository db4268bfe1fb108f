"""Measure the memory of a training step, and compare it with the estimate in the summary.

    python -m benchmarks.training.memory translate char_lm

Each recipe has its default configuration, and each number of accumulation steps runs in its own
process, one after another. The benchmark measures the peak memory of the tensors of a step on a
CPU, including weights and optimizer moments, for the longest of some batches. Results:
`benchmarks/training/results/memory.{json,md}`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.files import replacing
from kerasrnn.recipes.command import quietly_import_tensorflow

PARTS = (1, 2, 4)
"""The values of `--accumulate`."""

BATCHES = 50
"""The number of batches, of which the longest is measured."""

COUNTING = {"TF_CPU_ALLOCATOR_USE_BFC": "1"}
"""Makes the CPU use TensorFlow's GPU allocator, which tracks memory."""

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure the recipes one by one and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", choices=[[], *recipes.NAMES], metavar="RECIPE")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--data-dir")
    parser.add_argument("--parts", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.parts:
        (name,) = arguments.recipes
        quietly_import_tensorflow()
        print(json.dumps(measure(name, arguments.parts, arguments.data_dir)))
        return
    path = arguments.output / "memory.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for name in arguments.recipes or recipes.NAMES:
        measured = {}
        for parts in PARTS:
            command = [
                sys.executable,
                "-m",
                "benchmarks.training.memory",
                name,
                "--parts",
                str(parts),
            ]
            command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
            done = subprocess.run(
                command, capture_output=True, text=True, env=COUNTING | os.environ
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["?"])[-1]
                print(f"{name}, --accumulate {parts}: not measured: {last}")
                continue
            measured[str(parts)] = json.loads(done.stdout.splitlines()[-1])
            print(f"{name}, --accumulate {parts}: {measured[str(parts)]}", flush=True)
        if measured:
            results[name] = measured
    arguments.output.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    with replacing(arguments.output / "memory.md") as scratch:
        scratch.write_text(report(results), encoding="utf-8")
    print(report(results))


def measure(name: str, parts: int, data_dir: str | None) -> dict[str, Any]:
    """The bytes of a step: estimated by the summary, and measured."""
    import keras
    import tensorflow as tf

    from benchmarks.training.prepared import prepared
    from kerasrnn.recipes.base.config import ConfigError
    from kerasrnn.training import summary
    from kerasrnn.training.loop import Loop
    from kerasrnn.training.placement import Placement

    setup = prepared(name, data_dir, parts)
    placement = Placement("one", accumulate=parts)
    placement.check(setup.config.batch_size)
    if parts > 1 and any(getattr(layer, "stateful", False) for layer in setup.model.layers):
        raise ConfigError("the recipe is stateful: accumulation would split the rows of its states")
    estimate = summary.of(setup.model, setup.batches, placement)
    longest = max(setup.batches.train().take(BATCHES), key=_numbers)
    loop = Loop(setup.model)

    def step() -> None:
        loop.train(iter([longest]), 1)
        setup.model.optimizer.iterations.numpy()  # waits for the step

    for _ in range(2):  # the first step compiles
        step()
    # Memory in use before the step: the weights and the optimizer's moments.
    weights = sum(variable.numpy().nbytes for variable in setup.model.variables)
    weights += sum(variable.numpy().nbytes for variable in setup.model.optimizer.variables)
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    step()
    return {
        "shape": [list(part.shape) for part in keras.tree.flatten(longest)],
        "estimated": estimate.activations_bytes + estimate.weights_bytes,
        "measured": tf.config.experimental.get_memory_info("CPU:0")["peak"] - before + weights,
    }


def _numbers(batch: Any) -> int:
    import keras

    return sum(int(part.shape.num_elements()) for part in keras.tree.flatten(batch))


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Memory of a step",
        "",
        "Written by `python -m benchmarks.training.memory`. The peak memory of a step's tensors on "
        "a CPU: weights, optimizer moments, gradients, and the activations stored for them. Only "
        "the activations shrink with gradient accumulation. The measurement uses the longest of "
        f"{BATCHES} batches of each recipe's default configuration. `MB, estimated` is from the "
        "summary printed before training, which may include longer batches.",
        "",
        "| recipe | first input | `--accumulate` | MB | relative to 1 | MB, estimated "
        "| estimated over measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in sorted(results.items()):
        for parts, one in sorted(found.items(), key=lambda item: int(item[0])):
            share = one["measured"] / found["1"]["measured"]
            shape = " × ".join(map(str, one["shape"][0]))
            lines.append(
                f"| {name} | {shape} | {parts} | {one['measured'] / 1e6:.0f} | {share:.0%} "
                f"| {one['estimated'] / 1e6:.0f} | {one['estimated'] / one['measured']:.0%} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
