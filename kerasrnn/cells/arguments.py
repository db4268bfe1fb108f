"""Constructor arguments of all cells and layers: their order, defaults, checks and descriptions.

A cell declares its own arguments: `own_arguments = {"epsilon": 1e-3}`. Its constructor, its
configuration, its layer's constructor and the documentation of both are derived from them. An
argument that is not listed here is described in the "Args" section of the cell's docstring.
"""

import functools
import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from kerasrnn import validation
from kerasrnn.validation import (
    NonNegativeInteger,
    PositiveInteger,
    PositiveNumber,
    Rate,
    Rates,
    Seed,
)

REQUIRED = inspect.Parameter.empty
"""The default of a required argument."""

REMOVED = object()
"""In `own_arguments`, in place of a default: the class lacks this argument of its base class."""

ANNOTATIONS: dict[str, Any] = {
    "units": PositiveInteger,
    "filters": PositiveInteger,
    "kernel_size": Any,
    "strides": Any,
    "padding": str,
    "data_format": str | None,
    "dilation_rate": Any,
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
    "projection_units": PositiveInteger | None,
    "projection_initializer": Any,
    "projection_regularizer": Any,
    "projection_constraint": Any,
    "kernel_rank": PositiveInteger | None,
    "recurrent_rank": PositiveInteger | None,
    "heads": PositiveInteger,
    "chunk_size": PositiveInteger,
    "forget_gate": Literal["sigmoid", "exponential"],
    "mode": Literal["default", "pure", "no_gate"],
    "backbone_units": PositiveInteger | None,
    "backbone_layers": NonNegativeInteger,
    "backbone_activation": str | Callable | None,
    "unfoldings": PositiveInteger,
    "time_column": bool,
    "dt": PositiveNumber,
    "gamma": PositiveNumber,
    "epsilon": PositiveNumber,
    "seed": Seed | None,
    "zoneout": Rates,
    "weight_drop": Rate,
    "recurrent_parametrization": Literal["exponential"] | None,
}
"""The arguments of the cells' constructors, in Keras's order, with the type of each."""

OPTIONS = ("zoneout", "weight_drop", "recurrent_parametrization")
"""Arguments of every cell that Keras's cells lack. They are keyword-only, and a configuration omits
them at their defaults, so that it otherwise equals that of Keras."""

