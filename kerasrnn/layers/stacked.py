"""Deep recurrent networks: stacks of layers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.gated_residual import GatedResidual
from kerasrnn.layers.parts import as_layers, check_recurrent, copied, unbuilt_config
from kerasrnn.validation import Rate, Seed
from kerasrnn.wording import counted

Tensor = Any
RESIDUAL = (False, True, "glu")


@keras.saving.register_keras_serializable(package="kerasrnn")
class StackedRNN(SequenceLayer):
    """A deep recurrent network: each layer processes the output sequence of the one below.

    El Hihi & Bengio (1995), "Hierarchical recurrent neural networks for long-term dependencies".
    With D the dropout of Zaremba et al. (2014), "Recurrent neural network regularization", and
    the residual connections of Wu et al. (2016), "Google's neural machine translation system":

        y^1 = layer_1(x)
        y^l = layer_l(D(y^{l-1}))               for l > 1
        y^l = layer_l(D(y^{l-1})) + y^{l-1}     for l > 1, with residual=True

    With residual="glu", every layer is a block as in deep linear recurrences (Smith et al. (2023),
    "Simplified state space layers for sequence modeling"; similarly Orvieto et al. (2023),
    "Resurrecting recurrent neural networks for long sequences"), with layer instead of batch
    normalization:

        y^0 = x P + p                           if x has another width than the layers, else x
        u^l = gelu(layer_l(LayerNorm(y^{l-1})))
        y^l = y^{l-1} + D(u^l * sigmoid(u^l G^l + g^l))

    The gate mixes the units of a layer at every step and makes the stack nonlinear where the
    recurrence is linear: without it, a stack of such layers computes no more than one.

    The stack sets `return_sequences` and `return_state` of its layers, so that they need not be set
    manually.

    Args:
        layers: new `kerasrnn.RNN` (any kerasrnn recurrent layer) or `Bidirectional` layers, from
            the bottom up. The stack creates new layers from their configuration.
        residual: whether to add each layer's input to its output, from the second layer on; their
            widths must be equal. Or "glu": whether each layer is a block with a normalization
            before it and a gate after it.
        dropout: fraction to drop between the layers in training, in [0, 1); with residual="glu",
            of what a block adds.
        return_sequences: whether to return the output of every step instead of the last one.
        return_state: whether to also return every layer's final states, after the output.
        return_attention: whether to also return the attention weights of every step, directly after
            the output: those of the highest layer with an `AttentionCell`.
        seed: integer that makes the dropout between the layers reproducible.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: the layers' states in one list, from the bottom up; for layers of an
            `AttentionCell`, either all states, or only those of the inner cell for every one.
        mask: boolean `(batch, time)`, True = use the step; passed to every layer.
        training: whether dropout is applied.
        memory: `(batch, positions, width)`: what layers of an `AttentionCell` attend to, if any.
        memory_mask: boolean `(batch, positions)`, True = may be attended to. Default: the mask
            attached to the memory, if any.

    Returns:
        The last layer's output, `(batch, units)` or `(batch, time, units)`; with
        `return_attention`, followed by `(batch, time, positions)`; with `return_state`,
        followed by every layer's final states, from the bottom up.

    Masking: as in the layers. At a masked step, a residual connection adds the outputs of both
    layers at that step. If the last layer returns one vector, the connection adds the output of the
    layer below at the last valid step, and zeros in a fully masked row.

    Raises:
        ValueError: no layers, or a layer that is not recurrent, is built, has `go_backwards`, or
            requests what the stack does not return; `dropout` out of its range; `residual` is
            neither a boolean nor "glu"; it is True between different widths, or given around a
            bidirectional last layer that returns one vector; `initial_state` of the wrong length.

    Example:

        >>> import numpy as np, kerasrnn
        >>> layer = kerasrnn.StackedRNN([kerasrnn.GRU(4) for _ in range(3)], residual=True)
        >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
        (2, 4)
    """

    @validation.checked
    def __init__(
        self,
        layers: Sequence[RNN | Bidirectional],
        residual: bool | str = False,
        dropout: Rate = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        return_attention: bool = False,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        layers = as_layers(layers)
        for layer in layers:
            _check_layer(layer)
        validation.one_of("residual", residual, RESIDUAL)
        if layers[-1].return_sequences and not return_sequences:
            raise ValueError(
                "return_sequences=False: the last layer has True; set it on the stack."
            )
        if residual and not return_sequences and isinstance(layers[-1], Bidirectional):
            raise ValueError(
                f"residual={residual!r}: the vector that a bidirectional last layer returns does "
                "not belong to a single step of its input; expected return_sequences=True."
            )
        if return_attention and not any(map(_reads_memory, layers)):
            raise ValueError(
                "return_attention=True: no layer has an AttentionCell; expected False."
            )
        super().__init__(**kwargs)
        self.residual = residual
        self.dropout = dropout
        self.seed = seed
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.return_attention = return_attention
        last = len(layers) - 1
        self.layers = [
            _configured(layer, return_sequences or n < last, return_state)
            for n, layer in enumerate(layers)
        ]
        if return_attention:
            attending = [layer for layer in self.layers if _reads_memory(layer)]
            attending[-1].return_all_states = True
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.projection: keras.layers.Layer | None = None
        self.blocks: list[GatedResidual] = []
        self.supports_masking = True
        self.input_spec = self.layers[0].input_spec

    @property
    def state_size(self) -> list[int]:
        return [size for layer in self.layers for size in layer.state_size]

    @property
    def state_shapes(self) -> list[Any]:
        """The shape of every layer's states, from the bottom up, without the batch axis."""
        return [shape for layer in self.layers for shape in _shapes(layer)]

    @property
    def external_state_shapes(self) -> list[Any]:
        """The shape of every state that a caller may pass, without the batch axis: for a cell with
        attention, only the states of the cell below it."""
        return [shape for layer in self.layers for shape in _shapes(layer, external=True)]

    def build(
        self, sequences_shape: Any, initial_state_shape: Any = None, memory_shape: Any = None
    ) -> None:
        shape = tuple(sequences_shape)
        if memory_shape is not None and not any(map(_reads_memory, self.layers)):
            raise ValueError(
                f"{self.name}: a memory was given; expected none without a layer of an "
                "AttentionCell."
            )
        if self.residual == "glu":
            shape = self._build_blocks(shape)
        for n, layer in enumerate(self.layers):
            if not layer.built:
                layer.build(
                    shape, **({"memory_shape": memory_shape} if _reads_memory(layer) else {})
                )
            below, shape = shape, self._output_of(layer, shape)
            if self._adds(n) and below[-1] != shape[-1]:
                raise ValueError(
                    f"{self.name}: residual={self.residual!r} adds the {below[-1]} features below "
                    f"layer {n} to its {shape[-1]} outputs; expected the same width."
                )
        self.built = True

    def _build_blocks(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Create the blocks and the projection to their width; return the shape of their input."""
        width = self._width(shape)
        if shape[-1] != width:
            self.projection = keras.layers.Dense(width, dtype=self.dtype_policy, name="projection")
            self.projection.build(shape)
        self.blocks = [
            GatedResidual(width, dtype=self.dtype_policy, name=f"block_{n}")
            for n in range(len(self.layers))
        ]
        for block in self.blocks:
            block.build(None)
        return (*shape[:-1], width)

    def _width(self, shape: tuple[int | None, ...]) -> int:
        """The width of the blocks: that of the first layer's output."""
        return self._output_of(self.layers[0], shape)[-1]

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool | None = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Any:
        counts = [len(layer.state_size) for layer in self.layers]
        if initial_state is not None and len(initial_state) != sum(counts):
            counts = [len(_shapes(layer, external=True)) for layer in self.layers]
        if initial_state is not None and len(initial_state) != sum(counts):
            raise ValueError(
                f"{self.name}: initial_state has {counted(len(initial_state), 'tensor')}; expected "
                f"{len(self.state_size)}: every layer's states, from the bottom up."
            )
        if mask is None:
            # Keras looks for the mask only if the sequences are the only tensor argument.
            mask = get_keras_mask(sequences)
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, sequences.shape[:2])
        x = sequences if self.projection is None else self.projection(sequences)
        finals, attention, start = [], [], 0
        for n, (layer, count) in enumerate(zip(self.layers, counts, strict=True)):
            states = None
            if initial_state is not None:
                states = list(initial_state[start : start + count])
                start += count
            attended = {}
            if _reads_memory(layer):
                attended = {"memory": memory, "memory_mask": memory_mask}
            if self.blocks:
                below = self.blocks[n].before(x)
            else:
                below = x if n == 0 else self.dropout_layer(x, training=training)
            y = layer(
                below,
                initial_state=states,
                mask=mask,
                training=training,
                **attended,
            )
            if layer.return_all_states:
                y, *rest = y
                size = len(layer.cell.state_names)
                attention = [layer.cell.weights_of_step(rest[:size])]
                y = (y, *rest[size:]) if self.return_state else y
            if self.return_state:
                y, *states = y
                finals += states
            if self.blocks:
                y = self.dropout_layer(self.blocks[n].after(y), training=training)
            if self._adds(n):
                y = y + (x if layer.return_sequences else _last_used(x, mask))
            mask, x = _output_mask(layer, x, mask), y
        results = (x, *attention, *finals)
        results = keras.tree.map_structure(self.in_compute_dtype, results)
        return results if len(results) > 1 else results[0]

    def prepare_memory(self, memory: Tensor, mask: Tensor | None = None) -> list[Any]:
        """Compute once what `step` uses of a memory: for each layer, None if it reads no memory.

        Args:
            memory: `(batch, positions, width)`.
            mask: boolean `(batch, positions)`, True = may be attended to.
        """
        return [
            layer.cell.prepare_memory(memory, mask) if _reads_memory(layer) else None
            for layer in self.layers
        ]

    def get_initial_state(
        self, batch_size: int | None = None, prepared: Sequence[Any] | None = None
    ) -> list[Tensor]:
        """The initial states for `step`: zeros, or learned ones, `(batch, units)` for each state.

        Args:
            batch_size: the number of rows.
            prepared: the result of `prepare_memory`, if there is a memory.
        """
        self._check_forwards()
        initial = []
        for layer in self.layers:
            if _reads_memory(layer):
                initial += layer.external_initial_state(batch_size)
            else:
                initial += layer.get_initial_state(batch_size)
        return self.extend_states(initial, prepared)

    def extend_states(
        self, states: Sequence[Tensor], prepared: Sequence[Any] | None = None
    ) -> list[Tensor]:
        """Complete the states passed by a caller: see `external_state_shapes`."""
        extended, start = [], 0
        for layer, of_layer in zip(self.layers, self._by_layer(prepared), strict=True):
            end = start + len(_shapes(layer, external=True))
            initial = list(states[start:end])
            extended += (
                layer.cell.extend_states(initial, of_layer) if _reads_memory(layer) else initial
            )
            start = end
        return extended

    def step(
        self, inputs: Tensor, states: Sequence[Tensor], prepared: Sequence[Any] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute one step of the entire stack, outside a loop: for generation and streaming.

        Successive steps compute what `call` computes in inference. The layers must be built.

        Args:
            inputs: x_t, `(batch, features)`.
            states: every layer's states in one list, from the bottom up: from
                `get_initial_state` or the previous step.
            prepared: the result of `prepare_memory`, if there is a memory.

        Returns:
            `(output, new_states)`.

        Raises:
            ValueError: a layer is bidirectional and therefore needs future steps.
        """
        self._check_forwards()
        x = inputs if self.projection is None else self.projection(inputs)
        new, start = [], 0
        for n, (layer, layer_memory) in enumerate(
            zip(self.layers, self._by_layer(prepared), strict=True)
        ):
            end = start + len(layer.state_size)
            extra = {"prepared": layer_memory} if _reads_memory(layer) else {}
            below = self.blocks[n].before(x) if self.blocks else x
            y, of_layer = layer.cell(below, list(states[start:end]), **extra)
            new += of_layer
            start = end
            y = self.blocks[n].after(y) if self.blocks else y
            x = y + x if self._adds(n) else y
        return x, new

    def weights_of_step(self, states: Sequence[Tensor]) -> Tensor:
        """The attention weights of the step that returned these states, `(batch, positions)`.

        They are those of the highest layer with attention.

        Raises:
            ValueError: no layer has attention.
        """
        end = len(self.state_size)
        for layer in reversed(self.layers):
            start = end - len(layer.state_size)
            if _reads_memory(layer):
                return layer.cell.weights_of_step(states[start:end])
            end = start
        raise ValueError(f"{self.name}: no layer has an AttentionCell; expected one.")

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None, memory_shape: Any = None
    ) -> Any:
        shape = tuple(sequences_shape)
        if self.residual == "glu":
            shape = (*shape[:-1], self._width(shape))
        states: list[Any] = []
        for layer in self.layers:
            extra = {"memory_shape": memory_shape} if _reads_memory(layer) else {}
            shapes = layer.compute_output_shape(shape, **extra)
            if self.return_state:
                states += shapes[1 + self._count_of_all_states(layer) :]
            shape = self._output_of(layer, shape)
        attention = []
        if self.return_attention:
            positions = None if memory_shape is None else memory_shape[1]
            attention = [(*sequences_shape[:2], positions)]
        results = (shape, *attention, *states)
        return results if len(results) > 1 else shape

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        of_attention = [mask] if self.return_attention else []
        for layer in self.layers:
            mask = _output_mask(layer, None, mask)
        of_states = [None for _ in self.state_size] if self.return_state else []
        masks = [mask, *of_attention, *of_states]
        return masks if len(masks) > 1 else mask

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of every stateful layer: see `RNN.reset_state`.

        Raises:
            ValueError: `rows` are given, and no layer is stateful; they are not in the batch.
        """
        stateful = [layer for layer in self.layers if layer.stateful]
        for layer in stateful or self.layers:
            layer.reset_state(rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layers": [
                _config(layer, getattr(layer, "residual", False), False) for layer in self.layers
            ],
            "residual": self.residual,
            "dropout": self.dropout,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_attention": self.return_attention,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StackedRNN":
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})

    def _adds(self, n: int) -> bool:
        """Whether the input of a layer is added to its output."""
        return bool(self.blocks) or (self.residual is True and n > 0)

    def _by_layer(self, prepared: Sequence[Any] | None) -> Sequence[Any]:
        return [None] * len(self.layers) if prepared is None else prepared

    def _check_forwards(self) -> None:
        for layer in self.layers:
            if isinstance(layer, Bidirectional):
                raise ValueError(
                    f"{self.name}: {layer.name} reads the whole sequence; expected layers that can "
                    "run a single step."
                )
            if not layer.runs_its_cell:
                raise ValueError(
                    f"{self.name}: {type(layer).__name__} overrides `call` or `inner_loop`, "
                    "and so cannot run a single step; expected layers that run their cell."
                )

    def _output_of(self, layer: RNN | Bidirectional, shape: Any) -> tuple[int | None, ...]:
        shapes = layer.compute_output_shape(shape)
        several = self.return_state or layer.return_all_states
        return tuple(shapes[0]) if several else tuple(shapes)

    def _count_of_all_states(self, layer: RNN | Bidirectional) -> int:
        """The number of results of a layer that are the states of all its steps."""
        return len(layer.cell.state_names) if layer.return_all_states else 0


