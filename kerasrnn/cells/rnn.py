"""`RNN` runs any cell over time, in kerasrnn's loop or in Keras's.

One class, since Keras's `call`, which it extends, passes states, masks and options through the
attributes and methods of one layer. Apart from it are the checks of given states
(`initial_states.py`) and Keras's loop (`keras_loop.py`); layers derived from a cell class are in
`layer.py`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask, check_steps, fits, row_mask
from kerasrnn.cells import initial_states, keras_loop
from kerasrnn.cells.arguments import described, document, filled
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.states import as_keras, map_shapes, named_shapes
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.recurrence import loop, ways
from kerasrnn.recurrence.checks import check_noise
from kerasrnn.recurrence.loop import Call, JitCompile, Noise, Options
from kerasrnn.validation import PositiveInteger

Tensor = Any

# The states of every step in the current call of a layer: see `RNN.collect_states`.
_all_states: ContextVar[list[Any]] = ContextVar("_all_states")

# Keyword arguments that Keras's layers lack, with their defaults.
EXTRAS = {
    "jit_compile": "auto",
    "checkpoint_every": None,
    "truncate_every": None,
    "learn_initial_state": False,
    "return_all_states": False,
}

CALL = """
Call arguments:
    sequences: `(batch, time, {inputs})`, numbers of any dtype: they are cast to the layer's compute
        dtype. A Keras cell receives them unchanged, and may take more axes.
    initial_state: the initial states, {states}: a list, or a single tensor if
        there is only one state. Default: zeros, or the weights of `learn_initial_state`; if
        `stateful`, the final states of the last batch.
    mask: boolean `(batch, time)`, or numbers that are 0 or 1; True = use the step. Default: the
        mask attached to the sequences, if any.
    training: whether dropout is applied. The random state advances only in training.
    memory: `(batch, positions, width)`: what a cell attends to; only for cells that read a memory,
        such as `AttentionCell`. Their `initial_state` may be that of the inner cell only.
    memory_mask: boolean `(batch, positions)`, True = may be attended to. Default: the mask
        attached to the memory, if any.

Returns:
    The output, `(batch, {outputs})`, or `(batch, time, {outputs})` with `return_sequences`; then,
    with `return_all_states`, the states after every step, each with a time axis after the batch
    axis; then, with `return_state`, the final states, {states}.

Masking: at a masked step the states are carried over, and the output repeats the previous one
(zeros before the first valid step), or is zeros with `zero_output_for_mask`. Any pattern of masked
steps is allowed, including fully masked rows: such a row keeps its initial state and outputs zeros.
With `return_sequences`, the mask is passed on to the next layer, in the order of the outputs:
reversed with `go_backwards`. The states of all steps have it in any case.

Raises:
    ValueError: an argument is out of its range; `sequences` is not a dense numeric tensor, has
        another number of axes, has no steps, or has an unknown number of steps with `unroll`;
        `mask` or `initial_state` does not fit; a memory is missing or unexpected. In a graph with
        an unknown number of steps, a sequence without steps returns zeros and the initial states
        instead.
    TypeError: an unknown or missing constructor argument.
