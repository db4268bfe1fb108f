"""The process that runs one job of `benchmarks.scale`: `python -m benchmarks.scale.job JOB`.

A job is JSON, `{"do": ..., ...}`; its results are the last line of the output. The jobs train the
translation recipe with its own loop on random pairs. Only this module uses internal names of the
recipes.
"""

import contextlib
import gc
import json
import math
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn import recipes
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.command import quietly_import_tensorflow

if TYPE_CHECKING:
    from kerasrnn.training.placement import Placement

LARGE = {"vocabulary": 32_000, "embedding": 512, "units": 1024, "depth": 4}
"""The recipe's options for WMT14."""


def main() -> None:
    """Run the job given on the command line."""
    job = json.loads(sys.argv[1])
    do = JOBS[job.pop("do")]
    if "core" in job:  # Linux only
        # Before TensorFlow counts the cores.
        os.sched_setaffinity(0, {job.pop("core")})
    quietly_import_tensorflow()
    print(json.dumps(do(**job)))


def stand_in(recipe: Any, config: Any, rows: int = 0, length: int = 0) -> Data:
    """Random pairs for a translation recipe, with a vocabulary of the configured size."""
    import numpy as np
    import tensorflow as tf

    metadata = {side: {"symbols": ["?"] * config.vocabulary} for side in ("source", "target")}
    ids = np.random.default_rng(0).integers(1, config.vocabulary + 2, (3, rows, length), "int32")
    source, previous, target = (
        tf.RaggedTensor.from_row_lengths(part.ravel(), [length] * rows) for part in ids
    )
    dataset = tf.data.Dataset.from_tensor_slices(((source, previous), target))
    # All pairs have one length, but as in the recipe's own data the static shape is unknown.
    dataset = dataset.map(lambda x, y: ((tf.identity(x[0]), tf.identity(x[1])), tf.identity(y)))
    return Data(dataset, dataset.take(0), rows, 0, metadata)


def made(options: dict[str, Any]) -> Any:
    """The recipe's model with the given options."""
    recipe = recipes.load("translate")
    config = recipe.Config(**options)
    return recipe.model(config, stand_in(recipe, config))


def training_model(
    options: dict[str, Any],
    rows: int,
    length: int,
    placement: "Placement | None" = None,
    by_xla: bool = False,
) -> tuple[Any, Any]:
    """The recipe's model in training and its training batches."""
    import keras

    from kerasrnn.recipes.training import from_config
    from kerasrnn.training.placement import Placement
    from kerasrnn.training.step import Signals, TrainingModel

    placement = placement or Placement("one")
    recipe = recipes.load("translate")
    config = recipe.Config(batch_size=rows, **options)
    data = stand_in(recipe, config, 4 * rows, length)
    keras.utils.set_random_seed(config.seed)
    batches = from_config.batches(recipe, config, data)
    signals = Signals()
    with placement.scope():
        trains = TrainingModel(recipe.model(config, data), signals, by_xla=by_xla)
        trains.compile(
            from_config.optimizer(config, batches.steps),
            recipe.loss(config),
            metrics=list(recipe.fit_metrics(config)),
            jit_compile=False,
        )
    trains.prepare(batches.train())
    trains.compile_loops()
    return trains, batches.train()


# The jobs.


