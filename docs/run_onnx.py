"""Use an exported model with numpy and onnxruntime alone: no TensorFlow, no Keras, no kerasrnn.

    pip install numpy onnxruntime
    python run_onnx.py FOLDER "a text" "another"
    python run_onnx.py FOLDER frames.npy

FOLDER holds what `kerasrnn export` wrote, or what `kerasrnn.zoo.folder` names: ONNX files, and
`vocabulary.json`, which says what their numbers mean (see docs/export.md). A model of texts takes
texts; one of measurements or pictures takes arrays, each a file of NumPy's without the axis of the
batch. What it prints depends on the model:

    sequences   what `greedy.onnx` writes, or `encoder.onnx` and `step.onnx`, symbol by symbol
    a class     the likeliest one and its probability, of the whole or of each symbol
    flags       those at least as likely as not, after the last step
    symbols     the text, continued with the likeliest symbols
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
    """What the numbers mean; nothing where they are measurements."""
    file = Path(folder) / "vocabulary.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


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


def written(folder, source, entry, longest=100):
    """What the model writes of sources, as arrays of numbers."""
    whole = session(folder, "greedy")
    if whole is not None:
        return whole.run(None, {"source": source})[0]
    encoder, step = session(folder, "encoder"), session(folder, "step")
    names = [output.name for output in step.get_outputs()]
    found = dict(
        zip(
            [x.name for x in encoder.get_outputs()],
            encoder.run(None, {"source": source}),
            strict=True,
        )
    )
    symbols = np.full(len(source), entry["start"], "int32")
    rows, ended = [], np.zeros(len(source), bool)
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


def continued(model, ids, entry, longest=100):
    """What a language model writes after some numbers: each time the likeliest one."""
    (source,) = model.get_inputs()
    ids, found = [*([entry["start"]] if "start" in entry else []), *ids], []
    if not ids:
        sys.exit("nothing to continue: expected a text of one symbol or more")
    while len(found) < longest:
        (probabilities,) = model.run(None, {source.name: np.array([ids + found], "int32")})
        number = int(probabilities[0, -1, 2:].argmax()) + 2  # neither padding nor what is unknown
        if number == entry.get("end"):
            break
        found.append(number)
    return found


def read(given, source, entry):
    """A batch of one, of a text or of a file of NumPy's."""
    if entry is not None:
        return numbers([given], entry)
    rank = len(source.shape) - 1
    if not given.endswith(".npy"):
        sys.exit(f"{given}: this model reads arrays; expected a file .npy with {rank} axes")
    array = np.load(given).astype("float32")
    if array.ndim != rank:
        sys.exit(f"{given}: has {array.ndim} axes; expected {rank}: {source.shape[1:]}")
    return array[None]


def answer(folder, given):
    """What a model says of a text, or of an array in a file."""
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
    said = model.run(None, {source.name: batch})[0][0]
    if "flags" in entry:
        return " ".join(n for n, p in zip(entry["flags"], said[-1], strict=True) if p >= 0.5)
    if "classes" not in entry:
        return " ".join(f"{value:.4g}" for value in (said[-1] if said.ndim > 1 else said))
    if said.ndim > 1:  # a class for each symbol
        used = int((batch[0] != 0).sum()) if source.name in entries else len(said)
        return " ".join(entry["classes"][n] for n in said[:used].argmax(axis=-1))
    return f"{entry['classes'][said.argmax()]}: {said.max():.1%}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for given in sys.argv[2:]:
        print(f"{given}: {answer(sys.argv[1], given)}")
