"""The measurement: one batch forward and backward, eagerly, observing every recurrent layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.diagnostics import observation
from kerasrnn.diagnostics.diagnosis import Diagnosis
from kerasrnn.diagnostics.layer_diagnosis import (
    HIGH,
    LOW,
    SATURATED,
    GateDiagnosis,
    KernelDiagnosis,
    LayerDiagnosis,
    StateDiagnosis,
    memory_length,
)
from kerasrnn.diagnostics.observation import ObservedCall
from kerasrnn.keras_internals import get_keras_mask, reset_dropout_masks

Tensor = Any


@validation.checked
def diagnose(
    model: keras.Model,
    x: Any,
    y: Any = None,
    loss: str | Callable[..., Tensor] | None = None,
    *,
    steps: Literal["last", "all"] = "last",
) -> Diagnosis:
    """Measure the gradient flow through a model's recurrent layers on one batch.

    For every state s (h; for LSTM also c) of every recurrent layer, kerasrnn's or Keras's, also
    inside other layers, it computes the norm

        g(d) = mean over the rows of || dL/ds_{T-d} ||

    of the total derivative: (B2) and (L8) of docs/bptt.md. T is the last valid step of a row, and
    the distance d counts only valid steps, in the layer's order. From it follows

        memory = the largest d at which g(d) = g(0) / e.

    For every gate, it computes the fractions of its activations below 0.1 and above 0.9 (left- and
    right-saturated: Karpathy, Johnson & Li 2016, "Visualizing and understanding recurrent
    networks"), and if a state is carried over by a gate f, the time constants -1 / log(mean f) of
    its units, after which 1/e of the state is left: approximately the characteristic forgetting
    time 1 / (1 - f) of Tallec & Ollivier (2018), "Can recurrent neural networks warp time?". For
    every gate's block of the recurrent kernel, it computes the spectral radius and the largest
    singular value, for `IndRNN` the largest `|u|`; the powers of the latter bound SimpleRNN's
    gradient (Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural
    networks").

    The model runs as in inference, without dropout, and is left unchanged: its weights, metrics,
    states and random state. Only on TensorFlow.

    Args:
        model: a Keras model with at least one recurrent layer.
        x: a batch of its inputs.
        y: the batch's targets.
        loss: a Keras loss, by name or as a function of `(y, y_pred)`; without `y`, a function of
            the model's outputs that returns a scalar. Default: the loss that the model is compiled
            with, including its regularization.
        steps: for a model with an output at every step (of three dimensions or more), "last" takes
            only the loss of the last valid step, in the layer's order: of the first step for a
            layer with `go_backwards`. "all" takes the total loss; the norms are then by step, not
            by distance. Other models have one loss, at the end.

    Returns:
        A `Diagnosis`, with `summary()`, `figure()` and `draw(path)`.

    Raises:
        ValueError: the backend is not TensorFlow; no recurrent layers, or one whose states are not
            `(batch, units)`, or that is called inside a compiled function; no loss, or no targets
            for it; `steps` is unknown; a layer without valid steps.

    Masking: masked steps are excluded from the distance and from the gates' fractions.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 2)), kerasrnn.GRU(8, name="gru")])
        >>> x = np.random.default_rng(0).normal(size=(4, 20, 2)).astype("float32")
        >>> diagnosis = kerasrnn.diagnostics.diagnose(model, x, loss=keras.ops.sum)
        >>> layer = diagnosis.layers["gru"]
        >>> layer.states["h"].gradient_norms.shape, sorted(layer.gates)
        ((20,), ['rho', 'z'])
    """
    _check(model, y, loss, steps)
    check_inputs(x)
    import tensorflow as tf

    y = None if y is None else tree.map_structure(lambda of: validation.tensor("y", of), y)
    with _restored(model):
        with (
            tf.GradientTape(persistent=True) as tape,
            observation.watched(model, tape) as calls,
        ):
            try:
                outputs = model(x, training=False)
            except (ValueError, TypeError) as error:
                raise ValueError(f"x: {model.name!r} cannot be called with it: {error}") from error
            if not calls:
                raise ValueError(
                    f"{model.name}: no recurrent layer was called, other than inside a compiled "
                    "function; expected at least one."
                )
            every_step = any(len(output.shape) > 2 for output in tree.flatten(outputs))
            losses = _losses(
                _loss_function(model, x, y, loss), y, outputs, calls, every_step and steps == "last"
            )
        weights = [v.value for v in model.trainable_variables]
        d_weights: list[Tensor] = []
        d_states: dict[int, list[list[Tensor]]] = {}
        for value, of in losses:
            d_of, d_again = tape.gradient(
                value,
                [[call.states for call in of], [] if d_weights else weights],
                unconnected_gradients="zero",
            )
            d_weights = d_weights or d_again
            d_states |= {id(call): d for call, d in zip(of, d_of, strict=True)}
        by_step = every_step and steps == "all"
        layers: dict[str, LayerDiagnosis] = {}
        for call in calls:
            name = _name(model, call.layer, layers)
            layers[name] = _diagnose_layer(name, call, d_states[id(call)], by_step)
    return Diagnosis(
        model.name,
        float(losses[0][0]),
        float(np.sqrt(sum(np.square(_double(d)).sum() for d in d_weights))),
        "step" if by_step else "distance",
        layers,
    )


def _check(model: Any, y: Any, loss: Any, steps: str) -> None:
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"the {keras.config.backend()} backend does not support diagnoses; expected "
            "tensorflow: save the model, and load it with KERAS_BACKEND=tensorflow."
        )
    if steps not in ("last", "all"):
        raise ValueError(f"steps={steps!r}: expected 'last' or 'all'.")
    if not isinstance(model, keras.Model) or not observation.recurrent_layers(model):
        raise ValueError(f"model={model!r}: expected a keras.Model with recurrent layers.")
    if loss is None and not model.compiled:
        raise ValueError("loss=None: the model is not compiled; expected a loss.")
    if y is None and (not callable(loss) or isinstance(loss, keras.losses.Loss)):
        raise ValueError(
            f"y=None: loss={loss!r} needs targets; expected them, or a loss that is "
            "a function of the outputs."
        )


def check_inputs(x: Any) -> None:
    """Raise ValueError unless x is a batch of inputs: an array, or a structure of arrays."""
    for array in tree.flatten(x):
        if len(validation.tensor("x", array).shape) == 0:
            raise validation.ArgumentError("x", x, "a batch of the model's inputs")


class _FunctionLoss(keras.losses.Loss):
    """A loss function with the masking and averaging of Keras's losses."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.call = function


def _loss_function(
    model: keras.Model, x: Any, y: Any, loss: str | Callable[..., Tensor] | None
) -> Callable[[Any, Any], Tensor]:
    """Return the loss as a function of targets and outputs."""
    if y is None:
        return lambda _, y_pred: loss(y_pred)
    if loss is None:
        return lambda y, y_pred: model.compute_loss(x, y, y_pred)
    function = keras.losses.get(loss)
    return function if isinstance(function, keras.losses.Loss) else _FunctionLoss(function)


def _losses(
    function: Callable[[Any, Any], Tensor],
    y: Any,
    outputs: Any,
    calls: list[ObservedCall],
    at_the_end: bool,
) -> list[tuple[Tensor, list[ObservedCall]]]:
    """The losses, the model's own first, each with the calls that it is differentiated for."""
    if not at_the_end:
        pairs = [(function(y, outputs), calls)]
    else:
        pairs = [
            (
                function(*_last_step(y, outputs, backwards)),
                [call for call in calls if call.layer.go_backwards == backwards],
            )
            for backwards in (False, True)
        ]
    for value, _ in pairs:
        if len(value.shape):
            raise ValueError(f"loss has the shape {tuple(value.shape)}; expected a scalar.")
    return pairs


def _last_step(y: Any, outputs: Any, backwards: bool) -> tuple[Any, Any]:
    """Targets and outputs of the last valid step only; of the first one, if `backwards`."""
    if y is not None:
        try:
            tree.assert_same_structure(y, outputs)
        except (TypeError, ValueError) as error:
            of_y, of_outputs = (
                tree.map_structure(lambda t: tuple(t.shape), data) for data in (y, outputs)
            )
            raise ValueError(
                f"y has tensors of {of_y}; expected the structure of the outputs, {of_outputs}."
            ) from error

    def index(output: Tensor) -> Tensor | None:
        if len(output.shape) < 3:
            return None
        mask = get_keras_mask(output)
        used = ops.ones(output.shape[:2], "int32") if mask is None else ops.cast(mask, "int32")
        if backwards:
            return ops.argmax(used, axis=1)
        return output.shape[1] - 1 - ops.argmax(ops.flip(used, axis=1), axis=1)

    def taken(tensor: Tensor, output: Tensor) -> Tensor:
        at = index(output)
        if at is None:
            return tensor
        if tensor.shape[:2] != output.shape[:2]:
            raise ValueError(
                f"y has the shape {tuple(tensor.shape)} for outputs of {tuple(output.shape)}; "
                'expected a target at every step, or steps="all".'
            )
        at = ops.reshape(at, (-1, *(1 for _ in tensor.shape[1:])))
        return ops.squeeze(ops.take_along_axis(tensor, at, axis=1), axis=1)

    return (
        None if y is None else tree.map_structure(taken, y, outputs),
        tree.map_structure(lambda output: taken(output, output), outputs),
    )


def _diagnose_layer(
    name: str, call: ObservedCall, d_states: Sequence[Sequence[Tensor]], by_step: bool
) -> LayerDiagnosis:
    layer, used = call.layer, call.used
    cell = observation.inner_cell(layer.cell)
    if not used.any():
        raise ValueError(f"{name}: all steps of x are masked; expected at least one valid step.")
    activations = observation.observe(call)
    states = {}
    observed = observation.observed_cell(layer.cell)
    for n, state in enumerate(observation.state_names(observed, len(call.states[0]))):
        norms = np.stack([_norms(_double(d[n])) for d in d_states])
        mean = _mean_by_step(norms, used) if by_step else _mean_by_distance(norms, used)
        carry = activations.carries[n] if activations is not None else None
        states[state] = StateDiagnosis(
            state,
            mean,
            float("nan") if by_step else memory_length(mean),
            None if carry is None else _double(carry).mean(axis=0),
        )
    gates, saturated = {}, None
    if activations is not None:
        for gate, values in activations.gates.items():
            gates[gate] = GateDiagnosis(
                gate,
                (values < LOW).mean(axis=0),
                (values > HIGH).mean(axis=0),
                _double(values).mean(axis=0),
            )
        bounded = getattr(cell, "activation", None) in (
            keras.activations.tanh,
            keras.activations.hard_tanh,
        )
        if bounded and activations.candidate is not None:
            saturated = (np.abs(activations.candidate) > SATURATED).mean(axis=0)
    return LayerDiagnosis(name, type(layer.cell).__name__, states, gates, _kernels(cell), saturated)


def _norms(d_state: np.ndarray) -> np.ndarray:
    """The norm of each row, whatever the shape of the state."""
    return np.linalg.norm(d_state.reshape(len(d_state), -1), axis=-1)


def _mean_by_distance(norms: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Means over the rows with enough valid steps; both arguments are `(time, batch)`."""
    distance = np.cumsum(used[::-1], axis=0)[::-1][used] - 1
    return np.bincount(distance, norms[used]) / np.bincount(distance)


def _mean_by_step(norms: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Means over the rows in which a step is valid, NaN if there are none."""
    sums = np.where(used, norms, 0).sum(axis=1)
    return np.divide(sums, used.sum(axis=1), out=np.full(len(used), np.nan), where=used.any(axis=1))


def _kernels(cell: Any) -> dict[str, KernelDiagnosis]:
    return {
        gate: KernelDiagnosis(
            gate,
            float(np.abs(np.linalg.eigvals(matrix)).max()),
            float(np.linalg.norm(matrix, 2)),
        )
        for gate, matrix in _recurrent_matrices(cell).items()
    }


def _recurrent_matrices(cell: Any) -> dict[str, np.ndarray]:
    if isinstance(cell, Cell):
        return {gate: _double(matrix) for gate, matrix in cell.recurrent_matrices().items()}
    gates = observation.block_names(cell)
    if not gates:
        return {}
    blocks = np.split(_double(cell.recurrent_kernel), len(gates), axis=-1)
    return dict(zip(gates, blocks, strict=True))


def _name(model: keras.Model, layer: keras.layers.Layer, taken: dict[str, Any]) -> str:
    """The layer's path in the model, numbered if it is called again."""
    path = layer.path.removeprefix(f"{model.name}/")
    name, n = path, 1
    while name in taken:
        n += 1
        name = f"{path}:{n}"
    return name


def _double(x: Any) -> np.ndarray:
    # Through a tensor: the gradient of an embedding is sparse.
    array = x if isinstance(x, np.ndarray) else ops.convert_to_numpy(ops.convert_to_tensor(x))
    return array.astype("float64")


@contextmanager
def _restored(model: keras.Model) -> Iterator[None]:
    """Restore metrics, seeds, statistics and states afterwards."""
    kept = [*model.non_trainable_variables, *model.metrics_variables]
    recurrent = observation.recurrent_layers(model)
    for layer in recurrent:
        kept += tree.flatten(layer.states) if layer.stateful and layer.states else []
        kept += [layer.fresh] if hasattr(layer, "fresh") else []
    values = [np.array(ops.convert_to_numpy(v)) for v in kept]
    try:
        yield
    finally:
        for variable, value in zip(kept, values, strict=True):
            variable.assign(value)
        for layer in recurrent:
            reset_dropout_masks(layer)  # Keras's cells store their masks
        known = {id(variable) for variable in kept}
        for metric in model.metrics:  # one of them may just have been created by the loss
            if metric.variables and not known & {id(v) for v in metric.variables}:
                metric.reset_state()
