"""The points and contenders of `benchmarks.decoding`.

`python -m benchmarks.decoding.contenders maker FOLDER` writes what the contenders without
TensorFlow read; `python -m benchmarks.decoding.contenders CONTENDER FOLDER` is the process of one
contender. Both follow the protocol of `benchmarks.measuring.worker`; the maker accepts one more
request:

    {"do": "make"}   {"seconds": how long it took}
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.measuring import worker
from benchmarks.measuring.worker import Ready

CONTENDERS = {
    "kerasrnn": "`explain` of the translator, with its defaults",
    "kerasrnn-xla": "the same with `jit_compile=True`",
    "writer": "the model of `writer`, as it is exported, in `predict_on_batch`: no row is dropped",
    "torch": "greedy decoding with the same weights in a loop of PyTorch",
    "onnx-step": "greedy decoding with the exported encoder and step in a loop of onnxruntime",
}
GREEDY_ONLY = ("torch", "onnx-step")

SUBJECTS = ("Ein Mann", "Eine Frau", "Ein kleiner Junge", "Ein brauner Hund")
ACTIONS = (
    "schläft",
    "steht auf der Straße",
    "spielt mit einem roten Ball",
    "sitzt auf einer Bank im Park und liest ein Buch",
    "läuft über eine grüne Wiese",
    "springt in einen Pool",
    "wartet an einer Bushaltestelle in der Stadt",
    "steht vor einem großen Gebäude, während viele Menschen vorbeigehen",
    "fährt mit einem Boot auf einem See",
    "schaut aus dem Fenster",
    "steht am Strand und blickt auf das Meer",
    "klettert an einem sonnigen Tag auf einen hohen Felsen in den Bergen",
    "geht eine Treppe hinunter",
    "isst auf einem Markt",
    "ist in einer Küche, in der drei Köche das Abendessen für die Gäste eines Restaurants kochen",
    "liegt im Schnee neben einem blauen Zelt",
)
SENTENCES = tuple(f"{subject} {action}." for subject in SUBJECTS for action in ACTIONS)


@dataclass(frozen=True)
class Point:
    """Sentences of mixed lengths, translated in batches of one size."""

    part: ClassVar[str] = "decoding"

    batch: int
    beam: int
    contenders: tuple[str, ...]

    def __str__(self) -> str:
        way = "greedy" if self.beam == 1 else f"beam of {self.beam}"
        return f"{way}, batches of {self.batch}"

    @property
    def sentences(self) -> list[str]:
        return list(SENTENCES[: max(16, self.batch)])

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"contenders": list(self.contenders)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Point":
        return cls(values["batch"], values["beam"], tuple(values["contenders"]))


def points(quick: bool = False, contenders: Sequence[str] = tuple(CONTENDERS)) -> list[Point]:
    """Greedy decoding and a beam of 5, in batches of three sizes."""
    selected = []
    for batch in (16,) if quick else (1, 16, 64):
        for beam in (1, 5):
            names = [name for name in contenders if beam == 1 or name not in GREEDY_ONLY]
            if names:
                selected.append(Point(batch, beam, tuple(names)))
    return selected


def ready(contender: str, point: Point, folder: Path) -> Ready:
    """Prepare everything except the first call.

    Raises:
        ValueError: the contender is unknown.
    """
    if contender not in CONTENDERS:
        raise ValueError(f"contender {contender!r}: expected one of {', '.join(CONTENDERS)}")
    if contender.startswith("kerasrnn"):
        from kerasrnn import zoo

        model = zoo.load("translate")
        options = {"jit_compile": True} if contender == "kerasrnn-xla" else {}

        def explain() -> Any:
            return model.explain(point.sentences, point.beam, batch_size=point.batch, **options)

        return Ready(explain, lambda rows: [float(sum(len(row.symbols) + 1 for row in rows))])
    decode = {"writer": _writer, "torch": _torch, "onnx-step": _onnx_step}[contender]
    batches = _batches(point, folder)
    run = decode(point, folder)
    return Ready(
        lambda: [run(ids) for ids in batches],
        lambda found: [float(sum(np.count_nonzero(ids) for ids in found))],
    )


def _batches(point: Point, folder: Path) -> list[np.ndarray]:
    """The ids of the sentences, in batches of similar length, padded as little as possible."""
    ids = np.load(folder / "ids.npy")[: len(point.sentences)]
    ids = ids[np.argsort((ids > 0).sum(axis=1), kind="stable")]
    rows = [ids[n : n + point.batch] for n in range(0, len(ids), point.batch)]
    return [each[:, : (each > 0).sum(axis=1).max()] for each in rows]


def _writer(point: Point, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    from kerasrnn import zoo

    return zoo.load("translate").writer(point.beam).predict_on_batch


def _limits(ids: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """The maximum number of symbols of each row: see `zoo.Translator`."""
    factor, more = facts["limit"]
    limits = np.floor(factor * (ids > 0).sum(axis=1)) + more
    return np.clip(limits, 1, facts["max_length"]).astype(int)


def _facts(folder: Path) -> dict[str, Any]:
    import json

    return json.loads((folder / "facts.json").read_text())


def _onnx_step(point: Point, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    facts = _facts(folder)
    encoder, step = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "step")
    )
    of_encoder, of_step = ([y.name for y in each.get_outputs()] for each in (encoder, step))
    source = encoder.get_inputs()[0].name

    def run(ids: np.ndarray) -> np.ndarray:
        inputs = dict(zip(of_encoder, encoder.run(None, {source: ids}), strict=True))
        limits, symbols = _limits(ids, facts), []
        previous = np.full(len(ids), facts["start"], "int32")
        ended = np.zeros(len(ids), bool)
        while not ended.all():
            found = step.run(None, {"previous": previous, **inputs})
            results = dict(zip(of_step, found, strict=True))
            results["probabilities"][:, facts["forbidden"]] = -1
            previous = results["probabilities"].argmax(axis=-1).astype("int32")
            symbols.append(np.where(ended, 0, previous))
            ended |= (previous == facts["end"]) | (len(symbols) >= limits)
            for name in inputs:
                inputs[name] = results.get(f"{name}_next", inputs[name])
        return np.stack(symbols, axis=1)

    return run


def _torch(point: Point, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    facts = _facts(folder)
    w = {name: torch.from_numpy(x) for name, x in np.load(folder / "weights.npz").items()}
    units = len(w["decoder/query_kernel"])

    def lstm(cell: Any, prefix: str, suffix: str = "") -> None:
        """Copy a cell; the gates are in the same order, i, f, c, o."""
        state = {
            f"weight_ih{suffix}": w[f"{prefix}/kernel"].T,
            f"weight_hh{suffix}": w[f"{prefix}/recurrent_kernel"].T,
            f"bias_ih{suffix}": w[f"{prefix}/bias"],
            f"bias_hh{suffix}": torch.zeros_like(w[f"{prefix}/bias"]),
        }
        for name, value in state.items():
            getattr(cell, name).data.copy_(value)

    encoder = torch.nn.LSTM(units, units, batch_first=True, bidirectional=True)
    lstm(encoder, "forward", "_l0")
    lstm(encoder, "backward", "_l0_reverse")
    # The context enters the gates besides the embedding.
    cell = torch.nn.LSTMCell(units + 2 * units, units)
    w["decoder/kernel"] = torch.cat([w["decoder/kernel"], w["decoder/feedback_kernel"]])
    lstm(cell, "decoder")
    forbidden = torch.zeros(len(w["decoder/logits_bias"]))
    forbidden[facts["forbidden"]] = -torch.inf
    bias = w["decoder/logits_bias"] + forbidden
    table = w["decoder/embeddings"]

    @torch.inference_mode()
    def run(ids: np.ndarray) -> np.ndarray:
        limits = torch.from_numpy(_limits(ids, facts))
        source = torch.from_numpy(ids).long()
        lengths, mask = (source > 0).sum(dim=1), source > 0
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            w["encoder/embeddings"][source], lengths, batch_first=True, enforce_sorted=False
        )
        memory, (h, c) = encoder(packed)
        memory, _ = torch.nn.utils.rnn.pad_packed_sequence(memory, batch_first=True)
        final = torch.cat([h[0], c[0], h[1], c[1]], dim=1)
        context = torch.tanh(final @ w["context/kernel"] + w["context/bias"])
        h, c = torch.tanh(context @ w["state/kernel"] + w["state/bias"]).split(units, dim=1)
        keys = memory @ w["decoder/key_kernel"]
        previous = torch.full((len(ids),), facts["start"])
        ended, symbols = torch.zeros(len(ids), dtype=torch.bool), []
        while not ended.all():
            compared = (h @ w["decoder/query_kernel"])[:, None] + keys
            scores = torch.tanh(compared) @ w["decoder/attention_v"]
            alpha = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=1)
            c_t = torch.bmm(alpha[:, None], memory)[:, 0]
            h, c = cell(torch.cat([table[previous], c_t], dim=1), (h, c))
            output = torch.tanh(torch.cat([c_t, h], dim=1) @ w["decoder/output_kernel"])
            previous = torch.addmm(bias, output, table.T).argmax(dim=1)
            symbols.append(torch.where(ended, 0, previous))
            ended = ended | (previous == facts["end"]) | (len(symbols) >= limits)
        return torch.stack(symbols, dim=1).numpy()

    return run


NAMES = {
    "embedding/embeddings": "encoder/embeddings",
    "/lstm/lstm_cell/": "forward/",
    "/backward_lstm/lstm_cell/": "backward/",
    "attention_cell/lstm_cell/": "decoder/",
    "attention_cell/": "decoder/",
    "bahdanau_attention/": "decoder/",
    "into_state/": "state/",
    "context/": "context/",
    "decoder/embedding/embeddings": "decoder/embeddings",
    "decoder/bias": "decoder/logits_bias",
}
"""What the weights are called in `weights.npz`, by a part of their path; the last match counts."""


def make(folder: Path) -> dict[str, Any]:
    """Write the ids, the weights, and the ONNX files of the encoder and the step."""
    import json

    from kerasrnn import zoo
    from kerasrnn.export import to_onnx
    from kerasrnn.zoo.reading import UNKNOWN, numbered

    start = time.perf_counter()
    model = zoo.load("translate")
    np.save(folder / "ids.npy", numbered(model.source, list(SENTENCES)).astype("int32"))
    weights = {}
    for weight in model.model.weights:
        part = [part for part in NAMES if part in weight.path][-1]
        last = "" if NAMES[part][-1] != "/" else weight.path.rsplit("/", 1)[-1]
        weights[NAMES[part] + last] = np.asarray(weight)
    np.savez(folder / "weights.npz", **weights)
    facts = {
        "start": model.start,
        "end": model.end,
        "forbidden": [0, UNKNOWN, model.start],
        "max_length": model.max_length,
        "limit": model.length_limit,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    for name, part in zoo.encoder_and_step(model.model)._asdict().items():
        to_onnx(part, folder / f"{name}.onnx")
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Run the process of a contender or of the maker."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    worker.answer(
        lambda point: ready(name, Point.from_json(point), folder),
        {"make": lambda request: make(folder)},
    )


if __name__ == "__main__":
    main()
