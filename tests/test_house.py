"""Rules of the code: the catalogue, public names, docstrings, imports."""

import ast
import configparser
import contextlib
import doctest
import functools
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import catalogue
from kerasrnn.cells.layer import Recurrent
from tests.catalogue import IMAGE_ROWS, ROWS, variant_id
from tests.measure import op_by_op

ROOT = Path(__file__).parents[1]


def _package_folders():
    """The folder of each top-level package: `package_dir` of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["package_dir"].strip().splitlines()
    return {name.strip(): ROOT / folder.strip() for name, folder in (x.split("=") for x in lines)}


def _modules():
    """Every module of the distribution: its installed name and its file."""
    modules = {}
    for package, folder in _package_folders().items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            modules[".".join([package, *(p for p in parts if p != "__init__")])] = file
    return modules


MODULES = _modules()
CLASSES = [name for name in kerasrnn.__all__ if name[0].isupper()]


# A new cell.


def test_every_cell_and_layer_is_in_the_catalogue():
    """Each class in a file of `kerasrnn/cells` is listed with its module; each layer has a row."""
    classes, layers = {}, {}
    for name in MODULES:
        if not name.startswith("kerasrnn.cells."):
            continue
        module = name.rpartition(".")[2]
        for cls in vars(importlib.import_module(name)).values():
            if not inspect.isclass(cls) or cls.__module__ != name or cls.__name__[0] == "_":
                continue
            if issubclass(cls, (kerasrnn.Cell, kerasrnn.RNN)) and cls is not Recurrent:
                classes.setdefault(module, set()).add(cls.__name__)
                assert getattr(kerasrnn, cls.__name__) is cls
            if issubclass(cls, Recurrent) and cls is not Recurrent:
                layers[cls.__name__] = (cls.cell_class.__name__, module)
    listed = {module: set(names) for module, names in catalogue.CLASSES.items()}
    assert classes.items() <= listed.items()
    entries = (*catalogue.CELLS, *catalogue.CONVOLUTIONAL)
    assert layers == {
        layer: (cell, entry.module)
        for entry in entries
        for layer, cell in zip(entry.layers, entry.cells, strict=True)
    }
    for entry in catalogue.CONVOLUTIONAL:  # whose cells have no public names in Keras
        assert {hasattr(keras.layers, layer) for layer in entry.layers} == {entry.in_keras}
    for entry in catalogue.CELLS:
        in_keras = [hasattr(keras.layers, name) for name in (entry.layer, entry.cell)]
        assert in_keras == [entry.in_keras] * 2


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_every_row_has_its_own_oracle(row):
    """In the file of the same name, with the functions that `tests.oracles` describes."""
    module = row.cell.__module__.rpartition(".")[2]
    assert row.oracle.__name__ == f"tests.oracles.{module}"
    assert row.layer.cell_class is row.cell
    functions = {"step": ["x", "states", "weights"]}
    if row.cell(2).has_adjoint:
        functions["step_backward"] = [*functions["step"], "d_output", "d_new_states"]
    assert hasattr(row.oracle, "step_backward") == ("step_backward" in functions)
    for function, first in functions.items():
        names = list(inspect.signature(getattr(row.oracle, function)).parameters)
        assert names[: len(first)] == first
    source = Path(row.oracle.__file__).read_text(encoding="utf-8")
    imports = {name.partition(".")[0] for name in _imports(ast.parse(source))}
    assert imports <= {"collections", "numpy", "tests"}


def test_public_names_exist():
    """Each lazily loaded name exists in its module."""
    assert sorted(set(kerasrnn.__all__)) == kerasrnn.__all__
    for name in kerasrnn.__all__:
        value = getattr(kerasrnn, name)
        if inspect.ismodule(value):
            assert MODULES[f"kerasrnn.{name}"].name == "__init__.py"
        elif inspect.isclass(value):
            assert getattr(importlib.import_module(value.__module__), name) is value


def test_packages_have_the_names_of_their_modules():
    """`kerasrnn.cells.LSTMCell`, `kerasrnn.layers.StackedRNN` and, as in Keras, `layers.LSTM`."""
    for package, parts in (
        (kerasrnn.cells, ("cells",)),
        (kerasrnn.layers, ("cells", "layers")),
        (kerasrnn.text, ("text",)),
    ):
        expected = {
            name: cls
            for name, cls in ((name, getattr(kerasrnn, name)) for name in CLASSES)
            if cls.__module__.split(".")[1] in parts
        }
        assert {name: getattr(package, name) for name in package.__all__} == expected
        assert len(package.__all__) == len(expected)


# Docstrings.


def _sections(text):
    """A docstring's sections by title: "Args" -> its indented lines."""
    sections, lines = {}, []
    for line in inspect.cleandoc(text).splitlines():
        title = re.match(r"(Args|Call arguments|Returns|Raises|Masking|Example)\b.*?:(.*)", line)
        if title:
            lines = sections[title[1]] = [title[2].strip()]
        else:
            lines.append(line)
    return {name: "\n".join(lines) for name, lines in sections.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_every_docstring_has_an_example(name):
    cls = getattr(kerasrnn, name)
    example = _sections(vars(cls)["__doc__"])["Example"]
    assert re.search(rf"^    (>>>|\.\.\.) .*\bkerasrnn\.{name}\b", example, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "Cell"])
