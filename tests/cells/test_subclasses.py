"""A user's subclasses of cells: what they override is used, or they raise an error."""

import inspect
import re
from typing import ClassVar

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.cells.arguments import OPTIONS
from tests.measure import make_mask, op_by_op

X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
MASK = make_mask("gapped", 3, 4)


def doubled(cls):
    """A subclass as in Keras's tutorials: the output is twice the state."""

    class Doubled(cls):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training=training)
            return 2 * output, states

    return Doubled


CELLS = (kerasrnn.SimpleRNNCell, kerasrnn.LSTMCell, kerasrnn.GRUCell)
cells = pytest.mark.parametrize("cls", CELLS, ids=lambda cls: cls.__name__)


@cells
def test_layers_run_an_overridden_call(cls):
    cell = doubled(cls)(5)
    options = {"return_sequences": True, "return_state": True}
    layer = kerasrnn.RNN(cell, **options)
    plain = kerasrnn.RNN(cls(5), **options)
    plain.build(X.shape)
    with op_by_op():
        y, *states = layer(X, mask=MASK)
        plain.set_weights(layer.get_weights())
        right, *right_states = plain(X, mask=MASK)
        np.testing.assert_allclose(y, 2 * np.asarray(right), atol=1e-6)
        for actual, expected in zip(states, right_states, strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-6)
        layer.go_backwards = plain.go_backwards = True
        layer.zero_output_for_mask = plain.zero_output_for_mask = True
        right = 2 * np.asarray(plain(X, mask=MASK)[0])
        np.testing.assert_allclose(layer(X, mask=MASK)[0], right, atol=1e-6)
        # As in Keras's loop.
        twin = keras.layers.RNN(cell, **options)
        for ours, theirs in zip(layer(X), twin(X[:, ::-1]), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_overridden_call_in_training_under_dropout():
    """In training only, with the same mask at every step."""

    class Copying(kerasrnn.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training=training)

    options = {
        "activation": None,
        "kernel_initializer": "identity",
        "recurrent_initializer": "zeros",
        "dropout": 0.5,
        "seed": 3,
    }
    x = np.ones((3, 4, 8), "float32")
    layer = kerasrnn.RNN(Copying(8, **options), return_sequences=True)
    with op_by_op():
        y, again = (np.asarray(layer(x, training=True)) for _ in range(2))
        np.testing.assert_array_equal(np.asarray(layer(x)), x)
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], 4, axis=1))
    assert not np.array_equal(again, y)


