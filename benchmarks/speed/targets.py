"""The targets for the speed, met or missed."""

import statistics
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from benchmarks.measuring.summary import MEAN, WORST, Result, Target, measured, over
from benchmarks.speed.grid import (
    ALONE,
    BUILT_IN,
    CACHED,
    KERAS,
    KERAS_RNN,
    LARGE,
    LINEAR,
    OTHERS,
    SHAPES,
    TIMES,
    Point,
    Shape,
)


def results(raw: Mapping[str, Any]) -> list[Result]:
    """The results in `speed.json`."""
    return [Result(Point.from_json(each["point"]), each["records"]) for each in raw["points"]]


def targets(found: Collection[Result], backend: str) -> list[Target]:
    return (_on_jax if backend == "jax" else _on_tensorflow)(found)


def _on_jax(found: Collection[Result]) -> list[Target]:
    grid = [result for result in found if result.point.part == "grid"]
    keras = ("keras", "keras-unrolled")
    of_mode = {
        mode: [result for result in grid if result.point.mode == mode]
        for mode in ("training", "inference")
    }
    rows = []
    for mode, measured_here in of_mode.items():
        rows += [
            Target(f"{mode}, Keras with defaults", MEAN, 0.6, over(measured_here, keras[:1])),
            Target(f"{mode}, Keras with defaults", WORST, 1.0, over(measured_here, keras[:1])),
            Target(f"{mode}, Keras's best setting", MEAN, None, over(measured_here, keras)),
            Target(f"{mode}, Flax", MEAN, None, over(measured_here, ("flax",))),
            Target(f"{mode}, Flax", WORST, None, over(measured_here, ("flax",))),
        ]
    others = [r for r in found if r.point.part == "cells" and r.point.cell in OTHERS]
    for mode in of_mode:
        lengths = [r for r in found if r.point.part == "lengths" and r.point.mode == mode]
        text = f"{mode} on random lengths, Keras"
        rows.append(Target(text, MEAN, None, over(lengths, keras[:1])))
    return [
        *rows,
        Target(
            "training, masked over unmasked",
            MEAN,
            1.1,
            _masked_over_unmasked(of_mode["training"]),
        ),
        Target("training, other cells, keras.layers.RNN", MEAN, 0.6, over(others, KERAS_RNN[:1])),
    ]


