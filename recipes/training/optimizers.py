"""The optimizer, and its learning rate."""

from typing import Any

import keras

from kerasrnn.recipes.base.config import Config


class AdamW(keras.optimizers.AdamW):
    """A Keras optimizer that receives gradients already summed over the devices.

    Keras clips each device's share of the gradients before the sum, which makes the result depend
    on the number of devices.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


def optimizer(config: Config, steps: int) -> keras.optimizers.Optimizer:
    """Create the configured optimizer for epochs of `steps` batches."""
    total = config.epochs * steps
    warmup = round(config.warmup * total)
    if config.schedule == "cosine":
        rate: Any = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else config.learning_rate,
            max(total - warmup, 1),
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    elif warmup:
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, config.learning_rate)
    else:
        rate = config.learning_rate
    clipping = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
    return AdamW(
        rate,
        weight_decay=config.weight_decay,
        **({} if config.clipping == "none" else {clipping[config.clipping]: config.clip_at}),
    )
