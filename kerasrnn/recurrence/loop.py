"""The entry point of the time loop, and its interface to the cells."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import keras

from kerasrnn.recurrence.products import Product

Tensor = Any
JitCompile = Literal["auto"] | bool


class Noise(NamedTuple):
    """The random tensors of one call, by name, drawn outside the loop; empty in inference.

    A cell that wraps another keeps the noise of the inner cell under "cell".
    """

    weights: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)
    """For all rows and steps, of any shape: for example, which entries of a kernel are dropped."""

    sequences: dict[str, Any] = {}  # noqa: RUF012
    """One per sequence, `(batch, ...)`, the same at every step: for example, dropout masks."""

    steps: dict[str, Any] = {}  # noqa: RUF012
    """One per step, `(batch, time, ...)`; for a single step, `(batch, ...)`."""

    def of_one_step(self, steps: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All noise by name, with `steps` instead of the noise of all steps."""
        together = merged(self.weights, self.sequences)
        return merged(together, self.steps if steps is None else steps)

    def of(self, part: str) -> "Noise":
        """Nest this noise under a name, as the noise of a part of a cell."""
        return Noise(*({part: named} if named else {} for named in self))

    def inside(self, part: str) -> "Noise":
        """The noise nested under a name."""
        return Noise(*(named.get(part, {}) for named in self))


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested dicts that have no leaf in common."""
    both = {**one, **other}
    for name in one.keys() & other.keys():
        if not (isinstance(one[name], Mapping) and isinstance(other[name], Mapping)):
            raise ValueError(
                f"draw_noise: {name!r} is the name of two random tensors of different kinds; "
                "expected a name for each."
            )
        both[name] = merged(one[name], other[name])
    return both


class Weights(dict[str, Any]):
    """The weights of a cell by name, in a separate dict for each of its parts, with the memory and
    the noise."""

    def __init__(
        self,
        weights: Mapping[str, Any],
        memory: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Any] | None = None,
        training: bool = False,
    ) -> None:
        super().__init__(weights)
        self.memory: Mapping[str, Tensor] = memory or {}
        """The prepared memory, of cells that read one."""
        self.noise: Mapping[str, Any] = noise or {}
        """The noise by name: inside a step, that of the step."""
        self.training = training
        """Whether the step is one of training."""

    def replaced(self, named: Mapping[str, Any]) -> "Weights":
        """The same with other values of some weights."""
        return Weights({**self, **named}, self.memory, self.noise, self.training)

    def of(self, part: str) -> "Weights":
        """The weights of a part of the cell, such as the inner cell, and its noise."""
        return Weights(self[part], self.memory, self.noise.get(part), self.training)


class Call(NamedTuple):
    """The tensors of one call of the loop."""

    sequences: Tensor
    """`(batch, time, ...)`"""

    states: list[Any]
    """The initial states, each a tensor `(batch, ...)` or a structure of tensors."""

    weights: dict[str, Any]
    """The cell's weights by name; those of its parts in dicts of their own."""

    memory: dict[str, Tensor]
    """Further inputs of a step, by name, with a batch axis; constant over time."""

    noise: Noise
    """The random tensors drawn for this call."""

    mask: Tensor | None
    """Boolean `(batch, time)`, True at valid steps."""

    steps: Tensor | None = None
    """The number of steps, if the sequences are padded to a greater length. The steps after it are
    not run; their outputs are undefined."""


class Results(NamedTuple):
    """The results of the loop."""

    output: Tensor | None
    """The last output, `(batch, ...)`; None with `return_sequences`."""

    outputs: Tensor | None
    """The output of every step, `(batch, time, ...)`; None unless `return_sequences`."""

    states: list[Any]
    """The final states, structured as the initial ones."""

    all_states: list[Any] | None = None
    """The states after every step, `(batch, time, ...)`; None unless `return_all_states`."""


@dataclass(frozen=True)
class Options:
    """Options of the time loop; part of the cache key of compiled loops."""

    return_sequences: bool = False
    go_backwards: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    return_all_states: bool = False
    training: bool = False
    checkpoint_every: int | Literal["sqrt"] | None = None
    truncate_every: int | None = None
    use_cudnn: Literal["auto"] | bool = False


