"""`kerasrnn predict`."""

import pytest

from kerasrnn import recipes
from kerasrnn.__main__ import main
from kerasrnn.recipes.command.predict import places_of

pytestmark = pytest.mark.tensorflow


def test_files_are_named_after_the_inputs(there):
    """And never replace others."""
    (there / "keras.png").touch()
    (there / "a_b.mid").touch()
    names = ["keras", "word", "Word", "a/b", "a b", "漢字!", "?!", "", "x" * 300, "test example 3"]
    stems = [path.name for path in places_of(names, there, (".png", ".mid"))]
    assert stems == [
        "keras-2",
        "word",
        "Word-2",
        "a_b-2",
        "a_b-3",
        "漢字",
        "input",
        "input-2",
        "x" * 60,
        "test_example_3",
    ]


def test_files_are_written_only_with_output(there, capsys):
    words = ["predict", "reverse", "abc", "abd", "--zoo", "--beam", "1"]
    assert main(words) == 0
    assert capsys.readouterr().out == "abc: cba\nabd: dba\n"
    assert not list(there.iterdir())
    assert main([*words, "--output", "here"]) == 0
    expected = "abc: cba\n    here/abc.png\nabd: dba\n    here/abd.png\n"
    assert capsys.readouterr().out == expected
    before = (there / "here" / "abc.png").read_bytes()
    assert main([*words[:3], *words[4:], "--output", "here"]) == 0
    assert capsys.readouterr().out == "abc: cba\n    here/abc-2.png\n"
    assert (there / "here" / "abc.png").read_bytes() == before
    assert {path.name for path in there.rglob("*")} == {"here", "abc.png", "abd.png", "abc-2.png"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "u.txt: expected text; found none"),
        ("1 2 3\n", "line 1: expected 12 coefficients; found 3"),
        (
            "1 " * 12 + "\n\n" + "1, " * 4 + "nan " * 8,
            "line 3, column 5: expected a finite number; found 'nan'",
        ),
        ("1 " * 11 + "-inf", "line 1, column 12: expected a finite number; found '-inf'"),
        # Single precision cannot hold it.
        ("1 1e39 " + "1 " * 10, "line 1, column 2: expected a finite number; found '1e39'"),
        ("1 " * 11 + "x", "line 1, column 12: expected a finite number; found 'x'"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_not_utterances(text, message, recipe, there, capsys):
    if text is not None:
        (there / "u.txt").write_text(text)
    assert main(["predict", "japanese_vowels", "u.txt"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (name, text)
        for name in ("char_lm", "g2p", "movie_sentiment", "translate", "word_segmentation")
        for text in ("", "caf\udce9")
    ],
)
def test_inputs_that_are_not_text(recipe, text, there, capsys):
    """An empty one, and one in Latin-1, as Python decodes it."""
    assert main(["predict", recipe, "one", text, "--zoo"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kerasrnn: {text!r}: expected ")
    assert error.endswith("in UTF-8.\n" if text else "; found none.\n")


@pytest.mark.parametrize(
    ("recipe", "inputs", "unknown", "nothing"),
    [
        ("char_lm", ["\n", "a\N{INCREMENT}"], "'\N{INCREMENT}' is", "\N{INCREMENT} \u65e5"),
        ("g2p", ["\u65e5a", "\u65e5b\xc4"], "'\u65e5', '\xc4' are", "\u65e5\u672c"),
        ("movie_sentiment", ["a dull Qqqzz!"], "'Qqqzz!' is", "?!"),
        ("translate", ["Ein \u65e5\u672c Mann"], "'\u65e5\u672c' is", "\u65e5\u672c"),
        ("word_segmentation", ["\u770b\u2206"], "'\u2206' is", "\u2206"),
    ],
)
def test_unknown_symbols_are_reported_once(recipe, inputs, unknown, nothing, monkeypatch, capsys):
    """And an input without any known symbol is an error."""
    # The answers do not matter here.
    monkeypatch.setattr(
        type(recipes.load(recipe)), "predict", lambda self, model, _, texts, *__: texts
    )
    assert main(["predict", recipe, *inputs, "--zoo"]) == 0
    _, *errors = capsys.readouterr().err.splitlines()
    assert errors == [f"kerasrnn: {unknown} not in the model's vocabulary (read as unknown)."]
    assert main(["predict", recipe, *inputs, nothing, "--zoo"]) == 1
    printed, errors = capsys.readouterr()
    expected = "expected symbols in the model's vocabulary; found none."
    assert errors.splitlines()[1:] == [f"kerasrnn: {nothing!r}: {expected}"]
    assert not printed