def test_every_docstring_is_complete(name):
    """No section is empty, and each argument of the constructor has its line."""
    cls = getattr(kerasrnn, name)
    sections = _sections(vars(cls)["__doc__"])
    wanted = {"Args", "Raises"}
    if issubclass(cls, keras.layers.Layer):
        wanted |= {"Call arguments"}
        if not issubclass(cls, kerasrnn.Cell):
            wanted |= {"Returns", "Masking"}
    assert wanted <= {name for name, text in sections.items() if text.strip()}
    described = re.findall(r"^    (\w+): \S", sections["Args"], re.MULTILINE)
    arguments = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    assert described == arguments
    if "Call arguments" not in wanted:
        return
    called = re.findall(r"^    (\w+): \S", sections["Call arguments"], re.MULTILINE)
    assert called == list(inspect.signature(cls.call).parameters)[1:]


def _equations(cls):
    """The indented lines before the first section."""
    lines = []
    for line in inspect.cleandoc(cls.__doc__).splitlines():
        if re.match(r"(Args|Call arguments|Returns|Raises|Masking|Example)\b.*:", line):
            break
        if line.startswith("    "):
            lines.append(line.strip())
    return lines


@pytest.mark.parametrize("row", [*ROWS, *IMAGE_ROWS], ids=variant_id)
def test_a_layer_has_the_equations_of_its_cell(row):
    equations = _equations(row.cell)
    assert any(line.startswith("h_t = ") for line in equations)
    assert _equations(row.layer) == equations


OF_TENSORFLOW = (
    "kerasrnn.diagnostics",
    "kerasrnn.export",
    "kerasrnn.text",
    "kerasrnn.training",
    "kerasrnn.zoo.texts",
)
OF_TORCH = ("kerasrnn.export.torch_modules",)
# Run eagerly, Keras's predict would pass a layer NumPy arrays beside tensors.
TRACED = ("kerasrnn.zoo.saved", "kerasrnn.zoo.translation")


def _has_examples(file):
    """Whether a docstring of a module has an example."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
    return any(">>> " in (text or "") for text in texts)


EXAMPLES = [name for name, file in MODULES.items() if _has_examples(file)]


# Functions of datasets are still traced.
@pytest.mark.filterwarnings("ignore:Even though the .tf.config.experimental_run_functions_eagerly")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.tensorflow] if name.startswith(OF_TENSORFLOW) else []),
                *([pytest.mark.torch] if name in OF_TORCH else []),
            ],
        )
        for name in EXAMPLES
    ],
)
def test_examples_run(name):
    """The output is that in the docstrings of the module."""
    module = importlib.import_module(name)
    with contextlib.nullcontext() if name in TRACED else op_by_op():
        results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# Imports of the installed package, in new interpreters.


def run_python(code, *arguments):
    """The output of a new interpreter, as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_importing_kerasrnn_imports_nothing_heavy():
    """The command line answers before Keras and a backend are loaded."""
    code = """
import json, sys
import kerasrnn
from kerasrnn import catalogue
dir(kerasrnn), kerasrnn.__version__
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    loaded = run_python(code)
    assert "kerasrnn" in loaded
    heavy = "keras tensorflow jax torch numpy tensorflow_datasets keras_tuner tf2onnx onnx"
    assert not set(heavy.split()) & set(loaded)


# After importing TensorFlow, which takes most of the time, but not Keras, which TensorFlow would
# import in the end, the interpreter forks a child for each order of imports.
IMPORTS = """
import json, os, sys
from importlib.machinery import PathFinder
model, orders, *extras = sys.argv[1:]

