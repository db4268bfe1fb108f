"""Does an export compute what the model computes?

Every exporter writes through `write`, which has the new file run by its own runtime, on random
inputs and on those that it is given, and puts it in its place only then.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.files import Kind, check_place, create_folder, replacing
from kerasrnn.keras_internals import flatten_layers, operation_of


class ParityError(RuntimeError):
    """An export does not compute what the model computes."""


@dataclass(frozen=True)
class Report:
    """What an export wrote and how it compares with the model."""

    path: Path
    format: str
    bytes: int
    batches: int
    difference: float | None
    """The largest absolute difference between an output of the export and of the model; None: it
    was not checked."""


Batch = Any
"""An array, or one array for each input."""

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""A runtime's outputs for one batch of inputs."""


def _checked(name: str, value: Any) -> bool | Sequence[Batch]:
    if isinstance(value, bool):
        return value
    if not isinstance(value, (list, tuple)) or any(
        np.asarray(array).dtype == object and not isinstance(array, str)
        for batch in value
        for array in (batch if isinstance(batch, (list, tuple)) else [batch])
    ):
        raise validation.ArgumentError(name, value, "True", "False", "a list of batches of arrays")
    return value


Check = Annotated[Any, _checked]
"""Whether an export is compared with its model, or batches to compare it on besides random ones."""

# Rows, steps, and how the steps of the random inputs are masked, where the model masks any.
SIZES = ((1, 1, "none"), (3, 7, "end"), (5, 12, "none"), (4, 9, "gaps"))


def write(
    model: keras.Model,
    path: str | Path,
    format: str,
    kind: Kind,
    check: Check,
    tolerance: float,
    save: Callable[[Path], None],
    runtime: Callable[[Path], Run],
) -> Report:
    """Write an export, have it checked, and put it in its place.

    Args:
        model: what is exported.
        path: the file or folder to write; an existing export of the same format is replaced once
            the new one has been checked.
        format: its name for people.
        kind: what is replaced.
        check: whether to compare; batches of inputs are compared besides random ones.
        tolerance: the largest absolute difference that is accepted.
        save: writes the export.
        runtime: loads it.

    Raises:
        ParityError: the difference is over the tolerance. Nothing is left behind.
        ValueError: the model cannot be exported; the backend is not TensorFlow; there is nothing to
            compare on.
        OccupiedError: `path` holds something else.
        WriteError: it cannot be written.
    """
    path = Path(path)
    _check_possible(model)
    check_place(path, kind)
    model_itself = reference(model)
    batches = _batches(model, check, model_itself)
    difference = None
    create_folder(path.parent)
    with replacing(path, kind) as new:
        save(new)
        if batches:
            difference = largest_difference(runtime(new), model_itself, batches)
            check_difference(difference, tolerance, f"the {format} export")
        size = _size_of(new)
    return Report(path, format, size, len(batches), difference)


def require(package: str, extra: str) -> None:
    """Raise ModuleNotFoundError, with what to install, before any work is done."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"needs {package}: pip install kerasrnn[{extra}].", name=package)


def _check_possible(model: keras.Model) -> None:
    """Raise ValueError if an export could not be made."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"the {keras.config.backend()} backend cannot export; expected tensorflow: save the "
            "model, and load and export it with KERAS_BACKEND=tensorflow."
        )
    input_signature(model)
    layer = stateful_layer(model)
    if layer is not None:
        raise ValueError(
            f"{layer.name}: stateful=True: an exported file keeps no states between calls; "
            "expected False, or the model's `kerasrnn.export.to_step`, whose states are inputs."
        )


def stateful_layer(model: keras.Model) -> keras.layers.Layer | None:
    """The first layer that keeps its states between calls."""
    return next((layer for layer in layers_of(model) if getattr(layer, "stateful", False)), None)


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers, those inside of others too, each once."""
    return [layer for layer in flatten_layers(model) if layer is not model]


def reference(model: keras.Model) -> Run:
    """What the model computes: on the CPU, since an accelerator's products may be less exact."""
    import tensorflow as tf

    _, tensors = input_signature(model)
    signature = [tf.TensorSpec(x.shape, x.dtype) for x in tensors]

    @tf.function(input_signature=signature, autograph=False)  # traced once for all sizes
    def call(*inputs: Any) -> Any:
        return model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with tf.device("CPU"):
            outputs = call(*[tf.convert_to_tensor(x) for x in inputs])
        return [np.asarray(y) for y in tf.nest.flatten(outputs)]

    return run


