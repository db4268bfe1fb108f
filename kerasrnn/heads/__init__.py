"""Heads: outputs of a model whose loss and decoding belong together.

>>> import numpy as np
>>> import kerasrnn
>>> crf = kerasrnn.CRF(["O", "B", "I"], scheme="BIO")
>>> scores = np.array([[[0.0, 1.0, 3.0], [0.0, 1.0, 2.0]]], "float32")    # I, I: not a span
>>> tags, score = crf.decode(scores)
>>> [crf.tags[n] for n in np.asarray(tags)[0]]
['B', 'I']
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.heads.adaptive_softmax import AdaptiveSoftmax
from kerasrnn.heads.crf import CRF
from kerasrnn.heads.forecast_parameters import ForecastParameters
from kerasrnn.heads.sampled_softmax import SampledSoftmax
from kerasrnn.heads.transducer import Transducer

__all__ = ["CRF", "AdaptiveSoftmax", "ForecastParameters", "SampledSoftmax", "Transducer"]
