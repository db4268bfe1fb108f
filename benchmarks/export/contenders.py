"""The models, files and contenders of `benchmarks.export`.

The models consist of Keras's own layers. `python -m benchmarks.export.contenders maker FOLDER`
writes their files; `python -m benchmarks.export.contenders CONTENDER FOLDER [THREADS]` is the
process in which one contender runs them, loading only its own runtime. Both processes follow the
protocol of `benchmarks.measuring.worker`; the maker accepts one more request:

    {"do": "make", "points": [...]}   {"files": {contender: {"bytes": size of its file,
                                      "difference": largest difference from the model on random
                                      batches}}}
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmarks.measuring import worker
from benchmarks.measuring.data import weights
from benchmarks.measuring.worker import Ready

CONTENDERS = {
    "onnx": "kerasrnn's ONNX file (`to_onnx`), in onnxruntime",
    "onnx-int8": "the same file quantized to int8 (`to_int8`)",
    "keras-onnx": 'Keras\'s own ONNX file (`model.export(format="onnx")`), in onnxruntime',
    "litert": "kerasrnn's LiteRT file (`to_litert`), in LiteRT's interpreter",
    "saved-model": "kerasrnn's SavedModel (`to_saved_model`), in TensorFlow",
    "tf-function": "the Keras model, called in a `tf.function`",
    "predict-on-batch": "`model.predict_on_batch` of the Keras model",
    "predict": "`model.predict(verbose=0)` of the Keras model",
    "step": "the step model (`to_step`) as an ONNX file: one time step of a stream",
}
FILES = {
    "onnx": "model.onnx",
    "onnx-int8": "model.int8.onnx",
    "keras-onnx": "keras.onnx",
    "litert": "model.tflite",
    "saved-model": "saved_model",
    "tf-function": "model.keras",
    "predict-on-batch": "model.keras",
    "predict": "model.keras",
    "step": "step.onnx",
}
MADE = ("onnx", "onnx-int8", "keras-onnx", "litert", "saved-model", "predict", "step")
"""One contender for each distinct file."""

FEATURES, WORDS, EMBEDDED, CLASSES = 64, 5000, 128, 10
INPUT = "sequence"
TIMES = (20, 100, 400)


class Model(NamedTuple):
    """A GRU that reads unmasked frames, or an LSTM that reads masked tokens.

    The dense layer reads the last output of a forward layer, or all outputs of a bidirectional one.
    """

    cell: str
    units: int
    bidirectional: bool = False

    def __str__(self) -> str:
        both = "bidirectional " if self.bidirectional else ""
        return f"{both}{'masked ' if self.masked else ''}{self.cell}({self.units})"

    @property
    def masked(self) -> bool:
        return self.cell == "LSTM"

    @property
    def folder(self) -> str:
        return f"{self.cell}-{self.units}{'-both' if self.bidirectional else ''}"


MODELS = tuple(
    Model(cell, *rest)
    for cell in ("GRU", "LSTM")
    for rest in ((128, False), (256, False), (128, True))
)


@dataclass(frozen=True)
class Point:
    """One sequence of one length, timed with each contender in turn."""

    part: ClassVar[str] = "export"

    model: Model
    time: int
    contenders: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model}, {self.time} steps"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"model": list(self.model), "contenders": list(self.contenders)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Point":
        return cls(Model(*values["model"]), values["time"], tuple(values["contenders"]))


def points(
    quick: bool = False,
    contenders: Sequence[str] = tuple(CONTENDERS),
    models: Sequence[int] = range(len(MODELS)),
) -> list[Point]:
    """Every model at 100 steps, and the smaller unidirectional models at all lengths."""
    selected = []
    for model in (MODELS[n] for n in models):
        times: Sequence[int] = TIMES if model[1:] == (128, False) else (100,)
        if quick:
            model, times = model._replace(units=model.units // 16), (12,)
        # A stream has no end from which the backward direction could start.
        names = [name for name in contenders if not (model.bidirectional and name == "step")]
        selected += [Point(model, time, tuple(names)) for time in times if names]
    return selected


def sequence(point: Point) -> np.ndarray:
    """A random sequence without padding: skipped steps would favor the ONNX operators."""
    random = np.random.default_rng(0)
    if point.model.masked:
        return random.integers(1, WORDS, (1, point.time)).astype("int32")
    return random.standard_normal((1, point.time, FEATURES)).astype("float32")


def ready(contender: str, point: Point, folder: Path, threads: int = 0) -> Ready:
    """Prepare everything except the first call.

    Raises:
        ValueError: the contender is unknown.
    """
    if contender not in CONTENDERS:
        raise ValueError(f"contender {contender!r}: expected one of {', '.join(CONTENDERS)}")
    x, place = sequence(point), folder / point.model.folder
    expected = np.load(place / f"{point.time}.npy")

    def facts(result: np.ndarray) -> list[float]:
        """The largest difference from the model's output."""
        return [float(np.abs(result - expected).max())]

    file = place / FILES[contender]
    if contender == "step":
        step, whole = _stream(_session(file, threads), x)
        results = whole()
        streamed = np.stack(results, 1) if expected.ndim == 3 else results[-1]
        difference = facts(streamed)
        return Ready(step, lambda result: difference)
    return Ready(_call(contender, file, x, threads), facts)


