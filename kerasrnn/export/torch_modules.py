"""Conversion of layers between PyTorch's recurrent modules and kerasrnn's."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasrnn.cells.gru import GRU
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.lstmp import LSTMP
from kerasrnn.cells.rnn import RNN
from kerasrnn.cells.simple_rnn import SimpleRNN
from kerasrnn.export import matrices, parity
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.stacked import StackedRNN

if TYPE_CHECKING:
    import torch

# The order of the modules' gates. PyTorch's n is the candidate h of the GRU cell.
GATES: dict[str, tuple[str, ...]] = {
    "RNN": ("h",),
    "LSTM": ("i", "f", "c", "o"),
    "GRU": ("rho", "z", "h"),
}
KINDS: dict[type[Recurrent], str] = {SimpleRNN: "RNN", LSTM: "LSTM", LSTMP: "LSTM", GRU: "GRU"}
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
PROJECTION = "weight_hr"


def from_torch(module: "torch.nn.RNNBase") -> RNN | Bidirectional | StackedRNN:
    """Convert a `torch.nn.RNN`, `LSTM` or `GRU` to a layer, with its weights.

    An `LSTM` with `proj_size` becomes an `LSTMP`. Several layers become a `StackedRNN`, and two
    directions a `Bidirectional` per layer. The result returns sequences, and takes
    `(batch, time, features)`, for any `batch_first`.

    Raises:
        ParityError: the two compute different results.
        ValueError: the module is of another kind.

    Example:

        >>> import torch, kerasrnn
        >>> layer = kerasrnn.export.from_torch(torch.nn.GRU(3, 4))
        >>> type(layer).__name__, layer.units
        ('GRU', 4)
    """
    import torch

    kind = type(module).__name__
    if not isinstance(module, torch.nn.RNNBase) or kind not in GATES:
        raise ValueError(f"module={module!r}: expected one of torch.nn.{', '.join(GATES)}.")
    cls = LSTMP if module.proj_size else next(cls for cls in KINDS if KINDS[cls] == kind)
    options: dict[str, Any] = {"activation": module.nonlinearity} if kind == "RNN" else {}
    if module.proj_size:
        options["projection_units"] = module.proj_size
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
            given = {
                name: getattr(module, f"{name}_l{n}{suffix}").detach().cpu().numpy()
                for name in (*WEIGHTS, PROJECTION)
                if hasattr(module, f"{name}_l{n}{suffix}")
            }
            if PROJECTION in given:
                half.cell.projection_kernel.assign(given.pop(PROJECTION).T)
            matrices.fill(half.cell, list(given.values()), GATES[kind])
    _compare_with_torch(layer, module, module.input_size)
    return layer


def to_torch(layer: RNN | Bidirectional | StackedRNN) -> "torch.nn.RNNBase":
    """Convert a layer to a `torch.nn.RNN`, `LSTM` or `GRU`, with its weights and `batch_first`.

    Args:
        layer: a built SimpleRNN, LSTM, LSTMP or GRU (with `reset_after`), a `Bidirectional` of one,
            or a `StackedRNN` of these.

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
    projections = [getattr(half, "projection_units", 0) for half in halves]
    problem = None
    if type(first) not in KINDS or any(type(half) is not type(first) for half in halves):
        problem = f"a {type(first).__name__}"
    elif len({(half.units, half.use_bias) for half in halves}) > 1 or len({*projections}) > 1:
        problem = "layers with different units or biases"
    elif projections[0] >= first.units:
        problem = f"projection_units={projections[0]}; expected less than units={first.units}"
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
        names = ("zoneout", "weight_drop", "learn_initial_state", "return_all_states")
        options = [name for name in names for half in halves if getattr(half, name)]
        problem = options[0] if options else None
    if problem is not None:
        raise ValueError(f"{layer.name}: torch.nn has no module with {problem}.")
    kind = KINDS[type(first)]
    both = isinstance(layers[0], Bidirectional)
    arguments = {"nonlinearity": first.activation.__name__} if kind == "RNN" else {}
    if projections[0]:
        arguments["proj_size"] = projections[0]
    module = getattr(torch.nn, kind)(
        halves[0].cell.kernel.shape[0],
        first.units,
        num_layers=len(layers),
        bias=first.use_bias,
        dropout=layer.dropout if stacked else 0.0,
        batch_first=True,
        bidirectional=both,
        **arguments,
    )
    with torch.no_grad():
        for n, of_depth in enumerate(layers):
            for half, suffix in zip(matrices.halves(of_depth), ("", "_reverse"), strict=False):
                values = matrices.of_cell(half.cell, GATES[kind])
                given = dict(zip(WEIGHTS, values, strict=False))
                if projections[0]:
                    given[PROJECTION] = keras.ops.convert_to_numpy(half.cell.projection_kernel).T
                for name, value in given.items():
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
