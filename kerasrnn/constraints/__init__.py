"""Constraints for recurrent kernels.

>>> import kerasrnn
>>> layer = kerasrnn.GRU(8, recurrent_constraint=kerasrnn.constraints.Orthogonal())
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.constraints.orthogonal import Orthogonal

__all__ = ["Orthogonal"]
