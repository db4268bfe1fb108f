"""TensorFlow's SavedModel."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kerasrnn.export import parity
from kerasrnn.export.parity import Report


def to_saved_model(
    model: keras.Model,
    path: str | Path,
    check: Sequence[np.ndarray | Sequence[np.ndarray]],
    tolerance: float = 1e-5,
) -> Report:
    """Write a SavedModel, load it again with TensorFlow alone, and compare it with the model.

    The signature is `serve`; batch and time stay dynamic where the model's are.

    Args:
        model: a functional or Sequential model.
        path: the folder to write; an existing one is replaced once the new one has been checked.
        check: batches of inputs (an array, or one array for each input) to compare on.
        tolerance: the largest absolute difference that is accepted.

    Returns:
        A `Report`.

    Raises:
        ParityError: the difference is over the tolerance. Nothing is left behind.
        ValueError: the model has no symbolic inputs; there is nothing to check on; the backend is
            not TensorFlow.

    Example:

        >>> import keras, numpy as np, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.LSTM(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_saved_model(
        ...         model, f"{folder}/model", check=[np.ones((2, 5, 3), "float32")])
        >>> report.difference
        0.0
    """
    parity.check_possible(model, check)
    import tensorflow as tf

    path = Path(path)
    with parity.replacing(path) as new:
        model.export(new, format="tf_saved_model", verbose=False)
        served = tf.saved_model.load(str(new))

        def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            tensors = [tf.constant(x) for x in inputs]
            outputs = served.serve(tensors if len(tensors) > 1 else tensors[0])
            return [np.asarray(y) for y in tf.nest.flatten(outputs)]

        difference = parity.largest_difference(model, run, check)
        parity.check_difference(difference, tolerance, "the SavedModel")
        size = parity.size_of(new)
    return Report(path, "SavedModel", size, len(check), difference)
