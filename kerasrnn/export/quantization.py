"""Smaller ONNX files with 8-bit weights."""

from pathlib import Path
from typing import Any

import numpy as np

from kerasrnn import validation
from kerasrnn.export import onnx_files, parity
from kerasrnn.export.kinds import ONNX_FILE
from kerasrnn.export.parity import Report
from kerasrnn.files import check_place, create_folder, replacing

FEWEST = 1024
"""The size below which a tensor is left unchanged: biases, constants."""

# The axis of each operator's weights that corresponds to its outputs, with a scale for each output.
OUTPUTS = {"Conv": 0, "ConvTranspose": 1, "RNN": 1, "GRU": 1, "LSTM": 1, "MatMul": -1, "Gather": -1}


@validation.checked
def to_int8(source: str | Path, path: str | Path) -> Report:
    """Write an ONNX file whose weights are stored as 8-bit integers.

        q = round(w / s),   s = max |w| / 127

    Each output of an operator, and each dimension of an embedding, has its own scale `s`. The file
    is about a quarter as large. It contains a `Cast` and a `Mul` for each tensor of weights, which
    runtimes compute once, when they load it. Everything else is computed in floating point: at the
    same speed as the source, with the same operators, and a row's results do not depend on the
    other rows of its batch, unlike with quantized activations. Weights inside loops are included.

    The effect on the results depends on the model: evaluate the file with the metric that matters.

    Args:
        source: an ONNX file written by `to_onnx`, or another with opset 13 or higher.
        path: the file to write; only an existing ONNX file of an exporter is replaced, once the new
            one is complete.

    Returns:
        A `Report` without a difference, since differences are expected.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: `source` is not an ONNX file, or has an older opset.
        FileExistsError: `path` contains something else.
        OSError: it cannot be written.
        ModuleNotFoundError: a package from the extra `onnx` is not installed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 64)), kerasrnn.GRU(64)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     whole = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
        ...     small = kerasrnn.export.to_int8(whole.path, f"{folder}/model.int8.onnx")
        >>> small.bytes < 0.3 * whole.bytes
        True
    """
    parity.require("onnx", "onnx")
    import onnx

    source, path = Path(source), Path(path)
    check_place(path, ONNX_FILE)
    model = onnx_files.opened("source", source)
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    if opset < 13:
        raise ValueError(f"source={str(source)!r}: opset {opset}; expected 13 or higher.")
    create_folder(path.parent)
    _store_small(model.graph, _axes(model.graph))
    onnx.checker.check_model(model)
    with replacing(path, ONNX_FILE) as new:
        onnx.save(model, new)
        size = new.stat().st_size
    return Report(path, "ONNX, int8", size, 0, None)


def _axes(graph: Any) -> dict[str, int]:
    """For each tensor that an operator uses as weights: the axis of the operator's outputs."""
    axes: dict[str, int] = {}
    for node in onnx_files.nodes(graph):
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = (0 if transposed else -1) if node.op_type == "Gemm" else OUTPUTS.get(node.op_type)
        if axis is not None:
            for name in node.input[0 if node.op_type == "Gather" else 1 :]:
                axes.setdefault(name, axis)
    return axes


def _store_small(graph: Any, axes: dict[str, int]) -> None:
    """Store large float weights as 8-bit integers, in a graph and the graphs inside it."""
    from onnx import TensorProto, helper, numpy_helper

    new_nodes = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if (
            values.dtype != np.float32
            or values.size < FEWEST
            or values.ndim < 2
            or not np.isfinite(values).all()
        ):
            continue
        small, scales = _rounded(values, axes.get(tensor.name, -1))
        if scales.size > values.size // 8:  # biases
            continue
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(small, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
        new_nodes += [
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name]),
        ]
    for node in reversed(new_nodes):
        graph.node.insert(0, node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _store_small(attribute.g, axes)


def _rounded(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Round to 8 bits; also return the scales, which broadcast against the result."""
    others = tuple(n for n in range(values.ndim) if n != axis % values.ndim)
    scales = np.abs(values).max(axis=others, keepdims=True) / 127
    scales = np.where(scales > 0, scales, 1).astype("float32")
    return np.rint(values / scales).astype("int8"), scales
