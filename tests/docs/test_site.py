"""The documentation's site: everything has a page, generated from the code."""

import dataclasses
import html
import inspect
import re
import runpy
from pathlib import Path

import pytest

import kerasrnn
from kerasrnn import recipes, zoo
from kerasrnn.recipes.base.config import expectation
from tests.catalogue import IMAGE_ROWS, ROWS, variant_id

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate():
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.fixture(scope="module")
def pages(generate):
    return generate["pages"]()


def documented(pages):
    text = "\n".join(pages.values())
    return re.findall(r"^\.\. auto(?:class|function|data):: kerasrnn\.(\S+)$", text, re.MULTILINE)


def rows(page):
    lines = re.findall(r"^\| *(.*?) *\|$", page, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_recipe_has_a_page(name, pages):
    recipe, page = recipes.load(name), pages[f"recipes/{name}"]
    assert page.startswith(f"# {name}\n")
    assert recipe.card.result in page
    assert f"    kerasrnn train {name}" in page
    assert recipe.card.limits in page
    assert ("none is included in the library" in page) == (not recipe.published_variant)
    found = [(*row[0].split()[:1], *row[1:]) for row in rows(page)]
    for options in (recipe.Config, recipe.PredictOptions):
        for field in dataclasses.fields(options):
            default = f"`{field.default}`" if field.default != "" else ""
            option = f"`--{field.name.replace('_', '-')}`"
            assert (option, default, field.metadata["help"], expectation(field)) in found
    for variant in recipe.variants:
        assert variant in [row[0] for row in rows(page)]
    card = ROOT / "saved_models" / name / "CARD.md"
    assert (f"/saved_models/{name}/CARD.md" in page) == card.is_file()


def test_a_variant_is_shown_as_command_line_options(pages):
    assert ["Luong, no input feeding", "`--attention luong --no-input-feeding`"] in rows(
        pages["recipes/g2p"]
    )


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_every_cell_has_a_page(row, pages):
    """With its facts, both docstrings and a link to its derivation, if there is one."""
    module = row.cell.__module__.rpartition(".")[2]
    page = pages[f"cells/{module}"]
    assert page.startswith(f"# {row.name}\n")
    for cls in (row.layer, row.cell):
        assert f".. autoclass:: kerasrnn.{cls.__name__}\n" in page
    facts = dict(rows(page)[2:])
    assert facts["states"] == ", ".join(row.cell.state_names)
    paper, _, title = facts["paper"].partition(", *")
    doc = " ".join(row.cell.__doc__.split())
    assert f'{paper}, "{title.removesuffix("*")}"' in doc
    assert [f"[`{row.name}`]({module}.md)", f"`{row.cell.__name__}`"] in [
        line[:2] for line in rows(pages["cells/index"])
    ]
    _, _, backward = (ROOT / "docs" / "bptt.md").read_text("utf-8").partition("\n## Backward\n")
    derived = f"\n### {row.name}\n" in backward
    assert derived == hasattr(row.oracle, "step_backward")
    assert (f"bptt.md#{row.name.lower()}-1" in facts["gradient"]) == derived


@pytest.mark.parametrize("row", IMAGE_ROWS, ids=variant_id)
def test_every_layer_of_images_is_on_the_page_of_its_cell(row, pages):
    module = row.cell.__module__.rpartition(".")[2]
    page = pages[f"cells/{module}"]
    for cls in (row.layer, row.cell):
        assert f".. autoclass:: kerasrnn.{cls.__name__}\n" in page
    assert f"[`{row.name}`]({module}.md)" in pages["cells/index"]
    gates = row.name[4:-2]  # those of LSTM or GRU
    assert f"bptt.md#{gates.lower()}-1" in dict(rows(page)[2:])["gradient"]


def test_every_topology_has_a_page(generate, pages):
    """Every topology is a file of the zoo."""
    files = {path.stem for path in (ROOT / "zoo").glob("*_to_*.py")}
    assert files == set(generate["TOPOLOGIES"])
    functions = "one_to_one one_to_many many_to_one many_to_many next_step encoder_decoder"
    for function in functions.split():
        module = getattr(zoo, function).__module__.rpartition(".")[2]
        assert f".. autofunction:: kerasrnn.zoo.{function}\n" in pages[f"topologies/{module}"]


@pytest.mark.parametrize(
    ("name", "topologies"),
    [
        ("fashion_mnist", {"vector_to_vector", "sequence_to_vector"}),
        ("char_lm", {"step_to_step"}),
        ("g2p", {"sequence_to_sequence"}),
        ("image_captions", {"vector_to_sequence"}),
    ],
)
def test_recipes_and_topologies_link_to_each_other(name, topologies, pages):
    assert set(re.findall(r"\.\./topologies/(\w+)\.md", pages[f"recipes/{name}"])) == topologies
    for page, text in pages.items():
        if page.startswith("topologies/") and page != "topologies/index":
            named = f"(../recipes/{name}.md)" in text
            assert named == (page.partition("/")[2] in topologies)


def test_every_public_name_is_documented_once(pages):
    packages = {name for name in kerasrnn.__all__ if inspect.ismodule(getattr(kerasrnn, name))}
    names = [name for name in kerasrnn.__all__ if name not in packages and name[0] != "_"]
    for package in packages - {"recipes"}:
        public = getattr(kerasrnn, package).__all__
        names += [f"{package}.{name}" for name in public if name not in names]
    assert sorted(documented(pages)) == sorted(names)


def test_unchanged_pages_are_not_rewritten(generate, tmp_path):
    """So that Sphinx does not read them again; old pages are deleted."""
    generate["write"](tmp_path)
    page, old = tmp_path / "recipes" / "g2p.md", tmp_path / "recipes" / "gone.md"
    before = page.stat().st_mtime_ns
    old.touch()
    generate["write"](tmp_path)
    assert page.stat().st_mtime_ns == before
    assert not old.exists()


@pytest.mark.site
def test_the_built_site():
    """As `make docs` builds it, where warnings are errors."""
    site = ROOT / "build" / "docs"
    for name in recipes.NAMES:
        page = (site / "generated" / "recipes" / f"{name}.html").read_text("utf-8")
        pictures = [p for p in re.findall(r'<img [^>]*src="([^"]*)"', page) if p.endswith(".png")]
        assert len(pictures) == len(list((ROOT / "saved_models" / name).glob("*.png")))
        assert all((site / "generated" / "recipes" / picture).is_file() for picture in pictures)
    # Equations are verbatim, and single backticks are code.
    lstm, exports = (
        html.unescape(re.sub("<.*?>", "", (site / f"generated/{part}.html").read_text("utf-8")))
        for part in ("cells/lstm", "api/export")
    )
    assert "c_t = f_t * c_{t-1} + i_t * tanh(p_c)\nh_t = o_t * tanh(c_t)\n" in lstm
    assert "are replaced too: in Bidirectional, TimeDistributed, StackedRNNCells" in exports
