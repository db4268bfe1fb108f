"""What every recurrent cell shares: weights, dropout, configuration, and the single step."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer
from kerasrnn.cells.arguments import (
    REQUIRED,
    ClassSignature,
    bind,
    described,
    document,
    read,
    signature,
    written,
)
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.keras_internals import DropoutRNNCell
from kerasrnn.recurrence import loop
from kerasrnn.recurrence.loop import Call, Dropout, JitCompile, Options, Results
from kerasrnn.recurrence.products import RecurrentProduct, input_part

Tensor = Any

CALL = """
Call arguments:
    inputs: `(batch, features)`.
    states: {states}
    training: whether dropout is applied.

Raises:
    ValueError: an argument is out of its range, or a state is missing.
    TypeError: an argument of the constructor is unknown, or `units` is missing.
"""

EXAMPLE = """
Example:

    >>> import numpy as np, kerasrnn
    >>> cell = kerasrnn.{name}(4)
    >>> output, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
    >>> tuple(output.shape), [tuple(state.shape) for state in states]
    ((2, 4), {shapes})
"""

EQUATIONS = ("update", "step")
"""Methods that hold a cell's equations."""

FORWARD = (
    "update_with_residuals",
    "step_with_residuals",
    "input_part",
    "recurrent_products",
    "product_groups",
    "weights_by_name",
    "run",
)
"""Other methods on which a cell's outputs depend."""


