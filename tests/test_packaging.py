"""The wheel: everything that is in the folders and nothing else; it runs without the checkout."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import kerasrnn

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "kerasrnn": "kerasrnn",
    "zoo": "kerasrnn/zoo",
    "recipes": "kerasrnn/recipes",
    "saved_models": "kerasrnn/saved_models",
}
SUFFIXES = {".py", ".pyi"}
NAMES = {"py.typed", "README.md", "CITATIONS.bib", "TAGS.txt"}
OF_MODELS = {".py", ".keras", ".onnx", ".json", ".md", ".png", ""}

# One worker builds the wheel, and has it for all of them.
pytestmark = pytest.mark.xdist_group("packaging")


def run(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no leftover of another build gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", ".", cwd=source)
    (file,) = source.glob("*.whl")
    return file


def test_the_wheel_is_complete_and_holds_nothing_else(wheel):
    """`packages` and `package_data` of setup.cfg are lists kept by hand; this holds them to it."""
    expected = {
        f"{installed}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for file in (ROOT / folder).rglob("*")
        if (file.suffix in SUFFIXES or file.name in NAMES)
        or (folder == "saved_models" and file.is_file() and file.suffix in OF_MODELS)
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == expected
        for folder, installed in FOLDERS.items():
            init = f"{installed}/__init__.py"
            assert archive.read(init) == (ROOT / folder / "__init__.py").read_bytes()


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
        metadata = Parser().parsestr(archive.read(names["METADATA"]).decode())
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(names["entry_points.txt"]).decode())
    assert metadata["Name"] == "kerasrnn"
    assert metadata["Version"] == kerasrnn.__version__
    assert "Apache-2.0" in (metadata["License-Expression"], metadata["License"])
    assert "licenses/LICENSE" in names
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text("utf-8").strip()
    assert dict(entry_points["console_scripts"]) == {"kerasrnn": "kerasrnn.__main__:main"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A new virtual environment with the wheel; what it depends on comes from this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(
        run(python, "-c", "import sysconfig as s; print(s.get_path('purelib'))", cwd=folder)
    )
    site = Path(str(site).strip())
    # Behind the environment's own packages. The .pth files of an editable install are not read.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)), encoding="utf-8")
    return python, bin_folder, site


def test_what_is_installed_is_what_runs(installed):
    """Imported from the environment, outside the checkout; and a layer computes."""
    python, _, site = installed
    code = """
import kerasrnn, kerasrnn.recipes, kerasrnn.zoo
import kerasrnn.export
for module in (kerasrnn, kerasrnn.recipes, kerasrnn.zoo, kerasrnn.export):
    print(module.__file__)
import numpy as np
print(np.asarray(kerasrnn.GRU(2, kernel_initializer="zeros")(np.ones((1, 3, 2), "float32"))))
"""
    *files, numbers = run(python, "-I", "-c", code, cwd=site).strip().splitlines()
    for file, package in zip(files, ("", "recipes", "zoo", "export"), strict=True):
        assert Path(file).resolve() == (site / "kerasrnn" / package / "__init__.py").resolve()
    assert numbers == "[[0. 0.]]"  # no kernel, no bias: the candidate is tanh(0)


def test_a_trained_model_is_found_where_it_is_installed(installed):
    """Outside the checkout: loaded, with its hash compared, and used with no run at hand."""
    python, bin_folder, site = installed
    code = """
from kerasrnn import zoo
print(zoo.folder("japanese_vowels"))
print(zoo.load("japanese_vowels").output_shape)
"""
    found, shape = run(python, "-I", "-c", code, cwd=site).strip().splitlines()
    assert Path(found) == site / "kerasrnn" / "saved_models" / "japanese_vowels"
    assert shape == "(None, 9)"
    answer = run(bin_folder / "kerasrnn", "predict", "movie_sentiment", "Dull, dull.", cwd=site)
    assert answer.startswith("Dull, dull.: negative: ")


def test_the_command_says_its_version(installed):
    _, bin_folder, site = installed
    answer = run(bin_folder / "kerasrnn", "--version", cwd=site)
    assert answer.split() == ["kerasrnn", kerasrnn.__version__]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"], ["train", "--help"]])
def test_help_comes_before_keras(installed, arguments):
    """What needs no model answers without importing Keras or a backend."""
    python, _, site = installed
    code = """
import json, runpy, sys
try:
    runpy.run_module("kerasrnn", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    *answer, modules = run(python, "-I", "-c", code, *arguments, cwd=site).strip().splitlines()
    assert answer
    modules = set(json.loads(modules))
    assert "kerasrnn" in modules
    assert not modules & {"keras", "tensorflow", "jax", "torch", "tensorflow_datasets", "numpy"}
