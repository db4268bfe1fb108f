"""The benchmark of scale: its counts, its extrapolation, its page. No time is asserted."""

import dataclasses
import json
import math
import re
import subprocess
from statistics import median

import keras
import pytest
import tensorflow as tf

from benchmarks.scale import __main__ as scale
from benchmarks.scale import counting, job
from benchmarks.scale import plan as scale_plan
from benchmarks.scale import report as scale_report
from benchmarks.scale.counting import (
    ATTENTION,
    BRIDGE,
    DECODER,
    EMBEDDINGS,
    ENCODER,
    OUTPUT,
    Product,
    Shape,
)
from benchmarks.scale.plan import Device, Plan
from tests.benchmarks.scale import light_job
from tests.processes import Forked

pytestmark = pytest.mark.tensorflow

SMALL = {"units": 8, "embedding": 6, "vocabulary": 37, "depth": 2}
RESULTS = scale.RESULTS / "scale.json"


@pytest.fixture(scope="module")
def small():
    return counting.unfilled(lambda: job.made(SMALL))


# The products, against those of the compiled program.


class Program:
    """The text of an XLA program before any optimization."""

    def __init__(self, text):
        self.computations, body = {}, {}
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            begun = re.match(r"^(ENTRY )?%([\w.\-]+) \(.*\{$", line)
            found = re.match(r"^  (ROOT )?%([\w.\-]+) = (.*)$", line)
            if begun:
                body = self.computations[begun[2]] = {}
                self.entry = begun[2] if begun[1] else None
            elif found:
                body[found[2]] = bool(found[1]), found[3]

    def used(self, name):
        """A computation's instructions that its result depends on."""
        body = self.computations[name]
        found = {each for each, (is_root, _) in body.items() if is_root}
        left = list(found)
        while left:
            for operand in re.findall(r"%([\w.\-]+)", body[left.pop()][1]):
                if operand in body and operand not in found:
                    found.add(operand)
                    left.append(operand)
        return [body[each][1] for each in found]

    def called(self, instruction):
        return re.findall(r"(?:to_apply|calls)=%([\w.\-]+)", instruction)

    def numbers(self, name):
        """The integer constants of a computation, and of those that it calls."""
        known = set()
        for instruction in self.used(name):
            known |= {int(n) for n in re.findall(r"^s32\[\]\S* constant\((\d+)\)", instruction)}
            known |= {n for other in self.called(instruction) for n in self.numbers(other)}
        return known

    def operations(self, name):
        """The operations of all products, times the steps of their loops."""
        total = 0
        for instruction in self.used(name):
            dot = re.match(
                r"\w+\[([\d,]*)\]\S* dot\(\w+\[([\d,]*)\].*lhs_contracting_dims=\{([\d,]*)\}",
                instruction,
            )
            if dot:
                made, read, over = ([int(n) for n in part.split(",")] for part in dot.groups())
                total += 2 * math.prod(made) * math.prod(read[axis] for axis in over)
            loop = re.search(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)", instruction)
            if loop:
                (steps,) = self.numbers(loop[1])  # all that its condition compares with
                total += steps * self.operations(loop[2])
            total += sum(self.operations(other) for other in self.called(instruction))
        return total


def test_the_products_are_those_of_the_compiled_step(small):
    """The count of a whole step of the recipe is exact."""
    trains, _ = job.training_model(SMALL, 4, 12, by_xla=True)
    rows, source, target = 4, 5, 7
    ids = [tf.ones((rows, steps), "int32") for steps in (source, target, target)]
    step = tf.function(trains.train_step, jit_compile=True)
    text = step.experimental_get_compiler_ir(((ids[0], ids[1]), ids[2]))(stage="hlo")
    program = Program(text)
    program.entry = re.search(r"^ENTRY %([\w.\-]+)", text, re.MULTILINE)[1]
    found = counting.products(small, Shape(rows, source, target))
    assert program.operations(program.entry) == sum(p.operations for p in found)
    # Forward and backward: two bidirectional layers of the encoder, two layers of the decoder.
    loops = counting.loops(found, Shape(rows, source, target))
    assert len(loops) == len(re.findall(r" while\(", text)) == 12
    assert sum(loop.steps for loop in loops) == 8 * source + 4 * target


