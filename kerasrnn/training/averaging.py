"""The mean of the weights of several checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import validation


def average_weights(model: keras.Model, files: Sequence[str | Path]) -> keras.Model:
    """Give a model the mean of the weights that several files have.

    The mean of the last checkpoints of a training often predicts as well as their ensemble, at the
    cost of one model (for recurrent translation: Junczys-Dowmunt, Dwojak & Sennrich 2016, "The
    AMU-UEDIN submission to the WMT16 news translation task"). Checkpoints of different trainings
    have no meaningful mean: for these, see `zoo.generator` with several models.

    Weights that are not floating-point numbers, such as counts of steps, are those of the last
    file. Of normalization layers, the moving statistics are averaged, too: adapt them again if the
    model depends on them.

    Args:
        model: a built model, whose weights are replaced.
        files: saved models of the same architecture, `.keras`, or weights, `.weights.h5`.

    Returns:
        The model.

    Raises:
        ValueError: there are no files; a file is of another architecture, or has a weight that is
            not finite.
        OSError: a file cannot be read. The weights of the model are then unchanged.

    Example:

        >>> import keras, numpy as np, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = [f"{folder}/{epoch}.weights.h5" for epoch in (1, 2)]
        ...     for value, file in zip([1.0, 4.0], files):
        ...         model.set_weights([np.array([[value]])])
        ...         model.save_weights(file)
        ...     float(kerasrnn.training.average_weights(model, files).get_weights()[0][0, 0])
        2.5
    """
    validation.model("model", model)
    if not isinstance(files, Sequence) or isinstance(files, str) or not files:
        raise validation.ArgumentError("files", files, "a list of files of weights, not empty")
    before = model.get_weights()
    total: list[Any] = [0.0] * len(before)
    try:
        for file in files:
            model.load_weights(file)
            found = model.get_weights()
            for weight, array in zip(model.weights, found, strict=True):
                if _is_float(array) and not np.isfinite(array.astype("float64")).all():
                    raise ValueError(
                        f"files: {weight.path} of {file} is not finite, and so no mean with it; "
                        "expected files from before the training diverged."
                    )
            total = [_sum(one, other) for one, other in zip(total, found, strict=True)]
    except BaseException:
        model.set_weights(before)
        raise
    dtypes = [weight.dtype for weight in model.weights]
    model.set_weights(
        [
            (each / len(files)).astype(array.dtype) if "float" in dtype else each
            for each, array, dtype in zip(total, before, dtypes, strict=True)
        ]
    )
    return model


def _sum(one: Any, other: np.ndarray) -> Any:
    """In float64; of others, the last."""
    return one + other.astype("float64") if _is_float(other) else other


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
