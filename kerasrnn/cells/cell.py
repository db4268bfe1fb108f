"""What every recurrent cell shares: weights, dropout, configuration, and the single step."""

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.keras_internals import DropoutRNNCell
from kerasrnn.recurrence import loop
from kerasrnn.recurrence.loop import Call, Dropout, JitCompile, Options, Results
from kerasrnn.recurrence.products import RecurrentProduct, input_part
from kerasrnn.validation import PositiveInteger, Rate, Seed

Tensor = Any

# What each constructor argument means, once for every cell and layer; `document` appends the ones
# that a class takes to its docstring.
ARGUMENTS = {
    "cell": "the cell, or a list of cells, run as `keras.layers.StackedRNNCells`.",
    "units": "positive integer: the width of the output and of each state.",
    "activation": "of the candidate (and of LSTM's output); None is linear.",
    "recurrent_activation": "of the gates; None is linear.",
    "use_bias": "whether there is a bias.",
    "kernel_initializer": "of W, `kernel`.",
    "recurrent_initializer": "of U, `recurrent_kernel`.",
    "bias_initializer": "of b, `bias`.",
    "unit_forget_bias": "add 1 to the forget gate's bias at the start (Jozefowicz et al. 2015).",
    "kernel_regularizer": "penalty on W.",
    "recurrent_regularizer": "penalty on U.",
    "bias_regularizer": "penalty on b.",
    "activity_regularizer": "penalty on the layer's output.",
    "kernel_constraint": "projection of W after each update.",
    "recurrent_constraint": "projection of U after each update.",
    "bias_constraint": "projection of b after each update.",
    "peephole_initializer": "of V, `peephole_kernel`.",
    "peephole_regularizer": "penalty on V.",
    "peephole_constraint": "projection of V after each update.",
    "epsilon": "positive number: added to the variances before the roots are taken.",
    "dropout": "fraction of the inputs to drop in training, in [0, 1); one mask a sequence.",
    "recurrent_dropout": "fraction of the state to drop in training, in [0, 1); one mask a gate "
    "and sequence.",
    "reset_after": "whether the reset gate acts after the recurrent product (True, as cuDNN and "
    "ONNX's `linear_before_reset`) or before it (False, as in the paper).",
    "seed": "integer: makes the dropout masks repeatable.",
    "return_sequences": "whether to return the output at every step or at the last one alone.",
    "return_state": "whether to return the final states after the output.",
    "go_backwards": "whether to read the sequence from its end; outputs come in that order.",
    "stateful": "whether a batch starts from the states in which the last one ended; "
    "`reset_state()` clears them.",
    "unroll": "whether to write the loop out step by step: for short sequences of known length.",
    "use_cudnn": '"auto" or False, for compatibility: the loop is kerasrnn\'s own.',
    "zero_output_for_mask": "whether masked steps put out zeros instead of the previous output.",
    "checkpoint_every": "bounds the memory of training on long sequences: the states are kept "
    "every so many steps alone, and the steps between are walked again for the gradient, which is "
    'the same; "sqrt": every square root of the number of steps (Chen et al. 2016). None: all are '
    "kept.",
    "truncate_every": "truncated backpropagation through time (Williams & Peng 1990): the states "
    "are carried on, but their gradient is cut before every so many-th step. None: never.",
    "jit_compile": "XLA: True compiles the time loop wherever it runs, False never on its own (and "
    'switches XLA off for a model compiled with `jit_compile="auto"`); with "auto" TensorFlow '
    "compiles it in training in a graph, where the number of steps is known and they are not "
    "written out. JAX compiles every loop. A loop inside a function that XLA compiles is compiled "
    "with it.",
}

