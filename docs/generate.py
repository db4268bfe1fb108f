"""Pages generated from the code: of cells, topologies, recipes and the parts of the API.

They are Markdown files, which Sphinx builds. Their content is in docstrings, in the help texts of
options, in cards and in the READMEs of datasets.
"""

import dataclasses
import importlib
import inspect
import itertools
import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import kerasrnn
from kerasrnn import catalogue, recipes, zoo
from kerasrnn.recipes.base.config import Options, expectation
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.reporting.cards import as_arguments, figure

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ROOT / "recipes" / "datasets"

TOPOLOGIES = (
    "vector_to_vector",
    "vector_to_sequence",
    "sequence_to_vector",
    "step_to_step",
    "sequence_to_sequence",
)
"""The files of the zoo that are topologies."""

PARTS = {
    "cells": "Base classes of cells",
    "layers": "Layers composed of layers",
    "text": "Text",
    "attention": "Attention",
    "decoding": "Decoding",
    "distributions": "Distributions",
    "heads": "Heads",
    "constraints": "Constraints",
    "losses": "Losses",
    "metrics": "Metrics",
    "diagnostics": "Diagnostics",
    "export": "Exports",
    "training": "The training loop",
    "programs": "Compiled programs",
    "zoo": "The zoo",
}
"""The library's packages and modules, and the titles of their pages."""

Entry = catalogue.Entry | catalogue.ConvolutionalEntry

FAMILIES = (*catalogue.FAMILIES, catalogue.IMAGES)
ENTRIES = tuple(entry for family in FAMILIES for entry in family.cells)

OF_CELLS = {name for entry in ENTRIES for name in (*entry.layers, *entry.cells)}
"""Names that have a page of their own."""

OF_RECIPES = {
    "base.recipe": "The interface of a recipe",
    "base.card": "The card of a recipe",
    "base.config": "Options",
    "base.execution": "Execution options",
    "training": "Training of recipes",
    "base.runs": "Runs",
    "tuning": "Hyperparameter search",
    "base.search_space": "Search spaces",
}
"""The parts of `kerasrnn.recipes` that custom recipes and scripts use."""