DESCRIPTIONS = {
    "cell": "a cell, or a list of cells, which run as `keras.layers.StackedRNNCells`.",
    "units": "positive integer: the width of the output and of each state.",
    "filters": "positive integer: the number of channels of the output and of each state.",
    "kernel_size": "the size of the convolutions' kernels: a positive integer, or one for each "
    "spatial axis.",
    "strides": "strides of the input's convolution: a positive integer, or one for each axis.",
    "padding": '"valid", or "same": zeros around the inputs, so that strides of 1 keep their size.',
    "data_format": '"channels_last", or "channels_first": the channels precede the spatial axes, '
    "in inputs, outputs and states. None: `keras.config.image_data_format()`.",
    "dilation_rate": "dilation of the input's kernel: a positive integer, or one for each axis; "
    "other than 1 only with strides of 1.",
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
    "time_column": "whether the last column of the inputs is the time elapsed since the previous "
    "step; otherwise the time is 1.",
    "dropout": "fraction of the inputs to drop in training, in [0, 1); one mask per sequence.",
    "recurrent_dropout": "fraction of the state to drop in training, in [0, 1); one mask per gate "
    "and sequence.",
    "reset_after": "whether the reset gate is applied after the recurrent product (True, as in "
    "cuDNN and ONNX's `linear_before_reset`) or before it (False, as in the paper).",
    "seed": "integer that makes the random masks reproducible.",
    "zoneout": "fraction of the units of each state that keep their previous value in a step of "
    "training, in [0, 1), or a list with one for each state; in inference, the expectation "
    "(Krueger et al. 2017).",
    "weight_drop": "fraction of the entries of U to drop in training, in [0, 1); one mask per call "
    "(Merity, Keskar & Socher 2018).",
    "recurrent_parametrization": '"exponential": U consists of the exponentials of skew-symmetric '
    "matrices, one for each gate, and is thus orthogonal; `recurrent_kernel` has their entries "
    "(Lezcano-Casado & Martinez-Rubio 2019). None: `recurrent_kernel` is U.",
    "return_sequences": "whether to return the output of every step instead of the last one.",
    "return_state": "whether to also return the final states, after the output.",
    "go_backwards": "whether to process the sequence in reverse; the outputs are in that order.",
    "stateful": "whether a batch starts from the final states of the previous one; `reset_state()` "
    "sets them to the initial ones, in all rows or in some.",
    "unroll": "whether to unroll the loop: for short sequences of known length.",
    "use_cudnn": 'whether to run in cuDNN on a GPU: "auto" where cuDNN can run the layer; True '
    "always: a call that cannot run there raises an error; False never. Not saved, as in Keras.",
    "zero_output_for_mask": "whether masked steps output zeros instead of the previous output.",
    "checkpoint_every": "reduces memory in training on long sequences: the states are stored only "
    "at intervals of this many steps, and the others are recomputed for the gradient, "
    'which stays the same; "sqrt": the square root of the number of steps (Chen et al. 2016). '
    "None: all states are stored.",
    "truncate_every": "truncated backpropagation through time (Williams & Peng 1990): the states "
    "are carried on, but their gradient is cut at intervals of this many steps. None: never.",
    "learn_initial_state": "whether the initial states are weights, one vector for all rows, which "
    "start at zero; a call with `initial_state` does not use them.",
    "return_all_states": "whether to also return the states after every step, `(batch, time, "
    "...)`, after the output; at a masked step, those before it.",
    "jit_compile": "XLA: True always compiles the time loop; False never compiles it by "
    'itself, and disables XLA for a model compiled with `jit_compile="auto"`; "auto" compiles it '
    "on TensorFlow in training, in a graph, and in `predict` and eager calls that repeat, unless "
    "`unroll` is True. "
    "JAX compiles every loop. A loop inside a function that XLA compiles is compiled with it.",
}
"""Descriptions of the arguments; those of a single cell are described in its docstring."""

_KINDS = {
    "activation": (validation.activation, keras.activations.serialize),
    "initializer": (validation.initializer, keras.initializers.serialize),
    "regularizer": (validation.regularizer, keras.regularizers.serialize),
    "constraint": (validation.constraint, keras.constraints.serialize),
}
"""By the suffix of an argument's name: the functions that deserialize and serialize its value."""


MAY_BE_REQUIRED = ("units", "filters", "kernel_size")
"""The arguments that may have no default: they precede all others."""

_TAKEN = ("built", "dtype", "implementation", "input_spec", "kwargs", "name", "seed_generator")
"""Names that a cell's own arguments cannot have, besides those of the class's attributes."""


def check_declared(cls: type, base: type) -> None:
    """Raise TypeError if the `own_arguments` of a class cannot be arguments of its constructor."""
    declared = vars(cls).get("own_arguments", {})
    if not isinstance(declared, dict):
        raise TypeError(
            f"{cls.__name__}.own_arguments={declared!r}: expected a dict from names to defaults."
        )
    for name, default in declared.items():
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            expected = "the name of an argument"
        elif name not in ANNOTATIONS and (name in _TAKEN or hasattr(base, name)):
            expected = f"another name: it is an attribute of every {base.__name__}"
        elif default is REQUIRED and name not in MAY_BE_REQUIRED:
            expected = f"a default; only {', '.join(MAY_BE_REQUIRED)} may have none"
        else:
            continue
        raise TypeError(f"{cls.__name__}.own_arguments: {name!r}: expected {expected}.")


def signature(declared: dict[str, Any]) -> inspect.Signature:
    """The constructor's signature for these arguments and their defaults.

    Known arguments come in Keras's order, others before `seed`, and the keyword-only `OPTIONS` at
    the end; the type of an unknown argument's default is its annotation.
    """
    last = ("seed", *OPTIONS)
    known = [name for name in ANNOTATIONS if name in declared and name not in last]
    others = [name for name in declared if name not in ANNOTATIONS]
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY
            if name in OPTIONS
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=declared[name],
            annotation=ANNOTATIONS.get(name, _type_of(name, declared[name])),
        )
        for name in (*known, *others, *(name for name in last if name in declared))
    ]
    parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD, annotation=Any))
    return inspect.Signature(parameters, return_annotation=None)


