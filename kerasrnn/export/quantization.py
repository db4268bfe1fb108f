"""Smaller ONNX files: weights in eight bits."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerasrnn import validation
from kerasrnn.export import onnx_files, parity
from kerasrnn.export.onnx import ONNX_FILE
from kerasrnn.export.parity import Report
from kerasrnn.files import check_place, create_folder, replacing

COMPUTED = ("Gather", "Gemm", "LSTM", "MatMul")
"""Operators that onnxruntime computes with integers, or, `Gather`, reads them."""

FEWEST = 1024
"""Weights of which a tensor is left as it is: biases, scales, constants."""


@validation.checked
def to_int8(source: str | Path, path: str | Path, reduce_range: bool = False) -> Report:
    """Write an ONNX file with weights in eight bits: dynamic quantization, with onnxruntime.

        q = round(w / s),   s = max |w| / 127

    `LSTM` and matrix products are computed with integers, their inputs being quantized as they
    come; tables of embeddings are read from integers. onnxruntime has no such `GRU`, `RNN` and
    convolution: their weights are kept in eight bits, a scale for each row, and are what they were,
    rounded, when they are used. Files become about a quarter as large. Loops are quantized too.

    What it does to the results depends on the model: judge the file by the metric that matters.

    Args:
        source: an ONNX file, as `to_onnx` writes it: opset 13 or higher.
        path: the file to write; an existing ONNX file of an exporter is replaced once the new one
            is complete, and nothing else is.
        reduce_range: whether matrix products have weights of seven bits: on x86 processors without
            VNNI, sums of products of eight bits saturate.

    Returns:
        A `Report`, of no difference: what differs is the point.

    Raises:
        FileNotFoundError: there is no `source`.
        ValueError: it is no ONNX file, or of an older opset.
        FileExistsError: `path` holds something else.
        OSError: it cannot be written.
        ModuleNotFoundError: a package of the extra `onnx` is not installed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 64)), kerasrnn.GRU(64)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     whole = kerasrnn.export.to_onnx(model, f"{folder}/model.onnx")
        ...     small = kerasrnn.export.to_int8(whole.path, f"{folder}/model.int8.onnx")
        >>> small.bytes < 0.3 * whole.bytes
        True
    """
    for package in ("onnx", "onnxruntime"):
        parity.require(package, "onnx")
    import onnx

    source, path = Path(source), Path(path)
    check_place(path, ONNX_FILE)
    model = onnx_files.opened("source", source)
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    if opset < 13:
        raise ValueError(f"source={str(source)!r}: opset {opset}; expected 13 or higher.")
    create_folder(path.parent)
    with replacing(path, ONNX_FILE) as new:
        _quantized(source, new, reduce_range)
        model = onnx.load(new)
        _store_small(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, new)
        size = new.stat().st_size
    return Report(path, "ONNX, int8", size, 0, None)


def _quantized(source: Path, path: Path, reduce_range: bool) -> None:
    """onnxruntime's own part."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends, there, what is done here
    try:
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=list(COMPUTED),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)


def _store_small(graph: Any) -> None:
    """Keep the float weights that are left in eight bits, each behind a `DequantizeLinear`."""
    from onnx import helper, numpy_helper

    read = {name for node in _nodes(graph) for name in node.input}
    made = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < FEWEST or tensor.name not in read:
            continue
        axis = max(values.ndim - 2, 0) if values.ndim < 4 else 0
        small, scales = _rounded(values, axis)
        names = [f"{tensor.name}_{part}" for part in ("int8", "scale", "zero")]
        arrays = (small, scales, np.zeros_like(scales, "int8"))
        graph.initializer.remove(tensor)
        graph.initializer.extend(map(numpy_helper.from_array, arrays, names))
        made.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    for node in reversed(made):
        graph.node.insert(0, node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _store_small(attribute.g)


def _rounded(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """In eight bits, and the scale of each slice along the axis."""
    others = tuple(n for n in range(values.ndim) if n != axis)
    scales = np.abs(values).max(axis=others) / 127
    scales = np.where(scales > 0, scales, 1).astype("float32")
    shape = [-1 if n == axis else 1 for n in range(values.ndim)]
    return np.rint(values / scales.reshape(shape)).astype("int8"), scales


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those of graphs inside of nodes too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
