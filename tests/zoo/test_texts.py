"""Models of texts, given texts as users have them."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import zoo
from kerasrnn.recipes.tasks import text
from kerasrnn.zoo.model import of

pytestmark = pytest.mark.tensorflow
TEXTS = ["x y", "", "y é"]


class Series:
    """What matters of a pandas Series that was filtered: no row has the label 0."""

    ndim, shape = 1, (3,)

    def __iter__(self):
        return iter(TEXTS)

    def __len__(self):
        return 3

    def __getitem__(self, label):
        raise KeyError(label)


@pytest.fixture(scope="module")
def model():
    core = zoo.many_to_one(zoo.Tokens(4, 2), zoo.Classes(2), cell="gru", units=3)
    return text.attach(core, {"sequence": text.vectorizer(["x", "y"])}, longest=3)


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array([line.encode() for line in TEXTS]),
        Series(),
        types.MappingProxyType(dict.fromkeys(TEXTS)).keys(),
        tf.constant(TEXTS),
    ],
    ids=["list", "tuple", "strings", "objects", "bytes", "series", "keys", "tensor"],
)
def test_texts_of_every_kind(model, given):
    expected = model(tf.constant(TEXTS))
    reads = of(model)
    assert isinstance(reads, zoo.Model)
    np.testing.assert_array_equal(reads(given), expected)
    np.testing.assert_allclose(reads.predict(given, verbose=0), expected, atol=1e-6)


def test_generators_and_datasets(model):
    expected = model(tf.constant(TEXTS))
    reads = of(model)
    np.testing.assert_array_equal(reads(line for line in TEXTS), expected)
    found = reads.predict((line for line in TEXTS), batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2)
    np.testing.assert_allclose(reads.predict(batches, verbose=0), expected, atol=1e-6)


def test_it_is_a_functional_model_as_any(model, tmp_path):
    reads = of(model)
    assert [layer.name for layer in reads.layers] == [layer.name for layer in model.layers]
    assert text.trained_model(reads) is text.trained_model(model)
    reads.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, zoo.Model)
    np.testing.assert_array_equal(again(TEXTS), reads(TEXTS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "=None: expected a list of texts"),
        ("x y", "='x y': expected a list of texts"),
        (b"x y", "=b'x y': expected a list of texts"),
        (3, "=3: expected a list of texts"),
        ([], r"=\[\]: expected a list of texts"),
        (["x", 3], r"\[1\]=3: expected a text"),
        (["x", float("nan")], r"\[1\]=nan: expected a text"),
        (["x", None], r"\[1\]=None: expected a text"),
        (["x", "\udcff"], r"\[1\]=.* expected text that can be encoded as UTF-8"),
        (np.array("x"), r" has the shape \(\); expected a list of texts"),
        (np.array([["x"], ["y"]]), r" has the shape \(2, 1\); expected a list of texts"),
    ],
    ids=str,
)
def test_what_is_no_list_of_texts(model, given, message):
    reads = of(model)
    with pytest.raises(ValueError, match=f"^inputs{message}"):
        reads(given)
    with pytest.raises(ValueError, match=f"^x{message}"):
        reads.predict(given, verbose=0)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_sizes_of_batches(model, size):
    with pytest.raises(ValueError, match=f"batch_size={size}: expected a positive integer"):
        of(model).predict(TEXTS, batch_size=size)