def _type_of(name: str, default: Any) -> Any:
    scalar = type(default) in (bool, int, float, str) and _kind(name) is None
    return type(default) if scalar else Any


def _kind(name: str) -> Any:
    return _KINDS.get(name.rpartition("_")[2])


def read(name: str, value: Any) -> Any:
    """Convert an argument to its attribute: activations, initializers, ... become objects."""
    kind = _kind(name)
    return value if kind is None else kind[0](name, value)


def written(name: str, value: Any) -> Any:
    """Convert such an attribute to its value in a configuration."""
    kind = _kind(name)
    return value if kind is None else kind[1](value)


class ClassSignature:
    """A `__signature__` of a class but not of its instances, whose calls have a different one."""

    def __init__(self, value: inspect.Signature) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return self.value


def bind(cls: type, constructor: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    """Bind a call to a derived constructor: arguments by name, defaults included.

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
    """Append sections to a class's docstring, except those already present."""
    text = inspect.cleandoc(cls.__doc__ or "")
    for section in filter(str.strip, sections):
        title = section.strip().splitlines()[0]
        if f"\n{title}\n" not in f"\n{text}\n":
            text = f"{text.rstrip()}\n\n{section.strip()}\n"
    cls.__doc__ = text


def document_arguments(cls: type, names: Sequence[str]) -> bool:
    """Write or complete the "Args" of a cell's docstring.

    Returns:
        Whether they were missing, or described only the cell's own arguments.
    """
    text, args = inspect.cleandoc(cls.__doc__ or ""), _args(cls)
    entries = {name for name, _ in _entries(args)}
    if args and not (entries and entries <= set(vars(cls).get("own_arguments", {}))):
        return False
    section = f"\n{described(names, cls)}\n"
    cls.__doc__ = text.replace(args, section) if args else f"{text.rstrip()}\n{section}"
    return True


def described(names: Sequence[str], cell: type | None = None) -> str:
    """The docstring section that describes these arguments.

    Those of a single cell are described in its docstring, the others in `DESCRIPTIONS`.
    """
    texts = dict(DESCRIPTIONS)
    for owner in reversed(cell.__mro__ if cell else ()):
        if own := vars(owner).get("own_arguments"):
            texts |= {name: text for name, text in _entries(_args(owner)) if name in own}
    return "\n".join(["Args:", *(_entry(name, texts[name]) for name in names if name in texts)])


@functools.cache  # cells share most arguments
def _entry(name: str, text: str) -> str:
    indents = {"initial_indent": " " * 4, "subsequent_indent": " " * 8}
    return textwrap.fill(f"{name}: {text}", 100, **indents)


def filled(section: str) -> str:
    """Break the lines of docstring sections anew, if one of them is too long."""
    if max(map(len, section.splitlines())) <= 100:
        return section
    blocks: list[list[str]] = []
    for line in section.splitlines():
        indented = line.startswith(" ")
        starts = not line.strip() or not blocks or re.match(r" {4}\w+: ", line)
        if starts or indented != blocks[-1][-1].startswith(" ") or not blocks[-1][-1].strip():
            blocks.append([line])
        else:
            blocks[-1].append(line)
    return "\n".join(_filled(lines) for lines in blocks)


def _filled(lines: list[str]) -> str:
    text = " ".join(line.strip() for line in lines)
    first = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    hanging = re.match(r"\w+: ", text) and first
    return textwrap.fill(
        text, 100, initial_indent=first, subsequent_indent=first + " " * (4 if hanging else 0)
    )


def _args(cls: type) -> str:
    """The "Args" section of a class's own docstring."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    match = re.search(r"(?:^|\n)Args:\n(?: .*\n?|\n(?= ))+", text)
    return match[0] if match else ""


def _entries(section: str) -> list[tuple[str, str]]:
    """The arguments that such a section describes, with their descriptions."""
    matches = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return [(name, " ".join(text.split())) for name, text in matches]