def _reads_memory(layer: RNN | Bidirectional) -> bool:
    return getattr(getattr(layer, "cell", None), "reads_memory", False)


def _shapes(layer: RNN | Bidirectional, external: bool = False) -> list[Any]:
    """The shapes of a layer's states, or of those that a caller may pass."""
    if isinstance(layer, Bidirectional):
        directions = (layer.forward_layer, layer.backward_layer)
        return [shape for direction in directions for shape in _shapes(direction, external)]
    if not isinstance(layer.cell, Cell):
        return [(size,) if isinstance(size, int) else size for size in layer.state_size]
    return layer.cell.external_state_shapes if external else layer.cell.state_shapes


def _check_layer(layer: Any) -> None:
    check_recurrent("layers", layer, (RNN, Bidirectional))
    if layer.built:
        raise ValueError(f"layers: {layer.name} is built; expected new layers.")
    if layer.return_state:
        raise ValueError(f"layers: {layer.name} has return_state=True; set it on the stack.")
    if layer.return_all_states:
        raise ValueError(
            f"layers: {layer.name} has return_all_states=True; expected False in a stack, whose "
            "layers return their outputs and final states only."
        )
    if getattr(layer, "go_backwards", False):
        raise ValueError(f"layers: {layer.name} reads backwards; expected a Bidirectional.")


