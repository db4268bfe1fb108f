"""The layer of a decoder that attends: the lowest with input feeding, otherwise the highest."""

from collections.abc import Sequence
from typing import Any

from kerasrnn.attention.attention import Attention
from kerasrnn.attention.cell import AttentionCell
from kerasrnn.cells.rnn import EXTRAS, RNN
from kerasrnn.layers.parts import copied


def with_attention(
    layers: Sequence[RNN],
    attention: Attention,
    units: int | None,
    query: str,
    input_feeding: bool,
) -> list[RNN]:
    """The layers, with a new one in the place of that which attends."""
    layers, at = list(layers), _place(input_feeding)
    layers[at] = _attending(layers[at], attention, units, query, input_feeding)
    return layers


def without_attention(
    configurations: Sequence[dict[str, Any]], input_feeding: bool
) -> list[dict[str, Any]]:
    """The inverse of `with_attention`, for the layers' serialized configurations."""
    config = configurations[_place(input_feeding)]["config"]
    config["cell"] = config["cell"]["config"]["cell"]
    return list(configurations)


def _place(input_feeding: bool) -> int:
    return 0 if input_feeding else -1


def _attending(
    layer: RNN, attention: Attention, units: int | None, query: str, input_feeding: bool
) -> RNN:
    """Create a new layer with the same cell and loop options, adding an attention to the cell."""
    return RNN(
        AttentionCell(
            copied(layer.cell),
            attention,
            units or layer.cell.units,
            query,
            input_feeding,
            dtype=layer.dtype_policy,
        ),
        unroll=layer.unroll,
        zero_output_for_mask=layer.zero_output_for_mask,
        **{name: getattr(layer, name) for name in EXTRAS},
        dtype=layer.dtype_policy,
        name=layer.name,
    )
