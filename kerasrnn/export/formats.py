"""The formats of exports: a table with one row for each.

>>> from kerasrnn.export.formats import FORMATS
>>> "onnx" in FORMATS
True
>>> FORMATS["onnx"].suffix
'onnx'

This module does not import Keras, so that the command line shows its help quickly.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.export.kinds import LITERT_FILE, ONNX_FILE, SAVED_MODEL
from kerasrnn.files import Kind

if TYPE_CHECKING:
    import keras

    from kerasrnn.export.parity import Report, Run


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exports."""

    name: str
    suffix: str
    """The suffix of its files, without the first dot."""

    kind: Kind
    """The kind of file or folder that is written."""

    exporter: str
    """The function that writes it, as `module:function`: like `to_onnx`, it takes a model, a path,
    `check` and `tolerance`, and returns a `Report`. With a `source`, it takes the path of such a
    file and a path."""

    packages: tuple[str, ...] = ()
    """The packages that the exporter and its check need."""

    extra: str = ""
    """The extra of kerasrnn that installs them."""

    takes_text: bool = False
    """Whether the format has operators for strings."""

    source: str = ""
    """The format that this one is converted from, with different results: a name above it in
    `FORMATS`."""

    runtime: str = ""
    """The function that loads a file of this format, as `module:function`: like
    `kerasrnn.export.onnx.runtime`, it takes a path and the exported model. Required with a
    `source`, and of the source, since both are evaluated."""

    remark: str = ""
    """A note on the format for the help of `kerasrnn export`."""

    def require(self) -> None:
        """Raise ModuleNotFoundError, with installation advice, if a package is not installed."""
        from kerasrnn.export.parity import require

        for package in self.packages:
            require(package, self.extra)
        if self.source:
            FORMATS[self.source].require()

    def write(self, model: "keras.Model | Path", path: Path, **options: Any) -> "Report":
        """Write a model, or convert a file of the source."""
        return pkgutil.resolve_name(self.exporter)(model, path, **options)

    def load(self, path: Path, model: "keras.Model") -> "Run":
        """Load a file that was exported from a model; returns a function that runs it."""
        return pkgutil.resolve_name(self.runtime)(path, model)


_ROWS = (
    Format(
        name="saved_model",
        suffix="saved_model",
        kind=SAVED_MODEL,
        exporter="kerasrnn.export.saved_model:to_saved_model",
        takes_text=True,
    ),
    Format(
        name="onnx",
        suffix="onnx",
        kind=ONNX_FILE,
        exporter="kerasrnn.export.onnx:to_onnx",
        packages=("onnx", "tf2onnx", "onnxruntime"),
        extra="onnx",
        runtime="kerasrnn.export.onnx:runtime",
    ),
    Format(
        name="onnx_int8",
        suffix="int8.onnx",
        kind=ONNX_FILE,
        exporter="kerasrnn.export.quantization:to_int8",
        source="onnx",
        runtime="kerasrnn.export.onnx:runtime",
        remark="has 8-bit weights and is evaluated next to the float32 file",
    ),
    Format(
        name="litert",
        suffix="tflite",
        kind=LITERT_FILE,
        exporter="kerasrnn.export.litert:to_litert",
        packages=("ai_edge_litert",),
        extra="litert",
    ),
)

FORMATS: Mapping[str, Format] = {row.name: row for row in _ROWS}
"""The formats by name."""