def is_step(call: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `call` that computes what `step` does, so that the time loop may run `step`."""
    call.is_step = True
    return call


class Cell(DropoutRNNCell, SequenceLayer):
    """The base of every cell. A subclass declares `gates`, `state_names` and `update`.

    With W, U, b the kernel, the recurrent kernel and the bias, whose columns are the gates' blocks:

        a_t = x_t W + b                          input part
        r_t = h_{t-1} U                          recurrent part
        y_t, s_t = update(a_t, r_t, s_{t-1})     pointwise

    The library owns the matrix products, the time loop, masks, dropout, differentiation and
    serialization. Arguments of the cell's own are declared in `own_arguments`: the constructor,
    the attributes and the configuration follow. A cell with several products in a step overrides
    `product_groups` and `step` (see `GRUCell`). One whose recurrent part is no matrix product
    overrides `recurrent_kernel_shape` and `recurrent_products` (see `IndRNNCell`). One with more
    weights adds them in `build`, names them in `step_weights`, and reads them from `weights` (see
    `PeepholeLSTMCell`). With several `product_groups`, `update` is given the results of all
    products side by side.

    Call arguments:
        inputs: `(batch, features)`.
        states: list of the previous states, each `(batch, units)`; one tensor where there is one.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`, the states in the structure they came in.

    Raises:
        ValueError: an argument is out of its range, a state is missing.

    Example: a leaky unit.

        >>> import numpy as np, kerasrnn
        >>> class LeakyCell(kerasrnn.Cell):
        ...     own_arguments = {"leak": 0.1}
        ...
        ...     def update(self, a, r, states, weights):
        ...         h = (1 - self.leak) * states[0] + self.leak * self.activation(a + r)
        ...         return h, [h]
        >>> cell = LeakyCell(4, leak=0.2)
        >>> cell.get_config()["leak"]
        0.2
        >>> y = kerasrnn.RNN(cell)(np.ones((2, 7, 3), "float32"))
        >>> tuple(y.shape)
        (2, 4)
    """

    own_arguments: ClassVar[dict[str, Any]] = {
        "units": REQUIRED,
        "activation": "tanh",
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "recurrent_initializer": "orthogonal",
        "bias_initializer": "zeros",
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "seed": None,
    }
    """Arguments of the constructor, with their defaults, beside those of the class extended."""

    constructor: ClassVar[inspect.Signature]
    """The arguments that `Cell.__init__` takes, derived from `own_arguments`."""

    gates: tuple[str, ...] = ("h",)
    """Names of the blocks of columns of the kernels and the bias, in the weights' order."""

    state_names: tuple[str, ...] = ("h",)
    """Names of the states; the first is what the recurrent product is applied to."""

    step_weights: tuple[str, ...] = ()
    """Names of the weights, besides the kernels and the bias, that `update` or `step` reads."""

    single_read: bool = False
    """Whether a step uses each element of `a` in one place alone. It may then be read where it is
    used, which is faster in inference; where something is written over `a`, as in training, it is
    read a step ahead all the same. Said of another cell, this would make it slow, and not wrong."""

    reads_memory: bool = False
    """Whether a step reads a memory, which does not change over time: see `AttentionCell`. Such a
    cell prepares it with `prepare_memory`; its initial states are those of
    `get_initial_state(prepared=...)` or of `extend_states`."""

    overrides_call: bool = False
    """Whether a subclass overrides `call`, the single step. Layers then call the cell at each step,
    in Keras's own loop; a cell that overrides `update` or `step` runs in kerasrnn's."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declare()
        # What a class derives from its equations does not hold for a subclass that changes them.
        if cls._is_overridden(EQUATIONS, below="has_adjoint"):
            cls.has_adjoint = property(Cell.has_adjoint.fget)
        if cls._is_overridden(EQUATIONS, below="single_read"):
            cls.single_read = False
        if cls._is_overridden((*EQUATIONS, *FORWARD), below="onnx_operator"):
            cls.onnx_operator = property(Cell.onnx_operator.fget)
        steps = next(owner for owner in cls.__mro__ if "step" in vars(owner))
        if steps is not Cell and _is_ours(steps) and cls._is_overridden(["update"], below="step"):
            raise TypeError(
                f"{cls.__name__} overrides `update`, which {steps.__name__} does not use; expected "
                "an override of `step`."
            )
        cls.overrides_call = not (
            getattr(cls.call, "is_step", False) and cls.call_with is Cell.call_with
        )

    @classmethod
    def _declare(cls) -> None:
        """Derive the constructor and the documentation from what the class declares."""
        declared: dict[str, Any] = {}
        for owner in reversed(cls.__mro__):
            declared |= vars(owner).get("own_arguments", {})
        cls.constructor = signature(declared)
        derived = cls.__init__ is Cell.__init__
        cls.__signature__ = ClassSignature(
            cls.constructor if derived else _without_self(cls.__init__)
        )
        if "\nArgs:\n" not in inspect.cleandoc(cls.__doc__ or ""):
            of_call = CALL.format(states=_as_argument(cls.state_names))
            document(cls, described([*cls.arguments()]), of_call)
            if _is_ours(cls) and cls is not Cell:
                document(cls, _example(cls))

    @classmethod
    def _is_overridden(cls, names: Sequence[str], below: str) -> bool:
        """Whether a subclass of the class that defines `below` defines one of these."""

        def depth(name: str) -> int:
            return next(n for n, owner in enumerate(cls.__mro__) if name in vars(owner))

        return any(depth(name) < depth(below) for name in names)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        arguments = bind(type(self), self.constructor, args, kwargs)
        options = arguments.pop("kwargs", {})
        arguments = validation.check(arguments, validation.checks_of(self.constructor))
        # Keras's own option, which it does not save: 1 draws one input mask a gate, and so did 0,
        # the default of Keras 1 and of the first versions of Keras 2.
        implementation = options.pop("implementation", 2)
        implementation = validation.one_of("implementation", implementation, (0, 1, 2)) or 1
        super().__init__(**options)
        self.input_spec = keras.layers.InputSpec(ndim=2)
        # Keras draws the dropout's seed before those of the initializers in SimpleRNN, and after
        # them in cells with gates: one global seed gives the same weights here.
        gated = "recurrent_activation" in arguments
        if not gated:
            self.seed_generator = keras.random.SeedGenerator(arguments["seed"])
        for name, value in arguments.items():
            setattr(self, name, read(name, value))
        if gated:
            self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.implementation = 1 if self.recurrent_dropout else implementation
        if self.implementation == 1:
            self.dropout_mask_count = len(self.gates)  # read by DropoutRNNCell
        self.__post_init__()

    def __post_init__(self) -> None:
        """Called at the end of the constructor, when the arguments are attributes.

        A cell may override it to check arguments against each other, or to derive attributes.
        """

    # What a cell may say of itself.

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The pointwise part of a step.

        Args:
            a: input part, `(batch, gates * units)`, bias included.
            r: recurrent part, `(batch, gates * units)`.
            states: previous states.
            weights: those of `step_weights`, by name.

        Returns:
            `(output, new_states)`.
        """
        # Abstract: a cell that says `step` needs no `update`.
        raise NotImplementedError(f"{type(self).__name__} must say `update` or `step`.")

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        """One step.

        A step may apply each product any number of times, in any order, to states, to results of
        other products or to anything else of shape `(batch, width)`; dropout masks are the same in
        each application. In training the loop records the applications and differentiates them,
        with each product's weight gradient summed over all of them. What the record cannot follow
        is refused with an error that names the cell and the product:

        - a product applied inside of a loop, branch or function of the backend (`ops.while_loop`,
          `ops.cond`, `tf.function`, ...): use Python's `for` and `if`;
        - an attribute of a product, such as its kernel: a weight that the step reads by itself is
          named in `step_weights`;
        - a step that applies its products differently each time that it is traced.

        Args:
            a: input part, `(batch, gates * units)`, bias included.
            states: previous states.
            weights: those of `step_weights`, by name.
            products: a function for each of `product_groups`, in their order, from `(batch, units)`
                to the group's `(batch, gates * units)`.

        Returns:
            `(output, new_states)`.
        """
        return self.update(a, self._recurrent_part(states[0], products), states, weights)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        """Gates that are multiplied together, group by group, in the order of `gates`."""
        return (self.gates,)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        """`(units, gates * units)`, unless `recurrent_products` are of another kind."""
        return (self.units, len(self.gates) * self.units)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """`(gates * units,)`, or `(2, gates * units)`: of the input and of the recurrent part."""
        return (len(self.gates) * self.units,)

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        """What the bias starts from."""
        return self.bias_initializer

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        """The ONNX operator that computes this cell, as it is configured; None: a loop does."""
        return None

    # What a cell may say of its gradient; one that does not is differentiated automatically.

    @property
    def has_adjoint(self) -> bool:
        """Whether the pointwise part has an adjoint derived by hand, as it is configured."""
        return False

    def update_with_residuals(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], Any]:
        """`update`, and what `update_adjoint` needs of it: `(output, new_states, residuals)`."""
        # Abstract: asked of a cell with `has_adjoint` alone.
        raise NotImplementedError(f"{type(self).__name__} has no adjoint by hand.")

    def update_adjoint(
        self, residuals: Any, states: Sequence[Tensor], d_output: Tensor, d_states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`(d_a, d_r, d_states)` from the gradients of the output and of the new states.

        `d_states` are the shares that do not go through the recurrent product.
        """
        # Abstract: asked of a cell with `has_adjoint` alone.
        raise NotImplementedError(f"{type(self).__name__} has no adjoint by hand.")

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor], Any]:
        """`step`, and what `step_adjoint` needs of it."""
        return self.update_with_residuals(
            a, self._recurrent_part(states[0], products), states, weights
        )

    def step_adjoint(
        self,
        residuals: Any,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)`; `d_results` are those of the products."""
        d_a, d_r, (d_first, *d_others) = self.update_adjoint(residuals, states, d_output, d_states)
        ends = np.cumsum([len(group) * self.units for group in self.product_groups])[:-1]
        d_results = ops.split(d_r, ends.tolist(), axis=-1) if len(ends) else [d_r]
        for product, d_result in zip(products, d_results, strict=True):
            d_first = d_first + product.adjoint(d_result)
        return d_a, [d_first, *d_others], {}, d_results

    def product_arguments(self, residuals: Any, states: Sequence[Tensor]) -> list[Tensor]:
        """What the products were applied to, at one step or at all of them at once."""
        return [states[0] for _ in self.product_groups]

    # What Keras and the time loop ask of it.

    @property
    def state_size(self) -> int | list[int]:
        return self.units if len(self.state_names) == 1 else [self.units] * len(self.state_names)

    @property
    def output_size(self) -> int:
        return self.units

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = self._features(input_shape)
        self.kernel = self.add_weight(
            shape=(features, len(self.gates) * self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=self.recurrent_kernel_shape,
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=self.bias_shape,
                name="bias",
                initializer=self.make_bias_initializer(),
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def _features(self, input_shape: Sequence[int | None]) -> int:
        """The width of the inputs, to which they are held from now on."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"input_shape={tuple(input_shape)}: the features must be known.")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: features})
        return features

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """Zeros, `(batch, units)` each, in the compute dtype."""
        return [
            ops.zeros((batch_size, self.units), dtype=self.compute_dtype) for _ in self.state_names
        ]

    def weights_by_name(self) -> dict[str, Tensor]:
        """The weights as tensors in the compute dtype: what the time loop takes."""
        return weights_by_name(self)

    def draw_dropout(self, inputs: Tensor, state: Tensor) -> Dropout:
        """One sequence's dropout masks, kept until they are reset.

        Args:
            inputs: any step of the inputs, `(batch, features)`: its shape and dtype count.
            state: the first state, `(batch, units)`.
        """
        return Dropout(
            _as_list(self.get_dropout_mask(inputs)),
            _as_list(self.get_recurrent_dropout_mask(state)),
        )

    def input_part(
        self, x: Tensor, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> Tensor:
        return input_part(x, weights["kernel"], self._biases(weights)[0], masks)

    def recurrent_products(
        self, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[RecurrentProduct, ...]:
        kernel, bias = weights["recurrent_kernel"], self._biases(weights)[1]
        products, start = [], 0
        for group in self.product_groups:
            end = start + len(group)
            columns = slice(start * self.units, end * self.units)
            products.append(
                RecurrentProduct(
                    kernel[:, columns],
                    None if bias is None else bias[columns],
                    masks[start:end] if masks is not None and len(masks) > 1 else masks,
                )
            )
            start = end
        return tuple(products)

    def run(self, options: Options, call: Call, jit_compile: JitCompile) -> Results:
        """The cell over time: in the time loop."""
        return loop.run(self, options, call, jit_compile)

    @is_step
    def call(
        self, inputs: Tensor, states: Tensor | Sequence[Tensor], training: bool | None = False
    ) -> tuple[Tensor, Any]:
        return self.call_with(inputs, states, training, {})

    def call_with(
        self,
        inputs: Tensor,
        states: Tensor | Sequence[Tensor],
        training: bool | None,
        memory: Mapping[str, Tensor],
    ) -> tuple[Tensor, Any]:
        """`call`, with what a step reads of a memory."""
        nested = isinstance(states, (list, tuple))
        inputs = self.in_compute_dtype(inputs)
        previous = [self.in_compute_dtype(s) for s in (states if nested else [states])]
        if len(previous) != len(self.state_names):
            raise ValueError(
                f"states: expected {len(self.state_names)} ({', '.join(self.state_names)}), "
                f"received {len(previous)}."
            )
        dropout = self.draw_dropout(inputs, previous[0]) if training else Dropout()
        weights = {**self.weights_by_name(), **memory}
        output, new = self.step(
            self.input_part(inputs, weights, dropout.inputs),
            previous,
            {name: weights[name] for name in self.step_weights},
            self.recurrent_products(weights, dropout.recurrent),
        )
        return output, list(new) if nested else new[0]

    @classmethod
    def arguments(cls) -> dict[str, inspect.Parameter]:
        """The constructor's own arguments, in order, without Keras's `**kwargs`.

        Of a subclass that overrides the constructor: those that it takes by name; if it takes
        `**kwargs` too, then those of the class that it extends.
        """
        found: dict[str, inspect.Parameter] = {}
        for owner in cls.__mro__:
            if "__init__" in vars(owner):
                init = cls.constructor if owner is Cell else _without_self(owner.__init__)
                found = {**init.parameters, **found}
                if owner is Cell or "kwargs" not in init.parameters:
                    break
        return {n: p for n, p in found.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in self.arguments():
            config[name] = written(name, getattr(self, name))
        if self.implementation == 1 and not self.recurrent_dropout:
            config["implementation"] = 1
        return config

    def _recurrent_part(self, state: Tensor, products: Sequence[Callable]) -> Tensor:
        """r of all gates, of as many products as there are groups of them."""
        if not products:
            raise ValueError(
                f"{type(self).__name__}: product_groups is empty; expected one group at least, "
                "whose results `update` is given, or an override of `step`."
            )
        parts = [product(state) for product in products]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _biases(self, weights: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        bias = weights.get("bias")
        if bias is None or len(self.bias_shape) == 1:
            return bias, None
        return bias[0], bias[1]


def weights_by_name(layer: keras.layers.Layer) -> dict[str, Tensor]:
    """A layer's weights as tensors in its compute dtype."""
    return {
        weight.name: ops.cast(ops.convert_to_tensor(weight), layer.compute_dtype)
        for weight in layer.weights
    }


def _example(cls: type[Cell]) -> str:
    return EXAMPLE.format(name=cls.__name__, shapes=[(2, 4)] * len(cls.state_names))


def _without_self(init: Callable[..., None]) -> inspect.Signature:
    found = inspect.signature(init)
    return found.replace(parameters=list(found.parameters.values())[1:])


def _as_argument(names: Sequence[str]) -> str:
    """The states, in the docstring of a cell's call."""
    if len(names) == 1:
        return f"{names[0]}, `(batch, units)`, alone or in a list."
    return f"`[{', '.join(names)}]`, each `(batch, units)`."


def _is_ours(cls: type) -> bool:
    """Whether a class is defined in this library."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def _as_list(masks: Tensor | list[Tensor] | None) -> list[Tensor] | None:
    """None, one mask or one a gate, as Keras draws them."""
    if masks is None:
        return None
    return list(masks) if isinstance(masks, list) else [masks]


Cell._declare()
