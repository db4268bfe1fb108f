"""Attention over the positions of a source, as layers and as a cell of the time loop.

    context, weights = attention(query, keys, values, keys_mask)

`AttentionCell` adds attention to any kerasrnn cell.

>>> import numpy as np, kerasrnn
>>> source = np.ones((2, 5, 6), "float32")
>>> cell = kerasrnn.AttentionCell(kerasrnn.GRUCell(8), kerasrnn.BahdanauAttention(8))
>>> layer = kerasrnn.RNN(cell, return_sequences=True)
>>> tuple(layer(np.ones((2, 7, 3), "float32"), memory=source).shape)
(2, 7, 14)
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)
