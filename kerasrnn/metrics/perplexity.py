"""The perplexity of sequences."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.losses.crossentropy import losses_of
from kerasrnn.losses.weights import as_ids, mask_of, weigh

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class Perplexity(keras.metrics.Mean):
    """The exponential of the mean cross-entropy per token.

        exp(- sum_bt w_bt log p(y_bt) / sum_bt w_bt)

    over all tokens of all batches, and without label smoothing: it is therefore not the exponential
    of the loss that `fit` reports, which is a mean of means, and may be smoothed. K equally
    probable classes have the perplexity K.

    Args:
        from_logits: whether the predictions are logits. Otherwise they are probabilities; those
            below `keras.config.epsilon()` are raised to it, except for the output of a softmax: see
            `kerasrnn.losses.SequenceCrossentropy`.
        ignore_class: the id of padding: such targets are excluded. None: every id is a class.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: ids, `(batch, time)`.
        y_pred: probabilities or logits, `(batch, time, classes)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of tokens, `(batch, time)`.

    Returns:
        The perplexity; 1, the exponential of 0, before the first update.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: an argument is out of its range, the shapes do not match, a target is not a
            class, or the predictions contradict `from_logits`: see `SequenceCrossentropy`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.Perplexity(ignore_class=0)
        >>> metric.update_state(np.array([[1, 2, 0]]), np.array([[[0.25, 0.25, 0.5]] * 3]))
        >>> round(float(metric.result()), 4)      # 1 / sqrt(0.25 * 0.5)
        2.8284
    """

    _direction = "down"  # used by callbacks with mode="auto"

    @validation.checked
    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "perplexity",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_class = ignore_class

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        y_pred = ops.convert_to_tensor(y_pred)
        ids = as_ids(y_true, y_pred)
        mask = mask_of(y_pred)
        tokens, _ = weigh(ids, mask, sample_weight, self.ignore_class, self.dtype)
        losses = losses_of(ids, y_pred, tokens != 0, from_logits=self.from_logits)
        # One axis: Keras would divide by the length of further axes.
        super().update_state(ops.reshape(losses, (-1,)), ops.reshape(tokens, (-1,)))

    def result(self) -> Tensor:
        return ops.exp(super().result())

    def get_config(self) -> dict[str, Any]:
        return {
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            **super().get_config(),
        }
