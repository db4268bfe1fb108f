"""The process that runs one contender: `python -m benchmarks.gpu.worker CONTENDER DEVICE`.

Besides the requests of `benchmarks.measuring.worker`, it answers

    {"do": "device"}                  {"platform": "gpu" or "cpu", "name": the name of the device}
    {"do": "check", "point": ...}     {"output": relative difference from the reference,
                                      "gradient": the largest such difference of the gradients}
    {"do": "peak"}                    {"bytes": peak memory of the device in a step of the point
                                      that was prepared}

The reference is the test suite's: the cells in NumPy, in float64, with gradients by complex steps.
"""

import importlib
import os
import sys
import weakref
from typing import Any

import numpy as np

from benchmarks.gpu.contenders import Computation, computation, data
from benchmarks.gpu.plan import Point
from benchmarks.measuring.worker import answer
from kerasrnn.wording import snake_case


def check(prepared: Computation, point: Point) -> dict[str, float]:
    """Compare the outputs and the gradients with the reference; for a recipe, the loss."""
    found = prepared.arrays(prepared.step())
    if point.part == "recipe":
        return {"output": relative(found[0], np.ones(1))}
    y, *gradients = found
    expected, expected_gradients = reference(prepared, point)
    differences = [relative(a, b) for a, b in zip(gradients, expected_gradients, strict=True)]
    return {"output": relative(y, expected), "gradient": max(differences)}


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, relative to that of the expected values."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def reference(prepared: Computation, point: Point) -> tuple[np.ndarray, list[np.ndarray]]:
    """The outputs, and the gradients with respect to the inputs and each weight, in float64."""
    from tests.oracles import complex_step, loop

    step = importlib.import_module(f"tests.oracles.{snake_case(point.cell)}").step
    x, d_y = (values.astype("float64") for values in data(point))
    weights = {name: value.astype("float64") for name, value in prepared.weights.items()}
    y, _, finals = loop.run(step, x, prepared.states, weights)
    no_gradients = [np.zeros_like(state) for state in finals]
    d_x, _, d_weights = complex_step.backward(step, x, prepared.states, weights, d_y, no_gradients)
    return y, [d_x, *d_weights.values()]


def peak(contender: str, prepared: Computation | None, device: str) -> int:
    """The peak memory of a step, in bytes, with inputs and weights.

    JAX cannot reset its peak: there, it is that of the process, in which only this step has run.

    Raises:
        RuntimeError: nothing is prepared, or the library does not count memory on this device.
    """
    if prepared is None:
        raise RuntimeError("no point is prepared")
    library = _library(contender)
    if library == "torch":
        import torch

        if device == "cpu":
            raise RuntimeError("torch does not count the memory of a CPU")
        torch.cuda.reset_peak_memory_stats()
        prepared.step()
        return torch.cuda.max_memory_allocated()
    if library == "jax":
        import jax

        prepared.step()
        counted = jax.devices()[0].memory_stats()
        if counted is None:
            raise RuntimeError("JAX does not count the memory of this device")
        return counted["peak_bytes_in_use"]
    import tensorflow as tf

    name = "GPU:0" if device == "gpu" else "CPU:0"
    tf.config.experimental.reset_memory_stats(name)
    prepared.step()
    return tf.config.experimental.get_memory_info(name)["peak"]


def find_device(contender: str) -> dict[str, str]:
    """The device that the contender's library runs on."""
    library = _library(contender)
    if library == "torch":
        import torch

        if torch.cuda.is_available():
            return {"platform": "gpu", "name": torch.cuda.get_device_name()}
        return {"platform": "cpu", "name": "CPU"}
    if library == "jax":
        import jax

        first = jax.devices()[0]
        return {"platform": first.platform, "name": first.device_kind}
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return {"platform": "cpu", "name": "CPU"}
    details = tf.config.experimental.get_device_details(gpus[0])
    return {"platform": "gpu", "name": details.get("device_name", gpus[0].name)}


def _library(contender: str) -> str:
    own = {"torch": "torch", "jax-rnn": "jax"}
    return own.get(contender, os.environ["KERAS_BACKEND"])


def main() -> None:
    """Run the process of a contender of `benchmarks.gpu`."""
    contender, device = sys.argv[1:]
    # Weakly, so that its memory is freed when the point is forgotten.
    current: list[weakref.ref[Computation]] = []

    def make_ready(values: dict[str, Any]) -> Computation:
        prepared = computation(contender, Point.from_json(values), device)
        current[:] = [weakref.ref(prepared)]
        return prepared

    def check_point(request: dict[str, Any]) -> dict[str, float]:
        point = Point.from_json(request["point"])
        return check(computation(contender, point, device), point)

    def peak_of_current(request: dict[str, Any]) -> dict[str, int]:
        return {"bytes": peak(contender, current[0]() if current else None, device)}

    answer(
        make_ready,
        {
            "check": check_point,
            "device": lambda request: find_device(contender),
            "peak": peak_of_current,
        },
    )


if __name__ == "__main__":
    main()
