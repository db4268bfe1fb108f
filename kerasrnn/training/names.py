"""The names of strategies and precisions.

This module does not import Keras, so that the command line shows its help quickly.
"""

from typing import Literal

Strategy = Literal["auto", "one", "mirrored", "multiworker", "tpu"]
"""One device; all devices of this machine (mirrored); all workers of TF_CONFIG (multiworker); the
TPU given by TPU_NAME; or the widest one available (auto)."""

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the computations; weights stay float32, and float16 uses loss scaling."""
