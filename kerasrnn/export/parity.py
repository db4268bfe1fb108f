"""Checks that an export computes the same as its model.

Every exporter writes through `write`, which runs the new file with its own runtime, on random
inputs and on given ones, and only then moves it to its path.
"""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.export import signature, tracing
from kerasrnn.export.tracing import HALF, half_precision, layers_of
from kerasrnn.files import Kind, check_place, create_folder, replacing
from kerasrnn.keras_internals import run_through_graph
from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Call, Options, Results, replaced_by


class ParityError(RuntimeError):
    """An export does not compute the same as its model."""


@dataclass(frozen=True)
class Report:
    """What an export wrote, and how it compares with the model."""

    path: Path
    format: str
    bytes: int
    batches: int
    difference: float | None
    """The largest difference between an output of the export and of the model called eagerly,
    relative to the output's largest absolute value if that is above 1; None: not checked."""


Batch = Any
"""An array, or one array for each input, in a list or in the structure of the model's inputs."""

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Computes a runtime's outputs for one batch of inputs."""


def _checked(name: str, value: Any) -> bool | Sequence[Batch]:
    if isinstance(value, bool):
        return value
    if not isinstance(value, (list, tuple)) or not all(
        map(_is_an_array, keras.tree.flatten(value))
    ):
        raise validation.ArgumentError(name, value, "True", "False", "a list of batches of arrays")
    return value


def _is_an_array(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype != object or all(isinstance(x, (str, bytes)) for x in array.reshape(-1))


Check = Annotated[Any, _checked]
"""Whether to compare an export with its model, or batches to compare besides random ones."""

Case = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
"""Flat inputs, and the model's flat outputs for them."""

# Rows, steps, and how the steps of random inputs are masked, if the model uses masks.
SIZES = ((1, 1, "none"), (3, 7, "end"), (5, 12, "none"), (4, 9, "gaps"))

SEED_STATE = "seed_generator_state"
"""The name of the variable in which a layer with random numbers stores Keras's random state."""

LONGEST_UNROLLED = 50
"""The number of steps above which a time loop is compiled, rather than run op by op."""


def write(
    model: keras.Model,
    path: str | Path,
    format: str,
    kind: Kind,
    check: Check,
    tolerance: float | None,
    save: Callable[[Path], None],
    runtime: Callable[[Path], Run],
) -> Report:
    """Write an export, check it, and move it to its path.

    Args:
        model: the model to export.
        path: the file or folder to write; an existing export of the same format is replaced once
            the new one has been checked.
        format: the name of the format, for messages.
        kind: the kind of file that is replaced.
        check: whether to compare; batches of inputs are compared in addition to random ones.
        tolerance: the largest difference accepted, see `largest_difference`; None: that of
            `default_tolerance`.
        save: writes the export.
        runtime: loads it.

    Raises:
        ParityError: the difference exceeds the tolerance. No file is written.
        ValueError: the model cannot be exported; the backend is not TensorFlow; there are no inputs
            for the check.
        OccupiedError: `path` contains something else.
        WriteError: it cannot be written.
    """
    path = Path(path)
    _check_possible(model)
    check_place(path, kind)
    if tolerance is None:
        tolerance = default_tolerance(model)
    with _random_state_kept(model):
        # The file starts from the same state, and computes the same cases in the same order.
        cases = _cases(model, check)
    difference = None
    create_folder(path.parent)
    with replacing(path, kind) as new:
        save(new)
        if cases:
            try:
                difference = largest_difference(runtime(new), cases)
                check_difference(difference, tolerance, f"the {format} export")
            except ParityError as error:
                layer = None
                with contextlib.suppress(Exception):  # the error found is more important
                    layer = different_in_a_graph(model, cases, tolerance)
                if layer is None:
                    raise
                raise ParityError(
                    f"{error} The layer {layer.name} ({type(layer).__name__}) computes different "
                    "results in a graph, where sizes are unknown, and when called eagerly."
                ) from error
        size = _size_of(new)
    return Report(path, format, size, len(cases), difference)


def require(package: str, extra: str) -> None:
    """Raise ModuleNotFoundError, with installation advice, before any work is done."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"needs {package}; install it with `pip install 'kerasrnn[{extra}]'`.", name=package
        )


def _check_possible(model: keras.Model) -> None:
    """Raise ValueError if the model cannot be exported."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"the {keras.config.backend()} backend cannot export; expected tensorflow: save the "
            "model, and load and export it with KERAS_BACKEND=tensorflow."
        )
    signature.inputs(model)
    layer = stateful_layer(model)
    if layer is not None:
        raise ValueError(
            f"{layer.name}: stateful=True: an exported file keeps no states between calls; "
            "expected False, or the model's `kerasrnn.export.to_step`, whose states are inputs."
        )