"""


@keras.saving.register_keras_serializable(package="kerasrnn")
class RNN(SequenceLayer, keras.layers.RNN):
    """Runs a cell over time: `keras.layers.RNN` with kerasrnn's time loop.

    A `kerasrnn.Cell` runs in `kerasrnn.recurrence`: one product for the inputs of all steps, and
    one product per step for the states. Any other Keras cell runs in Keras's own loop, as does a
    `kerasrnn.Cell` whose `call` is overridden.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y = kerasrnn.RNN(kerasrnn.GRUCell(4), return_sequences=True)(
        ...     np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape)
        (2, 5, 4)
    """

    @validation.checked
    def __init__(
        self,
        cell: keras.layers.Layer | Sequence[keras.layers.Layer],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        jit_compile: JitCompile = "auto",
        checkpoint_every: PositiveInteger | Literal["sqrt"] | None = None,
        truncate_every: PositiveInteger | None = None,
        learn_initial_state: bool = False,
        return_all_states: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        in_keras = None if self.in_own_loop else "Keras's own loop"
        if in_keras and isinstance(self.cell, Cell):
            in_keras += ", since it overrides `call`"
        if jit_compile is True and in_keras:
            raise ValueError(
                f"jit_compile=True: {type(self.cell).__name__} runs in {in_keras}, which is "
                "compiled only as part of a model; expected 'auto' or False."
            )
        for name, every in (
            ("checkpoint_every", checkpoint_every),
            ("truncate_every", truncate_every),
        ):
            if every is not None and (unroll or in_keras):
                where = in_keras or "unrolled steps"
                raise ValueError(
                    f"{name}={every!r}: an option of kerasrnn's time loop; expected None with "
                    f"unroll={unroll} and {type(self.cell).__name__}, which runs in {where}."
                )
        if return_all_states and in_keras:
            raise ValueError(
                f"return_all_states=True: an option of kerasrnn's time loop; expected False with "
                f"{type(self.cell).__name__}, which runs in {in_keras}."
            )
        if in_keras and getattr(self.cell, "reads_memory", False):
            raise ValueError(
                f"cell: {type(self.cell).__name__} overrides `call` and reads a memory, which "
                "Keras's own loop does not support; expected an override of `step`."
            )
        if stateful and getattr(self.cell, "reads_memory", False):
            raise ValueError(
                f"stateful=True: the states of {type(self.cell).__name__} belong to one memory; "
                "expected False."
            )
        if learn_initial_state and not isinstance(self.cell, Cell):
            raise ValueError(
                f"learn_initial_state=True: expected False with a {type(self.cell).__name__}, "
                "which is no cell of kerasrnn."
            )
        self.jit_compile = jit_compile
        self.checkpoint_every = checkpoint_every
        self.truncate_every = truncate_every
        self.learn_initial_state = learn_initial_state
        self.return_all_states = return_all_states
        if self.in_own_loop:
            ways.check_options(self.cell, self._options(training=True))
        self.initial_states: list[Any] = []  # the weights of `learn_initial_state`
        # Keras stops passing masks through RNN layers in 3.16; this layer passes them.
        self.supports_masking = True
        if isinstance(self.cell, Cell):  # others may take any number of axes
            self.input_spec = keras.layers.InputSpec(ndim=2 + self.cell.feature_axes)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA may compile a model with this layer.

        As in Keras, it may not if the layer can run in cuDNN, which then takes precedence.
        """
        if self.jit_compile is False or not self._supports_jit:
            return False
        options = self._options(training=False)
        return not loop.excludes_xla(self.cell, options, self.jit_compile)

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._supports_jit = value  # also set by Keras

    @property
    def in_own_loop(self) -> bool:
        """Whether the cell runs in kerasrnn's time loop rather than in Keras's."""
        return isinstance(self.cell, Cell) and not self.cell.overrides_call

    @property
    def runs_its_cell(self) -> bool:
        """Whether the layer only applies its cell at each step.

        A subclass that overrides `call` or `inner_loop` may compute more.
        """
        cls = type(self)
        return cls.call is RNN.call and cls.inner_loop is RNN.inner_loop

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None, memory_shape: Any = None
    ) -> None:
        if isinstance(self.cell, Cell):
            if not self.cell.built:
                extra = {"memory_shape": memory_shape} if self._reads_memory() else {}
                self.cell.build((sequences_shape[0], *sequences_shape[2:]), **extra)
            self.cell.check_shapes()
            self.state_size = as_keras(self.cell.state_shapes)  # some are known only now
        if self.learn_initial_state:
            shapes = named_shapes(self.cell.external_state_names, self.cell.external_state_shapes)
            self.initial_states = [
                self.add_weight(shape=shape, name=f"initial_{name}", initializer="zeros")
                for name, shape in shapes
            ]
        super().build(sequences_shape)
        if self.learn_initial_state and self.stateful:
            # Like the states themselves, no weight of the layer. A row that was reset begins with
            # the weights, to which the gradient then flows; its stored states are constants.
            rows = np.ones(sequences_shape[0], bool)
            vars(self)["fresh"] = keras.Variable(rows, dtype="bool", trainable=False, name="fresh")
        if isinstance(self.cell, Cell):
            # Other sizes raise an error by name here, rather than in the matrix product.
            of_cell = self.cell.input_spec.axes.items()
            self.input_spec = keras.layers.InputSpec(
                ndim=2 + self.cell.feature_axes,
                axes={
                    -1: sequences_shape[-1],
                    **{axis + 1: size for axis, size in of_cell if axis > 0},
                },
            )

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Any:
        """The mask if `return_sequences`, in the order of the outputs, otherwise None; the same
        mask for each state of all steps; None for each final state.
        """
        if isinstance(mask, (list, tuple)):
            mask = mask[0]  # one mask for each of (sequences, *initial_state)
        if mask is not None and self.go_backwards:
            mask = ops.flip(mask, axis=1)
        masks = [mask if self.return_sequences else None]
        if self.return_all_states:
            masks += map_shapes(lambda _: mask, self.cell.state_shapes)
        if self.return_state:
            if isinstance(self.cell, Cell):
                masks += map_shapes(lambda _: None, self.cell.state_shapes)
            else:
                masks += keras.tree.map_structure(lambda _: None, self.state_size)
        return masks if len(masks) > 1 else masks[0]

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None, memory_shape: Any = None
    ) -> Any:
        batch, time = sequences_shape[:2]
        if isinstance(self.cell, Cell):
            positions = None if memory_shape is None else memory_shape[1]
            output, states = self.cell.shapes_of(sequences_shape[2:])
            states = map_shapes(
                lambda shape: (batch, *(positions if n is None else n for n in shape)), states
            )
        elif self.built and len(sequences_shape) > 3:
            # The sizes of such a cell's states do not determine their shapes.
            sequences = keras.KerasTensor(sequences_shape, self.compute_dtype)
            spec = keras.Operation.compute_output_spec(self, sequences)
            return keras.tree.map_structure(lambda tensor: tensor.shape, spec)
        elif isinstance(self.cell, keras.layers.StackedRNNCells):  # a list for each cell
            sizes = [[n] if isinstance(n, int) else n for n in self.state_size]
            states = [[(batch, n) for n in of_cell] for of_cell in sizes]
            output = (self.cell.output_size,)
        else:
            states = [(batch, n) for n in self.state_size]
            output = (getattr(self.cell, "output_size", None) or self.state_size[0],)
        shapes: list[Any] = [(batch, time, *output) if self.return_sequences else (batch, *output)]
        if self.return_all_states:
            shapes += map_shapes(lambda shape: (batch, time, *shape[1:]), states)
        if self.return_state:
            shapes += states
        return tuple(shapes) if len(shapes) > 1 else shapes[0]

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        if len(sequences.shape) > 3 and not isinstance(self.cell, Cell):
            return keras.Operation.compute_output_spec(self, sequences, *args, **kwargs)
        return super().compute_output_spec(sequences, *args, **kwargs)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The initial states of a batch: zeros, or the weights of `learn_initial_state`.

        Of a cell that reads a memory, only the states that a caller may pass are learned: see
        `AttentionCell`.
        """
        if not self.learn_initial_state:
            return super().get_initial_state(batch_size)
        if not self.initial_states:
            raise ValueError(f"{self.name} is not built; expected a layer with weights.")
        vectors = iter(self.initial_states)

        def repeated(shape: tuple[int, ...]) -> Tensor:
            vector = ops.cast(ops.convert_to_tensor(next(vectors)), self.compute_dtype)
            return ops.broadcast_to(vector, (batch_size, *shape))

        return map_shapes(repeated, self.cell.external_state_shapes)

    def external_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The initial values of the states that a caller may pass, for a kerasrnn cell."""
        if self.learn_initial_state:
            return self.get_initial_state(batch_size)
        return self.cell.external_initial_state(batch_size)

    def reset_state(self, rows: Any = None) -> None:
        """Set the stored states of a stateful layer to the initial ones.

        Args:
            rows: the rows of the batch whose states are set: their indices, or a boolean mask
                `(batch,)`. Default: all rows.

        Raises:
            ValueError: `rows` are given for a layer that stores no states, or are not in the batch.
        """
        states = keras.tree.flatten(self.states or [])
        if not states:
            if rows is not None:
                raise ValueError(
                    f"{self.name}: rows={rows!r}: the layer stores no states; expected a layer "
                    "with stateful=True that is built."
                )
            return
        batch = states[0].shape[0]
        chosen = None if rows is None else row_mask(f"{self.name}: rows", rows, batch)
        initial = [ops.zeros_like(state.value) for state in states]
        if isinstance(self.cell, Cell):
            initial = keras.tree.flatten(self.get_initial_state(batch))
        for state, value in zip(states, initial, strict=True):
            value = ops.cast(value, state.dtype)
            if chosen is not None:
                of_row = ops.reshape(chosen, (-1, *(1 for _ in state.shape[1:])))
                value = ops.where(of_row, value, state.value)
            state.assign(value)
        if self.learn_initial_state:
            fresh = ops.ones_like(self.fresh.value)
            self.fresh.assign(fresh if chosen is None else ops.logical_or(self.fresh.value, chosen))

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Any = None,
        training: bool | None = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Any:
        if mask is None:
            # Keras looks for the mask only if the sequences are the only tensor argument, and
            # therefore loses it if initial states are given.
            mask = get_keras_mask(sequences)
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, sequences.shape[:2])
        if isinstance(self.cell, Cell):
            sequences = self.in_compute_dtype(sequences)
        self._check(sequences, initial_state)
        if self._reads_memory() or not (memory is None and memory_mask is None):
            initial_state = self._with_memory(sequences, initial_state, memory, memory_mask)
        remembers = self.learn_initial_state and self.stateful
        if initial_state is None and remembers:
            initial_state = self._stored_states()
        run_steps = functools.partial(super().call, training=bool(training))
        collected: list[Any] = []
        token = _all_states.set(collected)
        try:
            results = self._run_steps(run_steps, sequences, initial_state, mask)
        finally:
            _all_states.reset(token)
        if self.return_all_states:
            if not collected:
                raise ValueError(
                    f"{self.name}: return_all_states=True: {type(self).__name__} overrides "
                    "`inner_loop` without a call of `collect_states`; expected False."
                )
            output, *finals = results if self.return_state else [results]
            results = (output, *collected, *finals)
        if remembers:
            empty = ops.equal(ops.shape(sequences)[1], 0)
            self.fresh.assign(ops.logical_and(self.fresh.value, empty))
        return results

    def collect_states(self, states: Sequence[Any] | None) -> None:
        """Keep the states of every step, which Keras's `call` does not pass on, for the results."""
        if states is not None:
            _all_states.get()[:] = keras.tree.map_structure(self.in_compute_dtype, list(states))

    def _run_steps(
        self,
        run_steps: Callable[..., Any],
        sequences: Tensor,
        initial_state: Any,
        mask: Tensor | None,
    ) -> Any:
        if sequences.shape[1] is not None or self.unroll or loop.is_replaced():
            return run_steps(sequences, initial_state=initial_state, mask=mask)
        return self._call_any_length(run_steps, sequences, initial_state, mask)

    def _stored_states(self) -> list[Any]:
        """The states of a stateful layer; in rows that were reset, the learned initial states."""
        fresh = ops.convert_to_tensor(self.fresh)

        def chosen(stored: Any, learned: Tensor) -> Tensor:
            of_row = ops.reshape(fresh, (-1, *(1 for _ in learned.shape[1:])))
            return ops.where(
                of_row, learned, ops.cast(ops.convert_to_tensor(stored), learned.dtype)
            )

        learned = self.get_initial_state(self.fresh.shape[0])
        return keras.tree.map_structure(chosen, list(self.states), learned)

    def _call_any_length(
        self,
        run_steps: Callable[..., Any],
        sequences: Tensor,
        initial_state: Any,
        mask: Tensor | None,
    ) -> Any:
        """A call in a TensorFlow graph with an unknown number of steps, possibly zero.

        Every loop reads the first step before it begins. If there are no steps, it runs on one step
        of zeros, whose results are then replaced by the initial values.
        """
        batch, steps = ops.shape(sequences)[:2]
        empty = ops.equal(steps, 0)

        def longer(x: Tensor) -> Tensor:
            # TensorFlow copies nothing if there is nothing to pad, or if a slice is the entire
            # tensor.
            widths = [[0, 0], [0, ops.cast(empty, "int32")], *([0, 0] for _ in x.shape[2:])]
            return ops.pad(x, widths)

        def if_any(after: Tensor, before: Tensor) -> Tensor:
            return ops.where(empty, ops.cast(before, after.dtype), after)

        if initial_state is None:
            kept = self.states if self.stateful else self.get_initial_state(batch_size=batch)
            # Copies: `convert_to_tensor` returns a variable, which the steps will have changed.
            initial_state = keras.tree.map_structure(ops.copy, list(kept))
        results = run_steps(
            longer(sequences),
            initial_state=initial_state,
            mask=None if mask is None else longer(mask),
        )

        def first(x: Tensor) -> Tensor:
            # Its gradient is a padding, too, unlike that of `x[:, :steps]`.
            size = (batch, steps, *ops.shape(x)[2:])
            return ops.slice(x, [0] * len(size), size)

        output, *states = results if self.return_state else [results]
        self.collect_states(keras.tree.map_structure(first, _all_states.get()))
        output = first(output) if self.return_sequences else if_any(output, ops.zeros_like(output))
        if self.stateful:
            for state, before in zip(
                keras.tree.flatten(self.states), keras.tree.flatten(initial_state), strict=True
            ):
                state.assign(if_any(ops.convert_to_tensor(state), before))
        if not self.return_state:
            return output
        initial = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        initial = list(initial)[: len(states)]  # without the prepared memory
        return output, *keras.tree.map_structure(if_any, states, initial)

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Called by `keras.layers.RNN.call`, which stores the states and arranges the results."""
        if not self.in_own_loop:
            if training and isinstance(self.cell, Cell):
                # Before the loop, since the masks are the same at every step.
                self.cell.draw_noise(sequences[:, 0], initial_state)
            if mask is not None:
                return keras_loop.masked(self, sequences, initial_state, mask, training)
            return super().inner_loop(sequences, initial_state, None, training=training)
        states = (
            list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        )
        prepared = states.pop() if self.cell.reads_memory else {}
        noise, weights = Noise(), self.cell.weights_by_name()
        if training:
            noise = self.cell.draw_noise(sequences[:, 0], states, ops.shape(sequences)[1])
            check_noise(self.cell, noise, *sequences.shape[:2])
            weights = self.cell.drop_weights(weights)
            weights = self.cell.weights_of_call(weights, sequences, mask, noise)
        output, outputs, finals, all_states = self.cell.run(
            self._options(training),
            Call(sequences, states, weights, prepared, noise, mask),
            self.jit_compile,
        )
        self.collect_states(all_states)
        # Keras takes both and returns one.
        return (outputs, outputs, finals) if output is None else (output, output, finals)

    def _options(self, training: bool) -> Options:
        return Options(
            return_sequences=self.return_sequences,
            go_backwards=self.go_backwards,
            unroll=self.unroll,
            zero_output_for_mask=self.zero_output_for_mask,
            return_all_states=self.return_all_states,
            training=training,
            checkpoint_every=self.checkpoint_every,
            truncate_every=self.truncate_every,
            use_cudnn=getattr(self, "use_cudnn", False),
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # Defaults are omitted, so that the configuration otherwise equals that of Keras.
        for name, default in EXTRAS.items():
            if getattr(self, name) != default:
                config[name] = getattr(self, name)
        return config

    def _maybe_config_dropout_masks(self, cell: Any, inputs: Tensor, state: Any) -> None:
        # Keras draws the masks here, also in inference. This layer draws them in `inner_loop`, and
        # only in training: evaluation does not change the random state, and an export contains no
        # random operation.
        if cell is not self.cell or not isinstance(cell, Cell):
            super()._maybe_config_dropout_masks(cell, inputs, state)

    def _check(self, sequences: Tensor, initial_state: Any) -> None:
        check_steps(f"{self.name}: sequences", sequences)
        if initial_state is None:
            return
        states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        if not isinstance(self.cell, Cell):
            initial_states.check_structure(self.name, states, self.state_size)
            return
        names, shapes = self.cell.state_names, self.cell.state_shapes
        if self._completes(states):
            names, shapes = self.cell.external_state_names, self.cell.external_state_shapes
        initial_states.check(self.name, states, names, shapes, sequences.shape[0])

    # A memory passes through Keras's call as the last of the initial states: what is prepared from
    # it is cast to the compute dtype there, as the states are.

    def _reads_memory(self) -> bool:
        return getattr(self.cell, "reads_memory", False)

    def _completes(self, states: Sequence[Tensor]) -> bool:
        """Whether these are only the states that a caller may pass, which the cell completes."""
        return self._reads_memory() and len(states) == len(self.cell.external_state_names)

    def _with_memory(
        self, sequences: Tensor, initial_state: Any, memory: Any, mask: Any
    ) -> list[Any]:
        if not self._reads_memory():
            raise ValueError(
                f"{self.name}: a memory was given; expected none with a {type(self.cell).__name__}."
            )
        if memory is None:
            raise ValueError(f"{self.name}: memory=None: expected (batch, positions, width).")
        if not fits(memory.shape[:1], sequences.shape[:1]):
            raise ValueError(
                f"{self.name}: memory has {memory.shape[0]} rows; expected {sequences.shape[0]}, "
                "those of the sequences."
            )
        if mask is None:
            mask = get_keras_mask(memory)
        if mask is not None:
            mask = boolean_mask(
                f"{self.name}: memory_mask",
                mask,
                memory.shape[:2],
                axes="(batch, positions)",
                used="it may be attended to",
            )
        prepared = self.cell.prepare_memory(memory, mask)
        if initial_state is None and self.learn_initial_state:
            initial_state = self.get_initial_state(ops.shape(memory)[0])
        if initial_state is None:
            return [*self.cell.get_initial_state(prepared=prepared), prepared]
        states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        if self._completes(states):
            states = self.cell.extend_states(states, prepared)
        return [*states, prepared]


def call_section(wording: Wording) -> str:
    """The part of a layer's docstring that describes its calls."""
    texts = {"inputs": wording.inputs, "outputs": wording.outputs}
    return filled(CALL.format(**texts, states=wording.shapes_of_states))


document(RNN, described([*inspect.signature(RNN).parameters]), call_section(Wording()))
