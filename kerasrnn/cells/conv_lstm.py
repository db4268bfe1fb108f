"""Convolutional LSTM: Shi et al. (2015)."""

from kerasrnn.cells.convolutional import ConvolutionalCell, layers_of, of_each_rank
from kerasrnn.cells.lstm import LSTMGates


class _ConvLSTMCell(LSTMGates, ConvolutionalCell):
    """One step of an LSTM with {rank}D convolutions: the cell of `ConvLSTM{rank}D`.

    Shi et al. (2015), "Convolutional LSTM network: a machine learning approach for precipitation
    nowcasting", equation 3 without the peepholes, as in Keras. With * for a convolution and . for
    the elementwise product:

        a_t = W * x_t + b,   r_t = U * h_{t-1},   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t . c_{t-1} + i_t . tanh(p_c)
        h_t = o_t . tanh(c_t)

    For sequences of images or of other measurements on a grid, such as radar maps: each pixel of
    the states depends only on pixels near it, in the same way everywhere.

    The convolution of the inputs has `strides`, `padding` and `dilation_rate`; that of the states
    has strides of 1 and pads with zeros. `sigmoid` is `recurrent_activation`, `tanh` is
    `activation`. Weights: `kernel` W `(*kernel_size, channels, 4 * filters)`, `recurrent_kernel` U
    `(*kernel_size, filters, 4 * filters)`, `bias` b `(4 * filters,)`, with the gates' channels in
    the order i, f, c, o. States: h, c.
    """


ConvLSTM1DCell, ConvLSTM2DCell, ConvLSTM3DCell = of_each_rank(_ConvLSTMCell)
ConvLSTM1D, ConvLSTM2D, ConvLSTM3D = layers_of(
    (ConvLSTM1DCell, ConvLSTM2DCell, ConvLSTM3DCell),
    "An LSTM layer with {rank}D convolutions, drop-in for `keras.layers.ConvLSTM{rank}D`.",
)
