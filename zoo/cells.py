"""Resolution of cells, by name or class, and creation of recurrent layers."""

import inspect
from typing import Any

import kerasrnn
from kerasrnn import catalogue

CellLike = str | type[kerasrnn.Cell] | type[kerasrnn.RNN]


def layer_class(cell: CellLike) -> type[kerasrnn.RNN]:
    """Return a cell's layer class, given its name ("lstm"), its class, or the layer class.

    Raises:
        ValueError: the name is unknown; the message lists the existing names.

    Example:

        >>> from kerasrnn import zoo
        >>> zoo.layer_class("gru").__name__
        'GRU'
    """
    layers = {entry.module: entry.layer for entry in catalogue.CELLS}
    if isinstance(cell, str):
        if cell not in layers:
            raise ValueError(f"cell={cell!r}: expected one of {', '.join(sorted(layers))}.")
        return getattr(kerasrnn, layers[cell])
    if isinstance(cell, type) and issubclass(cell, kerasrnn.RNN) and hasattr(cell, "cell_class"):
        if issubclass(cell.cell_class, kerasrnn.ConvolutionalCell):
            raise ValueError(f"cell={cell!r}: a layer of images; expected one of vectors.")
        return cell
    for layer in (getattr(kerasrnn, name) for name in layers.values()):
        if cell is layer.cell_class:
            return layer
    raise ValueError(f"cell={cell!r}: expected a name, a kerasrnn cell class or its layer class.")


def cell_class(cell: CellLike) -> type[kerasrnn.Cell]:
    """Return the cell class, given as for `layer_class`, or a custom cell class without a layer.

    Raises:
        ValueError: the name is unknown; the message lists the existing names.
    """
    return cell if _is_custom(cell) else layer_class(cell).cell_class


def recurrent_layers(
    cell: CellLike,
    units: int,
    depth: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    **options: Any,
) -> list[Any]:
    """Create recurrent layers of a cell, from the bottom up.

    Args:
        cell: see `layer_class`; a custom cell class without a layer is wrapped in `kerasrnn.RNN`.
        units: width of a state.
        depth: number of layers.
        bidirectional: whether each layer is bidirectional.
        dropout: dropout rate of the first layer's input; the stack applies the dropout between
            layers.
        recurrent_dropout: fraction of the state dropped from step to step.
        **options: further arguments of the layers: `stateful`, `jit_compile`, ...

    Raises:
        ValueError: the name is unknown; `recurrent_dropout` for a cell without a recurrent kernel;
            the layers do not have an option.
    """
    layers = []
    cls = kerasrnn.RNN if _is_custom(cell) else layer_class(cell)
    for n in range(depth):
        rates = dropout_rates(cell, 0.0 if n else dropout, recurrent_dropout)
        arguments = (
            {"cell": cell(units, **rates)} if _is_custom(cell) else {"units": units, **rates}
        )
        try:
            layer = cls(**arguments, **options)
        except (TypeError, ValueError) as error:
            _refuse_unknown(options, cls, error)
            raise
        layers.append(kerasrnn.Bidirectional(layer) if bidirectional else layer)
    return layers


def _refuse_unknown(options: dict[str, Any], cls: type[kerasrnn.RNN], error: Exception) -> None:
    """Name the options that no layer has: Keras would name the layer, which the user did not."""
    known = {"name", "dtype", "trainable"}
    for owner in cls.__mro__:
        if issubclass(owner, kerasrnn.RNN):
            known |= inspect.signature(owner).parameters.keys()
    for name in (name for name in options if name not in known):
        raise ValueError(
            f"{name}={options[name]!r}: expected an argument of the function of the zoo, or of its "
            f"recurrent layers, kerasrnn.{cls.__name__}."
        ) from error


def dropout_rates(cell: CellLike, dropout: float, recurrent_dropout: float) -> dict[str, float]:
    """The arguments of a cell for these rates; one without a recurrent kernel takes only the first.

    Raises:
        ValueError: `recurrent_dropout` for a cell without a recurrent kernel.
    """
    if "recurrent_dropout" in cell_class(cell).arguments():
        return {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
    if recurrent_dropout:
        raise ValueError(
            f"recurrent_dropout={recurrent_dropout}: {cell_class(cell).__name__} has no recurrent "
            "kernel whose input could be dropped; expected 0."
        )
    return {"dropout": dropout}


def recurrent(
    layers: list[Any],
    dropout: float = 0.0,
    residual: bool | str = False,
    name: str = "recurrent",
    **options: Any,
) -> kerasrnn.StackedRNN:
    """Create a stack of `recurrent_layers`.

    Args:
        layers: at least one layer.
        dropout: dropout rate between the layers.
        residual: whether each layer's input is added to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        name: name of the layer.
        **options: further arguments of `kerasrnn.StackedRNN`: `return_sequences`, ...
    """
    return kerasrnn.StackedRNN(layers, dropout=dropout, residual=residual, name=name, **options)


def _is_custom(cell: Any) -> bool:
    if not isinstance(cell, type) or not issubclass(cell, kerasrnn.Cell):
        return False
    classes = [getattr(kerasrnn, name) for name in kerasrnn.__all__ if name[0].isupper()]
    return cell not in classes
