"""The unrolled time loop: `unroll=True`, and backends without their own loop.

It uses only `keras.ops`, so it runs on every backend; the number of steps must be known, and the
gradient is computed automatically.
"""

import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable
from kerasrnn.recurrence.ways import over_time

Tensor = Any


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    reverse: bool = False,
    prefetch: bool = True,
    steps: None = None,
) -> tuple[Any, Any]:
    """See `backend.Backend`. All lengths are known, and no call has padded steps."""
    count = next(x.shape[0] for x in tree.flatten(xs) if x is not None)
    ys = [None] * count
    for t in reversed(range(count)) if reverse else range(count):
        x = tree.map_structure(lambda x, t=t: None if x is None else x[t], xs)
        carry, ys[t] = body(carry, x)
    return carry, tree.map_structure(lambda *y: None if y[0] is None else ops.stack(y), *ys)


def traced(
    program: Callable[..., Any], arguments: tuple[Any, ...], key: Any, static: dict[str, Any]
) -> Any:
    """See `dynamic`."""
    return program(*arguments, **static)


def with_gradient(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    arguments: tuple[Tensor, ...],
) -> Any:
    """See `dynamic`. The results are differentiated automatically."""
    return forward(*arguments)[0]


def scans_in_parallel() -> bool:
    """See `backend.Backend`. It takes fewer operations than a loop driven by Python."""
    return True


def cuts_sequences() -> bool:
    """See `backend.Backend`. There is no custom gradient."""
    return False


def segment_rows(*_: Any) -> None:
    """See `backend.Backend`."""


def loop(cell: Steppable, options: Options, call: Call) -> Results:
    return over_time(sys.modules[__name__], cell, options, call).forward()


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`. Nothing is compiled here."""
    backend = keras.config.backend()
    if jit_compile is True:
        raise ValueError(
            f"jit_compile=True: the {backend} backend has no compiled loop; expected 'auto' or "
            "False. For a loaded layer, set its attribute `jit_compile`."
        )
    if options.training and options.checkpoint_every is not None:
        raise ValueError(
            f"checkpoint_every={options.checkpoint_every!r}: the {backend} backend has no custom "
            "gradient of the time loop; expected None in training. For a loaded layer, set its "
            "attribute `checkpoint_every`."
        )
    return loop(cell, options, with_own_states(call))


def with_own_states(call: Call) -> Call:
    """Copy the initial states.

    Keras assigns a stateful layer's new states in place, and the gradient needs the old ones.
    """
    return call._replace(states=tree.map_structure(ops.copy, call.states))
