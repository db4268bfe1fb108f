"""Compare softmaxes over many words: the time of a training step, and the loss that is reached.

    python -m benchmarks.vocabulary
    python -m benchmarks.vocabulary --classes 50000 --epochs 4

A language model with one GRU reads a made-up text, whose words have the frequencies of Zipf's law,
and each of which is usually followed by one of four others. The contenders are trained in turn, in
processes of their own. Times are processor times, of which other programs take nothing. The loss is
exact for all of them, on text of the same kind that is not trained on. Results are written to
vocabulary.json and vocabulary.md in --out.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.processes import ROOT
from benchmarks.measuring.reports import keep, opening, table
from benchmarks.measuring.study import Study, conditions, given_options

RESULTS = Path(__file__).parent / "results"
CONTENDERS = {
    "full": "keras.layers.Dense with a softmax",
    "adaptive": "kerasrnn.AdaptiveSoftmax, with clusters from a 25th and a fifth of the words",
    "sampled": "kerasrnn.SampledSoftmax, with 1000 samples",
}
UNITS, ROWS, STEPS = 128, 32, 32


def text(classes: int, words: int) -> np.ndarray:
    """Words by the law of Zipf, four fifths of which depend on the word before."""
    random = np.random.default_rng(0)
    p = 1 / np.arange(1, classes + 1)
    p /= p.sum()
    followers = random.choice(classes, size=(classes, 4), p=p)
    free, which = random.choice(classes, words, p=p), random.integers(0, 5, words)
    ids = free.copy()
    for n in range(1, words):
        if which[n] < 4:
            ids[n] = followers[ids[n - 1], which[n]]
    return ids


def train(contender: str, classes: int, batches: int, epochs: int) -> dict[str, Any]:
    """Train a model, and return its times and losses by epoch."""
    import keras

    import kerasrnn

    keras.utils.set_random_seed(0)
    head = {
        "full": lambda: keras.layers.Dense(classes, activation="softmax"),
        "adaptive": lambda: kerasrnn.AdaptiveSoftmax(classes, [classes // 25, classes // 5]),
        "sampled": lambda: kerasrnn.SampledSoftmax(classes, min(1000, classes // 2), seed=0),
    }[contender]()
    rows = text(classes, ROWS * (STEPS + 1) * (batches + 4)).reshape(-1, STEPS + 1)
    x, y = rows[:, :-1], rows[:, 1:]
    held_out = slice(-4 * ROWS, None)
    ids = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(classes, UNITS)(ids)
    model = keras.Model(ids, head(kerasrnn.GRU(UNITS, return_sequences=True)(h)))
    loss = kerasrnn.losses.SequenceCrossentropy()
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    options: dict[str, Any] = {"batch_size": ROWS, "verbose": 0}
    model.fit(x[: 2 * ROWS], y[: 2 * ROWS], **options)  # traces
    seconds, losses = [], []
    for _ in range(epochs):
        before = _processor_time()
        model.fit(x[: batches * ROWS], y[: batches * ROWS], **options)
        seconds.append((_processor_time() - before) / batches)
        losses.append(float(model.evaluate(x[held_out], y[held_out], **options)))
    return {"seconds": seconds, "losses": losses, "parameters": model.count_params()}


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def report(raw: Mapping[str, Any], command: str) -> str:
    """The table, in Markdown."""
    options = raw["options"]
    lines = opening("Large vocabularies", raw, command, "vocabulary")
    full = min(raw["points"][0]["seconds"])
    rows = []
    for point in raw["points"]:
        least = min(point["seconds"])
        rows.append(
            (
                point["contender"],
                f"{point['parameters']:,}",
                f"{1e3 * least:.0f}",
                f"{least / full:.2f}",
                ", ".join(f"{loss:.2f}" for loss in point["losses"]),
            )
        )
    return "\n".join(
        [
            *lines,
            f"{options['classes']:,} words; a GRU of {UNITS} units; batches of {ROWS} rows of "
            f"{STEPS} words. Milliseconds of processor time per training step, the least of all "
            "epochs, and relative to the full softmax; then the exact loss in nats after each "
            "epoch, on text that is not trained on.",
            "",
            *table(["", "parameters", "ms", "relative", "loss"], rows),
            "## Contenders",
            "",
            *table(["name", ""], list(CONTENDERS.items())),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    command = Study("benchmarks.vocabulary", __doc__, {"contenders": CONTENDERS})
    command.options.add_argument("--classes", type=int, default=20_000, help="number of words")
    command.options.add_argument("--batches", type=int, default=40, help="training steps an epoch")
    command.options.add_argument("--epochs", type=int, default=4)
    command.add_common(RESULTS, rounds=1)
    chosen = command.parse(arguments)
    size = (200, 2, 1) if chosen.quick else (chosen.classes, chosen.batches, chosen.epochs)
    machine, points = conditions(), []
    for contender in CONTENDERS:
        call = f"train{(contender, *size)}"
        code = f"from benchmarks.vocabulary.__main__ import *; print(json.dumps({call}))"
        ended = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ,
            check=True,
            stdout=subprocess.PIPE,
        )
        points.append({"contender": contender, **json.loads(ended.stdout.splitlines()[-1])})
        print(points[-1])
    raw = {
        "machine": machine,
        "options": {**given_options(chosen), "classes": size[0]},
        "complete": True,
        "points": points,
    }
    for file in keep(raw, report(raw, command.typed()), chosen.out, "vocabulary"):
        print(file)


if __name__ == "__main__":
    main()