def test_the_parameters(small):
    counts = counting.parameters(small)
    assert sum(counts.values()) == small.count_params()
    # Two of 512 features, six of 2,048; the decoder's, with its input feeding and output.
    large = counting.parameters(scale_plan.model())
    gates = 4 * 1024
    assert large == {
        EMBEDDINGS: (32_002 + 32_004) * 512,
        ENCODER: 2 * (512 + 1024 + 1) * gates + 6 * (2048 + 1024 + 1) * gates,
        BRIDGE: (16 * 1024 + 1) * 1024 + (1024 + 1) * 8 * 1024,
        ATTENTION: 1024 * 1024 + 2048 * 1024 + 1024,
        DECODER: (512 + 1024 + 1 + 2048) * gates + 3072 * 1024 + 3 * (1024 + 1024 + 1) * gates,
        OUTPUT: (1024 + 1) * 32_004,
    }


def test_bytes_by_hand(small):
    # 2x3 times 3x5 makes 2x5, of numbers of 4 bytes.
    assert Product(ENCODER, 2, 3, 5).moved(4) == 4 * (6 + 15 + 10)
    assert Product(ENCODER, 2, 3, 5, together=7, times=11).operations == 2 * 2 * 3 * 5 * 7 * 11
    found = counting.kept(small, Shape(1, 1, 1), 4)
    assert found[EMBEDDINGS] == 4 * (6 + 6)
    # h, c and four gates of 8, the output of 8, the inputs with a one; two directions, two layers.
    assert found[ENCODER] == 4 * 2 * ((16 + 32 + 8 + 7) + (16 + 32 + 8 + 17))
    # Logits, probabilities, and the gradient.
    assert found[OUTPUT] == 3 * 4 * 41
    # In half precision the logits are in two bytes; what is computed of them is not.
    assert counting.kept(small, Shape(1, 1, 1), 2)[OUTPUT] == (2 + 4 + 4) * 41
    # Twice the rows or steps keep twice as much, but for the weights of each step's attention.
    assert counting.kept(small, Shape(2, 3, 3), 4)[ENCODER] == 6 * found[ENCODER]


def test_the_attention_reads_all_positions_at_each_step(small):
    shape = Shape(2, 5, 7)
    loops = counting.loops(counting.products(small, shape), shape)
    extra = {loop.kind: loop.extra for loop in loops if loop.extra}
    keys = 4 * 2 * 5 * 8  # bytes, rows, positions, units
    assert extra == {"attention, forward": keys, "attention, back": 5 * keys}


def test_passes_of_an_update():
    weight = tf.Variable(tf.zeros(7))

    @tf.function
    def update(gradient):
        weight.assign_sub(0.5 * gradient)

    graph = update.get_concrete_function(tf.TensorSpec([7])).graph
    # The product reads and writes; the other reads it, reads the weight, and writes the weight.
    assert counting.passes(7, graph.get_operations()) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gru"}, "expected an LSTM, received GRUCell"),
        ({"tied": True}, "tied=True"),
        ({"attention": "luong"}, "expected Bahdanau's attention"),
    ],
)
def test_other_models_are_refused(options, message):
    model = counting.unfilled(lambda: job.made({**SMALL, **options}))
    with pytest.raises(ValueError, match=message):
        counting.products(model, Shape(1, 1, 1))


# The extrapolation, for numbers with simple results.

INFINITE = Device("", "", 1, math.inf, 0.0, math.inf, 1.0, 1.0, 1.0, 0.0, True)
ONE_EACH = {"operations": dict.fromkeys(counting.KINDS, 1), "passes": 3.0}


def of_step(model, plan, measured=ONE_EACH, **device):
    return scale_plan.step(model, plan, dataclasses.replace(INFINITE, **device), measured)


