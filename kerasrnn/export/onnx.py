"""ONNX, through tf2onnx."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn.export import parity
from kerasrnn.export.parity import Report

OPSET = 18


def to_onnx(
    model: keras.Model,
    path: str | Path,
    check: Sequence[np.ndarray | Sequence[np.ndarray]],
    tolerance: float = 1e-5,
) -> Report:
    """Write an ONNX file, run it with onnxruntime, and compare it with the model.

    Inputs and outputs have the names of the model's; batch and time stay dynamic where the model's
    are. Opset 18.

    Args:
        model: a functional or Sequential model.
        path: the file to write; an existing one is replaced once the new one has been checked.
        check: batches of inputs (an array, or one array for each input) to compare on.
        tolerance: the largest absolute difference that is accepted.

    Returns:
        A `Report`.

    Raises:
        ParityError: the difference is over the tolerance. Nothing is left behind.
        ValueError: the model has no symbolic inputs; there is nothing to check on; the backend is
            not TensorFlow.

    Example:

        >>> import keras, numpy as np, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_onnx(
        ...         model, f"{folder}/model.onnx", check=[np.ones((2, 5, 3), "float32")])
        >>> report.difference <= 1e-5
        True
    """
    parity.check_possible(model, check)
    import onnxruntime

    path = Path(path)
    with parity.replacing(path) as new:
        new.write_bytes(_convert(model).SerializeToString())
        session = onnxruntime.InferenceSession(new, providers=["CPUExecutionProvider"])
        names, _ = parity.input_signature(model)

        def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            return session.run(None, dict(zip(names, inputs, strict=True)))

        difference = parity.largest_difference(model, run, check)
        parity.check_difference(difference, tolerance, "the ONNX file")
        size = parity.size_of(new)
    return Report(path, "ONNX", size, len(check), difference)


def _convert(model: keras.Model) -> Any:
    """The model as an ONNX ModelProto."""
    import onnx
    import tensorflow as tf

    with warnings.catch_warnings():
        # Keras's patch of tf2onnx asks for np.object, which NumPy warns about.
        warnings.simplefilter("ignore", FutureWarning)
        import tf2onnx
        from keras.src.export.tf2onnx_lib import patch_tf2onnx

        patch_tf2onnx()  # tf2onnx 1.17 was written for NumPy 1
    names, tensors = parity.input_signature(model)
    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(names, tensors, strict=True)
    ]

    @tf.function(input_signature=signature, autograph=False)
    def serve(*inputs: Any) -> Any:
        return model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)

    with _without_remarks():
        proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    graph = proto.graph
    _embed_constants(graph, serve.get_concrete_function(), names)
    _rename(graph, [tensor.name for tensor in graph.output], parity.output_names(model))
    onnx.checker.check_model(proto)
    return proto


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Hold back what the converter says of itself.

    And what TensorFlow says of the lookup tables of all vectorizers in the process, which the
    converter's optimizer meets in the default graph.
    """
    converter, tensorflow = logging.getLogger("tf2onnx"), logging.getLogger("tensorflow")
    level = converter.level

    def of_something_else(record: logging.LogRecord) -> bool:
        return "serializing table_initializer" not in record.getMessage()

    converter.setLevel(logging.ERROR)
    tensorflow.addFilter(of_something_else)
    try:
        yield
    finally:
        tensorflow.removeFilter(of_something_else)
        converter.setLevel(level)


def _embed_constants(graph: Any, function: Any, names: Sequence[str]) -> None:
    """Turn tensors that the function closes over, inputs to tf2onnx, into constants."""
    from onnx import numpy_helper

    captured = {inside.name: outside for outside, inside in function.graph.captures}
    for tensor in [tensor for tensor in graph.input if tensor.name not in names]:
        value = np.asarray(captured[tensor.name])
        graph.initializer.append(numpy_helper.from_array(value, tensor.name))
        graph.input.remove(tensor)


def _rename(graph: Any, old: Sequence[str], new: Sequence[str]) -> None:
    """Give a graph's outputs other names."""
    renamed = dict(zip(old, new, strict=True))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in graph.output:
        tensor.name = renamed[tensor.name]
