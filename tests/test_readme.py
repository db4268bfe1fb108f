"""The README's example runs, and its table is that of the recipes' cards."""

import re
from pathlib import Path

import pytest

from kerasrnn import recipes

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.tensorflow
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    difference = re.search(r"tagger.onnx: within (\S+) of the Keras model", capsys.readouterr().out)
    assert float(difference.group(1)) <= 1e-5


def test_the_table_of_recipes_has_the_results_of_the_cards():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", README.read_text(), re.MULTILINE)
    assert dict(rows[: len(recipes.NAMES)]) == {
        name: recipes.load(name).card.result for name in recipes.NAMES
    }
