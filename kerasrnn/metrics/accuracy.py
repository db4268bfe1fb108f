"""How many tokens, and how many whole sequences, are right."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.weights import as_ids, mask_of, weigh

Tensor = Any


class _Accuracy(keras.metrics.Mean):
    """Of ids; the sums over what has been seen are Keras's."""

    _direction = "up"  # what callbacks with mode="auto" ask for

    @validation.checked
    def __init__(
        self, ignore_class: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.ignore_class = ignore_class

    def compare(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is right, and the weights of tokens and of rows."""
        mask = mask_of(y_pred)
        said = said_ids(y_pred)
        ids = as_ids(y_true, said)
        return ids == said, *weigh(ids, mask, sample_weight, self.ignore_class, self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"ignore_class": self.ignore_class, **super().get_config()}


def said_ids(y_pred: Tensor) -> Tensor:
    """The predictions as ids `(batch, time)`: the most probable ones, if they are scores."""
    if len(ops.shape(y_pred)) == 3:
        return ops.cast(ops.argmax(y_pred, axis=-1), "int32")
    y_pred = validation.ids("y_pred", y_pred)
    if len(y_pred.shape) != 2:
        raise ValueError(
            f"y_pred of the shape {tuple(y_pred.shape)}: expected ids (batch, time) or scores "
            "(batch, time, classes)."
        )
    return y_pred


@keras.saving.register_keras_serializable(package="kerasrnn")
class TokenAccuracy(_Accuracy):
    """The fraction of tokens that are right.

        sum_bt w_bt [argmax_k y_pred_btk = y_true_bt] / sum_bt w_bt

    over all batches. `keras.metrics.SparseCategoricalAccuracy` (of Keras 3.15) knows masks and
    weights of tokens, but not targets that are padding; in batches of different lengths a token
    counts for less the wider its batch is, padding included; and in half precision it takes ids for
    right that are next to right: bfloat16 holds no integers beyond 256, one by one.

    Args:
        ignore_class: the id of padding: such targets are left out. None: every id is a class.
        name: of the metric.
        dtype: of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: scores of any kind, `(batch, time, classes)`, or ids, `(batch, time)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Masking: where the predictions carry a mask, the steps that it masks are left out.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.TokenAccuracy(ignore_class=0)
        >>> metric.update_state(np.array([[4, 2, 0, 0]]), np.array([[4, 3, 3, 3]]))
        >>> float(metric.result())
        0.5
    """

    @validation.checked
    def __init__(
        self, ignore_class: int | None = None, name: str = "token_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(ignore_class, name, dtype)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        right, tokens, _ = self.compare(y_true, y_pred, sample_weight)
        # Of one axis: Keras divides by the length of any other.
        super().update_state(ops.reshape(right, (-1,)), ops.reshape(tokens, (-1,)))


@keras.saving.register_keras_serializable(package="kerasrnn")
class SequenceAccuracy(_Accuracy):
    """The fraction of rows in which every token is right.

        sum_b w_b prod_t [argmax_k y_pred_btk = y_true_bt] / sum_b w_b

    with the product over the steps that count. What follows the targets' end is not looked at, so
    that they should have an end symbol where the predictions are generated and not taught.

    Args:
        ignore_class: the id of padding: such targets are left out. None: every id is a class.
        name: of the metric.
        dtype: of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: scores of any kind, `(batch, time, classes)`, or ids, `(batch, time)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`; or of tokens, `(batch, time)`, which
            leave out those of weight 0.

    Masking: where the predictions carry a mask, the steps that it masks are left out. A row with
    nothing left does not count.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.SequenceAccuracy(ignore_class=0)
        >>> y_true = np.array([[4, 2, 0], [4, 3, 2], [0, 0, 0]])
        >>> metric.update_state(y_true, np.array([[4, 2, 2], [4, 2, 2], [4, 2, 2]]))
        >>> float(metric.result())
        0.5
    """

    @validation.checked
    def __init__(
        self, ignore_class: int | None = None, name: str = "sequence_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(ignore_class, name, dtype)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        right, tokens, rows = self.compare(y_true, y_pred, sample_weight)
        super().update_state(ops.all(right | (tokens == 0), axis=1), rows)
