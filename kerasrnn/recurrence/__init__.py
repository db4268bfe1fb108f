"""The time loop, its products and its masks: the lowest layer, independent of any cell.

    a_t = x_t W + b                 the input part: one product for all steps, outside the loop
    r_t = h_{t-1} U                 the recurrent part: one product per step
    y_t, s_t = update(a_t, r_t, s_{t-1})    pointwise

`loop.run` is the only entry point. TensorFlow and JAX have loops of their own (`tensorflow/`,
`jax.py`). All backends share the unrolled loop (`unrolled.py`) and, on a GPU, the way into cuDNN
(`cudnn.py`). A cell runs step by step (`unroll.py`), as a linear recurrence over all steps
(`linear.py`) or in chunks of steps (`chunked.py`): `ways.py` chooses. What a custom cell needs is
imported from here:

>>> from kerasrnn.recurrence import Noise, Product, Weights
>>> from kerasrnn.recurrence import ConvolutionProduct, ElementwiseProduct, RecurrentProduct
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.recurrence.convolutions import ConvolutionProduct
from kerasrnn.recurrence.loop import Noise, Weights
from kerasrnn.recurrence.products import ElementwiseProduct, Product, RecurrentProduct

__all__ = [
    "ConvolutionProduct",
    "ElementwiseProduct",
    "Noise",
    "Product",
    "RecurrentProduct",
    "Weights",
]
