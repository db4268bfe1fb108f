"""Dynamic programs over time that are no cell: the forward algorithm, Viterbi's algorithm.

They run in the backend's own loop, like the cells. A program is a function of a module, of tensors
alone: what differs from call to call must be an argument.

>>> from keras import ops
>>> from kerasrnn.recurrence import dynamic
>>> total, sums = dynamic.scan(lambda s, x: (s + x, s + x), ops.zeros(()), ops.array([1.0, 2.0]))
>>> float(total), [float(s) for s in sums]
(3.0, [1.0, 3.0])
"""

from collections.abc import Callable, Hashable
from typing import Any

from keras import ops, tree

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import backend_room, is_replaced

Tensor = Any


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, reverse: bool = False
) -> tuple[Any, Any]:
    """`carry, y[t] = body(carry, x[t])` for every t: see `backend.Backend.scan`."""
    if reverse and is_replaced():
        # tf2onnx puts what a loop writes into the order in which it was written.
        carry, ys = _loops().scan(body, carry, _reversed(xs))
        return carry, _reversed(ys)
    return _loops().scan(body, carry, xs, reverse)


def traced(
    program: Callable[..., Any], *arguments: Any, key: Hashable = None, **static: Hashable
) -> Any:
    """Call a program; an eager call runs a graph, which is traced for the first such call.

    Args:
        program: a function of a module.
        *arguments: structures of tensors.
        key: what is the same in all calls of one graph, such as the sizes that it reads as numbers.
            Other sizes may be unknown in a graph.
        **static: arguments that are part of the program; each value has its own graph.
    """
    return _loops().traced(program, arguments, key, static)


def with_gradient(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    *arguments: Tensor,
) -> Any:
    """The results of a program whose gradient is another one.

    Where the steps are written out, on PyTorch, the gradient is computed automatically.

    Args:
        forward: `forward(*arguments)` returns the results, tensors, and the residuals.
        backward: `backward(residuals, d_results)` returns a gradient for each argument; None for
            one that is not differentiable.
        *arguments: tensors.
    """
    return _loops().with_gradient(forward, backward, arguments)


def _reversed(xs: Any) -> Any:
    """A structure of tensors, from the last step to the first."""
    return tree.map_structure(lambda x: None if x is None else ops.flip(x, 0), xs)


def _loops() -> Any:
    """The module with the backend's loop."""
    room = backend_room()
    return room if hasattr(room, "scan") else unrolled
