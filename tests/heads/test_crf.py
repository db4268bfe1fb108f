"""`kerasrnn.CRF` compared with an enumeration of all sequences, and trained."""

import itertools
import re

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.heads import enumeration
from tests.heads.enumeration import MASK, ROWS, STEPS
from tests.measure import FIRST_BACKEND, PRECISION, TIGHT, op_by_op

pytestmark = pytest.mark.torch_backend

TAGS = {
    "BIO": ["O", "B-X", "I-X", "B-Y", "I-Y"],
    "IOB1": ["O", "B-X", "I-X", "B-Y", "I-Y"],
    "BIOES": ["O", "B", "I", "E", "S"],
    "BILOU": ["O", "B", "I", "L", "U"],
    "BMES": ["B", "M", "E", "S"],
}
# What a scheme allows, as a regular expression of the tags of a row, each followed by a space.
ALLOWED = {
    "BIO": r"(O |B-X (I-X )*|B-Y (I-Y )*)*",
    "IOB1": r"(O |(I-X )+(B-X (I-X )*)*|(I-Y )+(B-Y (I-Y )*)*)*",
    "BIOES": r"(O |B (I )*E |S )*",
    "BILOU": r"(O |B (I )*L |U )*",
    "BMES": r"(B (M )*E |S )*",
}


def random_layer(*arguments, **options):
    """A layer with random weights, and random scores for it."""
    layer = kerasrnn.CRF(*arguments, dtype=PRECISION, **options)
    x = np.random.default_rng(1).normal(size=(ROWS, STEPS, layer.count)).astype(PRECISION)
    layer.build(x.shape)
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer, x


def enumerated(layer, x, mask=MASK, is_allowed=lambda y: True):
    weights = [np.asarray(w, "float64") for w in layer.get_weights()]
    return [
        enumeration.paths(row, *weights, valid, is_allowed)
        for row, valid in zip(x, mask, strict=True)
    ]


def of_scheme(scheme):
    names = TAGS[scheme]
    return lambda y: bool(re.fullmatch(ALLOWED[scheme], "".join(f"{names[k]} " for k in y)))


def close(a, b, tolerance=TIGHT):
    np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=10 * tolerance, atol=10 * tolerance)


def assert_enumerated(layer, x, all_rows, n):
    """Everything that the layer computes equals the enumeration."""
    close(layer.log_partition(x, MASK), [enumeration.log_partition(found) for found in all_rows])
    expected = [
        enumeration.marginals(found, valid, layer.count)
        for found, valid in zip(all_rows, MASK, strict=True)
    ]
    close(layer(x, mask=MASK), expected)
    close(layer.marginals(x, MASK), expected)
    pairs = zip(all_rows, MASK, strict=True)
    tags, scores = zip(*(enumeration.best(found, valid, n) for found, valid in pairs), strict=True)
    found_tags, found_scores = layer.decode(x, MASK, n=n)
    np.testing.assert_array_equal(ops.convert_to_numpy(found_tags), tags)
    close(found_scores, scores)
    found_tags, found_scores = layer.decode(x, MASK)
    np.testing.assert_array_equal(ops.convert_to_numpy(found_tags), np.array(tags)[:, 0])
    close(found_scores, np.array(scores)[:, 0])
    some = np.random.default_rng(0).integers(0, layer.count, (5, ROWS, STEPS))
    for y in [*some, *np.moveaxis(np.array(tags)[:, :3], 1, 0)]:
        expected = [
            of_row.get(tuple(row[valid].tolist()), -np.inf) - enumeration.log_partition(of_row)
            for of_row, row, valid in zip(all_rows, y, MASK, strict=True)
        ]
        close(layer.log_likelihood(x, y, MASK), expected)


def test_every_sequence_is_counted():
    layer, x = random_layer(3)
    assert_enumerated(layer, x, enumerated(layer, x), n=5)


@pytest.mark.parametrize("scheme", TAGS)
def test_only_what_a_scheme_allows_is_counted(scheme):
    layer, x = random_layer(TAGS[scheme], scheme)
    assert_enumerated(layer, x, enumerated(layer, x, is_allowed=of_scheme(scheme)), n=2)


def test_forbidden_pairs_are_not_counted():
    layer, x = random_layer(["a", "b", "c"], forbidden=[("a", "b"), (2, 2), (None, "c"), (1, None)])

    def is_allowed(y):
        pairs = set(itertools.pairwise(y))
        return not pairs & {(0, 1), (2, 2)} and y[0] != 2 and y[-1] != 1

    assert_enumerated(layer, x, enumerated(layer, x, is_allowed=is_allowed), n=3)


