"""The time loop on TensorFlow.

There are three ways of running it, and one from the first to the second; `choice.py` chooses:

- as a graph: a `tf.while_loop`, part of the surrounding graph (`graph.py`); eagerly, inside a
  `tf.function`; for convolutions on CPUs, in training, a graph for each part of the batch
  (`functions.py`);
- compiled: by XLA, on CPUs once for each part of the batch. Rows are independent, so every core
  loops over its own rows, without synchronization at each step (`compiled.py`);
- compiled later: as a graph, until it has run as long as a compilation takes (`later.py`);
- in cuDNN, on a GPU (`cudnn.py`).

Dynamic programs (`programs.py`) run as graphs, in the same scan.

In training the first two use the loop's custom gradient. Otherwise the graph is differentiated
automatically and stores nothing unless a gradient is needed, and the compiled loop runs forward a
second time for a gradient.
"""

from kerasrnn.recurrence.tensorflow.choice import run
from kerasrnn.recurrence.tensorflow.cudnn import excludes_xla
from kerasrnn.recurrence.tensorflow.primitives import scan
from kerasrnn.recurrence.tensorflow.programs import traced, with_gradient

__all__ = ["excludes_xla", "run", "scan", "traced", "with_gradient"]
