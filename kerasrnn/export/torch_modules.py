"""Conversion of layers between PyTorch's recurrent modules and kerasrnn's."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasrnn.cells.arguments import OPTIONS
from kerasrnn.cells.gru import GRU
from kerasrnn.cells.layer import RNN, Recurrent
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.simple_rnn import SimpleRNN
from kerasrnn.export import matrices, parity
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.stacked import StackedRNN

if TYPE_CHECKING:
    import torch

# The modules, and the order of their gates. PyTorch's n is the candidate h of the GRU cell.
MODULES: dict[str, tuple[type[Recurrent], tuple[str, ...]]] = {
    "RNN": (SimpleRNN, ("h",)),
    "LSTM": (LSTM, ("i", "f", "c", "o")),
    "GRU": (GRU, ("rho", "z", "h")),
}
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def from_torch(module: "torch.nn.RNNBase") -> RNN | Bidirectional | StackedRNN:
    """Convert a `torch.nn.RNN`, `LSTM` or `GRU` to a layer, with its weights.

    Several layers become a `StackedRNN`, and two directions a `Bidirectional` per layer. The
    result returns sequences, and takes `(batch, time, features)`, for any `batch_first`.

    Raises:
        ParityError: the two compute different results.
        ValueError: the module is of another kind, or has projections.

    Example:

        >>> import torch, kerasrnn
        >>> layer = kerasrnn.export.from_torch(torch.nn.GRU(3, 4))
        >>> type(layer).__name__, layer.units
        ('GRU', 4)
    """
    import torch

    kind = type(module).__name__
    if not isinstance(module, torch.nn.RNNBase) or kind not in MODULES:
        raise ValueError(f"module={module!r}: expected one of torch.nn.{', '.join(MODULES)}.")
    if module.proj_size:
        raise ValueError(f"proj_size={module.proj_size}: no projections are supported; expected 0.")
    cls, order = MODULES[kind]
    options = {"activation": module.nonlinearity} if kind == "RNN" else {}
    suffixes = ("", "_reverse") if module.bidirectional else ("",)

    def make() -> RNN | Bidirectional:
        layer = cls(module.hidden_size, use_bias=module.bias, return_sequences=True, **options)
        return Bidirectional(layer) if module.bidirectional else layer

    layer: Any = make()
    if module.num_layers > 1:
        layers = [make() for _ in range(module.num_layers)]
        layer = StackedRNN(layers, dropout=module.dropout, return_sequences=True)
    layer.build((None, None, module.input_size))
    for n, of_depth in enumerate(layer.layers if module.num_layers > 1 else [layer]):
        for half, suffix in zip(matrices.halves(of_depth), suffixes, strict=True):
            values = [
                getattr(module, f"{name}_l{n}{suffix}").detach().cpu().numpy()
                for name in WEIGHTS[: 4 if module.bias else 2]
            ]
            matrices.fill(half.cell, values, order)
    _compare_with_torch(layer, module, module.input_size)
    return layer


def to_torch(layer: RNN | Bidirectional | StackedRNN) -> "torch.nn.RNNBase":
    """Convert a layer to a `torch.nn.RNN`, `LSTM` or `GRU`, with its weights and `batch_first`.

    Args:
        layer: a built SimpleRNN, LSTM or GRU (with `reset_after`), a `Bidirectional` of one, or a
            `StackedRNN` of these.

    Raises:
        ParityError: the two compute different results.
        ValueError: PyTorch has no equivalent module.

    Example:

        >>> import numpy as np, torch, kerasrnn
        >>> layer = kerasrnn.LSTM(4, return_sequences=True)
        >>> y = layer(np.ones((2, 5, 3), "float32"))
        >>> kerasrnn.export.to_torch(layer)
        LSTM(3, 4, batch_first=True)
    """
    import torch

    if not layer.built:
        raise ValueError(f"{layer.name}: not built; expected a layer with weights.")
    stacked = isinstance(layer, StackedRNN)
    layers = layer.layers if stacked else [layer]
    halves = [half for of_depth in layers for half in matrices.halves(of_depth)]
    first = halves[0]
    kinds = {cls: name for name, (cls, _) in MODULES.items()}
    problem = None
    if type(first) not in kinds or any(type(half) is not type(first) for half in halves):
        problem = f"a {type(first).__name__}"
    elif len({half.units for half in halves}) > 1 or len({half.use_bias for half in halves}) > 1:
        problem = "layers with different units or biases"
    elif len({type(of_depth) for of_depth in layers}) > 1:
        problem = "both directions in only some layers"
    elif any(getattr(each, "residual", False) for each in (layer, *layers)):
        problem = "residual connections"
    elif any(getattr(each, "merge_mode", "concat") != "concat" for each in layers):
        problem = "merged directions; expected merge_mode='concat'"
    elif not isinstance(layers[0], Bidirectional) and first.go_backwards:
        problem = "only a backward direction"
    elif not getattr(first, "reset_after", True):
        problem = "reset_after=False"
    elif not all(_has_torch_activations(half) for half in halves):
        problem = "these activations"
    else:
        names = (*OPTIONS, "learn_initial_state")
        options = [name for name in names for half in halves if getattr(half, name)]
        problem = options[0] if options else None
    if problem is not None:
        raise ValueError(f"{layer.name}: torch.nn has no module with {problem}.")
    kind = kinds[type(first)]
    both = isinstance(layers[0], Bidirectional)
    options = {"nonlinearity": first.activation.__name__} if kind == "RNN" else {}
    module = getattr(torch.nn, kind)(
        halves[0].cell.kernel.shape[0],
        first.units,
        num_layers=len(layers),
        bias=first.use_bias,
        dropout=layer.dropout if stacked else 0.0,
        batch_first=True,
        bidirectional=both,
        **options,
    )
    _, order = MODULES[kind]
    with torch.no_grad():
        for n, of_depth in enumerate(layers):
            for half, suffix in zip(matrices.halves(of_depth), ("", "_reverse"), strict=False):
                values = matrices.of_cell(half.cell, order)
                for name, value in zip(WEIGHTS, values, strict=False):
                    getattr(module, f"{name}_l{n}{suffix}").copy_(torch.tensor(value))
    _compare_with_torch(layer, module, module.input_size)
    return module


def _has_torch_activations(layer: Recurrent) -> bool:
    named = keras.activations
    if isinstance(layer, SimpleRNN):
        return layer.activation in (named.tanh, named.relu)
    return layer.activation is named.tanh and layer.recurrent_activation is named.sigmoid


def _compare_with_torch(layer: Any, module: Any, features: int) -> None:
    import torch

    x = matrices.random_sequences(features)
    training = module.training
    with torch.no_grad():
        y, _ = module.eval()(torch.tensor(x if module.batch_first else x.swapaxes(0, 1)))
    module.train(training)
    y = y.numpy() if module.batch_first else y.numpy().swapaxes(0, 1)
    ours = matrices.returning_sequences(layer)(x)
    difference = float(np.abs(keras.ops.convert_to_numpy(ours) - y).max())
    parity.check_difference(difference, matrices.TOLERANCE, f"torch.nn.{type(module).__name__}")