def stateful_layer(model: keras.Model) -> keras.layers.Layer | None:
    """The first layer that keeps its states between calls."""
    return next((layer for layer in layers_of(model) if getattr(layer, "stateful", False)), None)


def default_tolerance(model: keras.Model) -> float:
    """1e-5; for a model with layers of half precision, eight units in the last place.

    That is 0.0078 for float16 and 0.0625 for bfloat16: an export that computes in single precision,
    or rounds in another order, cannot be closer to a model that rounds every intermediate result.
    """
    import ml_dtypes

    coarsest = [ml_dtypes.finfo(layer.compute_dtype).eps for layer in half_precision(model)]
    return 8 * float(max(coarsest)) if coarsest else 1e-5


def reference(model: keras.Model) -> Run:
    """Compute the model's outputs eagerly on arrays, without any graph.

    An exporter traces a graph, in which sizes are unknown and a layer may behave differently. Time
    loops are unrolled if they are short enough. On the CPU, since products on an accelerator may be
    less exact.
    """

    def written_out(cell: Any, options: Options, call: Call) -> Results | None:
        if call.sequences.shape[1] > LONGEST_UNROLLED:
            return None
        return unrolled.loop(cell, dataclasses.replace(options, checkpoint_every=None), call)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with (
            keras.device("cpu:0"),
            tracing.without_cudnn(model),
            replaced_by(written_out),
        ):
            tensors = [
                keras.ops.convert_to_tensor(x, dtype=tensor.dtype)
                for x, tensor in zip(inputs, model.inputs, strict=True)
            ]
            return [_array(y) for y in signature.call(model, tensors)]

    return run


def _random_state(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v) for v in model.variables if v.name == SEED_STATE]


