"""docs/run_onnx.py, in a process that can import neither TensorFlow nor Keras nor kerasrnn."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasrnn import zoo
from kerasrnn.export import to_onnx
from kerasrnn.recipes.tasks import text
from tests.measure import op_by_op, randomize

pytestmark = pytest.mark.tensorflow

SCRIPT = Path(__file__).parents[2] / "docs" / "run_onnx.py"
ALONE = """
import runpy, sys
for name in ("tensorflow", "keras", "kerasrnn", "sentencepiece"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def printed(folder, *texts):
    command = [sys.executable, "-c", ALONE, str(SCRIPT), str(folder), *texts]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.filterwarnings("ignore:.*translations were truncated")  # untrained models seldom end
@pytest.mark.parametrize(
    ("kinds", "files"),
    [(("characters", "symbols"), "encoder and step"), (("pieces", "pieces"), "whole decoding")],
)
def test_texts_from_texts(kinds, files, tmp_path):
    """As by the translator itself, which also limits the length by that of the source."""
    pytest.importorskip("sentencepiece")
    learned = ["the cat sat on the mat", "A hat, a cat: that is that!", "ﬁne  cats"] * 20
    fits = [text.fitted(kind, learned, 20 if kind == "pieces" else None) for kind in kinds]
    sides = [
        text.numbering(fit, name) for fit, name in zip(fits, ("source", "target"), strict=True)
    ]
    sizes = [len(side.get_vocabulary()) for side in sides]
    model = zoo.encoder_decoder(
        zoo.Tokens(sizes[0], 8), zoo.Classes(sizes[1] + 2), units=8, attention="bahdanau"
    )
    randomize(model)
    translator = zoo.Translator(model, *sides, max_length=12)
    entries = {
        "source": text.described(translator.source),
        "sequences": {
            "symbols": [*translator.symbols, "[END]", "[START]"],
            "separator": text.described(translator.target)["separator"],
            "start": translator.start,
            "end": translator.end,
        },
    }
    (tmp_path / "vocabulary.json").write_text(json.dumps(entries))
    if files == "whole decoding":
        to_onnx(translator.writer(), tmp_path / "greedy.onnx")
    else:
        encoder, step = zoo.encoder_and_step(model)
        to_onnx(encoder, tmp_path / "encoder.onnx")
        to_onnx(step, tmp_path / "step.onnx")
    texts = ["The hat", "cats  sat, ﬁne!", "tttt"]
    with op_by_op():
        translations = translator.translate(texts)
    for given, translation, line in zip(
        texts, translations, printed(tmp_path, *texts), strict=True
    ):
        expected = f"{given}: {translation}".strip()
        assert line.strip() == expected if files == "whole decoding" else line.startswith(expected)


def test_classes_from_texts(tmp_path):
    learned = ["good film", "bad, bad film", "A film"]
    fit = text.fitted("words", learned)
    model = zoo.many_to_one(
        zoo.Tokens(len(fit["symbols"]) + 2, 6), zoo.Classes(2), "gru", units=5, name="judge"
    )
    randomize(model)
    to_onnx(model, tmp_path / "model.onnx")
    (name,) = (tensor.name for tensor in model.inputs)
    entries = {
        name: text.described(text.numbering(fit)),
        model.output_names[0]: {"classes": ["bad", "good"]},
    }
    (tmp_path / "vocabulary.json").write_text(json.dumps(entries))
    texts = ["BAD film!", "good unheard-of"]
    whole = zoo.of_texts(model, {name: text.numbering(fit)})
    for given, p, line in zip(
        texts,
        np.asarray(whole(keras.ops.convert_to_tensor(texts))),
        printed(tmp_path, *texts),
        strict=True,
    ):
        assert line == f"{given}: {['bad', 'good'][p.argmax()]}: {p.max():.1%}"


# The input of each trained model, None for an array; and the right answer, such as a pronunciation.
# Without one, the test derives it from the file's own probabilities.
TRAINED = {
    "bach_chorales": None,
    "char_lm": "ROMEO:",
    "fashion_mnist": None,
    "g2p": ("seven", "S EH V AH N"),
    "hanzi_structure": None,
    "japanese_vowels": None,
    "molecules": "C1=CC",
    "movie_sentiment": ("a wonderful film", "positive"),
    "reverse": ("keras", "sarek"),
    "translate": ("Ein Mann läuft.", "A man is walking."),
    "word_segmentation": "我爱北京。",
}
PROGRAM = """
import json, runpy, sys
for name in ("tensorflow", "keras", "kerasrnn", "sentencepiece"):
    sys.modules[name] = None
answer = runpy.run_path(sys.argv[1])["answer"]
print(json.dumps([answer(*inputs) for inputs in json.loads(sys.argv[2])]))
"""


def test_every_trained_model(tmp_path):
    """In one process, since starting one takes as long as an answer."""
    import onnxruntime

    assert set(TRAINED) == set(zoo.trained())
    inputs, files = {}, {}
    for name, given in TRAINED.items():
        (path,) = zoo.folder(name).glob("*.onnx")
        files[name] = onnxruntime.InferenceSession(path)
        if given is None:  # an array
            seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
            shape = [size if isinstance(size, int) else 9 for size in _input(files[name]).shape[1:]]
            array = np.random.default_rng(seed).random(shape).astype("float32")
            np.save(tmp_path / f"{name}.npy", array)
            inputs[name] = str(tmp_path / f"{name}.npy")
        else:
            inputs[name] = given if isinstance(given, str) else given[0]
    questions = json.dumps([(str(zoo.folder(name)), given) for name, given in inputs.items()])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SCRIPT), questions],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers = dict(zip(TRAINED, json.loads(result.stdout), strict=True))
    for name, given in TRAINED.items():
        if isinstance(given, tuple):
            assert answers[name].startswith(given[1]), name
        else:
            assert answers[name] == _expected(name, files[name], inputs[name]), name


def _input(session):
    (source,) = session.get_inputs()
    return source


def _expected(name, session, given):
    """The answer, derived from the file's outputs."""
    entries = json.loads((zoo.folder(name) / "vocabulary.json").read_text("utf-8"))
    (output,) = session.get_outputs()
    entry = entries[output.name]

    def run(x):
        return session.run(None, {_input(session).name: x})[0][0]

    if given.endswith(".npy"):
        found = run(np.load(given)[None])
        if "symbols" in entry:
            symbols = [entry["symbols"][n] for n in found]
            return " ".join(symbols[: symbols.index("[END]")])
        if "flags" in entry:
            return " ".join(np.array(entry["flags"])[found[-1] >= 0.5])
        return f"{entry['classes'][found.argmax()]}: {found.max():.1%}"
    symbols = entries["sequence"]["symbols"]
    ids = [symbols.index(symbol) for symbol in given]
    if "classes" in entry:
        return " ".join(entry["classes"][n] for n in run(np.array([ids], "int32")).argmax(axis=-1))
    edge = [symbols.index("\n")] if name == "molecules" else []
    for _ in range(100):
        likeliest = run(np.array([edge + ids], "int32"))[-1].argmax()
        if [likeliest] == edge:
            break
        ids.append(int(likeliest))
    return "".join(symbols[n] for n in ids)
