"""How the zoo's functions take a cell: by name or by class."""

import kerasrnn
from kerasrnn.cells.layer import snake_case


def layer_class(cell: str | type[kerasrnn.Cell] | type[kerasrnn.RNN]) -> type[kerasrnn.RNN]:
    """The layer of a cell, given the cell's name ("lstm"), its class, or the layer itself.

    Raises:
        ValueError: an unknown name, with the names that exist.

    Example:

        >>> from kerasrnn import zoo
        >>> zoo.layer_class("gru").__name__
        'GRU'
    """
    layers = [getattr(kerasrnn, name) for name in kerasrnn.__all__ if name[0].isupper()]
    layers = [layer for layer in layers if hasattr(layer, "cell_class")]
    if isinstance(cell, str):
        names = {snake_case(layer.__name__): layer for layer in layers}
        if cell not in names:
            raise ValueError(f"cell={cell!r}: expected one of {', '.join(sorted(names))}.")
        return names[cell]
    if isinstance(cell, type) and issubclass(cell, kerasrnn.RNN):
        return cell
    for layer in layers:
        if cell is layer.cell_class:
            return layer
    raise ValueError(f"cell={cell!r}: expected a name, a kerasrnn cell class or its layer class.")