def test_an_overridden_call_trains():
    cell = doubled(kerasrnn.SimpleRNNCell)(
        1, activation=None, kernel_initializer="ones", recurrent_initializer="ones"
    )
    model = keras.Sequential([keras.Input((2, 1)), kerasrnn.RNN(cell)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(np.ones((1, 2, 1)), np.zeros((1, 1)), verbose=0)
    # y = 2 (u (w + b) + w + b) = 4; d(y^2)/dw = 2 y * 2 (u + 1) = 32, by u 2 y * 2 (w + b) = 16.
    np.testing.assert_allclose(cell.kernel, [[1 - 0.32]], atol=1e-6)
    np.testing.assert_allclose(cell.recurrent_kernel, [[1 - 0.16]], atol=1e-6)
    np.testing.assert_allclose(cell.bias, [-0.32], atol=1e-6)


def test_options_that_an_overridden_call_excludes():
    cls = doubled(kerasrnn.LSTMCell)
    for options in ({"checkpoint_every": 2}, {"truncate_every": 2}, {"jit_compile": True}):
        with pytest.raises(ValueError, match=r"Keras's own loop, since it overrides `call`"):
            kerasrnn.RNN(cls(5), **options)
    for wrap in (
        lambda cell: kerasrnn.FeedbackCell(cell, 3),
        lambda cell: kerasrnn.AttentionCell(cell, kerasrnn.LuongAttention()),
        lambda cell: kerasrnn.Decoder(
            7, [kerasrnn.RNN(cell)], attention=kerasrnn.LuongAttention("general")
        ),
    ):
        with pytest.raises(ValueError, match=r"cell=<Doubled.* overrides `call`, which a wrapping"):
            wrap(cls(5))

    class Attending(kerasrnn.AttentionCell):
        def call(self, inputs, states, training=False, prepared=None):
            return super().call(inputs, states, training, prepared)

    with pytest.raises(ValueError, match="Attending overrides `call` and reads a memory"):
        kerasrnn.RNN(Attending(kerasrnn.GRUCell(3), kerasrnn.LuongAttention("general")))


class Tripled:
    """A base class besides LSTMCell."""

    def update(self, a, r, states, weights):
        h, (_, c) = kerasrnn.LSTMCell.update(self, a, r, states, weights)
        return 3 * h, [3 * h, c]


class BesideLSTM(Tripled, kerasrnn.LSTMCell):
    pass


class BelowLSTM(kerasrnn.LSTMCell):
    update = Tripled.update


def test_overridden_equations_have_their_own_gradient():
    """They inherit nothing that LSTMCell derives from its own equations."""
    for cls in (BesideLSTM, BelowLSTM):
        cell = cls(4)
        assert not cell.has_adjoint
        assert cell.onnx_operator is None
        assert not cell.overrides_call
    cell = BesideLSTM(4)
    layer, twin = kerasrnn.RNN(cell), keras.layers.RNN(cell)
    weights = []
    for each in (layer, twin):
        model = keras.Sequential([keras.Input((4, 2)), each])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        if not weights:
            start = model.get_weights()
        model.set_weights(start)
        with op_by_op():
            model.train_on_batch(X, np.ones((3, 4)))
        weights.append(model.get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(start, weights[0], strict=True))


def test_an_unused_update():
    with pytest.raises(TypeError, match=r"Cell overrides `update`, which GRUCell does not use; .*"):

        class Cell(kerasrnn.GRUCell):
            def update(self, a, r, states, weights):
                return states[0], states


def test_an_overridden_input_part_is_exported_as_a_loop():
    class Cell(kerasrnn.GRUCell):
        def input_part(self, x, weights):
            return 2 * super().input_part(x, weights)

    assert kerasrnn.GRUCell(3).onnx_operator is not None
    assert Cell(3).onnx_operator is None
    assert Cell(3).has_adjoint


@pytest.mark.tensorflow
def test_exports_of_an_overridden_call():
    layer = kerasrnn.RNN(doubled(kerasrnn.LSTMCell)(3), return_sequences=True, name="rnn")
    model = keras.Sequential([keras.Input((None, 2)), layer])
    with pytest.raises(ValueError, match="Keras has no Doubled, a subclass of a kerasrnn layer"):
        kerasrnn.export.to_keras(model)
    step = kerasrnn.export.to_step(model)  # which compares the two
    y, *_ = step([X[:, 0], np.zeros((3, 3)), np.zeros((3, 3))])
    np.testing.assert_allclose(y, np.asarray(model(X))[:, 0], atol=1e-6)


# Own arguments.


class LeakyCell(kerasrnn.Cell):
    own_arguments: ClassVar = {"leak": 0.1, "activation": "relu"}

    def __post_init__(self):
        if not 0 < self.leak <= 1:
            raise ValueError(f"leak={self.leak!r}: expected a number in (0, 1].")

    def update(self, a, r, states, weights):
        h = (1 - self.leak) * states[0] + self.leak * self.activation(a + r)
        return h, [h]


class InitializedCell(kerasrnn.LSTMCell):
    """The usual way: an overridden constructor."""

    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.gain = gain


def test_a_cell_declares_its_own_arguments():
    cell = LeakyCell(3, leak=0.5, use_bias=False)
    assert cell.activation is keras.activations.relu
    config = cell.get_config()
    assert (config["leak"], config["activation"]) == (0.5, "relu")
    again = LeakyCell.from_config(config)
    assert again.get_config() == config
    x, h = np.array([[1.0, -2.0]], "float32"), np.array([[4.0, 0.0, 2.0]], "float32")
    y, _ = cell(x, [h])
    (w, u) = (np.asarray(v) for v in cell.weights)
    np.testing.assert_allclose(y, 0.5 * h + 0.5 * np.maximum(x @ w + h @ u, 0), rtol=1e-5)
    names = list(inspect.signature(LeakyCell).parameters)
    assert names[:2] == ["units", "activation"]
    assert names[-3 - len(OPTIONS) :] == ["leak", "seed", *OPTIONS, "kwargs"]
    assert "activation: activation of the candidate" in LeakyCell.__doc__


def test_an_own_argument_is_described_in_the_docstring():
    """The others are added in the order of the constructor; complete "Args" do not change."""

    class Described(kerasrnn.Cell):
        """Leaks.

        Args:
            leak: fraction of the state
                that leaks out.

        Example: none.
        """

        own_arguments: ClassVar = {"leak": 0.1}

    class Inherits(Described):
        own_arguments: ClassVar = {"use_bias": False}

    class Complete(Described):
        """Leaks.

        Args:
            units: its width.
            leak: how much.
        """

    for cls in (Described, Inherits):
        _, args = f"\n{cls.__doc__}".split("\nArgs:\n")
        names = re.findall(r"^    (\w+): ", args.partition("\n\n")[0], re.MULTILINE)
        assert names == [*cls.arguments()]
        assert "    leak: fraction of the state that leaks out.\n" in args
        assert "    units: positive integer" in args
        assert "\n\nCall arguments:\n" in args
    assert "\n\nExample: none.\n" in Described.__doc__
    assert inspect.cleandoc(Complete.__doc__).endswith("units: its width.\n    leak: how much.")


@pytest.mark.parametrize(
    ("leak", "error"),
    [
        ("much", "leak='much': expected a finite number"),
        (True, "leak=True"),
        (2.0, r"leak=2.0: .* \(0, 1\]"),
    ],
)
def test_own_arguments_are_checked(leak, error):
    with pytest.raises(ValueError, match=error):
        LeakyCell(3, leak=leak)


def test_an_unknown_or_missing_argument():
    with pytest.raises(TypeError, match="LeakyCell: missing a required argument: 'units'"):
        LeakyCell()
    with pytest.raises((TypeError, ValueError), match="leek"):
        LeakyCell(3, leek=0.5)


class RenamedCell(InitializedCell):
    """The other arguments are passed on under another name."""

    def __init__(self, units, extra=1, *args, **options):
        super().__init__(units, *args, **options)
        self.extra = extra


class ForgetfulCell(kerasrnn.Cell):
    def __init__(self, units, forgotten=1, **kwargs):
        super().__init__(units, **kwargs)


def test_an_overridden_constructor_keeps_the_other_arguments():
    for cls, name in ((InitializedCell, "gain"), (RenamedCell, "extra")):
        cell = cls(3, recurrent_activation="hard_sigmoid", use_bias=False, **{name: 2.0})
        config = cell.get_config()
        assert (config[name], config["recurrent_activation"]) == (2.0, "hard_sigmoid")
        assert config["use_bias"] is False
        assert cls.from_config(config).get_config() == config
    assert list(inspect.signature(InitializedCell).parameters) == ["units", "gain", "kwargs"]
    with pytest.raises(AttributeError, match=r"no attribute 'forgotten', an .* `self.forgotten ="):
        ForgetfulCell(3).get_config()


def test_own_arguments_may_be_initializers_and_activations():
    class ScaledCell(LeakyCell):
        own_arguments: ClassVar = {"scale_initializer": "ones", "gate_activation": "sigmoid"}

    cell = ScaledCell(3, gate_activation=None)
    assert isinstance(cell.scale_initializer, keras.initializers.Ones)
    again = ScaledCell.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()
    with pytest.raises(ValueError, match="scale_initializer='twos'"):
        ScaledCell(3, scale_initializer="twos")


@pytest.mark.parametrize(
    ("declared", "error"),
    [
        (["leak"], r"own_arguments=\['leak'\]: expected a dict"),
        ({"a b": 1}, "'a b': expected the name of an argument"),
        ({1: 2}, "1: expected the name of an argument"),
        ({"dtype": "float32"}, "'dtype': expected another name"),
        ({"update": 1.0}, "'update': expected another name"),
        ({"leak": inspect.Parameter.empty}, "'leak': expected a default"),
    ],
)
def test_impossible_declarations_are_refused(declared, error):
    with pytest.raises(TypeError, match=rf"^BadCell.own_arguments.*{error.split(': ')[-1]}"):
        type("BadCell", (kerasrnn.Cell,), {"own_arguments": declared})