@pytest.mark.traced
def test_graphs_of_unknown_sizes_compute_the_same():
    """With a mask that Keras attached, in a functional model, which decodes as well."""
    layer, x = random_layer(3)
    x = x.astype("float32")
    scores = keras.Input((None, 3))
    masked = keras.layers.Masking(-9.0)(scores)
    model = keras.Model(scores, [layer(masked), *layer.decode(masked), *layer.decode(masked, n=2)])
    given = np.where(MASK[:, :, None], x, -9.0)
    marginals, tags, score, several, scores = model.predict(given, verbose=0)
    close(marginals, ops.convert_to_numpy(layer.marginals(x, MASK)), 1e-6)
    with op_by_op():
        expected, expected_scores = layer.decode(x, MASK, n=2)
    np.testing.assert_array_equal(several, ops.convert_to_numpy(expected))
    np.testing.assert_array_equal(tags, several[:, 0])
    close(scores, ops.convert_to_numpy(expected_scores), 1e-6)
    np.testing.assert_array_equal(score, scores[:, 0])


def test_without_weights_it_is_a_softmax():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    y = np.array([[0, 1, 3], [2, 2, 1]])
    layer = kerasrnn.CRF(4)
    p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    close(layer(x), p, 1e-6)
    expected = np.log(np.take_along_axis(p, y[:, :, None], axis=2)).sum(axis=(1, 2))
    close(layer.log_likelihood(x, y), expected, 1e-6)


# Gradients.


def gradients(layer, x, function):
    """The gradients of a function of the scores and the layer, of the scores and its weights."""
    weights = [w.value for w in layer.trainable_variables]
    x = ops.convert_to_tensor(x)
    match keras.config.backend():
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            found = tape.gradient(y, [x, *layer.trainable_variables])
        case "jax":
            import jax

            def stateless(x, weights):
                pairs = list(zip(layer.trainable_variables, weights, strict=True))
                with keras.StatelessScope(state_mapping=pairs):
                    return function(x)

            d_x, d_weights = jax.grad(stateless, (0, 1))(x, weights)
            found = [d_x, *d_weights]
        case _:
            import torch

            x.requires_grad_()
            found = torch.autograd.grad(function(x), [x, *weights])
    return [ops.convert_to_numpy(ops.convert_to_tensor(d)) for d in found]


def along(layer, x, function, directions, step):
    """The central difference of the same function along a direction of each argument."""
    values, found = [x, *layer.get_weights()], []

    def at(n, moved):
        all_values = [moved if k == n else value for k, value in enumerate(values)]
        layer.set_weights(all_values[1:])
        return float(ops.convert_to_numpy(function(ops.convert_to_tensor(all_values[0]))))

    for n, (value, direction) in enumerate(zip(values, directions, strict=True)):
        ends = [at(n, value + sign * step * direction) for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * step))
    layer.set_weights(values[1:])
    return found


@pytest.mark.traced
@pytest.mark.gradients
@pytest.mark.parametrize(
    ("what", "scheme"), [("log_likelihood", None), ("log_likelihood", "BMES"), ("marginals", None)]
)
def test_gradients_equal_differences(what, scheme):
    layer, x = random_layer(TAGS["BMES"] if scheme else 3, scheme)
    random = np.random.default_rng(4)
    y = ops.convert_to_numpy(layer.decode(x, MASK)[0])
    upstream = random.normal(size=(ROWS, STEPS, layer.count)).astype(PRECISION)

    def function(x):
        if what == "marginals":
            return ops.sum(layer(x, mask=MASK) * ops.convert_to_tensor(upstream))
        of_rows = ops.convert_to_tensor(upstream[:, 0, 0])
        return ops.sum(layer.log_likelihood(x, y, MASK) * of_rows)

    step, tolerance = (1e-5, 1e-7) if FIRST_BACKEND else (1e-2, 3e-3)
    found = gradients(layer, x, function)
    if FIRST_BACKEND:  # of the loop run by Python, too
        with op_by_op():
            for a, b in zip(gradients(layer, x, function), found, strict=True):
                close(a, b)
    for _ in range(3):
        directions = [random.normal(size=d.shape).astype(PRECISION) for d in found]
        expected = along(layer, x, function, directions, step)
        products = [(d * v).sum() for d, v in zip(found, directions, strict=True)]
        close(products, expected, tolerance)


@pytest.mark.gradients
def test_masked_steps_have_no_influence():
    """Not even NaN, nor a tag that is forbidden by its score; nor the targets of masked steps."""
    layer, x = random_layer(3)
    x[0, 1, 2] = -np.inf
    y = ops.convert_to_numpy(layer.decode(x, MASK)[0])

    def function(x, y=y):
        return -ops.sum(layer.log_likelihood(x, y, MASK)) + ops.sum(layer(x, mask=MASK)[:, :, 0])

    expected = gradients(layer, x, function)
    assert np.isfinite(expected[0]).all()
    given, of_masked = np.where(MASK[:, :, None], x, np.nan), np.where(MASK, y, -1)
    for d, e in zip(
        gradients(layer, given, lambda x: function(x, of_masked)), expected, strict=True
    ):
        np.testing.assert_array_equal(d, e)


# Numbers.