def _set_random_state(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    states = [v for v in model.variables if v.name == SEED_STATE]
    for state, value in zip(states, values, strict=True):
        state.assign(value)


@contextlib.contextmanager
def _random_state_kept(model: keras.Model) -> Iterator[None]:
    """Restore the random state afterwards, so that the model draws what it would have drawn."""
    state = _random_state(model)
    try:
        yield
    finally:
        _set_random_state(model, state)


def _array(tensor: Any) -> np.ndarray:
    if keras.backend.standardize_dtype(tensor.dtype) == "string":
        return np.asarray(tensor)
    return keras.ops.convert_to_numpy(tensor)


def different_in_a_graph(
    model: keras.Model, cases: Sequence[Case], tolerance: float
) -> keras.Operation | None:
    """The first layer whose outputs differ between tracing and eager calls; None: there is none.

    For tracing, the layers are prepared as for an export.
    """
    import tensorflow as tf

    operations: list[keras.Operation] = []

    def every_output(*inputs: Any) -> list[list[Any]]:
        operations.clear()
        results = []

        def called(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            outputs = operation(*args, **kwargs)
            operations.append(operation)
            results.append(keras.tree.flatten(outputs))
            return outputs

        run_through_graph(model, list(inputs), called)
        return results

    traced = tf.function(every_output, input_signature=tracing.specs(model), autograph=False)
    for inputs, _ in cases:
        with tf.device("CPU"):
            tensors = list(map(tf.convert_to_tensor, inputs))
            with tracing.without_cudnn(model):
                eagerly = every_output(*tensors)
            with tracing.for_export(model):
                in_a_graph = traced(*tensors)
        for operation, *both in zip(operations, in_a_graph, eagerly, strict=True):
            arrays = [[_array(y) for y in outputs] for outputs in both]
            try:
                difference = largest_difference(lambda _, a=arrays: a[0], [((), arrays[1])])
            except ParityError:
                return operation
            if not difference <= tolerance:
                return operation
    return None


def single(x: np.ndarray) -> np.ndarray:
    """Convert an input of a file that computes in single precision."""
    return x.astype("float32") if x.dtype.name in HALF else x


LONGER = (1, 64, 1024)
"""By which factors the steps are multiplied, until a model supports some of the sizes."""


def _cases(model: keras.Model, check: Check) -> list[Case]:
    """The cases to compare: random inputs, and the given ones."""
    if check is False:
        return []
    batches = [] if check is True else list(check)
    if check is not True and not batches:
        raise ValueError("check=[]: expected at least one batch of inputs to compare on, or True.")
    batches = [signature.flattened(model, batch) for batch in batches]
    model_itself = reference(model)
    cases = []
    if not any(tensor.dtype == "string" for tensor in model.inputs):
        try:
            cases = random_cases(model)
        except ValueError:
            if not batches:
                raise
    elif check is True:
        raise ValueError(
            "check=True: strings cannot be generated for this model; expected batches of them."
        )
    return cases + [(inputs, model_itself(inputs)) for inputs in batches]


def random_cases(model: keras.Model, masked: bool = True, apart: bool = True) -> list[Case]:
    """Batches of several sizes and lengths, masked and unmasked, with the model's outputs.

    Rows, steps and other unknown sizes all differ. With `apart`, so do the lengths of several
    inputs, if the model supports such a batch. Sizes that it does not support (such as one step for
    a convolution) are skipped; if it supports none, as a model of waveforms, longer ones are tried.

    Raises:
        ValueError: the model supports none of them.
    """
    layers = layers_of(model)
    bounds = [
        bound
        for layer in layers
        for name in ("input_dim", "num_tokens")
        if isinstance(bound := getattr(layer, name, None), int)
    ]
    values = [layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking)]
    random = np.random.default_rng(0)

    def one(tensor: keras.KerasTensor, shape: tuple[int, ...], masking: str) -> np.ndarray:
        if tensor.dtype == "bool":
            return random.random(shape) < 0.5
        if "int" in tensor.dtype:
            x = random.integers(1, max(min(bounds, default=2), 2), shape).astype(tensor.dtype)
            masked_by: float | None = 0
        else:
            x = random.standard_normal(shape).astype(numpy_dtype(tensor.dtype))
            masked_by = values[0] if values else None
        if masked and masked_by is not None and len(shape) > 1 and tensor.shape[1] is None:
            if masking == "end":
                x[-1, -3:] = masked_by
            elif masking == "gaps":
                x[0, 2:4] = x[1 % len(x), 0] = x[-1, :-1] = masked_by
        return x

    model_itself = reference(model)
    cases, failure = [], None
    longer = [(rows, steps * n, masking) for n in LONGER for rows, steps, masking in SIZES]
    for n, (rows, steps, masking) in enumerate(longer):
        if n % len(SIZES) == 0 and cases:
            break
        tried = None
        for differ in (True, False) if apart else (False,):
            shapes = _shapes(model, rows, steps, differ)
            if shapes == tried:
                break
            tried = shapes
            inputs = [one(x, shape, masking) for x, shape in zip(model.inputs, shapes, strict=True)]
            state = _random_state(model)
            try:
                cases.append((inputs, model_itself(inputs)))
                break
            except Exception as error:  # a layer may raise anything
                failure = error
                _set_random_state(model, state)
    if not cases:
        raise ValueError(
            f"check: the model fails on random inputs ({failure}); expected batches of valid "
            "inputs, or False."
        ) from failure
    return cases


def _shapes(model: keras.Model, rows: int, steps: int, apart: bool) -> list[tuple[int, ...]]:
    """Shapes of one batch; unknown sizes after the rows are `steps`, or differ if `apart`."""
    shapes = []
    for n, tensor in enumerate(model.inputs):
        sizes = [
            (rows if axis == 0 else steps + apart * (2 * n + axis - 1)) if size is None else size
            for axis, size in enumerate(tensor.shape)
        ]
        shapes.append(tuple(sizes))
    return shapes


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype for Keras's name, including bfloat16."""
    import ml_dtypes  # noqa: F401  (adds bfloat16 to NumPy's types)

    return np.dtype(name)


def largest_difference(run: Run, cases: Sequence[Case]) -> float:
    """The largest difference between a runtime's outputs and the model's, over some cases.

    It is relative to the largest absolute value of the output, or absolute if that is below 1.

    Raises:
        ParityError: the export does not run; shapes or texts differ, or only one of the outputs is
            NaN.
    """
    largest = 0.0
    for inputs, expected in cases:
        try:
            outputs = run(inputs)
        except ParityError:
            raise
        except Exception as error:  # a runtime may raise anything
            shapes = ", ".join(str(x.shape) for x in inputs)
            raise ParityError(f"the export does not run on inputs {shapes}: {error}") from error
        for a, b in zip(outputs, expected, strict=True):
            if a.shape != b.shape:
                raise ParityError(f"the export outputs the shape {a.shape}, the model {b.shape}.")
            if b.dtype.kind in "OSU":
                a, b = (np.array(y.tolist(), object) for y in (a, b))
                if (a != b).any():
                    raise ParityError(
                        f"the export outputs {a[a != b][0]}, the model {b[a != b][0]}."
                    )
                continue
            a, b = a.astype("float64"), b.astype("float64")
            if not np.array_equal(np.isnan(a), np.isnan(b)):
                raise ParityError("the export and the model output NaN in different places.")
            differs = a != b  # infinities are equal, but their difference is not zero
            scale = np.max(np.abs(b), where=np.isfinite(b), initial=1.0)
            gap = np.abs(a[differs] - b[differs]) / scale
            largest = max(largest, float(np.nanmax(gap, initial=0.0)))
    return largest


def check_difference(difference: float, tolerance: float, what: str) -> None:
    """Raise ParityError if a difference exceeds the tolerance."""
    if not difference <= tolerance:
        raise ParityError(
            f"{what} differs from the Keras model by up to {difference:.2e}; "
            f"expected at most {tolerance:.2e}."
        )


def _size_of(path: Path) -> int:
    """The size in bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
