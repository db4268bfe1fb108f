"""Type stubs of the cells and their layers, whose constructors are derived.

    python -m tests.stubs

writes them beside the modules, and `tests/test_stubs.py` compares them with the classes.
"""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import kerasrnn
from kerasrnn.cells.layer import Recurrent

CELLS = Path(__file__).parents[1] / "kerasrnn" / "cells"


def stubs() -> dict[Path, str]:
    """The text of each stub, by its path."""
    layers = [getattr(kerasrnn, name) for name in kerasrnn.__all__ if name[0].isupper()]
    layers = [cls for cls in layers if issubclass(cls, Recurrent) and cls is not Recurrent]
    modules = {
        CELLS / f"{layer.__module__.rpartition('.')[2]}.pyi": _module(layer) for layer in layers
    }
    return {CELLS / "__init__.pyi": _package(), **modules}


def _package() -> str:
    """What `kerasrnn.cells` has: all that `kerasrnn` has of its modules."""
    classes = [getattr(kerasrnn, name) for name in kerasrnn.__all__ if name[0].isupper()]
    found = sorted((cls.__module__, cls.__name__) for cls in classes)
    lines = [
        f"from .{module.removeprefix('kerasrnn.cells.')} import {name} as {name}"
        for module, name in found
        if module.startswith("kerasrnn.cells.")
    ]
    return "\n".join(
        ['"""Written by `python -m tests.stubs`, from `kerasrnn/__init__.pyi`."""', "", *lines, ""]
    )


def _module(layer: type[Recurrent]) -> str:
    cell = layer.cell_class
    (extended, *_) = cell.__bases__
    lines = [
        '"""Written by `python -m tests.stubs`, from what the cells declare."""',
        "",
        "from collections.abc import Callable",
        "from typing import Any, Literal",
        "",
        *sorted(f"from {base.__module__} import {base.__name__}" for base in (extended, Recurrent)),
        "",
    ]
    for cls, base in ((cell, extended), (layer, Recurrent)):
        lines += [f"class {cls.__name__}({base.__name__}):", "    def __init__(", "        self,"]
        keyword_only = False
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
                keyword_only = True
                lines.append("        *,")
            lines.append(f"        {_parameter(parameter)},")
        lines += ["    ) -> None: ...", ""]
    return "\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    text = f"{stars}{parameter.name}: {_plain(parameter.annotation)}"
    return (
        text if parameter.default is parameter.empty else f"{text} = {_literal(parameter.default)}"
    )


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _plain(annotation: Any) -> str:
    """An annotation as a type checker reads it, without the checks."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(annotation.__origin__)
    if origin is Literal:
        return f"Literal[{', '.join(map(_literal, get_args(annotation)))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(_plain(member) for member in get_args(annotation))
    if annotation is Callable:
        return "Callable[..., Any]"
    return {Any: "Any", type(None): "None"}.get(annotation) or annotation.__name__


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
