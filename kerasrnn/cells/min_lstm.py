"""The minimal long short-term memory: Feng et al. (2024)."""

from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.cells.min_gru import positive
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinLSTMCell(LinearCell):
    """One step of a minimal long short-term memory.

    Feng et al. (2024), "Were RNNs all we needed?", section 3.2 and, with `log_space`, appendix B.

        (a_f, a_i, a_h) = x_t W + b
        f_t = sigmoid(a_f),   i_t = sigmoid(a_i)
        f'_t = f_t / (f_t + i_t),   i'_t = i_t / (f_t + i_t)
        h_t = f'_t * h_{t-1} + i'_t * a_h

    An LSTM whose gates and candidate read only the input, without an output gate and a cell state
    of its own. Since the normalized gates add up to 1, the state is a weighted mean of the
    candidates, whatever the length of the sequence. Two gates instead of one, as in `MinGRU`, let
    a step be forgotten without writing much, or the reverse. Everything but the recurrence is
    computed for all steps at once, which makes long sequences cheap.

    The normalized gates are computed from exponentials that are divided by the largest of them:
    both gates may be so small that their quotient would be 0 / 0. With `log_space` the candidate is
    positive: `g(a_h) = a_h + 0.5` for `a_h >= 0`, and `sigmoid(a_h)` otherwise. The results are
    those of the log-space form, which is not needed here: the decays are in [0, 1].

    The functions of the gates are fixed; `activation` is applied to a_h. Weights: `kernel` W
    `(features, 3 * units)`, `bias` b `(3 * units,)`; the gates' columns are in the order f, i, h.
    State: h.

    Args:
        log_space: whether the candidate is g(a_h), as in the log-space form.
    """

    own_arguments: ClassVar = {"activation": None, "log_space": False}
    gates = ("f", "i", "h")
    gate_names = ()  # none is computed by an activation of the cell
    memory_signs = (1, -1, 0)

    def transition(self, a: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        a_f, a_i, a_h = ops.split(a, 3, axis=-1)
        # f = 1 / (1 + p) and i = 1 / (1 + q), with p = exp(-a_f) and q = exp(-a_i), so that
        # f' = (1 + q) / (2 + p + q), of which both parts are divided by the largest of 1, p and q.
        # These are three exponentials; with logarithms, six and two logarithms.
        shift = ops.stop_gradient(ops.minimum(ops.minimum(a_f, a_i), 0))
        one, p, q = ops.exp(shift), ops.exp(shift - a_f), ops.exp(shift - a_i)
        scale = 1 / (one + one + p + q)
        candidate = self.activation(a_h)
        if self.log_space:
            candidate = positive(candidate)
        return (one + q) * scale, (one + p) * scale * candidate


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinLSTM(Recurrent, cell_class=MinLSTMCell, after_loop=("log_space",)):
    """A minimal long short-term memory layer."""
