"""Initial biases that set how long gates remember."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.validation import Seed


@keras.saving.register_keras_serializable(package="kerasrnn")
class ChronoInitializer(keras.initializers.RandomUniform):
    """The chrono initialization: gates start with memories of 1 to `longest` steps.

    Tallec & Ollivier (2018), "Can recurrent neural networks warp time?", equation 16:

        tau ~ U[1, longest - 1],   b_f = log tau,   b_i = -b_f

    A gate that retains the state with sigmoid(log tau) = tau / (1 + tau) forgets within about tau
    steps. In LSTM, f retains the state and i admits the input; in GRU, z retains it, and 1 - z
    admits the input by itself. Each cell with such gates has their signs, `memory_signs`. All other
    biases are 0. A cell with `unit_forget_bias` needs False, and otherwise raises an error.

    Args:
        longest: T_max, the longest memory in steps, more than 2.
        signs: for each block of the bias, 1, -1 or 0: the factor of log tau. Those of a cell are
            its `memory_signs`, for example `kerasrnn.LSTMCell.memory_signs`.
        seed: integer that makes the initialization reproducible.

    Raises:
        ValueError: `longest` is 2 or less; `signs` has other values, or only zeros; the bias has
            another number of blocks.

    Example:

        >>> import numpy as np, kerasrnn
        >>> chrono = kerasrnn.ChronoInitializer(100, kerasrnn.LSTMCell.memory_signs, seed=0)
        >>> layer = kerasrnn.LSTM(8, bias_initializer=chrono, unit_forget_bias=False)
        >>> layer.build((None, None, 3))
        >>> i, f, c, o = np.split(layer.get_weights()[2], 4)
        >>> bool((i == -f).all()), bool((0 <= f).all() and (f <= np.log(99)).all())
        (True, True)
    """

    @validation.checked
    def __init__(
        self, longest: float, signs: Sequence[int], seed: Seed | dict[str, Any] | None = None
    ) -> None:
        longest = validation.number("longest", longest, above=2)
        if (
            not isinstance(signs, (tuple, list))
            or not any(signs)
            or any(sign not in (-1, 0, 1) for sign in signs)
        ):
            raise ValueError(
                f"signs={signs!r}: expected 1, -1 or 0 for each block of the bias, as in a cell's "
                "memory_signs, and not only 0."
            )
        super().__init__(1.0, longest - 1, seed)
        self.longest = longest
        self.signs = tuple(signs)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        *rows, width = shape
        units, rest = divmod(width, len(self.signs))
        if rest or rows not in ([], [2]):
            raise ValueError(
                f"shape={tuple(shape)}: expected a bias of {len(self.signs)} blocks, one for each "
                "of the signs."
            )
        tau = ops.log(super().__call__((units,), dtype))
        bias = ops.concatenate([sign * tau for sign in self.signs])
        # If the recurrent part has its own bias, the two are added.
        return ops.stack([bias, ops.zeros_like(bias)]) if rows else bias

    def get_config(self) -> dict[str, Any]:
        seed = super().get_config()["seed"]
        return {"longest": self.longest, "signs": list(self.signs), "seed": seed}
