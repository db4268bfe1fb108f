"""Run an exported model with only numpy and onnxruntime: no TensorFlow, no Keras, no kerasrnn.

    pip install numpy onnxruntime
    python run_onnx.py FOLDER "a text" "another"
    python run_onnx.py FOLDER frames.npy

FOLDER is a folder written by `kerasrnn export` or returned by `kerasrnn.zoo.folder`. It contains
ONNX files and `vocabulary.json`, which defines what their numbers mean (see docs/export.md). Text
models take texts. Models of measurements or images take arrays, each in a NumPy file without a
batch axis. The output depends on the model:

    sequences   the output of `greedy.onnx`, or of `encoder.onnx` and `step.onnx`, symbol by symbol
    a class     the most probable class and its probability, or the class of each symbol
    flags       those with a probability of at least 0.5, after the last step
    symbols     the text, continued with the most probable symbols
"""

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime

PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def session(folder, name):
    """A session for the file, in float or eight-bit weights; None if there is none."""
    for path in (Path(folder) / f"{name}.onnx", Path(folder) / f"{name}.int8.onnx"):
        if path.is_file():
            return onnxruntime.InferenceSession(path)
    return None


def vocabulary(folder):
    """The entries of `vocabulary.json`; empty for measurements."""
    file = Path(folder) / "vocabulary.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def numbers(texts, entry):
    """Texts as an int32 array (texts, length), padded with 0; unknown symbols are 1."""
    known = {symbol: number for number, symbol in enumerate(entry["symbols"])}
    rows = []
    for text in texts:
        if entry["cut"] == "pieces":
            rows.append(pieces(text, known, entry["scores"]))
            continue
        if entry["lower"]:
            text = text.translate(ASCII_LOWER)
        if entry["strip_punctuation"]:
            text = text.translate(PUNCTUATION)
        # `bytes.split` splits only at ASCII white space, as in training.
        words = [word.decode() for word in text.encode().split()]
        symbols = list(text) if entry["cut"] == "characters" else words
        rows.append([known.get(symbol, 1) for symbol in symbols])
    length = max(1, *map(len, rows))
    return np.array([row + [0] * (length - len(row)) for row in rows], "int32")


def pieces(text, known, scores):
    """The segmentation of a text whose pieces have the largest total score (Viterbi)."""
    text = "\u2581" + "\u2581".join(unicodedata.normalize("NFKC", text).split())
    longest, unknown = max(map(len, known)), min(scores) - 10
    best = [(0.0, 0, 0)]  # score up to here, start of the last piece, its number
    for end in range(1, len(text) + 1):
        ways = []
        for start in range(max(0, end - longest), end):
            number = known.get(text[start:end], 1)
            if number > 1:
                ways.append((best[start][0] + scores[number], start, number))
        ways.append((best[end - 1][0] + unknown, end - 1, 1))
        best.append(max(ways))
    segmentation, end = [], len(text)
    while end:
        _, end, number = best[end]
        # Adjacent unknown characters are one piece.
        if not (number == 1 and segmentation and segmentation[-1] == 1):
            segmentation.append(number)
    return segmentation[::-1]


def text_of(ids, entry):
    """The text of a row of numbers, up to the end symbol."""
    symbols = []
    for number in ids:
        if number in (0, entry["end"]):
            break
        if number != entry["start"]:
            symbols.append(entry["symbols"][number])
    return entry["separator"].join(symbols).replace("\u2581", " ").strip()


def written(folder, source, entry, longest=100):
    """The sequences that the model generates from a batch of sources, as numbers."""
    greedy_model = session(folder, "greedy")
    if greedy_model is not None:
        return greedy_model.run(None, {"source": source})[0]
    encoder, step = session(folder, "encoder"), session(folder, "step")
    names = [output.name for output in step.get_outputs()]
    constants = dict(
        zip(
            [x.name for x in encoder.get_outputs()],
            encoder.run(None, {"source": source}),
            strict=True,
        )
    )
    symbols = np.full(len(source), entry["start"], "int32")
    rows, ended = [], np.zeros(len(source), bool)
    while not ended.all() and len(rows) < longest:
        results = dict(zip(names, step.run(None, {"previous": symbols, **constants}), strict=True))
        probabilities = results["probabilities"]
        probabilities[:, [0, 1, entry["start"]]] = 0  # never padding, unknown or start
        symbols = np.where(ended, 0, probabilities.argmax(axis=-1)).astype("int32")
        ended |= symbols == entry["end"]
        rows.append(symbols)
        for name, value in results.items():
            if name.endswith("_next"):
                constants[name.removesuffix("_next")] = value
    return np.stack(rows, axis=1)


def continued(model, ids, entry, longest=100):
    """The continuation of `ids` by a language model: the most probable number at each step."""
    (source,) = model.get_inputs()
    ids, continuation = [*([entry["start"]] if "start" in entry else []), *ids], []
    if not ids:
        sys.exit("nothing to continue: expected a text with at least one symbol")
    while len(continuation) < longest:
        (probabilities,) = model.run(None, {source.name: np.array([ids + continuation], "int32")})
        number = int(probabilities[0, -1, 2:].argmax()) + 2  # neither padding nor unknown
        if number == entry.get("end"):
            break
        continuation.append(number)
    return continuation


def read(given, source, entry):
    """A batch of one text, or of one array from a NumPy file."""
    if entry is not None:
        return numbers([given], entry)
    rank = len(source.shape) - 1
    if not given.endswith(".npy"):
        sys.exit(f"{given}: this model reads arrays; expected a .npy file with {rank} axes")
    array = np.load(given).astype("float32")
    if array.ndim != rank:
        sys.exit(f"{given}: has {array.ndim} axes; expected {rank}: {source.shape[1:]}")
    return array[None]


def answer(folder, given):
    """The model's output for a text, or for an array in a file, as text."""
    entries = vocabulary(folder)
    if "sequences" in entries:
        first = session(folder, "greedy") or session(folder, "encoder")
        source = read(given, first.get_inputs()[0], entries.get("source"))
        (row,) = written(folder, source, entries["sequences"])
        return text_of(row, entries["sequences"])
    model = session(folder, "model")
    (source,), (output,) = model.get_inputs(), model.get_outputs()
    batch, entry = read(given, source, entries.get(source.name)), entries.get(output.name, {})
    if "symbols" in entry:
        ids = [n for n in batch[0].tolist() if n]
        return given + "".join(
            entry["separator"] + entry["symbols"][n] for n in continued(model, ids, entry)
        )
    outputs = model.run(None, {source.name: batch})[0][0]
    if "flags" in entry:
        return " ".join(n for n, p in zip(entry["flags"], outputs[-1], strict=True) if p >= 0.5)
    if "classes" not in entry:
        return " ".join(f"{value:.4g}" for value in (outputs[-1] if outputs.ndim > 1 else outputs))
    if outputs.ndim > 1:  # a class for each symbol
        used = int((batch[0] != 0).sum()) if source.name in entries else len(outputs)
        return " ".join(entry["classes"][n] for n in outputs[:used].argmax(axis=-1))
    return f"{entry['classes'][outputs.argmax()]}: {outputs.max():.1%}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for given in sys.argv[2:]:
        print(f"{given}: {answer(sys.argv[1], given)}")