def _call(contender: str, file: Path, x: np.ndarray, threads: int) -> Callable[[], Any]:
    if "onnx" in contender:
        session = _session(file, threads)
        name = session.get_inputs()[0].name
        return lambda: session.run(None, {name: x})[0]
    if contender == "litert":
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=str(file)).get_signature_runner()
        return lambda: next(iter(run(**{INPUT: x}).values()))
    import tensorflow as tf

    if contender == "saved-model":
        loaded = tf.saved_model.load(str(file))  # keeps the variables alive
        return lambda: loaded.serve(tf.constant(x)).numpy()
    import keras

    model = keras.saving.load_model(file)
    if contender == "tf-function":
        function = tf.function(lambda x: model(x, training=False), autograph=False)
        return lambda: function(tf.constant(x)).numpy()
    if contender == "predict-on-batch":
        return lambda: model.predict_on_batch(x)
    return lambda: model.predict(x, verbose=0)


def _session(file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _stream(session: Any, x: np.ndarray) -> tuple[Callable[[], Any], Callable[[], list[Any]]]:
    """Return a function that runs the next step, and one that runs all steps from the beginning."""
    first, *states = session.get_inputs()
    begin = {state.name: np.zeros((1, state.shape[1]), "float32") for state in states}
    at = {"t": 0, "states": begin}

    def step() -> Any:
        inputs = {first.name: x[:, at["t"]], **at["states"]}
        result, *after = session.run(None, inputs)
        at["states"] = dict(zip(begin, after, strict=True))
        at["t"] = (at["t"] + 1) % x.shape[1]
        return result

    def whole() -> list[Any]:
        at.update(t=0, states=begin)
        return [step() for _ in range(x.shape[1])]

    return step, whole


def built(model: Model) -> Any:
    """Build the model from Keras's layers, with random weights."""
    from keras import Input, Sequential, layers

    layer = getattr(layers, model.cell)(model.units, return_sequences=model.bidirectional)
    if model.bidirectional:
        layer = layers.Bidirectional(layer)
    if model.masked:
        first = Input((None,), dtype="int32", name=INPUT)
        below = [first, layers.Embedding(WORDS, EMBEDDED, mask_zero=True)]
    else:
        below = [Input((None, FEATURES), name=INPUT)]
    result = Sequential([*below, layer, layers.Dense(CLASSES, name="classes")])
    result.set_weights(weights([w.shape for w in result.weights], model.units))
    return result


def make(of: Sequence[Point], folder: Path) -> dict[str, Any]:
    """Write a model's files, and its outputs at its points.

    Returns:
        For each contender in `MADE`, the `bytes` of its file and the largest `difference` from the
        model on random batches, with masks if the model masks; or `error`.
    """
    from kerasrnn.export import parity

    place = folder / of[0].model.folder
    place.mkdir(parents=True)
    model = built(of[0].model)
    itself = parity.reference(model)
    cases = parity.random_cases(model)
    for point in of:
        np.save(place / f"{point.time}.npy", itself([sequence(point)])[0])
    records: dict[str, Any] = {}
    wanted = {FILES[name] for point in of for name in point.contenders}
    if FILES["onnx-int8"] in wanted:
        wanted.add(FILES["onnx"])  # its source
    for name in MADE:
        path = place / FILES[name]
        if path.name not in wanted:
            continue
        try:
            size, difference = _write(name, model, path)
            if difference is None:
                session = _session(path, 1)

                def run(inputs: Sequence[np.ndarray], session: Any = session) -> Any:
                    return session.run(None, {session.get_inputs()[0].name: inputs[0]})

                difference = parity.largest_difference(run, cases)
            records[name] = {"bytes": size, "difference": difference}
        except Exception as error:  # exporters raise errors of any type
            records[name] = {"error": worker.one_line(error)}
    return records


def _write(name: str, model: Any, path: Path) -> tuple[int, float | None]:
    """Write a file; return its size, and the difference if the exporter measures it."""
    from kerasrnn import export

    if name == "predict":
        model.save(path)
        return path.stat().st_size, 0.0
    if name == "keras-onnx":
        _export_by_keras(model, path)
        return path.stat().st_size, None
    if name == "onnx-int8":
        report = export.to_int8(path.with_name(FILES["onnx"]), path)
    elif name == "step":
        report = export.to_onnx(export.to_step(model), path)
    else:
        write = {
            "onnx": export.to_onnx,
            "litert": export.to_litert,
            "saved-model": export.to_saved_model,
        }[name]
        report = write(model, path)
    return report.bytes, report.difference


def _export_by_keras(model: Any, path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its patch of tf2onnx uses np.object
        model.export(path, format="onnx", verbose=False)


def main() -> None:
    """Run the process of a contender or of the maker."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 0

    def make_files(request: dict[str, Any]) -> dict[str, Any]:
        return {"files": make([Point.from_json(each) for each in request["points"]], folder)}

    worker.answer(
        lambda point: ready(name, Point.from_json(point), folder, threads), {"make": make_files}
    )


if __name__ == "__main__":
    main()