def test_parts_of_a_step(small):
    plan = Plan(pieces=6.0, padded=0.25, rows=2, at_once=0.5, of_bandwidth=0.5)
    assert plan.shape == Shape(2, 8, 8)
    at_once, waiting, work, passes, update, exchange = scale_plan.PARTS_OF_STEP
    nothing = dict.fromkeys(scale_plan.PARTS_OF_STEP, 0.0)
    assert of_step(small, plan) == nothing
    # Twelve loops of eight steps, of an operation of two seconds each.
    assert of_step(small, plan, launch=2.0) == nothing | {waiting: 12 * 8 * 2.0}
    found = counting.products(small, plan.shape)
    inside = sum(product.operations for product in found if product.loop)
    outside = sum(product.operations for product in found) - inside
    computing = of_step(small, plan, peak=10.0, in_loops=0.25)
    assert computing[at_once] == pytest.approx(outside / 5.0)
    assert computing[work] == pytest.approx(inside / 2.5)
    # Work that takes as long as its launch takes no additional time.
    slow = max(p.operations / p.times for p in found if p.loop) / 2.5
    launched = of_step(small, plan, peak=10.0, in_loops=0.25, launch=slow)
    assert launched[work] == 0.0
    assert launched[waiting] == pytest.approx(12 * 8 * slow)
    # Of memory: eight passes over the weights in one program; three, and those around the
    # exchange, where there are several. The ring sends all of them but a fourth, twice.
    weights = 4 * small.count_params()
    one = of_step(small, plan, bandwidth=2.0)
    assert one[update] == 8 * weights
    logits = 8 * 4 * (2 * 8 * 41)
    assert one[passes] == logits + 1.5 * weights + 4 * (39 + 41) * 6
    four = of_step(small, plan, bandwidth=2.0, count=4, links=3.0, fused=False)
    assert four[update] == (3 + scale_plan.AROUND_EXCHANGE) * weights
    assert four[exchange] == pytest.approx(2 * 3 / 4 * weights / 3)


def test_hours_and_exchanges():
    # Two passes over 7,200 pairs, 40 a step: 360 steps, of ten seconds.
    assert scale_plan.hours(10.0, Plan(pairs=7200, epochs=2, rows=10), 4) == 1.0
    assert scale_plan.exchange(10.0, 2, 5.0) == 2.0
    assert scale_plan.exchange(10.0, 1, 5.0) == 0.0


def test_what_fits(small):
    plan = Plan(pieces=6.0, padded=0.25, usable=0.5)
    row = sum(counting.kept(small, Shape(1, 8, 8), 2).values())
    weights = 26 * small.count_params()
    holding = dataclasses.replace(INFINITE, memory=2 * (weights + 23.5 * row))
    assert scale_plan.largest(small, plan, holding) == 16


def test_an_exchange_between_more_workers():
    """Two workers take seven seconds, one of which is latency."""
    found = {"numbers": {"10": [1.0, 0.5, 2.0], "1000": [3.0]}, "gradients": [7.0]}
    assert scale_plan.of_more(found, 2) == 7.0
    assert scale_plan.of_more(found, 4) == 3 * 1.0 + 1.5 * 6.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (4.916, "4.92"), (12.0, "12.0"), (4567, "4,570")],
)
def test_figures(value, text):
    assert scale_report.figures(value) == text


# The page.


def test_the_page_is_current():
    """If it fails: python -m benchmarks.scale --tables"""
    page = scale.PAGE.read_text(encoding="utf-8")
    results = json.loads(RESULTS.read_text())
    assert scale_report.filled(page, scale_report.tables(results)) == page
    report = (scale.RESULTS / "scale.md").read_text(encoding="utf-8")
    assert scale_report.report(results) == report


