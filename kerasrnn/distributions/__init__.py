"""What a model predicts about a number: the parameters of its distribution, or its quantiles.

A forecast maps the numbers of a dense layer to parameters, and computes with them: the
log-likelihood of targets, quantiles, samples, scores. It has no weights. The layer
`kerasrnn.ForecastParameters` applies it, `kerasrnn.losses.NegativeLogLikelihood` and
`kerasrnn.losses.QuantileLoss` train it, `kerasrnn.metrics.CRPS`, `Coverage` and `CalibrationError`
evaluate it.

>>> import numpy as np
>>> import kerasrnn
>>> normal = kerasrnn.distributions.Normal()
>>> p = np.array([[20.0, 2.0]], "float32")        # mean and standard deviation
>>> round(float(normal.quantile(p, 0.9)[0, 0]), 2)
22.56
>>> round(float(normal.log_prob(p, np.array([[22.0]]))[0]), 3)
-2.112
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.distributions.forecast import Distribution, Forecast
from kerasrnn.distributions.mixture import Mixture
from kerasrnn.distributions.negative_binomial import NegativeBinomial
from kerasrnn.distributions.normal import Normal
from kerasrnn.distributions.point import Point
from kerasrnn.distributions.quantiles import Quantiles
from kerasrnn.distributions.student_t import StudentT

__all__ = [
    "Distribution",
    "Forecast",
    "Mixture",
    "NegativeBinomial",
    "Normal",
    "Point",
    "Quantiles",
    "StudentT",
]