class Adjoint(Protocol):
    """A cell's own gradient of a step, in which each product is applied once."""

    def step_with_residuals(
        self, a: Tensor, states: Sequence[Any], weights: Weights, products: tuple[Product, ...]
    ) -> tuple[Tensor, list[Any], Any]:
        """Compute one step and its residuals for `step_adjoint`: `(output, new_states,
        residuals)`."""

    def step_adjoint(
        self,
        residuals: Any,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Product, ...],
        d_output: Tensor,
        d_states: Sequence[Any],
    ) -> tuple[Tensor, list[Any], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)` of one step, given the gradients of its
        results."""

    def product_arguments(self, residuals: Any, states: Sequence[Any]) -> list[Tensor]:
        """The arguments of each product, for one step or for all of them at once."""


class Steppable(Protocol):
    """The interface of a cell that the loop can run. `kerasrnn.Cell` implements it.

    States are lists; an element is a tensor `(batch, ...)` of any rank, or a structure of tensors.
    """

    step_output_shape: tuple[int, ...]
    """The shape of a step's output, without the batch axis."""

    single_read: bool
    """Whether a step uses each element of `a` once: see `prefetch` of `backend.Backend.scan`."""

    xla_pays_off: bool
    """Whether a loop on CPUs is faster if XLA compiles it: not if it is made of convolutions."""

    gates: tuple[str, ...]
    """Names of the column blocks of the kernels and the bias, in order."""

    onnx_operator: Any
    """An `OnnxOperator` with the cell's equations, or None; cuDNN has two of them."""

    alters_step: bool
    """Whether `step` computes something else than the equations of `onnx_operator` and of
    `transition`, which then do not apply."""

    is_linear: bool
    """Whether the states follow a linear recurrence: see `LinearSteppable`."""

    is_chunked: bool
    """Whether a chunk of steps can be computed at once: see `ChunkedSteppable`."""

    def adjoint(self) -> Adjoint | None:
        """The cell's own gradient, as it is configured; None: its steps are differentiated
        automatically."""

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Select the weights and the parts of the memory that a step uses directly."""

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        """Compute the part of all steps that does not depend on the state.

        Here, all weights and the entire memory are given, and the noise of all these steps.
        """

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        """The products of a step, prepared before the loop, from all weights."""

    def step(
        self, a: Tensor, states: Sequence[Any], weights: Weights, products: tuple[Product, ...]
    ) -> tuple[Tensor, list[Any]]:
        """Compute one step: `(output, new_states)`. It may apply the products any number of times,
        in any order."""


class LinearSteppable(Steppable, Protocol):
    """The interface of a cell with `is_linear`. `kerasrnn.LinearCell` implements it."""

    complex_states: bool
    """Whether there are two states, the real and the imaginary part of one."""

    window: int
    """How many earlier inputs a step reads; they are then the last state."""

    def split_window(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The input part, and the inputs that the window takes up."""

    def transition(self, a: Tensor, weights: Weights) -> tuple[Any, Any]:
        """Compute the decays and updates, for one step or for all steps at once."""

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        """Compute the outputs from the new states, for one step or for all steps at once."""


class ChunkedSteppable(Steppable, Protocol):
    """The interface of a cell with `is_chunked`. `kerasrnn.ChunkedCell` implements it."""

    chunk_size: int
    """How many steps are computed at once."""

    def chunk(
        self, a: Tensor, states: list[Any], keep: Tensor | None, weights: Weights
    ) -> tuple[Tensor, list[Any]]:
        """Compute some steps: `(outputs, new_states)`. `a` is `(steps, batch, ...)`, and `keep`,
        `(steps, batch, 1)`, tells which of them are valid; the outputs of others do not matter."""


def state_dtype(compute_dtype: str) -> str:
    """The dtype in which states are carried, and a step is computed: not half precision, since the
    errors of a carried state accumulate over the steps."""
    return "float32" if compute_dtype in ("float16", "bfloat16") else compute_dtype


Substitute = Callable[[Steppable, Options, Call], Results | None]
_substitute: ContextVar[Substitute | None] = ContextVar("_substitute", default=None)


@contextmanager
def replaced_by(substitute: Substitute) -> Iterator[None]:
    """Within this context, run `substitute(cell, options, call)` first; it replaces the loop unless
    it returns None.

    For exports, whose formats have their own recurrent operators.
    """
    token = _substitute.set(substitute)
    try:
        yield
    finally:
        _substitute.reset(token)


def is_replaced() -> bool:
    """Whether the loop may be replaced: see `replaced_by`."""
    return _substitute.get() is not None


_never_exported: ContextVar[bool] = ContextVar("_never_exported", default=False)


@contextmanager
def never_exported() -> Iterator[None]:
    """Within this context, graphs for inference are traced that only this process calls.

    On TensorFlow, their loops are compiled when that has paid off, as in Keras's `predict`.
    """
    token = _never_exported.set(True)
    try:
        yield
    finally:
        _never_exported.reset(token)


def is_never_exported() -> bool:
    """Whether the graph being traced stays in this process: see `never_exported`."""
    return _never_exported.get()


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """Run a cell over time.

    The mask rule: at a masked step the states are carried over unchanged, and the output repeats
    the previous one (zeros before the first valid step), or is zeros with `zero_output_for_mask`.
    With `go_backwards`, the steps and the mask are processed from last to first, and the outputs
    and the states of all steps are in the order of computation.

    Args:
        cell: defines `input_part`, `recurrent_products` and `step`.
        options: see `Options`.
        call: see `Call`.
        jit_compile: True always compiles the loop with XLA; False never compiles it by itself
            (except on JAX, which has no other loop); with "auto" the backend decides. A loop
            inside a function that XLA compiles is compiled with it.

    Raises:
        ValueError: `use_cudnn=True`, and cuDNN cannot run the call.
    """
    substitute = _substitute.get()
    if substitute is not None:
        results = substitute(cell, options, call)
        if results is not None:
            return results
    return backend_room().run(cell, options, call, jit_compile)


def excludes_xla(cell: Steppable, options: Options, jit_compile: JitCompile) -> bool:
    """Whether a cell with these options runs in cuDNN in a way that XLA cannot compile."""
    on_tensorflow = keras.config.backend() == "tensorflow"
    return on_tensorflow and backend_room().excludes_xla(cell, options, jit_compile)


def backend_room() -> Any:
    """The module of the backend, with its `run`."""
    backend = keras.config.backend()
    room = backend if backend in ("tensorflow", "jax", "torch") else "unrolled"
    return importlib.import_module(f"{__package__}.{room}")


def primitives() -> Any:
    """The module of the backend with the functions of `backend.Backend`."""
    room = backend_room()
    if keras.config.backend() == "tensorflow":
        return importlib.import_module(f"{room.__name__}.primitives")
    return room
