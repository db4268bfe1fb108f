"""Recurrent cells and their layers, one file per paper.

A cell says its gates, its weights and its pointwise `update`; `kerasrnn.recurrence` owns the rest.
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)