def _configured(
    layer: RNN | Bidirectional, return_sequences: bool, return_state: bool
) -> RNN | Bidirectional:
    """Create a layer with the same configuration that returns what the stack needs."""
    return copied(layer, _config(layer, return_sequences, return_state))


def _config(
    layer: RNN | Bidirectional, return_sequences: bool, return_state: bool
) -> dict[str, Any]:
    config = unbuilt_config(layer)
    inner = config["config"]["layer"] if isinstance(layer, Bidirectional) else config
    inner["config"]["return_sequences"] = return_sequences
    inner["config"]["return_state"] = return_state
    inner["config"].pop("return_all_states", None)  # set by `return_attention` of the stack
    return config


def _output_mask(layer: RNN | Bidirectional, x: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask of a layer's output."""
    mask = layer.compute_mask(x, mask)
    return mask[0] if isinstance(mask, (list, tuple)) else mask


def _last_used(x: Tensor, mask: Tensor | None) -> Tensor:
    """The step of x, `(batch, time, features)`, at which the layer above returns its last output.

    Not always the last step: a bidirectional layer outputs zeros at masked steps. Zeros in a fully
    masked row, as that layer returns: what x has there may be padding.
    """
    if x.shape[1] is None:  # possibly no steps: prepend one of zeros
        x = ops.pad(x, ((0, 0), (1, 0), (0, 0)))
    if mask is None:
        return x[:, -1]
    mask = ops.cast(mask, "int32")
    if x.shape[1] is None:
        mask = ops.pad(mask, ((0, 0), (1, 0)))
    from_the_end = ops.argmax(ops.flip(mask, axis=1), axis=1)
    last = ops.shape(mask)[1] - 1 - ops.cast(from_the_end, "int32")
    last = ops.reshape(last, (-1, *(1 for _ in x.shape[1:])))
    found = ops.take_along_axis(x, last, axis=1)[:, 0]
    used = ops.any(mask > 0, axis=1)
    return ops.where(ops.reshape(used, (-1, *(1 for _ in found.shape[1:]))), found, 0)
