"""Losses for sequences.

>>> import numpy as np, kerasrnn
>>> loss = kerasrnn.losses.SequenceCrossentropy(label_smoothing=0.1, ignore_class=0)
>>> p = np.full((1, 3, 9), 1 / 9, "float32")
>>> round(float(loss(np.array([[5, 2, 0]]), p)), 4)      # two tokens; log(9) each
2.1972
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.losses.alignment import GuidedAlignment
from kerasrnn.losses.crf import CRFLoss
from kerasrnn.losses.crossentropy import SequenceCrossentropy, sequence_crossentropy
from kerasrnn.losses.ctc import CTC
from kerasrnn.losses.forecasts import (
    NegativeLogLikelihood,
    QuantileLoss,
    StandardizedSquaredError,
)
from kerasrnn.losses.transducer import Transducer

__all__ = [
    "CTC",
    "CRFLoss",
    "GuidedAlignment",
    "NegativeLogLikelihood",
    "QuantileLoss",
    "SequenceCrossentropy",
    "StandardizedSquaredError",
    "Transducer",
    "sequence_crossentropy",
]
