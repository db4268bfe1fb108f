"""Reading ONNX files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def opened(name: str, path: Path) -> Any:
    """An ONNX file as a ModelProto, weights in files beside it included.

    Args:
        name: of the argument, for errors.
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no ONNX file, or a damaged one.
    """
    import onnx

    if not path.is_file():
        if path.exists():
            raise ValueError(f"{name}={str(path)!r}: is no file; expected an ONNX file.")
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's, or of a file of weights that is missing or too short
        raise ValueError(f"{name}={str(path)!r}: cannot be read as an ONNX file: {error}") from None
    # Protobuf takes an empty file, and some texts, for a message without content.
    if not model.graph.output or not any(e.domain in ("", "ai.onnx") for e in model.opset_import):
        raise ValueError(
            f"{name}={str(path)!r}: is no ONNX file: it has no outputs or no opset of ONNX's."
        )
    return model


def nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a graph, those of the graphs inside nodes, such as the body of a `Loop`, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
