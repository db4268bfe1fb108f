"""Losses of sequences.

>>> import numpy as np, kerasrnn
>>> loss = kerasrnn.losses.SequenceCrossentropy(label_smoothing=0.1)
>>> logits = np.zeros((1, 3, 9), "float32")
>>> round(float(loss(np.array([[5, 2, 0]]), logits)), 4)      # two tokens; log(9) each
2.1972
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.losses.crossentropy import SequenceCrossentropy, sequence_crossentropy

__all__ = ["SequenceCrossentropy", "sequence_crossentropy"]
