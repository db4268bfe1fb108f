"""Convolutional GRU: Ballas, Yao, Pal & Courville (2016)."""

from kerasrnn.cells.convolutional import ConvolutionalCell, layers_of, of_each_rank
from kerasrnn.cells.gru import GRUGates


class _ConvGRUCell(GRUGates, ConvolutionalCell):
    """One step of a gated recurrent unit with {rank}D convolutions.

    Ballas, Yao, Pal & Courville (2016), "Delving deeper into convolutional networks for learning
    video representations", section 3.1, where it is called GRU-RCN. With * for a convolution and .
    for the elementwise product:

        (a_z, a_rho, a_h) = W * x_t + b,   (r_z, r_rho, r_h) = U * h_{t-1} + beta
        z_t = sigmoid(a_z + r_z),   rho_t = sigmoid(a_rho + r_rho)
        candidate_t = tanh(a_h + rho_t . r_h)                  with reset_after=True
        candidate_t = tanh(a_h + U_h * (rho_t . h_{t-1}))      with reset_after=False, and beta = 0
        h_t = z_t . h_{t-1} + (1 - z_t) . candidate_t

    For sequences of images or feature maps, with three quarters of a ConvLSTM's weights and half of
    its state. The paper resets before the product, `reset_after=False`, has no biases, and
    exchanges z and 1 - z. The defaults here are those of `GRU`: one convolution of the state per
    step instead of two.

    The convolution of the inputs has `strides`, `padding` and `dilation_rate`; that of the states
    has strides of 1 and pads with zeros. `sigmoid` is `recurrent_activation`, `tanh` is
    `activation`. Weights: `kernel` W `(*kernel_size, channels, 3 * filters)`, `recurrent_kernel` U
    `(*kernel_size, filters, 3 * filters)`, `bias`: b and beta as `(2, 3 * filters)` with
    `reset_after`, otherwise b, `(3 * filters,)`; the gates' channels are in the order z, rho, h.
    State: h.
    """


ConvGRU1DCell, ConvGRU2DCell, ConvGRU3DCell = of_each_rank(_ConvGRUCell)
ConvGRU1D, ConvGRU2D, ConvGRU3D = layers_of(
    (ConvGRU1DCell, ConvGRU2DCell, ConvGRU3DCell),
    "A gated recurrent unit layer with {rank}D convolutions.",
    after_loop=("reset_after",),
)
