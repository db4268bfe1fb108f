"""The bidirectional recurrent network: Schuster & Paliwal (1997)."""

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer
from kerasrnn.cells.rnn import RNN
from kerasrnn.layers.parts import check_recurrent, copied, unbuilt_config
from kerasrnn.wording import counted

Tensor = Any

MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda forward, backward: ops.concatenate([forward, backward], axis=-1),
    "sum": ops.add,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": ops.multiply,
}


# Keras saves the weights of a model's layers under their class names. Since this class has the name
# of Keras's own layer, a weights file of a model with either loads into a model with the other.
@keras.saving.register_keras_serializable(package="kerasrnn")
class Bidirectional(SequenceLayer):
    """Processes a sequence in both directions.

    Schuster & Paliwal (1997), "Bidirectional recurrent neural networks". With two layers f and g of
    the same kind, where g processes the sequence in reverse:

        y_t = merge(f(x)_t, g(x)_t)        with return_sequences
        y   = merge(f(x)_T, g(x)_1)        otherwise: the final output of each layer

    The weights, results and calls are those of `keras.layers.Bidirectional`, with these
    differences: the given layer itself becomes the forward layer, without a copy; the mask is
    passed on to the next layer in every version of Keras; the two outputs are always merged (there
    is no `merge_mode=None`); `residual=True` adds the input, `y_t + x_t`.

    Args:
        layer: the forward layer, a `kerasrnn.RNN` (any kerasrnn recurrent layer) without
            `go_backwards`; it also determines `return_sequences`, `return_state` and `stateful`.
            The backward layer is a new layer with the same configuration.
        merge_mode: "concat", "sum", "ave" or "mul".
        residual: whether to add the input to the output; requires `return_sequences` and equal
            widths.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: the forward layer's states, then the backward layer's, in one list.
        mask: boolean `(batch, time)`, True = use the step.
        training: whether dropout is applied.

    Returns:
        The output, `(batch, units)` or `(batch, time, units)`, twice as wide with "concat"; then,
        with `return_all_states`, the states of every step, of the forward and then the backward
        layer, each in the order of time; then, with `return_state`, the final states of both.

    Masking: as in the layers, except that `zero_output_for_mask` is ignored: with
    `return_sequences`, both directions output zeros at a masked step (repeating the previous output
    would mix different neighbours); otherwise each returns its output after its last valid step.

    Raises:
        ValueError: the layer is not a kerasrnn recurrent layer, or has `go_backwards`; `merge_mode`
            is unknown; `residual` without `return_sequences` or with unequal widths;
            `initial_state` of the wrong length.

    Example:

        >>> import numpy as np, kerasrnn
        >>> layer = kerasrnn.Bidirectional(kerasrnn.LSTM(4, return_sequences=True))
        >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
        (2, 5, 8)
    """

    @validation.checked
    def __init__(
        self,
        layer: RNN,
        merge_mode: Literal["concat", "sum", "ave", "mul"] = "concat",
        residual: bool = False,
        **kwargs: Any,
    ) -> None:
        check_recurrent("layer", layer)
        if layer.go_backwards:
            raise ValueError(
                f"layer={layer!r} has go_backwards=True; expected False: the "
                "backward layer is derived from it."
            )
        if residual and not layer.return_sequences:
            raise ValueError("residual=True: expected a layer with return_sequences=True.")
        super().__init__(**kwargs)
        self.merge_mode = merge_mode
        self.residual = residual
        self.forward_layer = layer
        self.backward_layer = self._backward_twin(layer)
        for direction in (self.forward_layer, self.backward_layer):
            direction.zero_output_for_mask = layer.return_sequences
        self.supports_masking = True
        self.input_spec = layer.input_spec

    @staticmethod
    def _backward_twin(layer: RNN) -> RNN:
        config = unbuilt_config(layer)
        config["config"]["go_backwards"] = True
        config["config"]["name"] = f"backward_{layer.name}"
        return copied(layer, config)

    @property
    def return_sequences(self) -> bool:
        return self.forward_layer.return_sequences

    @property
    def return_state(self) -> bool:
        return self.forward_layer.return_state

    @property
    def return_all_states(self) -> bool:
        return self.forward_layer.return_all_states

    @property
    def stateful(self) -> bool:
        return self.forward_layer.stateful

    @property
    def state_size(self) -> list[int]:
        return [*self.forward_layer.state_size, *self.backward_layer.state_size]

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        for direction in (self.forward_layer, self.backward_layer):
            if not direction.built:
                direction.build(sequences_shape)
        if self.residual:
            shape = self.compute_output_shape(sequences_shape)
            several = self.return_all_states or self.return_state
            width = (shape[0] if several else shape)[-1]
            if width != sequences_shape[-1]:
                raise ValueError(
                    f"{self.name}: residual=True adds {sequences_shape[-1]} features to {width} "
                    "outputs; expected the same width."
                )
        self.built = True

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool | None = False,
    ) -> Any:
        directions = (self.forward_layer, self.backward_layer)
        states: tuple[Any, Any] = (None, None)
        if initial_state is not None:
            if len(initial_state) != len(self.state_size):
                raise ValueError(
                    f"{self.name}: initial_state has {counted(len(initial_state), 'tensor')}; "
                    f"expected "
                    f"{len(self.state_size)}: the forward layer's, then the backward layer's."
                )
            half = len(initial_state) // 2
            states = (list(initial_state[:half]), list(initial_state[half:]))
        results = [
            direction(sequences, initial_state=state, mask=mask, training=training)
            for direction, state in zip(directions, states, strict=True)
        ]
        states_of_all: list[Any] = []
        finals: list[Any] = []
        if self.return_all_states or self.return_state:
            count = len(self.forward_layer.state_size) if self.return_all_states else 0
            of_steps = [result[1 : 1 + count] for result in results]
            of_steps[1] = keras.tree.map_structure(lambda s: ops.flip(s, axis=1), of_steps[1])
            states_of_all = [state for each in of_steps for state in each]
            finals = [state for result in results for state in result[1 + count :]]
            results = [result[0] for result in results]
        forward, backward = results
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        output = MERGES[self.merge_mode](forward, backward)
        if self.residual:
            output = output + ops.cast(sequences, output.dtype)
        results = (output, *states_of_all, *finals)
        results = keras.tree.map_structure(self.in_compute_dtype, results)
        return results if len(results) > 1 else results[0]

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        if not (self.return_all_states or self.return_state):
            return self._merged(shape)
        output, *states = shape
        return (self._merged(output), *self._of_both(states))

    def _of_both(self, states: list[Any]) -> list[Any]:
        """What one direction returns of its states, for both: of all steps, then the final ones."""
        count = len(self.forward_layer.state_size) if self.return_all_states else 0
        return [*states[:count], *states[:count], *states[count:], *states[count:]]

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Any:
        forward = self.forward_layer.compute_mask(inputs, mask)
        if not (self.return_all_states or self.return_state):
            return forward
        # The mask of the states of all steps, which are returned in the order of time.
        return [forward[0], *self._of_both(forward[1:])]

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of both directions, if they are stateful: see `RNN.reset_state`."""
        self.forward_layer.reset_state(rows)
        self.backward_layer.reset_state(rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": unbuilt_config(self.forward_layer),
            "merge_mode": self.merge_mode,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Bidirectional":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})

    def _merged(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], shape[-1] * (2 if self.merge_mode == "concat" else 1))
