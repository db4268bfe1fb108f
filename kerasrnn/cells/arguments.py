"""The arguments of cells and their layers, once for all: order, defaults, checks, descriptions.

A cell declares the arguments that are its own: `own_arguments = {"epsilon": 1e-3}`. Its
constructor, its configuration, its layer's constructor and the documentation of both follow.
"""

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, PositiveNumber, Rate, Seed

REQUIRED = inspect.Parameter.empty
"""The default of an argument that has none."""

ANNOTATIONS: dict[str, Any] = {
    "units": PositiveInteger,
    "activation": str | Callable | None,
    "recurrent_activation": str | Callable | None,
    "use_bias": bool,
    "kernel_initializer": Any,
    "recurrent_initializer": Any,
    "bias_initializer": Any,
    "unit_forget_bias": bool,
    "kernel_regularizer": Any,
    "recurrent_regularizer": Any,
    "bias_regularizer": Any,
    "kernel_constraint": Any,
    "recurrent_constraint": Any,
    "bias_constraint": Any,
    "dropout": Rate,
    "recurrent_dropout": Rate,
    "reset_after": bool,
    "peephole_initializer": Any,
    "peephole_regularizer": Any,
    "peephole_constraint": Any,
    "epsilon": PositiveNumber,
    "seed": Seed | None,
}
"""The arguments of the cells' constructors, in Keras's order, and what each one takes."""

DESCRIPTIONS = {
    "cell": "the cell, or a list of cells, which run as `keras.layers.StackedRNNCells`.",
    "units": "positive integer: the width of the output and of each state.",
    "activation": "activation of the candidate (and of LSTM's output); None is linear.",
    "recurrent_activation": "activation of the gates; None is linear.",
    "use_bias": "whether to add a bias.",
    "kernel_initializer": "initializer of W, `kernel`.",
    "recurrent_initializer": "initializer of U, `recurrent_kernel`.",
    "bias_initializer": "initializer of b, `bias`.",
    "unit_forget_bias": "whether to add 1 to the initial bias of the forget gate (Jozefowicz et "
    "al. 2015).",
    "kernel_regularizer": "penalty on W.",
    "recurrent_regularizer": "penalty on U.",
    "bias_regularizer": "penalty on b.",
    "activity_regularizer": "penalty on the layer's output.",
    "kernel_constraint": "projection of W after each update.",
    "recurrent_constraint": "projection of U after each update.",
    "bias_constraint": "projection of b after each update.",
    "peephole_initializer": "initializer of V, `peephole_kernel`.",
    "peephole_regularizer": "penalty on V.",
    "peephole_constraint": "projection of V after each update.",
    "epsilon": "positive number added to the variances before their square roots are taken.",
    "dropout": "fraction of the inputs to drop in training, in [0, 1); one mask a sequence.",
    "recurrent_dropout": "fraction of the state to drop in training, in [0, 1); one mask a gate "
    "and sequence.",
    "reset_after": "whether the reset gate is applied after the recurrent product (True, as in "
    "cuDNN and ONNX's `linear_before_reset`) or before it (False, as in the paper).",
    "seed": "integer that makes the dropout masks repeatable.",
    "return_sequences": "whether to return the output of every step instead of the last one.",
    "return_state": "whether to return the final states after the output.",
    "go_backwards": "whether to read the sequence from its end; outputs are in that order.",
    "stateful": "whether a batch starts from the final states of the previous one; `reset_state()` "
    "sets them to zero.",
    "unroll": "whether to write out the loop step by step: for short sequences of known length.",
    "use_cudnn": '"auto" or False, for compatibility: the time loop is kerasrnn\'s own.',
    "zero_output_for_mask": "whether masked steps output zeros instead of the previous output.",
    "checkpoint_every": "reduces the memory of training on long sequences: states are stored only "
    "every so many steps, and the steps between are computed again for the gradient, which stays "
    'the same; "sqrt": the square root of the number of steps (Chen et al. 2016). None: all states '
    "are stored.",
    "truncate_every": "truncated backpropagation through time (Williams & Peng 1990): states are "
    "carried on, but their gradient is cut every so many steps. None: never.",
    "jit_compile": "XLA: True compiles the time loop wherever it runs; False never compiles it by "
    'itself, and disables XLA for a model compiled with `jit_compile="auto"`; "auto" compiles it '
    "on TensorFlow in training, in a graph, if the number of steps is known and `unroll` is False. "
    "JAX compiles every loop. A loop inside a function that XLA compiles is compiled with it.",
}
"""What each argument means. An argument of a single cell may be described in its docstring."""

_KINDS = {
    "activation": (validation.activation, keras.activations.serialize),
    "initializer": (validation.initializer, keras.initializers.serialize),
    "regularizer": (validation.regularizer, keras.regularizers.serialize),
    "constraint": (validation.constraint, keras.constraints.serialize),
}
"""How arguments whose names end so are read, and written into a configuration."""


def signature(declared: dict[str, Any]) -> inspect.Signature:
    """The constructor of a cell that declares these arguments, with their defaults.

    Arguments known here come in Keras's order, others before `seed`; such a one is checked by the
    type of its default.
    """
    known = [name for name in ANNOTATIONS if name in declared and name != "seed"]
    others = [name for name in declared if name not in ANNOTATIONS]
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=declared[name],
            annotation=ANNOTATIONS.get(name, _type_of(declared[name])),
        )
        for name in (*known, *others, *(["seed"] if "seed" in declared else []))
    ]
    parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD, annotation=Any))
    return inspect.Signature(parameters, return_annotation=None)


def _type_of(default: Any) -> Any:
    return type(default) if type(default) in (bool, int, float, str) else Any


def read(name: str, value: Any) -> Any:
    """An argument's value as an attribute: activations, initializers, ... are objects."""
    kind = _KINDS.get(name.rpartition("_")[2])
    return value if kind is None else kind[0](name, value)


def written(name: str, value: Any) -> Any:
    """The value of such an attribute in a configuration."""
    kind = _KINDS.get(name.rpartition("_")[2])
    return value if kind is None else kind[1](value)


class ClassSignature:
    """A class's `__signature__` that its instances do not have: they are called otherwise."""

    def __init__(self, value: inspect.Signature) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return self.value


def bind(cls: type, constructor: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call of a derived constructor, by name, defaults included.

    Raises:
        TypeError: an argument is missing, unknown or given twice.
    """
    try:
        bound = constructor.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}: {error}") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def document(cls: type, *sections: str) -> None:
    """Append sections to a class's docstring, except those that it has."""
    text = inspect.cleandoc(cls.__doc__ or "")
    for section in sections:
        title = section.strip().splitlines()[0]
        if f"\n{title}\n" not in f"\n{text}\n":
            text = f"{text.rstrip()}\n\n{section.strip()}\n"
    cls.__doc__ = text


def described(names: Sequence[str]) -> str:
    """The section of a docstring on these arguments."""
    lines = [
        textwrap.fill(
            f"{name}: {DESCRIPTIONS[name]}", 100, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
        for name in names
        if name in DESCRIPTIONS
    ]
    return "\n".join(["Args:", *lines])