def test_the_statements_of_the_page():
    results = json.loads(RESULTS.read_text())
    for count, hours in scale_plan.checked(results).items():
        published = scale_plan.PUBLISHED[count]
        assert published["TensorFlow"] < hours < published["PyTorch"]
    on_gpus = scale_plan.steps(results)[scale_plan.A100.name]
    assert max(on_gpus, key=on_gpus.get) == "time loops: latency"
    found = counting.products(scale_plan.model(), scale_plan.plan_of(results).shape)
    (recurrent,) = {
        (p.rows, p.inner, p.columns) for p in found if p.part == ENCODER and "forward" in p.loop
    }
    product = Product(ENCODER, *recurrent)
    for device in scale_plan.DEVICES:
        assert product.operations / product.moved(2) < device.peak / device.bandwidth
    assert results["corpus"]["left_out"] < results["corpus"]["pairs"] / 1000
    assert results["program"]["of_known_length"] == results["program"]["loops"]
    # Two workers take about as long as their computation and the exchange together.
    found = results["workers"]
    alone, two = ({int(n): median(t) for n, t in found[k].items()} for k in ("at_once", "two"))
    for rows in alone:
        assert 0.85 < (alone[rows] + median(found["gradients"])) / two[2 * rows] < 1
    memory = results["memory"]
    assert memory["counted"] == pytest.approx(memory["program"], rel=0.05)
    assert memory["resident"] > memory["program"]


def test_tables_find_their_places():
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n"
    once = scale_report.filled(page, {"one": "| new |"})
    assert once == "a\n<!-- table: one -->\n\n| new |\n\n<!-- end -->\nb\n"
    assert scale_report.filled(once, {"one": "| new |"}) == once
    with pytest.raises(ValueError, match="expected each of"):
        scale_report.filled(page, {"other": ""})


def test_the_command_of_the_page():
    """Its options are those of the recipe, and of the counted model."""
    from kerasrnn import recipes

    (command,) = re.findall(
        r"kerasrnn train translate ((?:.*\\\n)*.*)\n```", scale.PAGE.read_text()
    )
    words = command.replace("\\\n", " ").split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given.pop("--precision") == "bfloat16"
    assert given.pop("--strategy") == "mirrored"
    config = recipes.load("translate").Config()
    options = {name.removeprefix("--").replace("-", "_"): text for name, text in given.items()}
    typed = {name: type(getattr(config, name))(text) for name, text in options.items()}
    config = dataclasses.replace(config, **typed)
    plan = Plan()
    assert {name: getattr(config, name) for name in job.LARGE} == job.LARGE
    assert (config.epochs, config.limit) == (plan.epochs, plan.pairs)
    assert all(config.batch_size == plan.rows * d.count for d in scale_plan.DEVICES)


# The measuring.


def test_the_lengths_of_the_stand_in():
    recipe = job.recipes.load("translate")
    config = recipe.Config(vocabulary=5)
    data = job.stand_in(recipe, config, rows=9, length=4)
    shapes = [
        [x.shape for x in keras.tree.flatten(pair)] for pair in data.train.as_numpy_iterator()
    ]
    assert shapes == [[(4,)] * 3] * 9
    assert [tuple(spec.shape) for spec in keras.tree.flatten(data.train.element_spec)] == [
        (None,)
    ] * 3


@pytest.mark.xdist_group("processes")
def test_the_error_of_a_process_is_reported(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    with pytest.raises(scale.Failure, match="KeyError: 'nothing'"):
        scale.run({"do": "nothing"})


@pytest.mark.xdist_group("processes")
def test_two_workers_exchange_gradients(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    monkeypatch.setattr(scale, "PROGRAM", light_job.__name__)
    wanted = {"do": "train", "options": scale.QUICK, "length": 12, "repeats": 2, "batches": [8]}
    chief, other = scale.run(
        *[{**wanted, "strategy": "multiworker", "sizes": [10]}] * 2, cores=2, cluster=True
    )
    assert set(chief) == set(other) == {"seconds", "exchanged", "gradients", "numbers"}
    assert chief["exchanged"] == 54 * 16 + (16 + 1) * 54  # the weights of the light model
    assert len(chief["seconds"]["8"]) == len(chief["gradients"]) == 2
