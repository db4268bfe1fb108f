"""Initial biases that set how long gates remember."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.validation import Seed

LSTM = ("i", "f", "c", "o")
GRU = ("z", "rho", "h")


@keras.saving.register_keras_serializable(package="kerasrnn")
class ChronoInitializer(keras.initializers.RandomUniform):
    """The chrono initialization: gates start with memories of 1 to `longest` steps.

    Tallec & Ollivier (2018), "Can recurrent neural networks warp time?", equation 16:

        tau ~ U[1, longest - 1],   b_f = log tau,   b_i = -b_f

    A gate that retains the state with sigmoid(log tau) = tau / (1 + tau) forgets within about tau
    steps. In LSTM, with `unit_forget_bias=False`, f retains the state and i admits the input; in
    GRU, z retains it, and 1 - z admits the input by itself. All other biases are 0.

    Args:
        longest: T_max, the longest memory in steps, more than 2.
        gates: the cell's gates in the order of its bias, for example `kerasrnn.LSTMCell.gates`.
        seed: integer that makes the initialization reproducible.

    Raises:
        ValueError: `longest` is 2 or less; `gates` are not those of LSTM or GRU; the number of
            blocks in the bias differs from the number of gates.

    Example:

        >>> import numpy as np, kerasrnn
        >>> chrono = kerasrnn.ChronoInitializer(100, kerasrnn.LSTMCell.gates, seed=0)
        >>> layer = kerasrnn.LSTM(8, bias_initializer=chrono, unit_forget_bias=False)
        >>> layer.build((None, None, 3))
        >>> i, f, c, o = np.split(layer.get_weights()[2], 4)
        >>> bool((i == -f).all()), bool((0 <= f).all() and (f <= np.log(99)).all())
        (True, True)
    """

    @validation.checked
    def __init__(
        self, longest: float, gates: Sequence[str], seed: Seed | dict[str, Any] | None = None
    ) -> None:
        longest = validation.number("longest", longest, above=2)
        if not isinstance(gates, (tuple, list)) or tuple(gates) not in (LSTM, GRU):
            raise ValueError(f"gates={gates!r}: expected {LSTM} or {GRU}.")
        super().__init__(1.0, longest - 1, seed)
        self.longest = longest
        self.gates = tuple(gates)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        *rows, width = shape
        units, rest = divmod(width, len(self.gates))
        if rest or (rows and (self.gates != GRU or rows != [2])):
            raise ValueError(
                f"shape={tuple(shape)}: expected a bias of the gates {', '.join(self.gates)}; with "
                "LSTM, unit_forget_bias=False."
            )
        keep = ops.log(super().__call__((units,), dtype))
        if self.gates == LSTM:
            return ops.concatenate([-keep, keep, ops.zeros_like(keep), ops.zeros_like(keep)])
        bias = ops.concatenate([keep, ops.zeros((2 * units,), keep.dtype)])
        # If the recurrent part has its own bias, the two are added.
        return ops.stack([bias, ops.zeros_like(bias)]) if rows else bias

    def get_config(self) -> dict[str, Any]:
        seed = super().get_config()["seed"]
        return {"longest": self.longest, "gates": list(self.gates), "seed": seed}
