"""The optimizer, and its learning rate."""

from typing import Any, Literal

import keras

from kerasrnn import validation
from kerasrnn.validation import NonNegativeNumber, PositiveInteger, PositiveNumber, Rate


class AdamW(keras.optimizers.AdamW):
    """Keras's `AdamW`, for gradients that are already summed over the devices, as in `fit`.

    Keras clips each device's share of the gradients before the sum, which makes the result depend
    on the number of devices. The arguments are those of Keras's class.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


@validation.checked
def adamw(
    steps: PositiveInteger,
    learning_rate: PositiveNumber = 1e-3,
    *,
    warmup: Rate = 0.0,
    schedule: Literal["cosine", "constant"] = "cosine",
    weight_decay: NonNegativeNumber = 0.01,
    clipping: Literal["global_norm", "norm", "value", "none"] = "global_norm",
    clip_at: PositiveNumber = 1.0,
) -> AdamW:
    """Create an `AdamW` (Loshchilov & Hutter 2019) with a schedule and gradient clipping.

    The learning rate rises linearly over the warmup and then decays to zero along a cosine
    (Loshchilov & Hutter 2017), or stays constant. Gradients are clipped (Pascanu et al. 2013).

    Args:
        steps: number of steps of the training: those of an epoch times the epochs.
        learning_rate: the peak learning rate.
        warmup: fraction of the steps over which the learning rate rises from zero, in [0, 1).
        schedule: "cosine" or "constant", after the warmup.
        weight_decay: decoupled weight decay.
        clipping: by the "global_norm", by the "norm" of each gradient, by "value", or "none".
        clip_at: threshold of the clipping.

    Raises:
        ValueError: an argument is invalid.

    Example:

        >>> import kerasrnn
        >>> optimizer = kerasrnn.training.adamw(steps=1000, learning_rate=0.01, warmup=0.1)
        >>> float(optimizer.learning_rate)
        0.0
    """
    rising = round(warmup * steps)
    if schedule == "cosine":
        rate: Any = keras.optimizers.schedules.CosineDecay(
            0.0 if rising else learning_rate,
            max(steps - rising, 1),
            warmup_target=learning_rate if rising else None,
            warmup_steps=rising,
        )
    elif rising:
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, rising, learning_rate)
    else:
        rate = learning_rate
    names = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
    clipped = {} if clipping == "none" else {names[clipping]: clip_at}
    return AdamW(rate, weight_decay=weight_decay, **clipped)
