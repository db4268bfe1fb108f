"""Layers built from recurrent layers: bidirectional and stacked layers, and others.

As in Keras, the cells and their layers are also available here:

>>> import kerasrnn
>>> kerasrnn.layers.LSTM is kerasrnn.LSTM
True
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)

from kerasrnn.cells import *  # noqa: F403
from kerasrnn.cells import __all__ as _of_cells
from kerasrnn.layers.batched_time_distributed import BatchedTimeDistributed
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.frame_stacking import FrameStacking
from kerasrnn.layers.missing_indicator import MissingIndicator
from kerasrnn.layers.pooling import SequencePooling
from kerasrnn.layers.sound import MFCC, LogMel
from kerasrnn.layers.spec_augment import SpecAugment
from kerasrnn.layers.stacked import StackedRNN

__all__ = [
    *_of_cells,
    "MFCC",
    "BatchedTimeDistributed",
    "Bidirectional",
    "FrameStacking",
    "LogMel",
    "MissingIndicator",
    "SequencePooling",
    "SpecAugment",
    "StackedRNN",
]
