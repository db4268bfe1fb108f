"""The wheel contains exactly the files of the folders, and runs without the checkout."""

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

# One worker builds the wheel for all tests.
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
    """Built from a copy without the files of other builds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", ".", cwd=source)
    (file,) = source.glob("*.whl")
    return file


def test_the_files_of_the_wheel(wheel):
    """`packages` and `package_data` of setup.cfg are complete."""
    expected = {
        f"{installed}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for file in (ROOT / folder).rglob("*")
        if (file.suffix in SUFFIXES or file.name in NAMES)
        or (folder == "saved_models" and file.is_file() and file.suffix in OF_MODELS)
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert found == expected
        for folder, installed in FOLDERS.items():
            init = f"{installed}/__init__.py"
            assert archive.read(init) == (ROOT / folder / "__init__.py").read_bytes()


def test_the_metadata_of_the_wheel(wheel):
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
    """A new virtual environment with the wheel, and with the dependencies of this one."""
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
    # After the environment's own packages. The .pth files of an editable install are not read.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)), encoding="utf-8")
    return python, bin_folder, site


@pytest.fixture(scope="module")
def printed(installed):
    """The output of a process outside the checkout, which imports, computes and loads a model."""
    python, _, site = installed
    code = """
import kerasrnn, kerasrnn.recipes, kerasrnn.zoo
import kerasrnn.export
for module in (kerasrnn, kerasrnn.recipes, kerasrnn.zoo, kerasrnn.export):
    print(module.__file__)
import numpy as np
print(np.asarray(kerasrnn.GRU(2, kernel_initializer="zeros")(np.ones((1, 3, 2), "float32"))))
from kerasrnn import zoo
print(zoo.folder("japanese_vowels"))
print(zoo.load("japanese_vowels").output_shape)
"""
    return run(python, "-I", "-c", code, cwd=site).strip().splitlines()


def test_the_installed_package_runs(installed, printed):
    """It is imported from the environment, and a layer computes."""
    _, _, site = installed
    *files, numbers, _, _ = printed
    for file, package in zip(files, ("", "recipes", "zoo", "export"), strict=True):
        assert Path(file).resolve() == (site / "kerasrnn" / package / "__init__.py").resolve()
    assert numbers == "[[0. 0.]]"  # no kernel, no bias: the candidate is tanh(0)


def test_the_installed_models_are_found(installed, printed):
    """One is loaded, with its hash compared, and one is used without a run."""
    _, bin_folder, site = installed
    *_, found, shape = printed
    assert Path(found) == site / "kerasrnn" / "saved_models" / "japanese_vowels"
    assert shape == "(None, 9)"
    answer = run(bin_folder / "kerasrnn", "predict", "movie_sentiment", "Dull, dull.", cwd=site)
    assert answer.startswith("Dull, dull.: negative: ")


def test_a_checkout_that_is_not_installed_in_editable_mode(installed):
    """Python finds its package first when it is started there, without the zoo."""
    python, _, _ = installed
    for code in ("import kerasrnn", "import keras, kerasrnn"):
        result = subprocess.run(
            [python, "-c", code],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        error = result.stderr.splitlines()[-1]
        assert error.startswith(f"ImportError: {ROOT / 'kerasrnn' / '__init__.py'} belongs to ")
        assert "`pip install --editable .`" in error


def test_the_version_of_the_command(installed):
    _, bin_folder, site = installed
    answer = run(bin_folder / "kerasrnn", "--version", cwd=site)
    assert answer.split() == ["kerasrnn", kerasrnn.__version__]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"], ["train", "--help"]])
def test_help_does_not_import_keras(installed, arguments):
    """Commands that need no model import neither Keras nor a backend."""
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