SERIALIZERS = {
    "activation": keras.activations,
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


EQUATIONS = ("update", "step")
"""Methods that hold a cell's equations."""

FORWARD = (
    "update_keeping",
    "step_keeping",
    "input_part",
    "recurrent_products",
    "product_groups",
    "weights_by_name",
    "run",
)
"""Other methods on which a cell's outputs depend."""


def document(cls: type, names: Sequence[str]) -> None:
    """Append the arguments in `names` to a class's docstring, in their order, if it has none."""
    if "\nArgs:\n" in inspect.cleandoc(cls.__doc__ or ""):
        return
    lines = [
        textwrap.fill(
            f"{name}: {ARGUMENTS[name]}", 100, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
        for name in names
        if name in ARGUMENTS
    ]
    cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Args:", *lines, ""])


def is_step(call: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `call` that computes what `step` does, so that the time loop may run `step`."""
    call.is_step = True
    return call


class Cell(DropoutRNNCell, SequenceLayer):
    """The base of every cell: a subclass says `gates`, `state_names` and `update`.

    With W, U, b the kernel, the recurrent kernel and the bias, whose columns are the gates' blocks:

        a_t = x_t W + b                          input part
        r_t = h_{t-1} U                          recurrent part
        y_t, s_t = update(a_t, r_t, s_{t-1})     pointwise

    The library multiplies, loops, masks, drops out, differentiates and saves. A cell with another
    product inside its step overrides `product_groups` and `step` (see `GRUCell`), one whose
    recurrent part is no matrix product `recurrent_kernel_shape` and `recurrent_products` (see
    `IndRNNCell`); one with more weights adds them in `build`, names them in `step_weights`, and
    finds them in `weights` (see `PeepholeLSTMCell`). With several `product_groups`, `update` is
    given the results of all products side by side.

    Call arguments:
        inputs: `(batch, features)`.
        states: list of the previous states, each `(batch, units)`; one tensor where there is one.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`, the states in the structure they came in.

    Raises:
        ValueError: an argument is out of its range, a state is missing.

    Example: a leaky unit, in one line of mathematics.

        >>> import keras, numpy as np, kerasrnn
        >>> class LeakyCell(kerasrnn.Cell):
        ...     def update(self, a, r, states, weights):
        ...         h = 0.9 * states[0] + 0.1 * self.activation(a + r)
        ...         return h, [h]
        >>> y = kerasrnn.RNN(LeakyCell(4))(np.ones((2, 7, 3), "float32"))
        >>> tuple(y.shape)
        (2, 4)
    """

    gates: tuple[str, ...] = ("h",)
    """Names of the blocks of columns of the kernels and the bias, in the weights' order."""

    state_names: tuple[str, ...] = ("h",)
    """Names of the states; the first is what the recurrent product is applied to."""

    step_weights: tuple[str, ...] = ()
    """Names of the weights, besides the kernels and the bias, that `update` or `step` reads."""

    reads_once: bool = False
    """Whether a step uses each element of `a` in one place alone. It may then be read where it is
    used, which is faster in inference; where something is written over `a`, as in training, it is
    read a step ahead all the same. Said of another cell, this would make it slow, and not wrong."""

    reads_memory: bool = False
    """Whether a step reads a memory, which does not change over time: see `AttentionCell`. Such a
    cell lays it out with `source`, and its states begin with `get_initial_state(source=...)` or
    `completed`."""

    overrides_call: bool = False
    """Whether a subclass overrides `call`, the single step. Layers then call the cell at each step,
    in Keras's own loop; a cell that overrides `update` or `step` runs in kerasrnn's."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        document(cls, list(cls.arguments()))
        # What a class derives from its equations does not hold for a subclass that changes them.
        if cls._is_overridden(EQUATIONS, below="has_adjoint"):
            cls.has_adjoint = property(Cell.has_adjoint.fget)
        if cls._is_overridden(EQUATIONS, below="reads_once"):
            cls.reads_once = False
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
    def _is_overridden(cls, names: Sequence[str], below: str) -> bool:
        """Whether a subclass of the class that defines `below` defines one of these."""

        def depth(name: str) -> int:
            return next(n for n, owner in enumerate(cls.__mro__) if name in vars(owner))

        return any(depth(name) < depth(below) for name in names)

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        activation: str | Callable | None = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: Rate = 0.0,
        recurrent_dropout: Rate = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        # Keras's own option, which it does not save: 1 draws one input mask a gate, and so did 0,
        # the default of Keras 1 and of the first versions of Keras 2.
        implementation = kwargs.pop("implementation", 2)
        implementation = validation.one_of("implementation", implementation, (0, 1, 2)) or 1
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=2)
        # Drawn before the initializers' seeds, as Keras does in SimpleRNN.
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.units = units
        self.activation = validation.activation("activation", activation)
        self.use_bias = use_bias
        self.kernel_initializer = validation.initializer("kernel_initializer", kernel_initializer)
        self.recurrent_initializer = validation.initializer(
            "recurrent_initializer", recurrent_initializer
        )
        self.bias_initializer = validation.initializer("bias_initializer", bias_initializer)
        self.kernel_regularizer = validation.regularizer("kernel_regularizer", kernel_regularizer)
        self.recurrent_regularizer = validation.regularizer(
            "recurrent_regularizer", recurrent_regularizer
        )
        self.bias_regularizer = validation.regularizer("bias_regularizer", bias_regularizer)
        self.kernel_constraint = validation.constraint("kernel_constraint", kernel_constraint)
        self.recurrent_constraint = validation.constraint(
            "recurrent_constraint", recurrent_constraint
        )
        self.bias_constraint = validation.constraint("bias_constraint", bias_constraint)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.implementation = 1 if recurrent_dropout else implementation
        if self.implementation == 1:
            self.dropout_mask_count = len(self.gates)  # read by DropoutRNNCell

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

    def update_keeping(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], Any]:
        """`update`, and what `update_adjoint` needs of it: `(output, new_states, kept)`."""
        # Abstract: asked of a cell with `has_adjoint` alone.
        raise NotImplementedError(f"{type(self).__name__} has no adjoint by hand.")

    def update_adjoint(
        self, kept: Any, states: Sequence[Tensor], d_output: Tensor, d_states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`(d_a, d_r, d_states)` from the gradients of the output and of the new states.

        `d_states` are the shares that do not go through the recurrent product.
        """
        # Abstract: asked of a cell with `has_adjoint` alone.
        raise NotImplementedError(f"{type(self).__name__} has no adjoint by hand.")

    def step_keeping(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor], Any]:
        """`step`, and what `step_adjoint` needs of it."""
        return self.update_keeping(a, self._recurrent_part(states[0], products), states, weights)

    def step_adjoint(
        self,
        kept: Any,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Any, ...],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)`; `d_results` are those of the products."""
        d_a, d_r, (d_first, *d_others) = self.update_adjoint(kept, states, d_output, d_states)
        ends = np.cumsum([len(group) * self.units for group in self.product_groups])[:-1]
        d_results = ops.split(d_r, ends.tolist(), axis=-1) if len(ends) else [d_r]
        for product, d_result in zip(products, d_results, strict=True):
            d_first = d_first + product.adjoint(d_result)
        return d_a, [d_first, *d_others], {}, d_results

    def product_arguments(self, kept: Any, states: Sequence[Tensor]) -> list[Tensor]:
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
        """The constructor's own arguments, in order, without Keras's `**kwargs`."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {p.name: p for p in parameters if p.kind is not p.VAR_KEYWORD}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in self.arguments():
            value = getattr(self, name)
            serializer = SERIALIZERS.get(name.rpartition("_")[2])
            config[name] = value if serializer is None else serializer.serialize(value)
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


class GatedCell(Cell):
    """The base of the cells with gates: a `Cell` with a `recurrent_activation`."""

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        activation: str | Callable | None = "tanh",
        recurrent_activation: str | Callable | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: Rate = 0.0,
        recurrent_dropout: Rate = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            activation=activation,
            use_bias=use_bias,
            # Made here, before the dropout seed is drawn: Keras's order for LSTM and GRU, so that
            # one global seed gives the same weights.
            kernel_initializer=validation.initializer("kernel_initializer", kernel_initializer),
            recurrent_initializer=validation.initializer(
                "recurrent_initializer", recurrent_initializer
            ),
            bias_initializer=validation.initializer("bias_initializer", bias_initializer),
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            **kwargs,
        )
        self.recurrent_activation = validation.activation(
            "recurrent_activation", recurrent_activation
        )


def weights_by_name(layer: keras.layers.Layer) -> dict[str, Tensor]:
    """A layer's weights as tensors in its compute dtype."""
    return {
        weight.name: ops.cast(ops.convert_to_tensor(weight), layer.compute_dtype)
        for weight in layer.weights
    }


def _is_ours(cls: type) -> bool:
    """Whether a class is defined in this library."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def _as_list(masks: Tensor | list[Tensor] | None) -> list[Tensor] | None:
    """None, one mask or one a gate, as Keras draws them."""
    if masks is None:
        return None
    return list(masks) if isinstance(masks, list) else [masks]
