"""Reading ONNX files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def opened(name: str, path: Path) -> Any:
    """Read an ONNX file as a ModelProto, including weights in separate files.

    Args:
        name: name of the argument, for errors.
        path: the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or is not an ONNX file.
    """
    import onnx

    if not path.is_file():
        if path.exists():
            raise ValueError(f"{name}={str(path)!r}: is not a file; expected an ONNX file.")
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's, or a file of weights is missing or too short
        raise ValueError(f"{name}={str(path)!r}: cannot be read as an ONNX file: {error}") from None
    # Protobuf reads an empty file, and some texts, as a message without content.
    if not model.graph.output or not any(e.domain in ("", "ai.onnx") for e in model.opset_import):
        raise ValueError(
            f"{name}={str(path)!r}: is not an ONNX file: it has no outputs or no ONNX opset."
        )
    return model


def nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a graph, including those of graphs inside nodes, such as a `Loop` body."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