@pytest.mark.traced
def test_long_sequences_keep_their_digits():
    """The score is 10,000 times the loss of a step."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 2000, 3)).astype("float32") + 5
    layer = kerasrnn.CRF(3)
    layer.build(x.shape)
    weights = [random.normal(size=w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(weights)
    start, transitions, end = (np.asarray(w, "float64") for w in weights)
    f, highest, pointers = start + x[0, 0], start + x[0, 0], []
    for row in x[0, 1:].astype("float64"):
        f = np.logaddexp.reduce(f[:, None] + transitions, axis=0) + row
        pointers.append((highest[:, None] + transitions).argmax(axis=0))
        highest = (highest[:, None] + transitions).max(axis=0) + row
    y = [int((highest + end).argmax())]
    for row in reversed(pointers):
        y.append(int(row[y[-1]]))
    tags, score = layer.decode(x)
    assert ops.convert_to_numpy(tags)[0].tolist() == y[::-1]
    assert float(score[0]) == pytest.approx((highest + end).max(), rel=1e-6)
    expected = (highest + end).max() - np.logaddexp.reduce(f + end)
    assert float(layer.log_likelihood(x, tags)[0]) == pytest.approx(expected, rel=1e-5)


def test_extreme_scores_are_exact():
    """exp(1000) is infinite, and the most probable first tag does not lead to the second."""
    x = np.array([[[1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0]]], "float32")
    layer = kerasrnn.CRF(3, forbidden=[(0, 1)])
    layer.build(x.shape)
    close(layer.log_partition(x), [1000 + np.log(4)], 1e-6)
    close(layer.log_likelihood(x, [[0, 2]]), [-np.log(4)], 1e-6)
    close(layer.log_likelihood(x, [[0, 0]]), [-np.log(4)], 1e-6)


@pytest.mark.traced
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_scores_are_summed_in_full(dtype):
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    layer = kerasrnn.CRF(3)
    keras.config.set_dtype_policy("float32")
    x = ops.cast(np.random.default_rng(0).normal(size=(2, 50, 3)) * 30, dtype)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.start.dtype == "float32"
    full = kerasrnn.CRF(3)(ops.cast(x, "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(y), ops.convert_to_numpy(full))


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tags": 0}, "tags=0: expected a positive integer"),
        ({"tags": "BIO"}, "tags='BIO': expected their number or a list of their names"),
        ({"tags": ["a", "b", "a"]}, "names that differ; 'a' occurs more than once"),
        ({"tags": []}, "names that differ; there is none"),
        ({"tags": 3, "scheme": "BIO"}, "tags=3: expected a list of names, for scheme='BIO'"),
        ({"tags": ["O"], "scheme": "IOB"}, "scheme='IOB': expected 'BIO'"),
        (
            {"tags": ["O", "E-X"], "scheme": "BIO"},
            r"tags\[1\]='E-X': expected 'O' or B, I before '-' and a type, in BIO",
        ),
        ({"tags": ["B", "I-"], "scheme": "BIO"}, r"tags\[1\]='I-'"),
        ({"tags": ["a"], "forbidden": [("a", "b")]}, r"forbidden\[0\].*'b' is not one of the tags"),
        ({"tags": 2, "forbidden": [(0, 2)]}, r"forbidden\[0\]=2: expected an integer from 0 to 1"),
        ({"tags": 2, "forbidden": {0: 1}}, r"forbidden=\{0: 1\}: expected a list of pairs"),
        ({"tags": 2, "forbidden": [(None, None)]}, r"forbidden\[0\]=\(None, None\)"),
        (
            {"tags": 2, "forbidden": [(0, 0), (0, 1), (1, 0), (1, 1)]},
            "no sequence of 2 tags is allowed",
        ),
        ({"tags": ["B", "E"], "scheme": "BIOES"}, "no sequence of 1 tags is allowed"),
        ({"tags": 2, "initializer": "none"}, "initializer='none'"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.CRF(**arguments)


def test_calls_are_refused():
    layer = kerasrnn.CRF(3)
    with pytest.raises(ValueError, match=r"expected \(batch, time, 3\), a score for each tag"):
        layer(np.zeros((2, 4, 5), "float32"))
    x = np.zeros((2, 4, 3), "float32")
    with pytest.raises(ValueError, match=r"scores of the shape \(2, 4\)"):
        layer.decode(x[:, :, 0])
    with pytest.raises(ValueError, match=r"mask has the shape \(2, 3\)"):
        layer.decode(x, np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"n=0: expected a positive integer"):
        layer.decode(x, n=0)
    with pytest.raises(ValueError, match=r"tags of the shape \(2, 3\)"):
        layer.log_likelihood(x, np.zeros((2, 3), "int32"))
    with pytest.raises(ValueError, match=r"tags: expected numbers from 0 to 2; found -1"):
        layer.log_likelihood(x, np.full((2, 4), -1))
    with pytest.raises(ValueError, match=r"have no steps"):
        layer.decode(x[:, :0])
