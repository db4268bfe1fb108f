"""The layers of the cells: `Recurrent` derives a layer from a cell class.

Apart from `RNN` (`rnn.py`), which runs the cell: here are no tensors, only signatures,
configurations and documentation.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any, Literal

import keras

from kerasrnn import validation
from kerasrnn.cells.arguments import ClassSignature, bind, described, document
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import EXTRAS, RNN, call_section
from kerasrnn.wording import snake_case

EXAMPLE = """
Example:

    >>> import numpy as np, kerasrnn
    >>> layer = kerasrnn.{name}({arguments}, return_sequences=True, return_state=True)
    >>> y, *states = layer(np.ones({input_shape}, "float32"))
    >>> tuple(y.shape), len(states), bool(np.all(y[:, -1] == states[0]))
    ({shape}, {states}, True)
"""


class Recurrent(RNN):
    """A layer made from a cell class: takes the arguments of the cell and of the loop, in Keras's
    order.

        class LSTM(Recurrent, cell_class=LSTMCell, after_loop=("use_cudnn",)): ...

    The constructor's signature, the forwarding properties and the documentation are derived from
    the cell, so that they stay consistent with it.

    Args (of the class statement):
        cell_class: the cell.
        after_loop: arguments that follow those of the loop in Keras's order, if it differs from
            the cell's order; `use_cudnn` exists only for layers.
    """

    cell_class: type[Cell]

    def __init_subclass__(
        cls,
        cell_class: type[Cell] | None = None,
        after_loop: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if cell_class is None:  # for example a user's subclass of LSTM
            return
        cls.cell_class = cell_class
        cls.__signature__ = ClassSignature(_signature(cell_class, after_loop))
        for name in cell_class.arguments():
            setattr(cls, name, _forward(name))
        document(
            cls,
            _equations(cell_class),
            described([*cls.__signature__.parameters], cell_class),
            call_section(cell_class.wording),
            _example(cls.__name__, cell_class),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        signature = type(self).__signature__
        arguments = bind(type(self), signature, args, kwargs)
        rest = arguments.pop("kwargs", {})  # name, dtype, trainable, ...
        use_cudnn = arguments.pop("use_cudnn", "auto")
        use_cudnn = validation.one_of("use_cudnn", use_cudnn, ("auto", True, False))
        arguments["activity_regularizer"] = validation.regularizer(
            "activity_regularizer", arguments["activity_regularizer"]
        )
        cell_arguments = {name: arguments.pop(name) for name in self.cell_class.arguments()}
        if "implementation" in rest:
            cell_arguments["implementation"] = rest.pop("implementation")
        cell = self.cell_class(
            **cell_arguments,
            dtype=rest.get("dtype"),
            trainable=rest.get("trainable", True),
            name=snake_case(self.cell_class.__name__),
        )
        super().__init__(cell, **arguments, **rest)
        if "use_cudnn" in signature.parameters:
            self.use_cudnn = use_cudnn

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        cell_config = self.cell.get_config()
        for name in (*self.cell_class.arguments(), "implementation"):
            if name in cell_config:
                config[name] = cell_config[name]
        config["activity_regularizer"] = keras.regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Recurrent":
        return cls(**config)


def _signature(cell_class: type[Cell], after_loop: Sequence[str]) -> inspect.Signature:
    """The arguments of the cell and the loop; those that Keras's layers lack are keyword-only."""
    of_cell, of_loop = cell_class.arguments(), dict(inspect.signature(RNN).parameters)
    del of_loop["cell"]
    options = of_loop.pop("kwargs")
    extras = [p for p in of_cell.values() if p.kind is p.KEYWORD_ONLY]
    extras += [of_loop.pop(name) for name in ("zero_output_for_mask", *EXTRAS)]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    activity = inspect.Parameter("activity_regularizer", kind, default=None, annotation=Any)
    for name, parameter in of_cell.items():
        if name not in after_loop and parameter.kind is kind:
            parameters.append(parameter)
        if name == "bias_regularizer":
            parameters.append(activity)
    if activity not in parameters:
        parameters.append(activity)
    parameters += of_loop.values()
    use_cudnn = inspect.Parameter(
        "use_cudnn", kind, default="auto", annotation=Literal["auto"] | bool
    )
    parameters += [{**of_cell, "use_cudnn": use_cudnn}[name] for name in after_loop]
    parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in extras]
    return inspect.Signature([*parameters, options], return_annotation=None)


def _example(name: str, cell_class: type[Cell]) -> str:
    wording = cell_class.wording
    return EXAMPLE.format(
        name=name,
        arguments=wording.arguments,
        input_shape=(2, 5, *wording.input_shape),
        shape=(2, 5, *wording.output_shape),
        states=len(cell_class.state_names),
    )


def _equations(cell_class: type[Cell]) -> str:
    """Extract the paper, the equations and the weights from the cell's docstring."""
    _, _, rest = (cell_class.__doc__ or "").partition("\n\n")
    return re.split(r"\n(?=Args:\n|Call arguments:\n)", f"\n{rest}")[0]


def _forward(name: str) -> property:
    return property(lambda self: getattr(self.cell, name), doc=f"The cell's `{name}`.")
