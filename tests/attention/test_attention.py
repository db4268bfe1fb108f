"""Each attention against the papers' equations in NumPy; against Keras where they coincide."""

import keras
import numpy as np
import pytest

import kerasrnn
from tests import numpy_models
from tests.attention.attentions import ATTENTIONS
from tests.measure import FIRST_BACKEND, MASKS, PRECISION, TIGHT, make_mask, randomize

BATCH, TIME, POSITIONS = 4, 4, 6


def tensors(query_width=5, key_width=5):
    random = np.random.default_rng(0)
    query = random.standard_normal((BATCH, TIME, query_width)).astype(PRECISION)
    return query, random.standard_normal((BATCH, POSITIONS, key_width)).astype(PRECISION)


def new(name, query, keys):
    """Built, with random weights."""
    layer = ATTENTIONS[name](dtype=PRECISION)
    layer.build(query.shape, keys.shape)
    randomize(layer)
    return layer


def expected(layer, query, keys, mask):
    """In NumPy, query by query."""
    contexts, alphas = [], []
    for n in range(BATCH):
        used = np.ones(POSITIONS, bool) if mask is None else mask[n]
        states = numpy_models.attention_begins(layer, used)
        contexts.append([])
        alphas.append([])
        for s in query[n]:
            c, states = numpy_models.attend(
                layer, s, keys[n], used, states, numpy_models.weights_of(layer)
            )
            contexts[-1].append(c)
            alphas[-1].append(states[0])
    return np.array(contexts), np.array(alphas)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_equations(name):
    """One or several queries per row, with masks of every kind."""
    query, keys = tensors()
    layer = new(name, query, keys)
    for kind in MASKS:
        mask = make_mask(kind, BATCH, POSITIONS)
        context, alpha = expected(layer, query, keys, mask)
        found = layer(query, keys, keys_mask=mask)
        np.testing.assert_allclose(found[0], context, atol=TIGHT, err_msg=kind)
        np.testing.assert_allclose(found[1], alpha, atol=TIGHT, err_msg=kind)
        found = layer(query[:, 0], keys, keys_mask=mask)
        np.testing.assert_allclose(found[0], context[:, 0], atol=TIGHT, err_msg=kind)
        np.testing.assert_allclose(found[1], alpha[:, 0], atol=TIGHT, err_msg=kind)
        if kind == "mixed":
            assert not np.asarray(found[0])[0].any()
            assert not np.asarray(found[1])[0].any()


@pytest.mark.parametrize("name", ["bahdanau", "general", "concat"])
def test_widths_may_differ(name):
    query, keys = tensors(3, 5)
    layer = new(name, query, keys)
    context, alpha = expected(layer, query, keys, None)
    found = layer(query, keys)
    np.testing.assert_allclose(found[0], context, atol=TIGHT)
    np.testing.assert_allclose(found[1], alpha, atol=TIGHT)


def test_values_of_their_own():
    query, keys = tensors()
    values = np.random.default_rng(1).standard_normal((BATCH, POSITIONS, 2)).astype(PRECISION)
    layer = new("bahdanau", query, keys)
    context, alpha = layer(query, keys, values)
    assert tuple(context.shape) == (BATCH, TIME, 2)
    np.testing.assert_allclose(context, np.asarray(alpha) @ values, atol=TIGHT)


def test_equals_keras_additive_attention():
    """It has no kernels: here they are identities."""
    query, keys = tensors(4, 4)
    mask = make_mask("gapped", BATCH, POSITIONS)
    layer = new("bahdanau", query, keys)
    scale = np.random.default_rng(2).standard_normal(4)
    layer.set_weights([np.eye(4), np.eye(4), scale])
    twin = keras.layers.AdditiveAttention(dtype=PRECISION)
    twin.build([query.shape, keys.shape])
    twin.set_weights([scale])
    theirs, weights = twin([query, keys], mask=[None, mask], return_attention_scores=True)
    context, alpha = layer(query, keys, keys_mask=mask)
    np.testing.assert_allclose(context, theirs, atol=1e-6)
    np.testing.assert_allclose(alpha, weights, atol=1e-6)


def test_equals_keras_attention():
    query, keys = tensors()
    twin = keras.layers.Attention(dtype=PRECISION)
    context, alpha = kerasrnn.LuongAttention("dot", dtype=PRECISION)(query, keys)
    theirs, weights = twin([query, keys], return_attention_scores=True)
    np.testing.assert_allclose(context, theirs, atol=TIGHT)
    np.testing.assert_allclose(alpha, weights, atol=TIGHT)


