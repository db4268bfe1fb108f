"""Sphinx's configuration: `make docs`."""

import inspect
import re
import sys
from pathlib import Path

from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.inspect import stringify_signature

import kerasrnn
from kerasrnn.recipes.command import quietly_import_tensorflow

quietly_import_tensorflow()

project = "kerasrnn"
author = copyright = "The kerasrnn authors"
release = version = kerasrnn.__version__
html_title = f"kerasrnn {release}"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes = False  # options have two hyphens
# Docstrings put code in single backticks.
default_role = "code"

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# Napoleon would look for a type before the first colon of what is returned.
SECTIONS = Config(
    napoleon_custom_sections=[("Call arguments", "params_style"), "Masking", "Returns"]
)


def setup(app):
    sys.path.insert(0, str(app.srcdir))
    from generate import write

    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "generated"))
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", show_constructor)


def read_docstring(app, what, name, documented, options, lines):
    """Convert Google style, and render equations, indented lines after a paragraph, verbatim."""
    for number in reversed(range(2, len(lines))):
        line, above = lines[number], lines[number - 2]
        if (
            line.startswith("    ")
            and not line.lstrip().startswith(">>>")
            and not lines[number - 1]
            and not above.startswith(" ")
        ):
            lines[number:number] = ["::", ""]
    # `Layer`s is code and a letter: reST needs an explicit end of the code.
    text = re.sub(
        r"(`[^`]+`)(\w?)", lambda m: rf"{m[1]}\ {m[2]}" if m[2] else m[1], "\n".join(lines)
    )
    lines[:] = GoogleDocstring(text.splitlines(), SECTIONS).lines()


def show_constructor(app, what, name, documented, options, signature, returns):
    """Show the arguments of `__init__`: Keras's layers have a `__new__` that takes any."""
    if what == "class" and signature == "(*args, **kwargs)":
        signature = stringify_signature(
            inspect.signature(documented),
            show_return_annotation=False,
            unqualified_typehints=True,
        )
    return signature, returns
