"""The kinds of files that the exporters write, and replace. This module does not import Keras."""

import re
from pathlib import Path

from kerasrnn.files import Kind, starts_with


def _is_saved_model(folder: Path) -> bool:
    """Whether a folder contains a SavedModel and nothing else."""
    names = {path.name for path in folder.iterdir()}
    variables = folder / "variables"
    return (
        "saved_model.pb" in names
        and names <= {"saved_model.pb", "fingerprint.pb", "variables", "assets"}
        and (not variables.exists() or all(_is_of_variables(p) for p in variables.iterdir()))
    )


def _is_of_variables(path: Path) -> bool:
    return re.fullmatch(r"variables\.(index|data-\d{5}-of-\d{5})", path.name) is not None


SAVED_MODEL = Kind("a SavedModel", _is_saved_model, is_folder=True)

ONNX_FILE = Kind(
    "an ONNX file of an exporter",
    # The version of the format and the producer: tf2onnx, or onnxruntime's quantization.
    starts_with(rb"\x08[\x03-\x7f]\x12.(tf2onnx|onnx\.quantize|kerasrnn)"),
)

LITERT_FILE = Kind("a LiteRT file", starts_with(rb".{4}TFL3"))