def test_long_monotonic_weights_stay_finite():
    """Products of 1 - p over 400 positions vanish; quotients of them would not be finite."""
    random = np.random.default_rng(0)
    query, keys = random.standard_normal((1, 3, 4)), 5 * random.standard_normal((1, 400, 4))
    layer = kerasrnn.MonotonicAttention(kerasrnn.LuongAttention("dot"), dtype="float32")
    _, alpha = layer(query.astype("float32"), keys.astype("float32"))
    p = numpy_models.sigmoid(query[0].astype("float32") @ keys[0].T.astype("float32"))
    before, rows = np.eye(400)[0], []
    for row in p:
        before = numpy_models.attention.monotonic_soft(row, before)
        rows.append(before)
    np.testing.assert_allclose(np.asarray(alpha)[0], rows, atol=1e-5)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_saved_and_loaded(name, tmp_path):
    """As a layer of the functional API, with the mask of an embedding."""
    ids = np.array([[3, 1, 2, 0], [1, 0, 0, 0], [2, 2, 4, 1], [0, 0, 0, 0]])
    queries, source = keras.Input((None, 5)), keras.Input((None,), dtype="int32")
    keys = keras.layers.Embedding(5, 5, mask_zero=True)(source)
    layer = ATTENTIONS[name]()
    model = keras.Model([queries, source], layer(queries, keys))
    randomize(model)
    query = tensors()[0].astype("float32")
    context, alpha = model([query, ids])
    for part in model.layers:
        if isinstance(part, keras.layers.Embedding):
            (table,) = part.get_weights()
    for n, row in enumerate(ids):
        used = row != 0
        states = numpy_models.attention_begins(layer, used)
        for t in range(TIME):
            c, states = numpy_models.attend(
                layer, query[n, t], table[row], used, states, numpy_models.weights_of(layer)
            )
            np.testing.assert_allclose(np.asarray(alpha)[n, t], states[0], atol=1e-5)
            np.testing.assert_allclose(np.asarray(context)[n, t], c, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded([query, ids]), (context, alpha), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["bahdanau", "local", "coverage", "monotonic"])
def test_half_precision(name, dtype):
    query, keys = (x.astype("float32") for x in tensors())
    layer = new(name, query, keys)
    half = ATTENTIONS[name](dtype=dtype)
    half.build(query.shape, keys.shape)
    half.set_weights(layer.get_weights())
    mask = make_mask("mixed", BATCH, POSITIONS)
    for a, b in zip(
        half(query, keys, keys_mask=mask), layer(query, keys, keys_mask=mask), strict=True
    ):
        np.testing.assert_allclose(np.asarray(a, "float32"), b, atol=0.06)


@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: kerasrnn.LuongAttention("dot", window=8, **kw),
        lambda **kw: kerasrnn.MonotonicAttention(kerasrnn.LuongAttention("dot", **kw), **kw),
    ],
    ids=["local", "monotonic"],
)
def test_half_precision_and_long_sources(make):
    """bfloat16 has no integers between 256 and 258, and no small differences of large numbers."""
    random = np.random.default_rng(0)
    query, keys = (
        np.round(4 * random.standard_normal((2, size, 4))).astype("float32") / 4  # exact in half
        for size in (40, 500)
    )
    layers = [make(dtype=dtype) for dtype in ("float32", "mixed_bfloat16")]
    for layer in layers:
        layer.build(query.shape, keys.shape)
        randomize(layer)
    alpha, half = (np.asarray(layer(query, keys)[1], "float32") for layer in layers)
    positions = np.arange(500)
    # For one query in ten, the window contains another position at its edge.
    assert np.abs(half.sum(axis=-1) - alpha.sum(axis=-1)).mean() < 0.02
    assert np.abs((half - alpha) @ positions).mean() < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.BahdanauAttention(0), "units=0: expected a positive integer"),
        (lambda: kerasrnn.LuongAttention("cosine"), "score='cosine': expected one of 'dot'"),
        (lambda: kerasrnn.LuongAttention("dot", units=3), "units=3: only for score='concat'"),
        (lambda: kerasrnn.LuongAttention("concat"), "units=None: expected a positive integer"),
        (lambda: kerasrnn.LuongAttention(window=0), "window=0: expected a positive integer"),
        (
            lambda: kerasrnn.LocationSensitiveAttention(3, kernel_size=4),
            "kernel_size=4: expected an odd number",
        ),
        (
            lambda: kerasrnn.MonotonicAttention(kerasrnn.CoverageAttention(3)),
            "expected an attention that does not depend on the previous step",
        ),
        (
            lambda: kerasrnn.MonotonicAttention(kerasrnn.LuongAttention(window=3)),
            "has window=3; expected None",
        ),
        (
            lambda: kerasrnn.LuongAttention("dot")(np.ones((1, 3)), np.ones((1, 2, 4))),
            "queries and keys of equal width; received 3 and 4",
        ),
        (
            lambda: kerasrnn.BahdanauAttention(3)(np.ones((3,)), np.ones((1, 2, 4))),
            r"query has the shape \(3,\); expected \(batch, width\)",
        ),
        (
            lambda: kerasrnn.BahdanauAttention(3)(np.ones((1, 3)), np.ones((2, 4))),
            r"keys has the shape \(2, 4\); expected \(batch, positions",
        ),
        (
            lambda: kerasrnn.BahdanauAttention(3)(np.ones((1, 3)), np.ones((1, 0, 4))),
            "have no positions",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