def write(folder: Path) -> None:
    """Write the pages that have changed, and remove pages that no longer exist."""
    written = {folder / f"{name}.md": text for name, text in pages().items()}
    for file in folder.rglob("*.md"):
        if file not in written:
            file.unlink()
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_text("utf-8") != text:
            file.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The pages by name, such as "recipes/g2p"."""
    result = {f"cells/{entry.module}": cell(entry) for entry in ENTRIES}
    result |= {f"topologies/{name}": topology(name) for name in TOPOLOGIES}
    result |= {f"recipes/{name}": recipe(recipes.load(name)) for name in recipes.NAMES}
    result |= {f"api/{part}": api(part, title) for part, title in PARTS.items()}
    result["api/recipes"] = api_of_recipes()
    names = [entry.module for entry in ENTRIES]
    result["cells/index"] = "\n".join([list_of_cells("{}.md"), *_contents(names)])
    result["topologies/index"] = _index(
        "Topologies",
        ("topology", "functions", "recipes"),
        [
            (_link(module, _title(module)), _codes(_functions(module)), ", ".join(_users(module)))
            for module in TOPOLOGIES
        ],
        TOPOLOGIES,
    )
    result["recipes/index"] = _index(
        "Recipes",
        ("recipe", "task", "result"),
        [
            (
                _link(name, f"`{name}`"),
                recipes.load(name).card.title,
                recipes.load(name).card.result,
            )
            for name in recipes.NAMES
        ],
        recipes.NAMES,
    )
    result["api/index"] = _index(
        "API",
        ("part", "names"),
        [
            ("[Cells](../cells/index.md)", _codes(x for e in ENTRIES for x in e.layers)),
            *((_link(part, title), _codes(_names(part))) for part, title in PARTS.items()),
            (_link("recipes", "Recipes"), _codes(f"recipes.{name}" for name in OF_RECIPES)),
        ],
        (*PARTS, "recipes"),
    )
    for name, file in {
        "changelog": "CHANGELOG.md",
        "contributing": "CONTRIBUTING.md",
        "speed": "benchmarks/speed/results/speed.md",
        "speed_on_jax": "benchmarks/speed/results/speed-jax.md",
        "speed_of_exports": "benchmarks/export/results/export.md",
        "input": "benchmarks/training/results/input.md",
        "precision": "benchmarks/training/results/precision.md",
    }.items():
        result[f"project/{name}"] = _include(ROOT / file)
    return result


# Cells.


def cell(entry: Entry) -> str:
    """The page of a cell: its facts, and the docstrings of its layers and of the cells."""
    of_images = isinstance(entry, catalogue.ConvolutionalEntry)
    name = entry.family if of_images else entry.layer
    one = getattr(kerasrnn, entry.cells[0])(1, *([1] if of_images else []))
    operator = one.onnx_operator
    # In bptt.md a cell's equations have the first heading of its name, their adjoint the second. A
    # convolutional cell has the gates of the cell after which it is named.
    derived = f"[bptt.md](../../bptt.md#{name.removeprefix('Conv').lower()}-1)"
    facts = [
        ("paper", cited(entry)),
        ("states", ", ".join(one.state_names)),
        (
            "channels of the kernels" if of_images else "columns of the kernels",
            ", ".join(one.gates),
        ),
        (
            "gradient",
            f"manual adjoint, derived in {derived}"
            if one.has_adjoint
            else "automatic differentiation",
        ),
        ("in ONNX", f"the operator `{operator.name}`" if operator else "a loop"),
        ("source", f"`kerasrnn/cells/{entry.module}.py`"),
    ]
    if not of_images:
        facts.insert(-1, ("name", f"`{entry.module}`, in the zoo and in options of recipes"))
    summary = f"{entry.summary[0].upper()}{entry.summary[1:]}."
    lines = [f"# {name}", "", summary, "", *_table(("", ""), facts)]
    ending = "s" if of_images else ""
    for title, names in ((f"The layer{ending}", entry.layers), (f"The cell{ending}", entry.cells)):
        lines += [f"## {title}", ""]
        for each in names:
            lines += _autodoc("class", f"kerasrnn.{each}")
    return "\n".join(lines)


def cited(entry: Entry) -> str:
    """A cell's paper with its title, from the cell's docstring."""
    doc = " ".join(inspect.getdoc(getattr(kerasrnn, entry.cells[0])).split())
    title = re.search(rf'{re.escape(entry.paper)}, "([^"]+)"', doc)
    if title is None:
        raise ValueError(
            f"{entry.cells[0]}: its docstring lacks the catalogue's paper and its title, as in "
            f'{entry.paper}, "Title".'
        )
    return f"{entry.paper}, *{title[1]}*"


def list_of_cells(address: str) -> str:
    """Every cell with its paper, by family.

    Args:
        address: of the page of a cell; `{}` stands for the name of its module.
    """
    lines = ["# Cells", ""]
    for family in FAMILIES:
        rows = [
            (_layers(entry, address), _codes(entry.cells), entry.summary, cited(entry))
            for entry in family.cells
        ]
        lines += [f"## {family.name}", "", f"{family.summary[0].upper()}{family.summary[1:]}.", ""]
        lines += _table(("layer", "cell", "description", "paper"), rows)
    return "\n".join(lines)


def table_of_families() -> str:
    """The README's table: the layers of each family."""
    rows = [
        (
            f"{family.name}: {family.summary}",
            ", ".join(_layers(entry, "kerasrnn/cells/{}.py") for entry in family.cells),
        )
        for family in FAMILIES
    ]
    return "\n".join(_table(("family", "layers"), rows))


def _layers(entry: Entry, address: str) -> str:
    return ", ".join(f"[`{layer}`]({address.format(entry.module)})" for layer in entry.layers)


LONG = {
    "sequential": ("long_range", "sequential", "test_accuracy"),
    "permuted": ("long_range", "permuted", "test_accuracy"),
    "digits, sequential": ("long_range", "digits, sequential", "test_accuracy"),
    "digits, permuted": ("long_range", "digits, permuted", "test_accuracy"),
    "adding, T=200": ("long_memory", "adding, T=200", "test_loss"),
    "copy, T=200": ("long_memory", "copy, T=200", "test_loss"),
}
"""The columns of the table of long memories: recipe, task and metric."""


