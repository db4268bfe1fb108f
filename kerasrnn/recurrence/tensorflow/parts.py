"""The batch cut into parts, one for each core: rows are independent."""

import itertools
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from keras import tree

from kerasrnn.recurrence.loop import Call, Results
from kerasrnn.recurrence.tensorflow.structures import leaves, length

# The minimum number of rows per core, and the largest recurrent kernel, in bytes, that is worth
# reading once per core: measured in benchmarks/speed/NOTES.md.
ROWS_A_PART = 8
KERNEL_BYTES = 1 << 20


def parts_of(call: Call) -> list[Call]:
    """Split the call along its batch, one part per core, where that is faster."""
    parts = cores()
    if call.sequences.shape[0] is not None:
        parts = max(1, min(parts, call.sequences.shape[0] // ROWS_A_PART))
    if _recurrent_bytes(call.weights) > KERNEL_BYTES:
        parts = 1
    return _cut(call, parts)


def parts_of_graphs(call: Call) -> list[Call]:
    """Split the call along its batch, one part per core, if there are as many rows."""
    return _cut(call, min(cores(), call.sequences.shape[0] or cores()))


def _cut(call: Call, parts: int) -> list[Call]:
    """Split the call along its batch; all parts have the same weights."""
    of_batch = call._replace(weights={}, noise=call.noise._replace(weights={}), steps=None)
    return [
        part._replace(
            weights=call.weights,
            noise=part.noise._replace(weights=call.noise.weights),
            steps=call.steps,
        )
        for part in split_batch(of_batch, parts)
    ]


def _recurrent_bytes(weights: Mapping[str, Any]) -> int:
    """The size of the recurrent kernels; a custom cell may have none."""
    size = 0
    for name, weight in weights.items():
        if isinstance(weight, dict):
            size += _recurrent_bytes(weight)
        elif name == "recurrent_kernel":
            size += weight.shape.num_elements() * weight.dtype.size
    return size


def cores() -> int:
    """The number of cores that share the batch, on a machine without a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):  # Linux only: the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_batch(structure: Any, parts: int) -> list[Any]:
    """Cut every tensor of a structure along its first axis, the batch."""
    if parts == 1:
        return [structure]
    batch = length(leaves(structure)[0])
    cuts = [batch * k // parts for k in range(parts + 1)]
    return [
        tree.map_structure(lambda x, a=a, b=b: None if x is None else x[a:b], structure)
        for a, b in itertools.pairwise(cuts)
    ]


def joined(results: list[Results]) -> Results:
    if len(results) == 1:
        return results[0]
    return tree.map_structure(lambda *x: None if x[0] is None else tf.concat(x, 0), *results)
