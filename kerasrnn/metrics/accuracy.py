"""The accuracy of tokens and of entire sequences."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.weights import as_ids, mask_of, weigh

Tensor = Any


class _Accuracy(keras.metrics.Mean):
    """A metric of ids; Keras accumulates the sums."""

    _direction = "up"  # used by callbacks with mode="auto"

    @validation.checked
    def __init__(
        self, ignore_class: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.ignore_class = ignore_class

    def compare(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compare ids; return the matches and the weights of tokens and of rows."""
        mask = mask_of(y_pred)
        predicted = predicted_ids(y_pred)
        ids = as_ids(y_true, predicted)
        return ids == predicted, *weigh(ids, mask, sample_weight, self.ignore_class, self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"ignore_class": self.ignore_class, **super().get_config()}


def predicted_ids(y_pred: Tensor) -> Tensor:
    """Convert predictions to ids `(batch, time)`: the most probable ones, if they are scores."""
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
    """The fraction of correct tokens.

        sum_bt w_bt [argmax_k y_pred_btk = y_true_bt] / sum_bt w_bt

    over all batches. `keras.metrics.SparseCategoricalAccuracy` (Keras 3.15) supports masks and
    weights of tokens, but not padding in the targets. With batches of different lengths, it weights
    a token less the wider its batch is, padding included. In half precision it accepts ids next to
    the correct one, since bfloat16 cannot represent every integer above 256.

    Args:
        ignore_class: the id of padding: such targets are excluded. None: every id is a class.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: scores of any kind, `(batch, time, classes)`, or ids, `(batch, time)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Masking: if the predictions have a mask, its masked steps are excluded.

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
        # One axis: Keras would divide by the length of further axes.
        super().update_state(ops.reshape(right, (-1,)), ops.reshape(tokens, (-1,)))


@keras.saving.register_keras_serializable(package="kerasrnn")
class SequenceAccuracy(_Accuracy):
    """The fraction of rows in which every token is correct.

        sum_b w_b prod_t [argmax_k y_pred_btk = y_true_bt] / sum_b w_b

    where the product is over the steps in use. What follows the end of the targets is ignored, so
    targets should include an end symbol if the predictions are generated without teacher forcing.

    Args:
        ignore_class: the id of padding: such targets are excluded. None: every id is a class.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: scores of any kind, `(batch, time, classes)`, or ids, `(batch, time)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`; or of tokens, `(batch, time)`, where
            tokens of weight 0 are excluded.

    Masking: if the predictions have a mask, its masked steps are excluded. A fully excluded row
    does not count.

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