def table_of_long_memories() -> str:
    """The results of each cell on the tasks of long memory, from the files of the runs."""
    columns: dict[str, dict[str, str]] = {}
    minutes: dict[str, list[str]] = {}
    cells: dict[str, None] = {}
    for title, (recipe, task, metric) in LONG.items():
        path = ROOT / "saved_models" / recipe / "results.json"
        results = json.loads(path.read_text(encoding="utf-8"))["variants"]
        for name in recipes.load(recipe).variants:
            if name in results and name.startswith(f"{task}, "):
                runs, cell = results[name]["metrics"], name.removeprefix(f"{task}, ")
                cells[cell] = None
                mean = figure(statistics.mean(run[metric] for run in runs))
                columns.setdefault(title, {})[cell] = mean
                seconds = statistics.median(run["seconds"] for run in runs)
                minutes.setdefault(cell, []).append(f"{seconds / 60:.0f}")
    rows = [
        (cell, *(columns.get(title, {}).get(cell, "") for title in LONG), " / ".join(minutes[cell]))
        for cell in cells
    ]
    return "\n".join(_table(("cell", *LONG, "minutes"), rows))


# Topologies.


def topology(name: str) -> str:
    """The page of a file of the zoo: its diagrams, its functions, and the recipes that use them."""
    module = importlib.import_module(f"kerasrnn.zoo.{name}")
    first, _, rest = inspect.getdoc(module).partition("\n\n")
    title, _, summary = first.partition(": ")
    lines = [f"# {title}", "", summary[0].upper() + summary[1:], ""]
    for drawn, paragraphs in itertools.groupby(rest.split("\n\n"), _is_drawn):
        text = "\n\n".join(paragraphs)
        lines += ["```text", text, "```", ""] if drawn else [text, ""]
    users = _users(name)
    if users:
        lines += [f"Recipes: {', '.join(users)}. Examples: [The zoo](../../zoo.md).", ""]
    for function in _functions(name):
        lines += [f"## {function}", "", *_autodoc("function", f"kerasrnn.zoo.{function}")]
    return "\n".join(lines)


def _is_drawn(paragraph: str) -> bool:
    return "  " in paragraph or any(line.startswith(" ") for line in paragraph.splitlines())


def _title(module: str) -> str:
    doc = inspect.getdoc(importlib.import_module(f"kerasrnn.zoo.{module}"))
    return doc.partition(": ")[0]


def _functions(module: str) -> list[str]:
    return [
        name for name in zoo.__all__ if getattr(zoo, name).__module__ == f"kerasrnn.zoo.{module}"
    ]


def _users(module: str) -> list[str]:
    """Links to the recipes whose models are of this topology."""
    return [
        f"[`{name}`](../recipes/{name}.md)"
        for name in recipes.NAMES
        if module in topologies_of(recipes.load(name))
    ]


def topologies_of(recipe: Recipe) -> list[str]:
    """The files of the zoo whose functions make a recipe's models."""
    source = "".join(inspect.getsource(module) for module in _modules(recipe))
    called = set(re.findall(r"\bzoo\.(\w+)\(", source))
    return [name for name in TOPOLOGIES if called.intersection(_functions(name))]


def _modules(recipe: Recipe) -> list[ModuleType]:
    """A recipe's own module, and those of its base classes."""
    return [inspect.getmodule(cls) for cls in type(recipe).__mro__ if cls is not object]


# Recipes.


def recipe(recipe: Recipe) -> str:
    """The page of a recipe: its description, its options and variants, its card, its data."""
    module = inspect.getdoc(_modules(recipe)[0])
    kinds = [_link(f"../topologies/{name}", _title(name)) for name in topologies_of(recipe)]
    lines = [
        f"# {recipe.name}",
        "",
        module,
        "",
        *_table(
            ("", ""),
            [
                ("topology", f"{', '.join(kinds)} ({recipe.card.topology})"),
                ("data", recipe.dataset),
                ("result", recipe.card.result),
                ("`predict` takes", recipe.input_help),
                ("trained model", _trained(recipe)),
                ("source", f"`recipes/{recipe.name}.py`"),
            ],
        ),
    ]
    if recipe.card.limits:
        lines += ["## Known limits", "", recipe.card.limits, ""]
    lines += ["## Training options", "", f"After `kerasrnn train {recipe.name}`:", ""]
    lines += _options(recipe.Config)
    if dataclasses.fields(recipe.PredictOptions):
        lines += [
            "## Prediction options",
            "",
            f"After `kerasrnn predict {recipe.name}`:",
            "",
        ]
        lines += _options(recipe.PredictOptions)
    rows = [
        (name, f"`{' '.join(as_arguments(values))}`" if values else "the defaults")
        for name, values in recipe.variants.items()
    ]
    lines += ["## Variants", "", *_table(("variant", "options"), rows)]
    card = ROOT / "saved_models" / recipe.name / "CARD.md"
    if card.is_file():
        # Its title is this page's.
        lines += ["## Results", "", _include(card, ":start-line: 1")]
        for picture in sorted(card.parent.glob("*.png")):
            if picture.name not in card.read_text("utf-8"):
                lines += [f"![{picture.stem.replace('_', ' ')}]({_from_a_page(picture)})", ""]
    for name in _datasets(recipe):
        lines += [_include(DATASETS / name / "README.md", ":heading-offset: 1")]
    return "\n".join(lines)


