"""A new cell is a file, an oracle and a row of the catalogue, and needs nothing else.

The cell of `docs/templates/` is added to a copy of the checkout. Everything that derives from the
catalogue must then include the cell, and the conformance tests must run on it and pass.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Forked

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]

ROOT = Path(__file__).parents[1]
FAMILY = """\
    Family(
        "Toys",
        "what they have in common",
        (Entry("Toy", "Author & Author (2026)", "what distinguishes it, in one line"),),
    ),
"""
LOOK = """
import inspect, json, runpy
from pathlib import Path

runpy.run_module("tests.generated", run_name="__main__")
import kerasrnn
from benchmarks.speed import grid
from kerasrnn import zoo
from kerasrnn.recipes.base import config
from tests.catalogue import BY_NAME

pages = runpy.run_path("docs/generate.py")["pages"]()
found = {
    "layer": list(inspect.signature(kerasrnn.Toy).parameters),
    "cell": list(inspect.signature(kerasrnn.ToyCell).parameters),
    "package": kerasrnn.cells.Toy is kerasrnn.Toy,
    "options": config.CELLS,
    "zoo": zoo.layer_class("toy").__name__,
    "points": sorted({(point.part, point.cell) for point in grid.points()}),
    "page": pages["cells/toy"],
    "pages": pages["cells/index"],
    "oracle": BY_NAME["Toy"].oracle.__name__,
}
Path("found.json").write_text(json.dumps(found))
"""
SELECTED = "(Toy and not use_bias and not relu and not leak) or catalogue or generated"
CONFORMANCE = (
    "tests/test_generated.py",
    "tests/test_house.py",
    "tests/test_oracles.py",
    "tests/docs/test_site.py",
    "tests/cells/test_numbers.py::test_equals_the_oracle",
    "tests/cells/test_numbers.py::test_gradients_equal_the_oracle",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout, laid out as it is installed, with the new cell."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("kerasrnn", "docs", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", "generated")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for folder in ("zoo", "recipes", "saved_models"):
        (root / "kerasrnn" / folder).symlink_to(ROOT / folder)
    for name in ("zoo", "recipes", "saved_models", "benchmarks", "CONTRIBUTING.md"):
        (root / name).symlink_to(ROOT / name)
    for file in ("README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / file, root / file)

    templates = ROOT / "docs" / "templates"
    for template, file in (
        ("cell.py", "kerasrnn/cells/toy.py"),
        ("oracle.py", "tests/oracles/toy.py"),
    ):
        text = (templates / template).read_text("utf-8")
        text = text.replace("Template", "Toy").replace("template", "toy")
        (root / file).write_text(text, encoding="utf-8")
    catalogue = root / "kerasrnn" / "catalogue.py"
    before, end, after = catalogue.read_text("utf-8").partition(')\n"""The cells')
    assert end
    catalogue.write_text(f"{before}{FAMILY}{end}{after}", encoding="utf-8")
    return root


def run(root, *command):
    """Run Python in the copy, which no module of this checkout gets into."""
    process = Forked(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def found(checkout):
    run(checkout, "-c", LOOK)
    return json.loads((checkout / "found.json").read_text("utf-8"))


def test_the_new_cell_is_complete(checkout, found):
    assert found["cell"][:3] == ["units", "activation", "recurrent_activation"]
    assert "leak" in found["cell"]
    assert {"leak", "return_sequences", "checkpoint_every"} < set(found["layer"])
    assert found["package"]
    assert found["zoo"] == "Toy"
    assert "toy" in found["options"]
    assert ["cells", "Toy"] in found["points"]
    assert found["oracle"] == "tests.oracles.toy"


def test_its_documentation_is_complete(checkout, found):
    for package in ("kerasrnn", "kerasrnn/cells"):
        names = (checkout / package / "__init__.pyi").read_text("utf-8")
        assert "toy import ToyCell as ToyCell" in names
    stub = (checkout / "kerasrnn" / "cells" / "toy.pyi").read_text("utf-8")
    assert "        leak: float = 0.1,\n" in stub
    assert "class Toy(Recurrent):\n    def __init__(\n        self,\n        units: int,\n" in stub
    row = (
        "`ToyCell` | what distinguishes it, in one line | Author & Author (2026), "
        "*Title of the paper* |"
    )
    readme = (checkout / "README.md").read_text("utf-8")
    assert "| Toys: what they have in common | [`Toy`](kerasrnn/cells/toy.py) |\n" in readme
    listed = (checkout / "kerasrnn" / "cells" / "README.md").read_text("utf-8")
    for page, address in ((listed, "toy.py"), (found["pages"], "toy.md")):
        assert "## Toys\n\nWhat they have in common.\n" in page
        assert f"| [`Toy`]({address}) | {row}\n" in page
    for name in ("Toy", "ToyCell"):
        assert f".. autoclass:: kerasrnn.{name}\n" in found["page"]


@pytest.mark.usefixtures("found")
def test_the_conformance_tests_run_on_it(checkout):
    output = run(
        checkout,
        *("-m", "pytest", "-v", "-p", "no:xdist", "-k", SELECTED),
        *CONFORMANCE,
    )
    for test in ("test_equals_the_oracle", "test_gradients_equal", "test_every_cell_has_a_page"):
        assert test in output
