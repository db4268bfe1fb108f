"""Metrics for sequences, accumulated over all tokens or rows, independent of padding.

>>> import numpy as np, kerasrnn
>>> metric = kerasrnn.metrics.SequenceAccuracy(ignore_class=0)
>>> metric.update_state(np.array([[5, 2, 0], [3, 4, 2]]), np.array([[5, 2, 7], [3, 3, 2]]))
>>> float(metric.result())
0.5
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.metrics.accuracy import SequenceAccuracy, TokenAccuracy
from kerasrnn.metrics.edit_distance import EditDistance, edit_distance
from kerasrnn.metrics.error_rates import CharacterErrorRate, WordErrorRate
from kerasrnn.metrics.forecasts import CRPS, CalibrationError, Coverage
from kerasrnn.metrics.perplexity import Perplexity
from kerasrnn.metrics.spans import SpanF1

__all__ = [
    "CRPS",
    "CalibrationError",
    "CharacterErrorRate",
    "Coverage",
    "EditDistance",
    "Perplexity",
    "SequenceAccuracy",
    "SpanF1",
    "TokenAccuracy",
    "WordErrorRate",
    "edit_distance",
]