def _trained(recipe: Recipe) -> str:
    if recipe.name not in zoo.trained():
        return "none is included in the library"
    return f'`zoo.load("{recipe.name}")`: {recipe.published_variant}'


def _datasets(recipe: Recipe) -> list[str]:
    """The datasets with a README here that a recipe reads, by default or with an option."""
    fields = {field.name: field for field in dataclasses.fields(recipe.Config)}
    choices = fields["dataset"].metadata["choices"] if "dataset" in fields else None
    names = dict.fromkeys((recipe.dataset, *(choices or ())))
    return [name for name in names if (DATASETS / name / "README.md").is_file()]


def _options(options: type[Options]) -> list[str]:
    rows = [
        (
            " ".join(f"`{name}`" for name in _choices(field)),
            f"`{field.default}`" if field.default != "" else "",
            field.metadata["help"],
            expectation(field),
        )
        for field in dataclasses.fields(options)
    ]
    return _table(("option", "default", "description", "expected"), rows)


def _choices(field: dataclasses.Field) -> list[str]:
    values = (True, False) if isinstance(field.default, bool) else (field.default,)
    return [as_arguments({field.name: value})[0].split()[0] for value in values]


# The API.


def api(part: str, title: str) -> str:
    """The page of a package: its docstring and its public names."""
    lines = [f"# {title}", "", *_autodoc("module", f"kerasrnn.{part}")]
    for name in _names(part):
        value = _named(name)
        if inspect.isclass(value):
            directive = _autodoc("class", f"kerasrnn.{name}", ":members:")
        elif callable(value):
            directive = _autodoc("function", f"kerasrnn.{name}")
        else:
            directive = _autodoc("data", f"kerasrnn.{name}")
        lines += [f"## {name}", "", *directive]
    return "\n".join(lines)


def api_of_recipes() -> str:
    """The page of `kerasrnn.recipes`."""
    lines = ["# Recipes", "", *_autodoc("module", "kerasrnn.recipes", ":members:")]
    for module, title in OF_RECIPES.items():
        name = f"kerasrnn.recipes.{module}"
        lines += [f"## {title}", "", *_autodoc("module", name, ":members:")]
    return "\n".join(lines)


def _names(part: str) -> list[str]:
    """The public names of a package, except cells: first those that `kerasrnn` itself exports."""
    above = [
        name
        for name in kerasrnn.__all__
        if name not in OF_CELLS
        and f"{getattr(getattr(kerasrnn, name), '__module__', '')}.".startswith(f"kerasrnn.{part}.")
    ]
    package = importlib.import_module(f"kerasrnn.{part}")
    elsewhere = {function for name in TOPOLOGIES for function in _functions(name)}
    return above + [
        f"{part}.{name}"
        for name in getattr(package, "__all__", ())
        if name not in kerasrnn.__all__ and not (part == "zoo" and name in elsewhere)
    ]


def _named(name: str) -> Any:
    value = kerasrnn
    for part in name.split("."):
        value = getattr(value, part)
    return value


# Markdown.


def _autodoc(kind: str, name: str, *options: str) -> list[str]:
    return [
        "```{eval-rst}",
        f".. auto{kind}:: {name}",
        *(f"   {option}" for option in options),
        "```",
        "",
    ]


def _from_a_page(file: Path) -> str:
    """The path of a file, relative to the folder of a page such as `docs/generated/recipes`."""
    return f"../../../{file.relative_to(ROOT).as_posix()}"


def _include(file: Path, *options: str) -> str:
    lines = [
        f"```{{include}} {_from_a_page(file)}",
        ":relative-images:",
        # Rewrites links to files next to the included one that have its name.
        f":relative-docs: {file.stem}",
        *options,
        "```",
        "",
    ]
    return "\n".join(lines)


def _index(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str]
) -> str:
    return "\n".join([f"# {title}", "", *_table(head, rows), *_contents(names)])


def _contents(names: Sequence[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", "", *names, "```", ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines] + [
        ""
    ]


def _link(page: str, text: str) -> str:
    return f"[{text}]({page}.md)"


def _codes(names: Sequence[str] | Iterator[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
