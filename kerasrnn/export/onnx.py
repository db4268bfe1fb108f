"""Export to ONNX through tf2onnx."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.export import onnx_files, parity, signature, tracing
from kerasrnn.export.kinds import ONNX_FILE
from kerasrnn.export.linear_scan import Scans
from kerasrnn.export.native import Markers, cancel_reversals, choose_exactly
from kerasrnn.export.parity import Check, Report, Run
from kerasrnn.keras_internals import patch_tf2onnx
from kerasrnn.recurrence.loop import replaced_by
from kerasrnn.validation import NonNegativeNumber

OPSET = 18


@validation.checked
def to_onnx(
    model: keras.Model,
    path: str | Path,
    check: Check = True,
    tolerance: NonNegativeNumber | None = None,
) -> Report:
    """Write an ONNX file, run it with onnxruntime, and compare it with the model.

    Inputs and outputs have the names of the model's; batch and time stay dynamic if the model's
    are, and are dimensions of these names. Opset 18.

    `SimpleRNN`, `LSTM`, `PeepholeLSTM`, `GRU` (with or without `reset_after`) and `MGU` become
    ONNX's own `RNN`, `LSTM` and `GRU`: see `kerasrnn.export.native`. The two directions of a
    bidirectional layer become one operator, or, with a mask, two. Keras's own layers are exported
    like kerasrnn's. Linear cells become a `Scan` of their recurrence alone: see
    `kerasrnn.export.linear_scan`. Other cells become a `Loop`, as does a cell with an activation
    that ONNX lacks.

    The file computes in single precision, even for a model of half precision; its inputs and
    outputs are then also in single precision.

    Args:
        model: a functional or Sequential model.
        path: the file to write; only an existing ONNX file of an exporter is replaced, once the new
            one has been checked.
        check: whether to compare on random inputs of several sizes and lengths, masked and
            unmasked; or batches of inputs, as passed to the model, which are compared in addition.
        tolerance: the largest difference accepted, relative to the output's largest absolute value
            if that is above 1. Default: 1e-5; for a model with layers of half precision 8 units in
            the last place of the coarsest, 0.0078 for float16 and 0.0625 for bfloat16.

    Returns:
        A `Report`.

    Raises:
        ParityError: the difference exceeds the tolerance. No file is written.
        ValueError: the model has no symbolic inputs, is stateful, or has an operation that ONNX
            lacks; there are no inputs for the check; the backend is not TensorFlow.
        FileExistsError: `path` contains something else: see `kerasrnn.files`.
        OSError: it cannot be written.
        ModuleNotFoundError: a package from the extra `onnx` is not installed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
        >>> report.difference <= 1e-5
        True
    """

    for package in ("onnx", "tf2onnx", *(["onnxruntime"] if check is not False else [])):
        parity.require(package, "onnx")

    def save(new: Path) -> None:
        new.write_bytes(_convert(model).SerializeToString())

    def load(new: Path) -> Run:
        return runtime(new, model)

    return parity.write(model, path, "ONNX", ONNX_FILE, check, tolerance, save, load)


def runtime(path: Path, model: keras.Model) -> Run:
    """Load an ONNX file that was exported from a model.

    Returns:
        A function that runs it in onnxruntime, on the CPU. It takes the model's inputs in their
        order, and casts them to the types of the file's inputs.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kinds = {tensor.name: tensor.type for tensor in session.get_inputs()}
    types = {"tensor(int32)": "int32", "tensor(float)": "float32"}
    names, _ = signature.inputs(model)

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        arrays = dict(zip(names, map(np.asarray, inputs), strict=True))
        return session.run(
            None, {name: x.astype(types.get(kinds[name], x.dtype)) for name, x in arrays.items()}
        )

    return run


