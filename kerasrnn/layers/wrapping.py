"""Cells around other cells."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras

from kerasrnn.cells.cell import Cell
from kerasrnn.recurrence.loop import Dropout

Tensor = Any


class WrappingCell(Cell):
    """The base class of cells that run another cell and extend its step.

    The input part and the dropout are those of the inner cell. A subclass builds both, and defines
    their states, `recurrent_products` and `step`.

    Args:
        cell: a new `kerasrnn.Cell` that is not a wrapper itself.
        units: positive integer: the width of the output.
        **kwargs: keyword arguments of `Cell`.

    Raises:
        ValueError: `cell` is not a kerasrnn cell, is built, overrides `call`, or is a wrapper
            itself; an argument is out of its range.
    """

    parts: ClassVar[tuple[str, ...]] = ("cell",)
    """Names of the arguments that are layers."""

    def __init__(self, cell: Cell, units: int, **kwargs: Any) -> None:
        if not isinstance(cell, Cell) or isinstance(cell, WrappingCell):
            raise ValueError(f"cell={cell!r}: expected a kerasrnn cell with no other cell inside.")
        if cell.overrides_call:
            raise ValueError(
                f"cell={cell!r} overrides `call`, which a cell around it does not use; expected "
                "a cell that overrides `update` or `step`."
            )
        if cell.built:
            raise ValueError(f"cell: {cell.name} is built; expected a new cell.")
        super().__init__(units, **kwargs)
        self.cell = cell

    @classmethod
    def arguments(cls) -> dict[str, inspect.Parameter]:
        """The arguments of the constructor, without those of the inner cell."""
        own = [*inspect.signature(cls).parameters.values()]
        return {p.name: p for p in own if p.kind is not p.VAR_KEYWORD}

    def draw_dropout(self, inputs: Tensor, state: Tensor) -> Dropout:
        return self.cell.draw_dropout(inputs, state)

    def reset_dropout_mask(self) -> None:
        self.cell.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        self.cell.reset_recurrent_dropout_mask()

    def input_part(
        self, x: Tensor, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> Tensor:
        return self.cell.input_part(x, weights, masks)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in self.parts:
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
            config[name].pop("build_config", None)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.parts}
        return cls(**{**config, **parts})
