"""The loss of guided alignment."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.keras_internals import is_concrete
from kerasrnn.losses.weights import as_weights, of_targets
from kerasrnn.validation import PositiveNumber

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class GuidedAlignment(keras.losses.Loss):
    """The cross-entropy of attention weights, given which positions they should attend to.

        l_t = - sum_j a_tj log alpha_tj,    a_tj = A_tj / sum_k A_tk

    (Chen, Matusov, Khadivi & Peter 2016, "Guided alignment training for topic-aware neural machine
    translation"). A_tj is positive if the symbol t of the target is aligned to the position j of
    the source, for example by a statistical word aligner. A symbol that is aligned to no position
    has a loss of 0.

    It is the loss of the output "attention" of `zoo.encoder_decoder(return_attention=True)`, beside
    that of the symbols.

    Args:
        epsilon: positive, added to the weights, since sparse ones may be 0.
        reduction: of Keras's losses.
        name: name of the loss.

    Call arguments:
        y_true: A, `(batch, time, positions)`, 0 or more.
        y_pred: alpha, `(batch, time, positions)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Masking: masked steps of the target are excluded. Masked positions have a weight of 0; no symbol
    should be aligned to them.

    Raises:
        ValueError: an argument is out of its range; the shapes differ; an alignment is negative or
            not finite. Where values are unknown, as in a graph, the loss is then NaN.

    Example:

        >>> import numpy as np, kerasrnn
        >>> loss = kerasrnn.losses.GuidedAlignment()
        >>> alpha = np.array([[[0.5, 0.5], [0.2, 0.8]]], "float32")
        >>> round(float(loss(np.array([[[1, 1], [0, 1]]]), alpha)), 4)  # (log 2 + log 1.25) / 2
        0.4581
    """

    @validation.checked
    def __init__(
        self,
        epsilon: PositiveNumber = 1e-7,
        reduction: str | None = "sum_over_batch_size",
        name: str = "guided_alignment",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.epsilon = epsilon

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        if sample_weight is not None:
            weights = as_weights(sample_weight, "float32")
            # Keras would take weights of rows for those of steps.
            predictions = validation.tensor("y_pred", y_pred)
            sample_weight = of_targets("sample_weight", weights, predictions)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each symbol, `(batch, time)`."""
        y_true = validation.tensor("y_true", y_true)
        y_pred = validation.tensor("y_pred", y_pred)
        shapes = [tuple(x.shape) for x in (y_true, y_pred)]
        if len(shapes[0]) != 3 or any(
            None not in pair and pair[0] != pair[1] for pair in zip(*shapes, strict=False)
        ):
            raise ValueError(
                f"y_true has the shape {shapes[0]}, and y_pred {shapes[1]}: expected alignments "
                "and attention weights of the same shape, (batch, time, positions)."
            )
        # Weights in half precision have no room for epsilon.
        dtype = (
            "float64" if keras.backend.standardize_dtype(y_pred.dtype) == "float64" else "float32"
        )
        aligned, alpha = ops.cast(y_true, dtype), ops.cast(y_pred, dtype)
        possible = ops.isfinite(aligned) & (aligned >= 0)
        known = validation.known(possible) if is_concrete(possible) else None
        if known is not None and not known.all():
            wrong = float(ops.convert_to_numpy(aligned)[~known][0])
            raise ValueError(f"y_true: expected finite numbers of at least 0; found {wrong}.")
        aligned = ops.where(possible, aligned, np.nan)
        total = ops.sum(aligned, axis=-1, keepdims=True)
        aligned = ops.divide_no_nan(aligned, total)
        return -ops.sum(aligned * ops.log(alpha + np.float32(self.epsilon)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