def _batches(model: keras.Model, check: Check, model_itself: Run) -> list[list[np.ndarray]]:
    """What to compare on: random inputs, and those that are given."""
    if check is False:
        return []
    given = [] if check is True else list(check)
    if check is not True and not given:
        raise ValueError("check=[]: expected at least one batch of inputs to compare on, or True.")
    given = [list(b) if isinstance(b, (list, tuple)) else [b] for b in given]
    if any(tensor.dtype == "string" for tensor in model.inputs):
        if check is True:
            raise ValueError(
                "check=True: no strings can be made up for this model; expected batches of them."
            )
        return given
    return random_inputs(model, model_itself) + given


def random_inputs(
    model: keras.Model, model_itself: Run, masked: bool = True
) -> list[list[np.ndarray]]:
    """Batches of several sizes and lengths, masked and not, that the model can compute.

    A size that the model cannot (one step for a convolution, say) is left out.

    Raises:
        ValueError: it can compute none of them.
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

    def one(tensor: keras.KerasTensor, rows: int, steps: int, masking: str) -> np.ndarray:
        rest = [steps if size is None else size for size in tensor.shape[1:]]
        shape = (tensor.shape[0] or rows, *rest)
        if tensor.dtype == "bool":
            return random.random(shape) < 0.5
        if "int" in tensor.dtype:
            x = random.integers(1, max(min(bounds, default=2), 2), shape).astype(tensor.dtype)
            masked_by: float | None = 0
        else:
            x = random.standard_normal(shape).astype(tensor.dtype)
            masked_by = values[0] if values else None
        if masked and masked_by is not None and len(shape) > 1 and tensor.shape[1] is None:
            if masking == "end":
                x[-1, -3:] = masked_by
            elif masking == "gaps":
                x[0, 2:4] = x[1, 0] = x[-1, :-1] = masked_by
        return x

    found, failure = [], None
    for size in SIZES:
        inputs = [one(tensor, *size) for tensor in model.inputs]
        try:
            model_itself(inputs)
        except Exception as error:  # whatever a layer may raise
            failure = error
        else:
            found.append(inputs)
    if not found:
        raise ValueError(
            f"check: the model cannot compute random inputs ({failure}); expected batches that it "
            "can, or False."
        ) from failure
    return found


def input_signature(model: keras.Model) -> tuple[list[str], list[keras.KerasTensor]]:
    """Names and symbolic tensors of a model's inputs.

    Raises:
        ValueError: the model is not built of symbolic inputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            f"model {model.name!r} has no symbolic inputs: expected a functional or a Sequential "
            "model that starts with keras.Input."
        )
    # The layers' names: a Sequential model's tensor may have another one.
    return [operation_of(tensor).name for tensor in inputs], list(inputs)


def output_names(model: keras.Model) -> list[str]:
    """Names of a model's outputs: those of the layers that put them out, numbered if repeated."""
    if getattr(model, "output_names", None):
        names = list(model.output_names)
    else:
        names = [model.layers[-1].name] * len(model.outputs)
    return [
        name if names.count(name) == 1 else f"{name}_{names[:n].count(name)}"
        for n, name in enumerate(names)
    ]


def largest_difference(
    run: Run, model_itself: Run, batches: Sequence[Sequence[np.ndarray]]
) -> float:
    """The largest absolute difference over batches of inputs.

    Raises:
        ParityError: the export does not run; the shapes or the texts differ, or only one of the two
            is not a number.
    """
    largest = 0.0
    for inputs in batches:
        try:
            outputs = run(inputs)
        except ParityError:
            raise
        except Exception as error:  # whatever a runtime may raise
            shapes = ", ".join(str(x.shape) for x in inputs)
            raise ParityError(f"the export does not run on inputs {shapes}: {error}") from error
        for a, b in zip(outputs, model_itself(inputs), strict=True):
            if a.shape != b.shape:
                raise ParityError(f"the export puts out the shape {a.shape}, the model {b.shape}.")
            if b.dtype.kind in "OSU":
                a, b = (np.array(y.tolist(), object) for y in (a, b))
                if (a != b).any():
                    raise ParityError(
                        f"the export puts out {a[a != b][0]}, the model {b[a != b][0]}."
                    )
                continue
            a, b = a.astype("float64"), b.astype("float64")
            if not np.array_equal(np.isnan(a), np.isnan(b)):
                raise ParityError("the export and the model put out NaN in different places.")
            largest = max(largest, float(np.nanmax(np.abs(a - b), initial=0.0)))
    return largest


def check_difference(difference: float, tolerance: float, what: str) -> None:
    """Raise ParityError if a difference is over the tolerance."""
    if not difference <= tolerance:
        raise ParityError(
            f"{what} differs from the Keras model by up to {difference:.2e}; "
            f"expected at most {tolerance:.2e}."
        )


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