def _on_tensorflow(found: Collection[Result]) -> list[Target]:
    grid = [result for result in found if result.point.part == "grid"]
    training = [result for result in grid if result.point.mode == "training"]
    inference = [result for result in grid if result.point.mode == "inference"]
    alone = [result for result in training if result.point.shape.batch == 1]
    lstm_alone = {
        mode: [r for r in of_mode if r.point.shape.batch == 1 and r.point.cell == "LSTM"]
        for mode, of_mode in (("training", training), ("inference with defaults", inference))
    }
    large = [
        result
        for result in training
        if result.point.shape == LARGE and result.point.cell == "LSTM" and not result.point.masked
    ]
    masked_lstm = [r for r in training if r.point.masked and r.point.cell == "LSTM"]
    lengths = {
        mode: [r for r in found if r.point.part == "lengths" and r.point.mode == mode]
        for mode in ("training", "inference")
    }
    others = [r for r in found if r.point.part == "cells" and r.point.cell in OTHERS]
    linear = [result for result in found if result.point.part == "linear"]
    eager = [r for r in found if r.point.part == "eager" and r.point.cell in BUILT_IN]
    start = [result for result in found if result.point.part == "start"]
    memory = [result for result in found if result.point.part == "memory"]
    keras, best_keras, torch = ("keras",), KERAS, ("torch",)
    return [
        Target("training, Keras with defaults", MEAN, 0.5, over(training, keras)),
        Target("training, Keras's best setting", MEAN, 0.8, over(training, best_keras)),
        Target("training, Keras's best setting", WORST, 1.0, over(training, best_keras)),
        Target("training, torch", MEAN, 0.9, over(training, torch)),
        Target("training, torch", WORST, 1.1, over(training, torch)),
        Target(
            "inference with jit_compile=True, torch",
            MEAN,
            1.0,
            over(inference, torch, "kerasrnn-xla"),
        ),
        Target("inference with defaults, torch", MEAN, 1.0, over(inference, torch)),
        Target(
            "inference with jit_compile=True, Keras's best setting",
            MEAN,
            None,
            over(inference, best_keras, "kerasrnn-xla"),
        ),
        Target(
            "inference with defaults, Keras with defaults",
            MEAN,
            0.6,
            over(inference, keras),
        ),
        Target("training on random lengths, Keras", MEAN, 0.45, over(lengths["training"], keras)),
        Target("training on random lengths, Keras", WORST, 1.0, over(lengths["training"], keras)),
        Target("inference on random lengths, Keras", MEAN, 0.6, over(lengths["inference"], keras)),
        Target("inference on random lengths, Keras", WORST, 1.0, over(lengths["inference"], keras)),
        Target("training at batch 1, Keras's best setting", WORST, 0.3, over(alone, best_keras)),
        *(
            Target(f"{mode}, LSTM at batch 1, torch", WORST, 1.2, over(of_mode, torch))
            for mode, of_mode in lstm_alone.items()
        ),
        Target(f"training, LSTM {LARGE}, floor", WORST, 1.15, over(large, ("floor",))),
        Target("training, masked over unmasked", MEAN, 1.1, _masked_over_unmasked(training)),
        Target(
            "training, masked LSTM, Keras's best setting", MEAN, 0.6, over(masked_lstm, best_keras)
        ),
        Target("eager call, Keras", WORST, 0.1, over(eager, keras)),
        Target(
            "training, other cells, keras.layers.RNN's best", MEAN, 0.6, over(others, KERAS_RNN)
        ),
        *(
            Target(
                f"training, linear recurrences {shape}, kerasrnn.LSTM",
                WORST,
                limit,
                _over_lstm(linear, shape),
            )
            for shape, limit in ((SHAPES[-1], 0.4), (ALONE, 0.25))
        ),
        Target(
            f"training, {LINEAR[0]}, time of a step, longest over shortest",
            WORST,
            1.1,
            _step_longest_over_shortest(linear),
        ),
        Target("peak memory, Keras with defaults", WORST, 0.8, over(memory, keras)),
        Target(
            'peak memory with checkpoint_every="sqrt", Keras with defaults',
            WORST,
            0.35,
            over(memory, keras, "kerasrnn-sqrt"),
        ),
        Target(
            f"peak memory, {LINEAR[0]}, inputs, coefficients and states",
            WORST,
            1.0,
            _over_arrays(memory),
        ),
        Target("start of fit with cached programs, Keras", WORST, 1.2, over(start, keras, CACHED)),
        Target("start of fit, Keras", WORST, None, over(start, keras)),
        Target("compile time, longest over shortest", WORST, 1.1, _longest_over_shortest(found)),
    ]


def _masked_over_unmasked(found: Iterable[Result]) -> list[float]:
    medians: dict[tuple[Any, ...], float] = {}
    for result in found:
        if values := measured(result, "kerasrnn"):
            point = result.point
            medians[point.cell, point.shape, point.masked] = statistics.median(values)
    return [
        seconds / medians[cell, shape, False]
        for (cell, shape, masked), seconds in medians.items()
        if masked and (cell, shape, False) in medians
    ]


def _over_lstm(found: Iterable[Result], shape: Shape) -> list[float]:
    medians = {
        result.point.cell: statistics.median(values)
        for result in found
        if result.point.shape == shape and (values := measured(result, "kerasrnn"))
    }
    lstm = medians.pop("LSTM", None)
    return [] if lstm is None else [seconds / lstm for seconds in medians.values()]


def _step_longest_over_shortest(found: Iterable[Result]) -> list[float]:
    seconds = {
        result.point.shape.time: statistics.median(values) / result.point.shape.time
        for result in found
        if result.point.cell == LINEAR[0]
        and result.point.shape.time in (TIMES[0], TIMES[-1])
        and (values := measured(result, "kerasrnn"))
    }
    return [] if len(seconds) < 2 else [seconds[TIMES[-1]] / seconds[TIMES[0]]]


def _over_arrays(found: Iterable[Result]) -> list[float]:
    """The peak memory of a cell with one real state, relative to the arrays of its recurrence: for
    each step the input, a decay, an update and a state, in float32."""
    ratios = []
    for result in found:
        if result.point.cell == LINEAR[0] and (values := measured(result, "kerasrnn")):
            batch, time, features, units = result.point.shape
            ratios.append(statistics.median(values) / (4 * batch * time * (features + 3 * units)))
    return ratios


def _longest_over_shortest(found: Iterable[Result]) -> list[float]:
    medians = {
        result.point.shape.time: statistics.median(values)
        for result in found
        if result.point.part == "compile" and (values := measured(result, "kerasrnn"))
    }
    if len(medians) < 2:
        return []
    return [medians[max(medians)] / medians[min(medians)]]