class Refused:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in extras:
            raise ImportError(name)

class WithoutKeras:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "keras":
            spec = PathFinder.find_spec(name, path)
            spec.loader.exec_module = WithoutKeras.fail
            return spec

    @staticmethod
    def fail(module):
        raise ImportError

sys.meta_path[:0] = Refused, WithoutKeras
import numpy, tensorflow
sys.meta_path.remove(WithoutKeras)
assert "keras" not in sys.modules and "kerasrnn" not in sys.modules
found = {}
for first in json.loads(orders):
    read, write = os.pipe()
    if not os.fork():
        exec(first)
        import keras
        loaded = keras.saving.load_model(model)
        assert type(loaded.loss).__name__ == "SequenceCrossentropy"
        weights = [weight.tolist() for weight in loaded.get_weights()]
        layer = kerasrnn.StackedRNN([kerasrnn.LSTM(2)])
        assert layer(numpy.zeros((1, 2, 3), "float32")).shape == (1, 2)
        with open(write, "w") as file:
            file.write(json.dumps(weights))
        os._exit(0)
    os.close(write)
    with open(read) as file:
        found[first] = file.read()
    _, status = os.wait()
    assert status == 0, first
print(json.dumps(found))
"""
ORDERS = (
    "import kerasrnn, keras",
    "import kerasrnn.cells.gru",
    "import kerasrnn.losses",
    "import kerasrnn.base_layer",
    "import kerasrnn.zoo.outputs",
)
EXTRAS = "tensorflow_datasets keras_tuner onnx tf2onnx onnxruntime matplotlib sklearn torch"


@pytest.mark.tensorflow
def test_imports_in_any_order_and_without_extras(tmp_path):
    """A saved model loads after a bare import: all classes are registered without their use.

    Layers also run where no extra is installed.
    """
    inputs = keras.Input((None, 3))
    x = kerasrnn.LSTM(4, return_sequences=True)(inputs)
    layers = [kerasrnn.Bidirectional(kerasrnn.GRU(2)), kerasrnn.SimpleRNN(4)]
    model = keras.Model(inputs, kerasrnn.StackedRNN(layers, residual=True)(x))
    model.compile(
        loss=kerasrnn.losses.SequenceCrossentropy(), metrics=[kerasrnn.metrics.EditDistance()]
    )
    model.save(tmp_path / "model.keras")
    found = run_python(IMPORTS, tmp_path / "model.keras", json.dumps(ORDERS), *EXTRAS.split())
    assert len(found) == len(ORDERS)
    for first, text in found.items():
        for a, b in zip(json.loads(text), model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, err_msg=first)


@functools.cache
def imported_with_keras():
    """The modules of this distribution that a bare import of it and of Keras imports."""
    code = "import json, sys, kerasrnn, keras; print(json.dumps(list(sys.modules)))"
    return MODULES.keys() & run_python(code)


def test_every_registered_class_is_known_after_a_bare_import():
    """A module that registers a class is imported with Keras: a saved model may contain it."""
    registering = [
        name
        for name, path in MODULES.items()
        if re.search(
            r"^@keras\.saving\.register_keras_serializable", path.read_text("utf-8"), re.MULTILINE
        )
    ]
    assert len(registering) > 30
    assert set(registering) <= imported_with_keras()


def test_any_module_may_be_the_first_import():
    """Importing Keras imports the modules that register classes. None of these may be half-imported
    then: a package imports Keras before its modules do, and for the modules that are in none
    `kerasrnn/__init__.py` waits.
    """
    imports = {
        name: set(_imports(ast.parse(path.read_text("utf-8")), top_level=True))
        for name, path in MODULES.items()
    }

    @functools.cache
    def imports_keras(name):
        """When it is itself imported, directly or through another module."""
        others = imports[name] & imports.keys() - {"kerasrnn"}
        directly = any(each.partition(".")[0] == "keras" for each in imports[name])
        return directly or any(map(imports_keras, others))

    def in_a_package_with_keras(name):
        above = [name.rsplit(".", n)[0] for n in range(1, name.count("."))]
        return any("keras" in imports[package] for package in above)

    alone = {
        name
        for name in imported_with_keras()
        if not in_a_package_with_keras(name) and imports_keras(name)
    }
    packages = {name for name in alone if MODULES[name].name == "__init__.py"}
    assert alone - packages == set(kerasrnn._ALONE)


# Imports in the code. The order of the packages is in .importlinter.


def _imports(tree, top_level=False):
    """The modules that a file imports; `top_level`: when it is itself imported."""
    nodes = list(tree.body) if top_level else [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)


@pytest.mark.parametrize("name", MODULES)
def test_tools_are_imported_where_they_are_used(name):
    """In the functions that need them, so that modules load where an extra is not installed."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    imported = {module.partition(".")[0] for module in _imports(tree, top_level=True)}
    tools = {"tf2onnx", "onnx", "onnxruntime", "matplotlib", "sklearn", "torch"}
    assert not imported & (tools | {"jiwer", "music21", "sacrebleu", "sentencepiece"})
    if not name.startswith("kerasrnn.recipes."):
        everywhere = {module.partition(".")[0] for module in _imports(tree)}
        assert not everywhere & {"tensorflow_datasets", "keras_tuner"}