def train(
    options: dict[str, Any],
    batches: Sequence[int],
    length: int,
    repeats: int,
    strategy: str = "one",
    sizes: Sequence[int] = (),
) -> dict[str, Any]:
    """Time each step, by batch size, and the all-reduce, by the count of numbers; in seconds."""
    from kerasrnn.training.loop import Loop
    from kerasrnn.training.placement import Placement

    placement = Placement(strategy)
    seconds: dict[int, list[float]] = {}
    shapes: list[Any] = []
    for rows in batches:
        trains, dataset = training_model(options, rows, length, placement)
        shapes = [tuple(weight.shape) for weight in trains.trainable_weights]
        loop = Loop(trains, placement.strategy)
        source = iter(loop.batches(dataset))

        def step(loop: Any = loop, source: Any = source, trains: Any = trains) -> None:
            loop.train(source, 1)
            trains.optimizer.iterations.numpy()  # waits for the step

        seconds[rows] = _timed(step, repeats)
    results: dict[str, Any] = {"seconds": seconds}
    if strategy != "one":
        results["exchanged"] = sum(math.prod(shape) for shape in shapes)
        results["gradients"] = _timed(_exchange(placement, shapes), repeats)
        results["numbers"] = {
            size: _timed(_exchange(placement, [(size,)]), repeats) for size in sizes
        }
    return results


def _timed(run: Callable[[], None], repeats: int) -> list[float]:
    for _ in range(3):  # the first call compiles, and the second may
        run()
    seconds = []
    gc.disable()
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    gc.enable()
    return seconds


def _exchange(placement: "Placement", shapes: Sequence[tuple[int, ...]]) -> Callable[[], None]:
    """Return a function that all-reduces arrays of these shapes, as a step does with gradients."""
    import tensorflow as tf

    arrays = [tf.ones(shape) for shape in shapes]

    def of_device() -> Any:
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, arrays)
        return tf.add_n([tf.reshape(one, [-1])[0] for one in sums])

    run = tf.function(lambda: placement.strategy.run(of_device))
    return lambda: float(run())


def corpus(options: dict[str, Any], data_dir: str | None, batches: int) -> dict[str, Any]:
    """Measure the token counts of real sentences, the padding, and the input pipeline."""
    import keras
    import numpy as np

    from kerasrnn.recipes.training import from_config

    recipe = recipes.load("translate")
    config = recipe.Config(**options)
    before, began = _resident(), time.perf_counter()
    data = recipe.load(config, data_dir)
    loading = time.perf_counter() - began
    prepared = from_config.batches(recipe, config, data)
    began = time.perf_counter()
    source = iter(prepared.train())
    pieces, slots, rows = np.zeros(2), 0, 0
    next(source)  # the first batch waits for the shuffle buffer
    first, filled = time.perf_counter() - began, _resident()
    began, count = time.perf_counter(), min(batches, prepared.steps - 1)
    for _ in range(count):
        next(source)
    seconds = time.perf_counter() - began
    for (read, _), written in prepared.train().take(prepared.steps):
        pieces += [np.count_nonzero(x) for x in keras.tree.map_structure(np.array, (read, written))]
        slots += read.shape[0] * read.shape[1]
        rows += read.shape[0]
    words = [np.mean([len(pair[side].split()) for pair in data.raw["train"]]) for side in (0, 1)]
    return {
        "pairs": data.train_size,
        "left_out": data.metadata["left_out_of_training"],
        "words": words,
        "pieces": list(pieces / rows),
        "padded": 1 - float(pieces.sum()) / (2 * slots),
        "batch_size": config.batch_size,
        "seconds_of_a_pair": seconds / (count * config.batch_size),
        "seconds_to_load": loading,
        "seconds_to_begin": first,
        "bytes_held": filled - before,
    }


def program(options: dict[str, Any]) -> dict[str, Any]:
    """Count the operations per time step that XLA compiles each kind of time loop into.

    The count includes the matrix products and fusions, but not the copies, of the optimized program
    of an entire training step on the CPU. The result also has the number of loops whose trip count
    XLA knows.
    """
    import tensorflow as tf

    from benchmarks.scale import counting

    trains, dataset = training_model(options, 4, 12, by_xla=True)
    batch = next(iter(dataset))
    step = tf.function(trains.train_step, jit_compile=True)
    text = step.experimental_get_compiler_ir(batch)(stage="optimized_hlo")
    of_kinds: dict[str, set[int]] = {kind: set() for kind in counting.KINDS}
    loops = [line for line in text.splitlines() if " while(" in line]
    bodies = [(loop, re.search(r"body=%?([\w.\-]+)", loop)[1]) for loop in loops]
    for loop, body in bodies:
        counts = Counter(_computation(text, body))
        # Attention adds products of its own; operations of the backward pass have no layer name.
        named = "translate" in re.search(r'op_name="([^"]*)"', loop)[1]
        kind = f"{'attention' if counts['dot'] > 1 else 'LSTM'}, {'forward' if named else 'back'}"
        of_kinds[kind].add(counts["dot"] + counts["fusion"])
    return {
        "operations": {kind: max(found) for kind, found in of_kinds.items()},
        "loops": len(bodies),
        "of_known_length": sum("known_trip_count" in loop for loop, _ in bodies),
    }


