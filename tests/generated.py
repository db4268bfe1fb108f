"""Files that are written from the code: type stubs and lists of cells.

    python -m tests.generated

writes them, and `tests/test_generated.py` compares them with the code.
"""

import inspect
import re
import runpy
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import keras

import kerasrnn
from kerasrnn import catalogue

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasrnn"
README = ROOT / "README.md"
LIST = PACKAGE / "cells" / "README.md"
LONG = ROOT / "docs" / "long_range.md"
TABLE = re.compile(r"(?<=<!-- Written by `python -m tests\.generated`: -->\n\n)(?:\|.*\n)*")
WRITTEN = "Written by `python -m tests.generated`."


def files() -> dict[Path, str]:
    """The text of each file, by its path."""
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    before = README.read_text(encoding="utf-8")
    readme = TABLE.sub(lambda _: generate["table_of_families"](), before)
    cells = f"<!-- {WRITTEN} -->\n\n{generate['list_of_cells']('{}.py')}"
    before = LONG.read_text(encoding="utf-8")
    long = TABLE.sub(lambda _: generate["table_of_long_memories"](), before)
    return {**stubs(), README: readme, LIST: cells, LONG: long}


def stubs() -> dict[Path, str]:
    """The stubs: of the two packages that load their names lazily, and of each cell's module.

    A cell's constructor, and that of its layer, are derived from what the cell declares.
    """
    public = {name: getattr(kerasrnn, name) for name in kerasrnn.__all__ if name[0] != "_"}
    packages = [name for name, value in public.items() if inspect.ismodule(value)]
    found = [
        (value.__module__, name) for name, value in public.items() if not inspect.ismodule(value)
    ]
    version = ("kerasrnn._version", "__version__")
    written = {
        PACKAGE / "__init__.pyi": [
            *(f"from . import {name} as {name}" for name in packages),
            *_imports("kerasrnn", [version, *found]),
        ],
        PACKAGE / "cells" / "__init__.pyi": _imports("kerasrnn.cells", found),
    }
    for entry in (*catalogue.CELLS, *catalogue.CONVOLUTIONAL):
        names = (*entry.cells, *entry.layers)
        written[PACKAGE / "cells" / f"{entry.module}.pyi"] = _module(*names)
    return {
        path: "\n".join([f'"""{WRITTEN}"""', "", *lines, ""]) for path, lines in written.items()
    }


def _imports(package: str, names: Iterable[tuple[str, str]]) -> list[str]:
    """The re-exports of a package's names, given with their modules."""
    return [
        f"from {module.removeprefix(package)} import {name} as {name}"
        # Names in capitals come first, as ruff sorts them.
        for module, name in sorted(names, key=lambda x: (x[0], not x[1].isupper(), x[1]))
        if module.startswith(f"{package}.")
    ]


def _module(*names: str) -> list[str]:
    classes = [getattr(kerasrnn, name) for name in names]
    bases = [_base(cls) for cls in classes]
    imports = {f"from {base.__module__} import {base.__name__}" for base in bases}
    lines = ["", *sorted(imports)]
    for cls, base in zip(classes, bases, strict=True):
        lines += ["", f"class {cls.__name__}({base.__name__}):", "    def __init__("]
        lines.append("        self,")
        keyword_only = False
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
                keyword_only = True
                lines.append("        *,")
            lines.append(f"        {_parameter(parameter)},")
        lines.append("    ) -> None: ...")
    if any("Callable[" in line for line in lines):
        return ["from collections.abc import Callable", "from typing import Any, Literal", *lines]
    return ["from typing import Any, Literal", *lines]


def _base(cls: type) -> type:
    """The nearest public class of layers that a class extends."""
    layers = (c for c in cls.__mro__[1:] if issubclass(c, keras.layers.Layer))
    return next(c for c in layers if c.__name__[0] != "_")


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
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
