"""The interface of a backend to the time loop, in addition to `keras.ops`."""

from collections.abc import Callable
from typing import Any, Literal, Protocol


class Backend(Protocol):
    """The two primitives of `Unroll`, and a check that a step can be recorded."""

    def scan(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        xs: Any,
        reverse: bool = False,
        prefetch: bool = True,
        steps: Any = None,
    ) -> tuple[Any, Any]:
        """`carry, y[t] = body(carry, x[t])` for every t; x and y have time as their first axis.

        `steps`: t ends before this number, if it is given; y is undefined from there on.

        `prefetch` reads all of x[t] a step ahead, on the backends where this matters for speed.
        Otherwise x[t] is read as part of the computation that uses it, which is faster if each
        element is used once, and much slower if elements are used repeatedly
        (benchmarks/speed/NOTES.md).
        """

    def scans_in_parallel(self) -> bool:
        """Whether a linear recurrence is an associative scan here, rather than a loop."""

    def cuts_sequences(self) -> bool:
        """Whether a linear recurrence is faster in segments that stay in the cache of a core."""

    def segment_rows(
        self, input_part: Callable[[Any], Any], steps: Any, outputs: int
    ) -> int | None:
        """The inputs' product of a forward pass without residuals is computed for so many rows,
        batch times time, at once; None: for all.

        Args:
            input_part: computes the product, from `steps`; only its shape matters.
            steps: the inputs of all steps.
            outputs: the number of elements in the outputs of all steps; 0 if only the last is
                returned.
        """

    def vjp(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
        """Return the results of the function and `vjp_fn`, the pullback, which maps the gradients
        of the results (None for zero) to those of the arguments."""

    def scope(self) -> Any:
        """A token that is equal at two points of a step unless one is inside a loop, branch or
        function of the backend, which no tensor can leave."""


class CudnnBackend(Protocol):
    """The functions of a backend that has cuDNN's kernels."""

    def cudnn_refusal(self, mode: Literal["lstm", "gru"], call: Any) -> str | None:
        """Why this backend cannot run a `loop.Call` in cuDNN; None if it can."""

    def cudnn_kernel(
        self, mode: Literal["lstm", "gru"], x: Any, states: list[Any], weights: Any, lengths: Any
    ) -> tuple[Any, list[Any]]:
        """Run one layer in one direction.

        Args:
            mode: the kernel.
            x: `(batch, time, features)`.
            states: the initial states, each `(batch, units)`.
            weights: see `cudnn.parameters`.
            lengths: `(batch,)`, int32: the number of steps of each row, at least 1; None: all.

        Returns:
            The outputs `(batch, time, units)`, zero after the last step of a row, and the final
            states.
        """

    def take_steps(self, x: Any, steps: Any) -> Any:
        """Take the steps with the indices `(batch, time)` from each row of `(batch, time, ...)`."""
