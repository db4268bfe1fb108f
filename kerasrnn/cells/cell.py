"""The base class of recurrent cells: weights, states, dropout, configuration, and the step.

One class and one file: its members are what a cell may override, read together on one page. What
needs no member of it is apart: how a class is derived from its declarations (`declaration.py`), the
single step (`single_step.py`), and the option zoneout (`zoneout.py`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer
from kerasrnn.cells import exponential, zoneout
from kerasrnn.cells.arguments import OPTIONS, REQUIRED, bind, read, written
from kerasrnn.cells.chrono import ChronoInitializer
from kerasrnn.cells.declaration import (
    Wording,
    arguments_of,
    check_update_is_used,
    declare,
    reset_properties_of_equations,
)
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.cells.single_step import single_step
from kerasrnn.cells.states import as_keras, check_shapes, is_shape, map_shapes
from kerasrnn.keras_internals import DropoutRNNCell
from kerasrnn.recurrence import loop
from kerasrnn.recurrence.loop import Adjoint, Call, JitCompile, Noise, Options, Results, Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct, input_part

Tensor = Any


def is_step(call: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `call` that is equivalent to `step`, so that the time loop may run `step`."""
    call.is_step = True
    return call


class Cell(DropoutRNNCell, SequenceLayer):
    """The base class of all cells. A subclass declares `gates`, `state_names` and `update`.

    W, U and b are the kernel, the recurrent kernel and the bias; their columns are blocks of gates:

        a_t = x_t W + b                          input part
        r_t = h_{t-1} U                          recurrent part
        y_t, s_t = update(a_t, r_t, s_{t-1})     pointwise

    The base class implements the matrix products, the time loop, masks, dropout, differentiation
    and serialization. A cell declares its own arguments in `own_arguments`: the constructor, the
    attributes and the configuration are derived from them. A cell with several products per step
    overrides `product_groups` and `step` (see `GRUCell`); a gate in none of the groups does not
    read the state (see `STARCell`). One whose recurrent part is not a matrix product overrides
    `recurrent_kernel_shape` and `recurrent_products` (see `IndRNNCell`). One with further weights
    adds them in `build`, names them in `step_weights`, and reads them from `weights` (see
    `PeepholeLSTMCell`). One whose states are not vectors of `units` overrides `state_shapes`. One
    that draws random tensors in training overrides `draw_noise`, and reads them from
    `weights.noise`. With several `product_groups`, `update` receives the results of all products,
    concatenated.

    Call arguments:
        inputs: `(batch, features)`.
        states: list of the previous states, each `(batch, units)`, or of the shapes in
            `state_shapes`; or a single tensor if there is only one.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`; the states have the same structure as the input.

    Raises:
        ValueError: an argument is out of its range, or a state is missing.

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
        "zoneout": 0.0,
        "weight_drop": 0.0,
        "recurrent_parametrization": None,
    }
    """Constructor arguments and their defaults, in addition to those of the base class."""

    recurrent_dropout = zoneout = weight_drop = 0.0
    recurrent_parametrization = None
    """The values of these arguments in cells that lack them."""

    constructor: ClassVar[inspect.Signature]
    """The arguments of `Cell.__init__`, derived from `own_arguments`."""

    gates: tuple[str, ...] = ("h",)
    """Names of the blocks of pre-activations, gates and candidates, in order: the column blocks of
    the kernels and the bias, unless their shapes are overridden."""

    state_names: tuple[str, ...] = ("h",)
    """Names of the states; the recurrent product is applied to the first."""

    step_weights: tuple[str, ...] = ()
    """Names of the weights, besides the kernels and the bias, that `update` or `step` uses."""

    rates: tuple[str, ...] = ()
    """Names of the weights that decays are computed from: see `add_rate`."""

    feature_axes: int = 1
    """The number of axes of an input besides the batch axis."""

    recurrent_weights: tuple[str, ...] = ("recurrent_kernel",)
    """Names of the weights that `weight_drop` and `recurrent_parametrization` apply to."""

    without_zoneout: tuple[str, ...] = ()
    """Names of states that zoneout does not apply to, such as the scale of another state."""

    memory_signs: tuple[int, ...] = ()
    """How each block of the bias changes the memory, for `ChronoInitializer`: 1 if a larger value
    retains the state, -1 if it overwrites it, 0 if neither."""

    wording: ClassVar[Wording] = Wording()
    """How the docstrings name the axes of inputs and states."""

    default_implementation: ClassVar[int] = 2
    """Keras's `implementation`: 1 draws a dropout mask of the inputs for each gate, 2 one for
    all."""

    draws_seed_first: bool | None = None
    """Whether the seed of the dropout is drawn before those of the initializers; None: in cells
    without `recurrent_activation`."""

    single_read: bool = False
    """Whether a step uses each element of `a` only once. It may then be read where it is used,
    which is faster in inference; if the loop overwrites `a`, as in training, it is read a
    step ahead anyway. A wrong value makes the cell slow, but not incorrect."""

    xla_pays_off: bool = True
    """Whether a loop on CPUs is faster if XLA compiles it. With `jit_compile="auto"` it is not
    compiled otherwise."""

    product_class: Callable[..., Product] = RecurrentProduct
    """The class of the products, called with the kernel and the bias of a group of gates and the
    dropout masks."""

    reads_memory: bool = False
    """Whether a step reads a memory, which is constant over time: see `AttentionCell`. Such a cell
    prepares it with `prepare_memory`; its initial states come from
    `get_initial_state(prepared=...)` or `extend_states`."""

    is_linear: bool = False
    """Whether the states follow a linear recurrence: see `LinearCell`."""

    is_chunked: bool = False
    """Whether a chunk of steps can be computed at once: see `ChunkedCell`."""

    overrides_call: bool = False
    """Whether a subclass overrides `call`, the single step. Layers then call the cell at each step,
    in Keras's own loop; a cell that overrides `update` or `step` runs in kerasrnn's loop."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declare(cls, Cell)
        reset_properties_of_equations(cls, Cell)
        check_update_is_used(cls, Cell)
        cls.overrides_call = not (
            getattr(cls.call, "is_step", False) and cls.call_with is Cell.call_with
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        arguments = bind(type(self), self.constructor, args, kwargs)
        options = arguments.pop("kwargs", {})
        arguments = validation.check(arguments, validation.checks_of(self.constructor))
        # Keras's own option, which it does not save: 1 draws one input mask per gate, as did 0, the
        # default of Keras 1 and of the first versions of Keras 2.
        implementation = options.pop("implementation", self.default_implementation)
        implementation = validation.one_of("implementation", implementation, (0, 1, 2)) or 1
        super().__init__(**options)
        self.input_spec = keras.layers.InputSpec(ndim=1 + self.feature_axes)
        # In SimpleRNN and ConvLSTM, Keras draws the seed of the dropout before those of the
        # initializers; in LSTM and GRU, after them. The same global seed gives the same weights.
        seed_first = self.draws_seed_first
        if seed_first is None:
            seed_first = "recurrent_activation" not in arguments
        if seed_first:
            self.seed_generator = keras.random.SeedGenerator(arguments["seed"])
        for name, value in arguments.items():
            setattr(self, name, read(name, value))
        if not seed_first:
            self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.implementation = 1 if self.recurrent_dropout else implementation
        if self.implementation == 1:
            self.dropout_mask_count = self.dropout_blocks  # read by DropoutRNNCell
        self._weight_masks: dict[str, Tensor] | None = None
        if getattr(self, "unit_forget_bias", False) and isinstance(
            self.bias_initializer, ChronoInitializer
        ):
            raise validation.ArgumentError(
                "unit_forget_bias", True, "False with a ChronoInitializer, which sets every bias"
            )
        for name in OPTIONS:
            if self.overrides_call and getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: {type(self).__name__} overrides `call`, to "
                    "which the option does not apply; expected its default, or an override of "
                    "`step`."
                )
        if self.alters_step:
            # Whoever runs the step of this cell, the loop or a cell around it, runs this one.
            self.step = functools.partial(zoneout.step, self)
        self.__post_init__()
        if self.recurrent_parametrization is not None:
            expected = (self.units, len(self.recurrent_gates) * self.units)
            own = type(self).recurrent_matrices is not Cell.recurrent_matrices
            if own or self.recurrent_kernel_shape != expected:
                raise ValueError(
                    f"recurrent_parametrization={self.recurrent_parametrization!r}: the recurrent "
                    f"kernel of {type(self).__name__} does not consist of square matrices that are "
                    "applied to a state; expected None."
                )

    def __post_init__(self) -> None:
        """Called at the end of the constructor, when the arguments are attributes.

        A cell may override it to check combinations of arguments, or to derive attributes.
        """

    # What a cell may define.

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Any], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute the pointwise part of a step.

        Args:
            a: input part, `(batch, gates * units)`, bias included.
            r: recurrent part, `(batch, gates * units)`.
            states: previous states.
            weights: the weights named in `step_weights`, by name; the noise of this step in
                `weights.noise`, by name; and `weights.training`.

        Returns:
            `(output, new_states)`.
        """
        # Abstract: a cell that defines `step` needs no `update`.
        raise NotImplementedError(f"{type(self).__name__} must define `update` or `step`.")

    def step(
        self,
        a: Tensor,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Any]]:
        """Compute one step.

        A step may apply each product any number of times, in any order, to states, to results of
        other products or to any other tensor `(batch, width)`; the dropout masks are the
        same in each application. In training the loop records the applications and differentiates
        them, with each product's weight gradient summed over all of them. The following cannot be
        recorded, and raises an error that names the cell and the product:

        - a product applied inside a loop, branch or function of the backend (`ops.while_loop`,
          `ops.cond`, `tf.function`, ...): use Python's `for` and `if`;
        - access to an attribute of a product, such as its kernel: name a weight that the step uses
          directly in `step_weights`;
        - a step that applies its products differently when it is traced again.

        Args:
            a: input part, `(batch, gates * units)`, bias included.
            states: previous states.
            weights: the weights named in `step_weights`, by name; the noise of this step in
                `weights.noise`, by name; and `weights.training`.
            products: one function for each of `product_groups`, in order, from `(batch, units)`
                to the group's `(batch, gates * units)`.

        Returns:
            `(output, new_states)`.
        """
        return self.update(a, self._recurrent_part(states[0], products), states, weights)

    def observed(self, *gates: Tensor) -> tuple[Tensor, ...]:
        """Return the gates of a step, in the order of `gate_names`, unchanged.

        `kerasrnn.diagnostics` reads the gates that are results of `recurrent_activation`. A step
        passes gates that are not through this method, at which they are read.
        """
        return gates

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of gates that share a matrix product, in the order of `gates`.

        A gate in none of them does not read the state.
        """
        return (self.gates,)

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        """The gates of all groups: the column blocks of the recurrent kernel, in order."""
        return tuple(gate for group in self.product_groups for gate in group)

    @property
    def gate_names(self) -> tuple[str, ...]:
        """The blocks of `gates` that are gates, in the order in which a step activates them.

        The others are candidates, which have the names of states.
        """
        return tuple(name for name in self.gates if name not in self.state_names)

    @property
    def dropout_blocks(self) -> int:
        """The number of column blocks of a kernel that have dropout masks of their own, if any do.

        1 for a cell with a kernel that several gates share.
        """
        return len(self.gates)

    def kernel_shape(self, features: int) -> tuple[int, ...]:
        """`(features, gates * units)`, unless the `input_part` needs another shape."""
        return (features, self.input_part_size)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...] | None:
        """`(units, recurrent gates * units)`, unless the `recurrent_products` need another one, or
        none: None."""
        return (self.units, len(self.recurrent_gates) * self.units)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """`(gates * units,)`, or `(2, gates * units)`: for the input and the recurrent part.

        A bias with fewer blocks is that of the first gates; the others have none.
        """
        return (len(self.gates) * self.units,)

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        """The initializer of the bias."""
        return self.bias_initializer

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        """The ONNX operator for this cell as configured; None: it is exported as a loop.

        LSTM and GRU are also the operators that can run in cuDNN. A subclass that overrides an
        equation does not inherit the operator.
        """
        return None

    @property
    def alters_step(self) -> bool:
        """Whether an option changes what a step computes. The cell's `onnx_operator` then does not
        apply, and its own gradient only with zoneout."""
        return zoneout.applies(self)

    # A cell may also define its gradient; otherwise it is differentiated automatically.

    @property
    def has_adjoint(self) -> bool:
        """Whether the pointwise part, as configured, has a manually derived adjoint."""
        return False

    def adjoint(self) -> Adjoint | None:
        """What the loop differentiates a step with: the cell itself, unless an option changes what
        a step computes; None: automatic differentiation."""
        # Not a property: when Keras loads a model it reads all properties, and looks for weights in
        # what they return.
        if self.has_adjoint and zoneout.applies(self):
            return zoneout.ZonedAdjoint(self)
        return self if self.has_adjoint and not self.alters_step else None

    def update_with_residuals(
        self, a: Tensor, r: Tensor, states: Sequence[Any], weights: Weights
    ) -> tuple[Tensor, list[Tensor], Any]:
        """`update` with residuals for `update_adjoint`: `(output, new_states, residuals)`."""
        # Abstract: called only for a cell with `has_adjoint`.
        raise NotImplementedError(f"{type(self).__name__} has no manually derived adjoint.")

    def update_adjoint(
        self, residuals: Any, states: Sequence[Tensor], d_output: Tensor, d_states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`(d_a, d_r, d_states)` from the gradients of the output and of the new states.

        `d_states` exclude the contributions through the recurrent product.
        """
        # Abstract: called only for a cell with `has_adjoint`.
        raise NotImplementedError(f"{type(self).__name__} has no manually derived adjoint.")

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Any], Any]:
        """`step` with residuals for `step_adjoint`."""
        return self.update_with_residuals(
            a, self._recurrent_part(states[0], products), states, weights
        )

    def step_adjoint(
        self,
        residuals: Any,
        states: Sequence[Any],
        weights: Weights,
        products: tuple[Product, ...],
        d_output: Tensor,
        d_states: Sequence[Any],
    ) -> tuple[Tensor, list[Any], dict[str, Tensor], list[Tensor]]:
        """`(d_a, d_states, d_weights, d_results)`, with the gradients of the products' results."""
        d_a, d_r, (d_first, *d_others) = self.update_adjoint(residuals, states, d_output, d_states)
        ends = np.cumsum([len(group) * self.units for group in self.product_groups])[:-1]
        d_results = ops.split(d_r, ends.tolist(), axis=-1) if len(ends) else [d_r]
        for product, d_result in zip(products, d_results, strict=True):
            d_first = d_first + product.adjoint(d_result)
        return d_a, [d_first, *d_others], {}, d_results

    def product_arguments(self, residuals: Any, states: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of the products, at one step or at all of them at once."""
        return [states[0] for _ in self.product_groups]

    # The interface to Keras and the time loop.

    @property
    def state_shapes(self) -> list[Any]:
        """The shape of each state without the batch axis, in the order of `state_names`.

        A shape is a tuple of any length. An entry may also be a list or dict of shapes: that state
        is then a structure of tensors.
        """
        return [(self.units,) for _ in self.state_names]

    @property
    def external_state_names(self) -> tuple[str, ...]:
        """Names of the states that a caller may pass; the others derive from a memory."""
        return self.state_names

    @property
    def external_state_shapes(self) -> list[Any]:
        """The shapes of the states in `external_state_names`."""
        return self.state_shapes

    @property
    def state_size(self) -> Any:
        """The widths of the states, as Keras expects them; a shape for a state of higher rank."""
        check_shapes(self.state_names, self.state_shapes)
        sizes = as_keras(self.state_shapes)
        return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else sizes

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of an output, without the batch axis."""
        return (self.units,)

    @property
    def step_output_shape(self) -> tuple[int | None, ...]:
        """The shape of an output in the layout of a step: see `into_step`."""
        return self.output_shape

    def shapes_of(self, input_shape: Sequence[int | None]) -> tuple[Any, list[Any]]:
        """The shapes of the output and the states for inputs of this shape, also before the cell is
        built; all without the batch axis."""
        return self.output_shape, self.state_shapes

    @property
    def output_size(self) -> Any:
        """The width of an output, as Keras expects it; a shape for an output of higher rank."""
        return self.output_shape[0] if len(self.output_shape) == 1 else self.output_shape

    @property
    def input_part_size(self) -> int:
        """The width of the input part a_t, as far as feedback is added to it."""
        return len(self.gates) * self.units

    def add_feedback(self, a: Tensor, feedback: Tensor) -> Tensor:
        """Add what a wrapping cell feeds back, `(batch, input_part_size)`, to the input part.

        It is added to the first columns of a wider input part.
        """
        width = feedback.shape[-1]
        if a.shape[-1] == width:
            return a + feedback
        return ops.concatenate([a[..., :width] + feedback, a[..., width:]], axis=-1)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(
            shape=self.kernel_shape(self._features(input_shape)),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = None
        if self.recurrent_kernel_shape is not None:
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

    def add_rate(self, name: str, initializer: Any, size: int | None = None) -> Any:
        """Add a weight that `rates` names, `(size,)`; by default `(units,)`.

        It stays in float32 under a policy of half precision, as the decays do: the effect of an
        error in a decay grows with the length of the memory.
        """
        return self.add_weight(
            shape=(size or self.units,),
            name=name,
            initializer=initializer,
            dtype=loop.state_dtype(self.variable_dtype),
            autocast=False,
        )

    def _features(self, input_shape: Sequence[int | None]) -> int:
        """The width of the inputs, which is checked from now on."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"input_shape={tuple(input_shape)}: the features must be known.")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: features})
        return features

    def check_shapes(self) -> None:
        """Raise ValueError unless the shapes of the states and the output are valid and known."""
        check_shapes(self.state_names, self.state_shapes, unknown=self.reads_memory)
        if not is_shape(self.output_shape) or None in self.output_shape:
            raise ValueError(
                f"{type(self).__name__}.output_shape={self.output_shape!r}: expected a tuple of "
                "integers, without the batch axis, once the cell is built."
            )

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Zeros of the `state_shapes`, in the compute dtype.

        Raises:
            ValueError: a shape is unknown before the cell is built.
        """
        check_shapes(self.state_names, self.state_shapes, unknown=False)
        return self.zeros(self.state_shapes, batch_size)

    def zeros(self, shapes: list[Any], batch_size: int | None) -> list[Any]:
        """Zeros for states of these shapes, in the compute dtype."""
        return map_shapes(
            lambda shape: ops.zeros((batch_size, *shape), dtype=self.compute_dtype), shapes
        )

    def external_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The initial values of the states in `external_state_names`."""
        return self.get_initial_state(batch_size)

    def extend_states(self, states: Sequence[Any], prepared: Mapping[str, Tensor]) -> list[Any]:
        """Complete the states that a caller passes, which are those in `external_state_names`.

        Args:
            states: their values.
            prepared: the memory, as returned by `prepare_memory`, if the cell reads one.
        """
        return list(states)

    def weights_by_name(self) -> dict[str, Any]:
        """The weights as tensors in the compute dtype, as the time loop takes them."""
        weights = weights_by_name(self)
        if self.recurrent_parametrization is not None:
            for name in self.recurrent_weights:
                kernel = exponential.orthogonal(ops.convert_to_tensor(getattr(self, name)))
                weights[name] = ops.cast(kernel, self.compute_dtype)
        dtype = loop.state_dtype(self.compute_dtype)
        for name in self.rates:
            weights[name] = ops.cast(ops.convert_to_tensor(getattr(self, name)), dtype)
        return weights

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Select the weights and the parts of the memory that a step uses directly."""
        return {name: weights[name] for name in self.step_weights}, {}

    def draw_noise(self, inputs: Tensor, states: Sequence[Any], steps: Any = None) -> Noise:
        """Draw the random tensors of one call in training, outside the time loop.

        The dropout masks are kept until they are reset, so that steps called one by one share them.

        Args:
            inputs: any step of the inputs, `(batch, features)`: only its shape and dtype matter.
            states: the initial states: only their shapes and dtypes matter.
            steps: the number of steps; None for a single step, in which noise that differs from
                step to step has no time axis.

        Returns:
            `Noise(weights, sequences, steps)`: by name, what is drawn once for all rows, once per
            sequence, or at every step, `(batch, steps, ...)`. Inside the step, all of them are in
            `weights.noise`. The dropout masks are "inputs" and "states": lists with one mask for
            all gates, or one per gate. "zoneout" has, by state, which units keep their value.
        """
        drawn = {
            "inputs": self.get_dropout_mask(inputs),
            "states": self.get_recurrent_dropout_mask(states[0]),
        }
        return Noise(
            sequences={name: _as_list(x) for name, x in drawn.items() if x is not None},
            steps=zoneout.draw(self, inputs, states, steps),
        )

    def drop_weights(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Drop entries of the recurrent kernels, for one call in training: see `weight_drop`.

        Like the dropout masks, the masks are kept until they are reset.

        Args:
            weights: all weights, as returned by `weights_by_name`.
        """
        if not self.weight_drop:
            return weights
        masks = self._draw_weight_masks()
        return {
            name: weight * ops.cast(masks[name], weight.dtype) if name in masks else weight
            for name, weight in weights.items()
        }

    def weights_of_call(
        self, weights: dict[str, Any], inputs: Tensor, mask: Tensor | None, noise: Noise
    ) -> dict[str, Any]:
        """Replace weights that depend on the inputs in training, such as statistics of a batch.

        Called once per call in training, outside the time loop. A replaced weight is differentiated
        by what it was computed from.

        Args:
            weights: all weights, as returned by `drop_weights`.
            inputs: `(batch, time, features)`; `(batch, features)` for a single step.
            mask: boolean `(batch, time)`, True at valid steps; None: all of them are.
            noise: that of the call.
        """
        return weights

    def _draw_weight_masks(self) -> dict[str, Tensor]:
        if self._weight_masks is None:
            self._weight_masks = {
                name: keras.random.dropout(
                    ops.ones(getattr(self, name).shape, self.compute_dtype),
                    self.weight_drop,
                    seed=self.seed_generator,
                )
                for name in self.recurrent_weights
            }
        return self._weight_masks

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        # Keras's own loop calls this before its first step, in which nothing can be drawn.
        if self.weight_drop:
            self._draw_weight_masks()
        return super().get_recurrent_dropout_mask(step_input)

    def reset_recurrent_dropout_mask(self) -> None:
        super().reset_recurrent_dropout_mask()
        self._weight_masks = None

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        """Compute a, of one step or of all steps at once, from all weights."""
        bias = self._biases(weights)[0]
        return input_part(x, weights["kernel"], bias, weights.noise.get("inputs"))

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        """The products of a step, one for each of `product_groups`, from all weights."""
        kernel, bias = weights["recurrent_kernel"], self._biases(weights)[1]
        masks = weights.noise.get("states")
        masks = None if masks is None else [self.into_step(mask) for mask in masks]
        products, start = [], 0
        for group in self.product_groups:
            end = start + len(group)
            columns = slice(start * self.units, end * self.units)
            of_group = masks
            if masks is not None and len(masks) > 1:
                of_group = [masks[self.gates.index(gate)] for gate in group]
            products.append(
                self.product_class(
                    kernel[..., columns], None if bias is None else bias[columns], of_group
                )
            )
            start = end
        return tuple(products)

    def recurrent_matrices(self) -> dict[str, Tensor]:
        """By the gate that it enters, the matrix `(units, units)` applied to the state.

        Diagnoses measure its spectrum. Empty for a recurrent kernel of another shape, unless the
        cell overrides this method.
        """
        kernel, gates = getattr(self, "recurrent_kernel", None), self.recurrent_gates
        if kernel is None or tuple(kernel.shape) != (self.units, len(gates) * self.units):
            return {}
        kernel = ops.convert_to_tensor(kernel)
        if self.recurrent_parametrization is not None:
            kernel = exponential.orthogonal(kernel)
        blocks = ops.split(kernel, len(gates), axis=-1)
        return dict(zip(gates, blocks, strict=True))

    def run(self, options: Options, call: Call, jit_compile: JitCompile) -> Results:
        """Run the cell over time, in the time loop."""
        call = call._replace(states=keras.tree.map_structure(self.into_step, call.states))
        results = loop.run(self, options, call, jit_compile)
        return keras.tree.map_structure(
            lambda x: None if x is None else self.out_of_step(x), results
        )

    def into_step(self, state: Tensor) -> Tensor:
        """Convert a state to the layout in which `step` computes.

        Unlike a state, the inputs and the noise are in the layout of the caller there too: what is
        computed once for all steps converts them.
        """
        return state

    def out_of_step(self, x: Tensor) -> Tensor:
        """The inverse of `into_step`, for an output or a state, of one step or of all of them."""
        return x

    @is_step
    def call(
        self, inputs: Tensor, states: Tensor | Sequence[Tensor], training: bool | None = False
    ) -> tuple[Tensor, Any]:
        return self.call_with(inputs, states, training, {})

    def call_with(
        self,
        inputs: Tensor,
        states: Any,
        training: bool | None,
        memory: Mapping[str, Tensor],
    ) -> tuple[Tensor, Any]:
        """`call`, with the prepared memory of a step."""
        return single_step(self, inputs, states, training, memory)

    @classmethod
    def arguments(cls) -> dict[str, inspect.Parameter]:
        """The constructor's own arguments, in order, without Keras's `**kwargs`.

        For a subclass that overrides the constructor: its named arguments and, if it takes
        `**kwargs`, those of its base class.
        """
        return arguments_of(cls, Cell)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name, parameter in self.arguments().items():
            if not hasattr(self, name):
                raise AttributeError(
                    f"{type(self).__name__} has no attribute {name!r}, an argument of its "
                    f"constructor; expected `self.{name} = {name}` there, or an override of "
                    "`get_config`."
                )
            if name not in OPTIONS or getattr(self, name) != parameter.default:
                config[name] = written(name, getattr(self, name))
        if self.implementation != self.default_implementation and not self.recurrent_dropout:
            config["implementation"] = self.implementation
        return config

    def _recurrent_part(self, state: Tensor, products: Sequence[Callable]) -> Tensor:
        """Compute r of all gates, from one product per group."""
        if not products:
            raise ValueError(
                f"{type(self).__name__}: product_groups is empty; expected at least one group, "
                "whose results are passed to `update`, or an override of `step`."
            )
        parts = [product(state) for product in products]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _biases(self, weights: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        bias = weights.get("bias")
        if bias is None:
            return None, None
        if len(self.bias_shape) == 2:
            return bias[0], bias[1]
        missing = len(self.gates) * self.units - self.bias_shape[0]
        return (ops.pad(bias, [[0, missing]]) if missing else bias), None


def weights_by_name(
    layer: keras.layers.Layer, weights: Sequence[Any] | None = None
) -> dict[str, Tensor]:
    """A layer's weights, or some of them, as tensors in its compute dtype."""
    return {
        weight.name: ops.cast(ops.convert_to_tensor(weight), layer.compute_dtype)
        for weight in (layer.weights if weights is None else weights)
    }


def _as_list(masks: Tensor | list[Tensor]) -> list[Tensor]:
    """Convert masks as Keras draws them, one mask or one per gate, to a list."""
    return list(masks) if isinstance(masks, list) else [masks]


declare(Cell, Cell)
