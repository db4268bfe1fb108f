"""The base class of cells that wrap other cells."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import OPTIONS, written
from kerasrnn.cells.cell import Cell, is_step, weights_by_name
from kerasrnn.cells.declaration import is_ours
from kerasrnn.recurrence.loop import Noise, Weights
from kerasrnn.recurrence.products import Product

Tensor = Any


class WrappingCell(Cell):
    """The base class of cells that run another cell and extend its step.

    The inner cell may itself be a wrapper. The input part, the dropout and the memory, if any, are
    those of the inner cell. A subclass with weights of its own builds the inner cell, with
    `build_cell`, and its weights. Its `step` calls the inner cell's step:

        of_cell, own = self.split_states(states)
        h, of_cell = self.cell.step(a, of_cell, weights.of("cell"), products)
        return h, self.join_states(of_cell, own)

    The weights and the noise of each part are separate, so that parts may use the same names.
    States: those of the inner cell, then the wrapper's own: a subclass appends their names to
    `state_names`, and their shapes to `state_shapes` unless they are vectors of `units`.

    Args:
        cell: a new `kerasrnn.Cell`.
        units: positive integer: the width of the output.
        **kwargs: keyword arguments of `Cell`, except those of the dropout.

    Call arguments:
        inputs: `(batch, features)`.
        states: all states, in one list.
        training: whether the inner cell's dropout is applied.
        prepared: the memory, as returned by `prepare_memory`, if the inner cell reads one.

    Returns:
        `(output, new_states)`.

    Raises:
        ValueError: `cell` is not a kerasrnn cell, is built, or overrides `call`; an argument is out
            of its range; a memory is missing.

    Masking: in a layer, as for every cell: at a masked step all states are carried over.

    Example: an exponential moving average of a cell's outputs.

        >>> import numpy as np, kerasrnn
        >>> class SmoothedCell(kerasrnn.WrappingCell):
        ...     def __init__(self, cell, rate=0.9, **kwargs):
        ...         super().__init__(cell, cell.units, **kwargs)
        ...         self.rate = rate
        ...         self.state_names = (*cell.state_names, "mean")
        ...
        ...     def step(self, a, states, weights, products):
        ...         of_cell, (mean,) = self.split_states(states)
        ...         h, of_cell = self.cell.step(a, of_cell, weights.of("cell"), products)
        ...         mean = self.rate * mean + (1 - self.rate) * h
        ...         return mean, self.join_states(of_cell, [mean])
        >>> layer = kerasrnn.RNN(SmoothedCell(kerasrnn.LSTMCell(4)), return_state=True)
        >>> y, h, c, mean = layer(np.ones((2, 7, 3), "float32"))
        >>> bool(np.all(y == mean))
        True
    """

    parts: ClassVar[tuple[str, ...]] = ("cell",)
    """Names of the arguments that are layers."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        cell = super().__new__(cls, *args, **kwargs)
        # Arguments of `Cell` that a constructor takes as `**kwargs` are part of the configuration;
        # those that it sets itself are not.
        others = [*cls.constructor.parameters, "implementation"]
        cell._passed_on = tuple(name for name in others if name in kwargs.keys() - cls.arguments())
        return cell

    def __init__(self, cell: Cell, units: int, **kwargs: Any) -> None:
        if not isinstance(cell, Cell):
            raise ValueError(f"cell={cell!r}: expected a kerasrnn cell.")
        if cell.overrides_call:
            raise ValueError(
                f"cell={cell!r} overrides `call`, which a wrapping cell does not use; expected "
                "a cell that overrides `update` or `step`."
            )
        if cell.built:
            raise ValueError(f"cell: {cell.name} is built; expected a new cell.")
        if getattr(cell, "channels_first", False):
            raise ValueError(
                f"cell: {cell.name} has data_format='channels_first', and the channels last inside "
                "a step; expected data_format='channels_last' in a wrapping cell."
            )
        if is_ours(type(self)):
            self._check_used()
        super().__init__(units, **kwargs)
        own = type(self).draw_noise is not WrappingCell.draw_noise
        for name in OPTIONS if own else ("dropout", "recurrent_dropout", *OPTIONS):
            if getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: a {type(self).__name__} applies the "
                    f"{name} of its cell; expected 0, and `{name}` as an argument of the cell."
                )
        self.cell = cell
        self.state_names = cell.state_names

    @classmethod
    def arguments(cls) -> dict[str, inspect.Parameter]:
        """The arguments of the constructor, without those of the inner cell."""
        own = [*inspect.signature(cls).parameters.values()]
        return {p.name: p for p in own if p.kind is not p.VAR_KEYWORD}

    def _check_used(self) -> None:
        """Raise ValueError for arguments of `Cell` that the wrapper would accept and ignore.

        A user's wrapper may use any of them in its `build` or `step`.
        """
        for name in self._passed_on:
            raise ValueError(
                f"{name}: {type(self).__name__} does not use it; expected `{name}` as an "
                f"argument of the cell, or one of {', '.join(self.arguments())}."
            )

    # States: those of the inner cell first, then the wrapper's own.

    @property
    def state_shapes(self) -> list[Any]:
        own = self.state_names[len(self.cell.state_names) :]
        return [*self.cell.state_shapes, *((self.units,) for _ in own)]

    def split_states(self, states: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The states of the inner cell, and the wrapper's own."""
        count = len(self.cell.state_names)
        return list(states[:count]), list(states[count:])

    def join_states(self, of_cell: Sequence[Any], own: Sequence[Any]) -> list[Any]:
        """The inverse of `split_states`."""
        return [*of_cell, *own]

    @property
    def external_state_names(self) -> tuple[str, ...]:
        _, own = self.split_states(self.state_names)
        return (*self.cell.external_state_names, *own)

    @property
    def external_state_shapes(self) -> list[Any]:
        _, own = self.split_states(self.state_shapes)
        return [*self.cell.external_state_shapes, *own]

    def external_initial_state(self, batch_size: int | None = None) -> list[Any]:
        _, own = self.split_states(self.state_shapes)
        return [*self.cell.external_initial_state(batch_size), *self.zeros(own, batch_size)]

    def extend_states(self, states: Sequence[Any], prepared: Mapping[str, Tensor]) -> list[Any]:
        count = len(self.cell.external_state_names)
        return [*self.cell.extend_states(states[:count], prepared), *states[count:]]

    def get_initial_state(
        self, batch_size: int | None = None, prepared: Mapping[str, Tensor] | None = None
    ) -> list[Any]:
        """The initial states of the inner cell, and zeros.

        Args:
            batch_size: the number of rows; unused if there is a memory, which determines it.
            prepared: the memory, as returned by `prepare_memory`, if the cell reads one.
        """
        prepared = self.expected(prepared)
        if self.reads_memory:
            batch_size = ops.shape(next(iter(prepared.values())))[0]
        return self.extend_states(self.external_initial_state(batch_size), prepared)

    # Delegated to the inner cell.

    @property
    def feature_axes(self) -> int:
        return self.cell.feature_axes if hasattr(self, "cell") else Cell.feature_axes

    @property
    def reads_memory(self) -> bool:
        return self.cell.reads_memory

    @property
    def xla_pays_off(self) -> bool:
        return self.cell.xla_pays_off

    @property
    def input_part_size(self) -> int:
        return self.cell.input_part_size

    def add_feedback(self, a: Tensor, feedback: Tensor) -> Tensor:
        return self.cell.add_feedback(a, feedback)

    def build(
        self, input_shape: Sequence[int | None], memory_shape: Sequence[int | None] | None = None
    ) -> None:
        self.build_cell(input_shape, memory_shape)
        self.built = True

    def build_cell(
        self, input_shape: Sequence[int | None], memory_shape: Sequence[int | None] | None
    ) -> None:
        """Build the inner cell, with the shape of the memory if it reads one."""
        self._features(input_shape)
        extra = {"memory_shape": memory_shape} if self.cell.reads_memory else {}
        self.cell.build(input_shape, **extra)

    def width_of_output(self) -> int:
        """The width of the inner cell's output.

        Raises:
            ValueError: it is not a vector.
        """
        shape = self.cell.output_shape
        if len(shape) != 1:
            raise ValueError(
                f"cell: {type(self.cell).__name__} has outputs of shape (batch, "
                f"{', '.join(map(str, shape))}); expected a cell with outputs (batch, width)."
            )
        return shape[0]

    def prepare_memory(self, memory: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """See `AttentionCell`: for an inner cell that reads a memory."""
        return self.cell.prepare_memory(memory, mask)

    def weights_of_step(self, states: Sequence[Any]) -> Tensor:
        """The attention weights of the step that returned these states, `(batch, positions)`."""
        return self.cell.weights_of_step(self.split_states(states)[0])

    def draw_noise(self, inputs: Tensor, states: Sequence[Any], steps: Any = None) -> Noise:
        return self.cell.draw_noise(inputs, self.split_states(states)[0], steps).of("cell")

    def drop_weights(self, weights: dict[str, Any]) -> dict[str, Any]:
        dropped = {
            name: getattr(self, name).drop_weights(weights[name])
            for name in self.parts
            if isinstance(getattr(self, name), Cell)
        }
        return {**weights, **dropped}

    def weights_of_call(
        self, weights: dict[str, Any], inputs: Tensor, mask: Tensor | None, noise: Noise
    ) -> dict[str, Any]:
        of_cell = self.cell.weights_of_call(weights["cell"], inputs, mask, noise.inside("cell"))
        return {**weights, "cell": of_cell}

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        return self.cell.get_dropout_mask(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        return self.cell.get_recurrent_dropout_mask(step_input)

    def reset_dropout_mask(self) -> None:
        self.cell.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        self.cell.reset_recurrent_dropout_mask()

    def weights_by_name(self) -> dict[str, Any]:
        of_parts: dict[str, Any] = {}
        for name in self.parts:
            part = getattr(self, name)
            is_cell = isinstance(part, Cell)
            of_parts[name] = part.weights_by_name() if is_cell else weights_by_name(part)
        inner = {id(w) for name in self.parts for w in getattr(self, name).weights}
        own = [weight for weight in self.weights if id(weight) not in inner]
        return {**weights_by_name(self, own), **of_parts}

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        of_cell, of_memory = self.cell.used_in_step(weights["cell"], memory)
        own, _ = super().used_in_step(weights, memory)
        return {**own, "cell": of_cell}, of_memory

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        return self.cell.input_part(x, weights.of("cell"))

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return self.cell.recurrent_products(weights.of("cell"))

    @is_step
    def call(
        self,
        inputs: Tensor,
        states: Any,
        training: bool | None = False,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        return self.call_with(inputs, states, training, self.expected(prepared))

    def expected(self, prepared: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        """The prepared memory; an empty mapping for a cell that reads none.

        Raises:
            ValueError: it is missing.
        """
        if prepared is None and self.reads_memory:
            raise ValueError(
                f"{self.name}: prepared=None: expected the result of `prepare_memory`."
            )
        return prepared or {}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in self._passed_on:
            config[name] = written(name, getattr(self, name))
        for name in self.parts:
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
            config[name].pop("build_config", None)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.parts}
        return cls(**{**config, **parts})