def _computation(text: str, name: str) -> Iterator[str]:
    """The opcodes of a computation's instructions."""
    body = text.split(f"\n%{name} (", 1)[1].split("\n}", 1)[0]
    for line in body.splitlines()[1:]:
        # The type, which may be a tuple, then the opcode up to the opening parenthesis.
        match = re.search(r" = (?:\(.*?\)|\S+) ([\w\-]+)\(", line)
        if match:
            yield match[1]


def memory(options: dict[str, Any], batches: Sequence[int], length: int) -> dict[str, Any]:
    """Bytes per additional row of a batch: counted, and the growth of the peak of a step."""
    from benchmarks.measuring.worker import settle, status
    from benchmarks.scale import counting
    from kerasrnn.training.loop import Loop

    peaks = []
    for rows in batches:
        trains, dataset = training_model(options, rows, length)
        loop = Loop(trains)
        source = iter(loop.batches(dataset))
        for _ in range(3):
            settle()
            loop.train(source, 1)
            trains.optimizer.iterations.numpy()
        peaks.append(status("VmHWM"))
    model = counting.unfilled(lambda: made(options))
    counted = [
        sum(counting.kept(model, counting.Shape(rows, length, length), counting.WIDE).values())
        for rows in batches
    ]
    return {"counted": _growth(counted, batches), "resident": _growth(peaks, batches)}


def allocated(options: dict[str, Any], batches: Sequence[int], length: int) -> dict[str, Any]:
    """Bytes per additional row of a batch that XLA allocates for a fully compiled step."""
    import tensorflow as tf

    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        # XLA reads this when it first compiles.
        os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_module_re=.*train_step.*"
        for rows in batches:
            trains, dataset = training_model(options, rows, length, by_xla=True)
            tf.function(trains.train_step, jit_compile=True)(next(iter(dataset)))
            (report,) = Path(folder).glob("*memory-usage-report.txt")
            size = re.search(r"size ([\d.]+)MiB, preallocated-temp", report.read_text())
            sizes.append(2**20 * float(size[1]))
            report.unlink()
    return {"program": _growth(sizes, batches)}


def _growth(sizes: Sequence[float], batches: Sequence[int]) -> float:
    (small, large), (few, many) = sizes, batches
    return (large - small) / (many - few)


def update() -> dict[str, Any]:
    """Count the passes of an update over the weights when its operations are not fused."""
    import keras
    import tensorflow as tf

    from benchmarks.scale import counting
    from kerasrnn.recipes.training.from_config import optimizer

    recipe = recipes.load("translate")
    n = 1009  # a prime that no other tensor has as its size
    weight = keras.Variable(tf.zeros(n), name="kernel")
    updating = optimizer(recipe.Config(), 10)
    updating.build([weight])
    graph = tf.function(lambda gradient: updating.apply([gradient], [weight]))
    operations = graph.get_concrete_function(tf.TensorSpec([n])).graph.get_operations()
    return {"passes": counting.passes(n, operations)}


def _resident() -> int:
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "train": train,
    "corpus": corpus,
    "program": program,
    "memory": memory,
    "allocated": allocated,
    "update": update,
}


if __name__ == "__main__":
    main()
