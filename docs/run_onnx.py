"""Use an exported model with numpy and onnxruntime alone: no TensorFlow, no Keras, no kerasrnn.

    pip install numpy onnxruntime
    python run_onnx.py FOLDER "a text" "another"

FOLDER holds what `kerasrnn export` wrote, or what `kerasrnn.zoo.folder` names: ONNX files, and
`vocabulary.json`, which says what their numbers mean (see docs/export.md). Of texts, `greedy.onnx`
makes texts; where it is not there, `encoder.onnx` and `step.onnx` do, symbol by symbol.
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
    """The file, in floats or in eight bits, or None."""
    for path in (Path(folder) / f"{name}.onnx", Path(folder) / f"{name}.int8.onnx"):
        if path.is_file():
            return onnxruntime.InferenceSession(path)
    return None


def vocabulary(folder):
    return json.loads((Path(folder) / "vocabulary.json").read_text(encoding="utf-8"))


def numbers(texts, entry):
    """Texts as an array (texts, length) of int32, padded with zeros; 1 is what is not known."""
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
        # Of bytes, `split` separates at the white space of ASCII alone, as in training.
        words = [word.decode() for word in text.encode().split()]
        symbols = list(text) if entry["cut"] == "characters" else words
        rows.append([known.get(symbol, 1) for symbol in symbols])
    length = max(1, *map(len, rows))
    return np.array([row + [0] * (length - len(row)) for row in rows], "int32")


def pieces(text, known, scores):
    """The way to cut a text whose pieces have the largest sum of scores (Viterbi)."""
    text = "\u2581" + "\u2581".join(unicodedata.normalize("NFKC", text).split())
    longest, unknown = max(map(len, known)), min(scores) - 10
    best = [(0.0, 0, 0)]  # score up to here, where the last piece begins, its number
    for end in range(1, len(text) + 1):
        ways = []
        for start in range(max(0, end - longest), end):
            number = known.get(text[start:end], 1)
            if number > 1:
                ways.append((best[start][0] + scores[number], start, number))
        ways.append((best[end - 1][0] + unknown, end - 1, 1))
        best.append(max(ways))
    found, end = [], len(text)
    while end:
        _, end, number = best[end]
        if not (number == 1 and found and found[-1] == 1):  # signs not known are one piece
            found.append(number)
    return found[::-1]


def text_of(ids, entry):
    """The text of a row of numbers, up to its end."""
    symbols = []
    for number in ids:
        if number in (0, entry["end"]):
            break
        if number != entry["start"]:
            symbols.append(entry["symbols"][number])
    return entry["separator"].join(symbols).replace("\u2581", " ").strip()


def written(folder, ids, entry, longest=100):
    """What the model writes of sources, as arrays of numbers."""
    whole = session(folder, "greedy")
    if whole is not None:
        return whole.run(None, {"source": ids})[0]
    encoder, step = session(folder, "encoder"), session(folder, "step")
    names = [output.name for output in step.get_outputs()]
    found = dict(
        zip(
            [x.name for x in encoder.get_outputs()], encoder.run(None, {"source": ids}), strict=True
        )
    )
    symbols = np.full(len(ids), entry["start"], "int32")
    rows, ended = [], np.zeros(len(ids), bool)
    while not ended.all() and len(rows) < longest:
        results = dict(zip(names, step.run(None, {"previous": symbols, **found}), strict=True))
        probabilities = results["probabilities"]
        probabilities[:, [0, 1, entry["start"]]] = 0  # padding, the unknown and the start: never
        symbols = np.where(ended, 0, probabilities.argmax(axis=-1)).astype("int32")
        ended |= symbols == entry["end"]
        rows.append(symbols)
        for name, value in results.items():
            if name.endswith("_next"):
                found[name.removesuffix("_next")] = value
    return np.stack(rows, axis=1)


def answers(folder, texts):
    """What a model says of texts: texts, or the likeliest class with its probability."""
    entries = vocabulary(folder)
    if "sequences" in entries:
        ids = numbers(texts, entries["source"])
        rows = written(folder, ids, entries["sequences"])
        return [text_of(row, entries["sequences"]) for row in rows]
    model = session(folder, "model")
    (source,), (output,) = model.get_inputs(), model.get_outputs()
    said = model.run(None, {source.name: numbers(texts, entries[source.name])})[0]
    classes = entries[output.name]["classes"]
    if said.ndim == 3:  # a class for each symbol
        return [
            " ".join(classes[n] for n in row[: len(text)].argmax(axis=-1))
            for text, row in zip(texts, said, strict=True)
        ]
    return [f"{classes[row.argmax()]}: {row.max():.1%}" for row in said]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for given, said in zip(sys.argv[2:], answers(sys.argv[1], sys.argv[2:]), strict=True):
        print(f"{given}: {said}")