def _convert(model: keras.Model) -> Any:
    """Convert the model to an ONNX ModelProto."""
    import onnx
    import tensorflow as tf

    with warnings.catch_warnings():
        # Keras's patch of tf2onnx uses np.object, which NumPy warns about.
        warnings.simplefilter("ignore", FutureWarning)
        import tf2onnx

        patch_tf2onnx()
    specs = tracing.specs(model, single=True)
    names = [spec.name for spec in specs]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*inputs: Any) -> Any:
        return tracing.single_call(model, inputs)

    markers, scans, missing = Markers(), Scans(), []

    def substitute(*of_loop: Any) -> Any:
        return markers.run(*of_loop) or scans.run(*of_loop)

    with (
        tracing.for_export(model, own_loops=True, single=True),
        replaced_by(substitute),
        _without_messages(missing),
    ):
        proto, _ = tf2onnx.convert.from_function(
            serve,
            input_signature=specs,
            opset=OPSET,
            custom_rewriter=[markers.rewrite, scans.rewrite, cancel_reversals, choose_exactly],
        )
    if missing:
        raise ValueError(
            f"model {model.name!r}: ONNX has no operator for {', '.join(sorted(set(missing)))}."
        )
    graph = proto.graph
    _embed_constants(graph, serve.get_concrete_function(), names)
    _name(graph, model)
    onnx.checker.check_model(proto)
    return proto


@contextlib.contextmanager
def _without_messages(missing: list[str]) -> Iterator[None]:
    """Suppress the converter's messages, and collect the operations that it does not support.

    Also suppress TensorFlow's messages about the lookup tables of all vectorizers in the process,
    which the converter's optimizer finds in the default graph.
    """
    converter, tensorflow = logging.getLogger("tf2onnx.tfonnx"), logging.getLogger("tensorflow")
    above = logging.getLogger("tf2onnx")
    level = above.level

    def is_unrelated(record: logging.LogRecord) -> bool:
        return "serializing table_initializer" not in record.getMessage()

    def note(record: logging.LogRecord) -> bool:
        # The converter continues without them, and reports them in no other way.
        if record.msg == "Tensorflow op [%s: %s] is not supported":
            missing.append(record.args[1])
        return False

    above.setLevel(logging.ERROR)
    converter.addFilter(note)
    tensorflow.addFilter(is_unrelated)
    try:
        yield
    finally:
        tensorflow.removeFilter(is_unrelated)
        converter.removeFilter(note)
        above.setLevel(level)


def _embed_constants(graph: Any, function: Any, names: Sequence[str]) -> None:
    """Turn the tensors in a function's closure, which tf2onnx makes inputs, into constants."""
    from onnx import numpy_helper

    captured = {inside.name: outside for outside, inside in function.graph.captures}
    for tensor in [tensor for tensor in graph.input if tensor.name not in names]:
        value = np.asarray(captured[tensor.name])
        graph.initializer.append(numpy_helper.from_array(value, tensor.name))
        graph.input.remove(tensor)


def _name(graph: Any, model: keras.Model) -> None:
    """Give a graph's outputs the model's names, and name its dimensions."""
    names, _ = signature.inputs(model)
    input_names = [tensor.name for tensor in graph.input]
    if input_names != names:
        raise ValueError(f"model {model.name!r}: the converter named its inputs {input_names}.")
    outputs = [tensor.name for tensor in graph.output]
    new = dict(zip(outputs, signature.output_names(model), strict=True))
    inside = {name for node in onnx_files.nodes(graph) for name in (*node.input, *node.output)}
    inside |= {tensor.name for tensor in graph.initializer}
    for name in (inside - new.keys()) & set(new.values()):
        new[name] = f"{name}__inside"
    _rename(graph, new)
    for tensors, shapes in zip(
        (graph.input, graph.output), signature.dimensions(model), strict=True
    ):
        for tensor, shape in zip(tensors, shapes, strict=True):
            for dimension, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
                if isinstance(size, str):
                    dimension.dim_param = size
                else:
                    dimension.dim_value = size


def _rename(graph: Any, new: dict[str, str]) -> None:
    """Rename tensors, including those in the graphs inside nodes."""
    for tensor in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        tensor.name = new.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, new)
