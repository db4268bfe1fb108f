"""XLA knows the lengths of the loops, and copies no sequence in a step."""

import re

import keras
import numpy as np
import pytest

from tests.catalogue import BY_NAME, OF_PICTURES, PROBES, ROWS, variant_id

# On JAX the loop is the same for all steps, and compiled wherever it runs.
CHECKED = ROWS if keras.config.backend() == "tensorflow" else [*PROBES, BY_NAME["MinGRU"]]
ON_JAX = keras.config.backend() == "jax"
STEPS = 37  # no other axis has this length


def loop_copies(hlo):
    """The copies of entire sequences in the bodies of loops and the functions that they call."""
    computations = dict(re.findall(r"^(?:ENTRY )?%(\S+) \(.*?\{\n(.*?)^\}", hlo, re.M | re.S))
    waiting, seen, found = re.findall(r"body=%([\w.-]+)", hlo), set(), []
    assert len(waiting) >= 2  # forward and back
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += re.findall(r"calls=%([\w.-]+)", computations[name])
            found += re.findall(rf"^.*\[{STEPS}(?:,\d+)+\]\S* copy\(.*$", computations[name], re.M)
    return found


@pytest.mark.parametrize(
    ("row", "options", "masked", "return_sequences"),
    [
        # A chunk of steps is computed at once: there is no loop over the steps.
        *((row, {}, False, False) for row in CHECKED if not row.cell.is_chunked),
        (BY_NAME["SimpleRNN"], {}, False, True),
        (BY_NAME["SimpleRNN"], {"activation": "gelu"}, True, True),  # differentiated automatically
        (BY_NAME["LSTM"], {}, True, True),
    ],
    ids=variant_id,
)
def test_no_step_copies_the_sequence(row, options, masked, return_sequences):
    """A copy per step would make the time of training quadratic in the length."""
    check(row.layer(6, return_sequences=return_sequences, **options), (4,), masked)


@pytest.mark.parametrize("row", OF_PICTURES, ids=variant_id)
def test_no_step_copies_the_images(row):
    check(row.layer(3, 2, return_sequences=True), (5, 4, 2))


def check(layer, step, masked=False):
    x = np.random.default_rng(0).standard_normal((3, STEPS, *step), "float32")
    mask = np.arange(STEPS) < np.array([[STEPS], [30], [20]]) if masked else None
    layer.build(x.shape)
    hlo = (hlo_on_jax if ON_JAX else hlo_on_tensorflow)(layer, x, mask)
    assert loop_copies(hlo) == []
    # Without a known number of steps, a GPU would be queried after each step.
    loops = re.findall(r"^.* while\(.*$", hlo, re.M)
    known = [re.search(r'known_trip_count":\{"n":"(\d+)"', loop) for loop in loops]
    assert all(found and int(found[1]) == STEPS for found in known), loops


def hlo_on_jax(layer, x, mask):
    import jax

    others = [weight.value for weight in layer.non_trainable_variables]

    def loss(weights, x):
        y, _ = layer.stateless_call(weights, others, x, mask=mask, training=True)
        return keras.ops.sum(keras.ops.square(y))

    weights = [weight.value for weight in layer.trainable_variables]
    return jax.jit(jax.grad(loss, (0, 1))).lower(weights, x).compile().as_text()


def hlo_on_tensorflow(layer, x, mask):
    import tensorflow as tf

    x = tf.constant(x)

    @tf.function(jit_compile=True)
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(keras.ops.square(layer(x, mask=mask, training=True)))
        return tape.gradient(loss, [x, *[w.value for w in layer.trainable_weights]])

    return gradients.experimental_get_compiler_ir(x)(stage="optimized_hlo")