def test_one_file_reads_private_names_of_keras():
    """No other file imports from `keras.src`, or reads private attributes of Keras's classes."""
    folders = ("kerasrnn", "zoo", "recipes", "tests", "benchmarks", "docs")
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    classes = (keras.Sequential, keras.layers.RNN, keras.optimizers.Adam, keras.losses.Loss)
    of_keras, defined, found = {name for cls in classes for name in dir(cls)}, set(), []
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        is_allowed = name == "kerasrnn/keras_internals.py"
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                    defined.add(node.attr)
                elif re.fullmatch(r"_[a-z].*", node.attr):
                    found += [] if is_allowed else [(name, node.attr)]
                    of_keras |= {node.attr} if is_allowed else set()  # of instances alone, too
                elif ast.unparse(node) == "keras.src":
                    found.append((name, "keras.src"))
        found += [(name, module) for module in _imports(tree) if module.startswith("keras.src")]
    of_keras -= defined  # one that is overridden here
    assert not [
        (name, what) for name, what in found if what in of_keras or what.startswith("keras.src")
    ]


@pytest.fixture(scope="module")
def linted(tmp_path_factory):
    """The checkout, laid out as it is installed, and a function that runs import-linter on it."""
    pytest.importorskip("importlinter")
    house = tmp_path_factory.mktemp("house")
    folders = _package_folders()
    for package in sorted(folders):  # kerasrnn before its parts
        shutil.copytree(folders[package], house.joinpath(*package.split(".")))

    def lint():
        code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
        return subprocess.run(
            [sys.executable, "-c", code, "--config", ROOT / ".importlinter", "--no-cache"],
            cwd=house,
            capture_output=True,
            text=True,
            check=False,
        )

    return house / "kerasrnn", lint


def test_imports_go_in_one_direction(linted):
    _, lint = linted
    result = lint()
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("recurrence/loop.py", "from kerasrnn.cells import gru", "Imports run one way"),
        ("cells/cell.py", "import kerasrnn.layers.stacked", "Imports run one way"),
        ("export/parity.py", "from kerasrnn import zoo", "Imports run one way"),
        ("losses/weights.py", "from kerasrnn import metrics, zoo", "Imports run one way"),
        ("zoo/cells.py", "from kerasrnn.recipes import config", "Imports run one way"),
        ("training/loop.py", "from kerasrnn.recipes.base import runs", "Imports run one way"),
        ("layers/stacked.py", "from kerasrnn import LSTM", "No part of the library"),
        ("recipes/g2p.py", "from kerasrnn.recipes import reverse", "No recipe imports another"),
        ("recipes/base/runs.py", "import kerasrnn.recipes.training.running", "No recipe imports"),
        ("zoo/cells.py", "import tensorflow_datasets", "Only recipes import datasets"),
        ("training/batches.py", "import tensorflow_datasets", "Only recipes import datasets"),
        ("unlisted/__init__.py", "", "Imports run one way"),
    ],
)
def test_forbidden_imports_are_found(linted, file, line, contract):
    """Each contract is broken by an import that it forbids."""
    house, lint = linted
    path = house / file
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
    try:
        result = lint()
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before, encoding="utf-8")
    assert result.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", result.stdout)
