"""Export to LiteRT (formerly TensorFlow Lite), for phones and small devices."""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.export import parity, signature, tracing
from kerasrnn.export.kinds import LITERT_FILE
from kerasrnn.export.parity import Check, Report, Run
from kerasrnn.recurrence.loop import Call, Options, Results, replaced_by
from kerasrnn.recurrence.unroll import Unroll
from kerasrnn.standard_error import filtered
from kerasrnn.validation import NonNegativeNumber

REMARK = rb"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\.\r?\n?"
"""The line that the interpreter writes once per process. It has no setting to suppress it, and the
check needs the delegate, since the interpreter uses it by default."""


@validation.checked
def to_litert(
    model: keras.Model,
    path: str | Path,
    check: Check = True,
    tolerance: NonNegativeNumber | None = None,
) -> Report:
    """Write a LiteRT file, run it with LiteRT's interpreter, and compare it with the model.

    The file contains only LiteRT's own operators, and runs without TensorFlow. Its single signature
    has the names of the model's inputs and outputs; batch and time stay dynamic if the model's are.
    Time loops become a `WHILE`, those of Keras's own recurrent layers like kerasrnn's, whose loops
    have the shapes that LiteRT requires; the step of a model (`kerasrnn.export.to_step`) has no
    loop.

    The file computes in single precision, even for a model of half precision; its inputs and
    outputs are then also in single precision.

    Args:
        model: a functional or Sequential model.
        path: the file to write, `.tflite`; only an existing LiteRT file is replaced, once the new
            one has been checked.
        check: whether to compare on random inputs of several sizes and lengths, masked and
            unmasked; or batches of inputs, as passed to the model, which are compared in addition.
        tolerance: the largest difference accepted, relative to the output's largest absolute value
            if that is above 1. Default: 1e-5; for a model with layers of half precision 8 units in
            the last place of the coarsest, 0.0078 for float16 and 0.0625 for bfloat16.

    Returns:
        A `Report`.

    Raises:
        ParityError: the difference exceeds the tolerance. No file is written.
        ValueError: the model has no symbolic inputs, is stateful, or has an operation that LiteRT
            lacks; there are no inputs for the check; the backend is not TensorFlow.
        FileExistsError: `path` contains something else.
        OSError: it cannot be written.
        ModuleNotFoundError: ai-edge-litert, from the extra `litert`, is not installed.

    Example:

        >>> import keras, tempfile, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.GRU(4)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = kerasrnn.export.to_litert(model, f"{folder}/model.tflite")
        >>> report.difference <= 1e-5
        True
    """
    if check is not False:
        parity.require("ai_edge_litert", "litert")
    names, _ = signature.inputs(model)

    def save(new: Path) -> None:
        new.write_bytes(_convert(model))

    def runtime(new: Path) -> Run:
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=str(new)).get_signature_runner()
        outputs = signature.output_names(model)

        def called(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            with filtered(lambda output: re.sub(REMARK, b"", output)):
                results = run(**dict(zip(names, map(parity.single, inputs), strict=True)))
            return [results[name] for name in outputs]

        return called

    return parity.write(model, path, "LiteRT", LITERT_FILE, check, tolerance, save, runtime)


def _loop(cell: Any, options: Options, call: Call) -> Results | None:
    """The time loop in a form that LiteRT supports: see `recurrence.loop.replaced_by`."""
    if options.unroll:
        return None
    backend = SimpleNamespace(scan=_scan, segment_rows=lambda *_: None)
    return Unroll(backend, cell, options, call).forward()


def _scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    reverse: bool = False,
    prefetch: bool = True,
    steps: None = None,
) -> tuple[Any, Any]:
    """See `recurrence.backend.Backend`. No call has padded steps in inference.

    LiteRT's lists have elements of known shapes only if they are created from a tensor. So each y
    is written into a list of zeros.
    """
    import tensorflow as tf

    from kerasrnn.recurrence.tensorflow.structures import filled, leaves

    flat_xs = leaves(xs)
    length = tf.shape(flat_xs[0])[0]

    def array(x: Any) -> Any:
        return tf.TensorArray(x.dtype, size=length, element_shape=x.shape[1:]).unstack(x)

    x_arrays = [array(x) for x in flat_xs]
    _, y = body(carry, filled(xs, [x[0] for x in flat_xs]))  # only for its structure
    y_arrays = [
        array(tf.zeros(tf.concat([[length], tf.shape(value)], 0), value.dtype))
        for value in leaves(y)
    ]

    def step(n: Any, values: Any, y_arrays: Any) -> tuple[Any, ...]:
        t = length - 1 - n if reverse else n
        after, y = body(filled(carry, values), filled(xs, [a.read(t) for a in x_arrays]))
        y_arrays = [a.write(t, value) for a, value in zip(y_arrays, leaves(y), strict=True)]
        return n + 1, leaves(after), y_arrays

    _, end, y_arrays = tf.while_loop(
        lambda n, *_: n < length, step, (tf.constant(0), leaves(carry), y_arrays)
    )
    return filled(carry, end), filled(y, [a.stack() for a in y_arrays])


def _convert(model: keras.Model) -> bytes:
    import tensorflow as tf

    specs, outputs = tracing.specs(model, single=True), signature.output_names(model)

    @tf.function(input_signature=specs, autograph=False)
    def serve(*inputs: Any) -> dict[str, Any]:
        return dict(zip(outputs, tracing.single_call(model, inputs), strict=True))

    module = tf.Module()
    with (
        tempfile.TemporaryDirectory() as folder,
        tracing.for_export(model, own_loops=True, single=True) as others,
    ):
        module.variables_of_the_model = [v.value for v in [*model.variables, *others]]
        with replaced_by(_loop):
            tf.saved_model.save(module, folder, signatures=serve)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        try:
            return converter.convert()
        except Exception as error:  # its class is not exported
            pattern = r"'tf\.(\w+)' op is neither a custom op nor a flex op"
            missing = sorted(set(re.findall(pattern, str(error))))
            if not missing:
                raise
            raise ValueError(
                f"model {model.name!r}: LiteRT has no operator for {', '.join(missing)}."
            ) from error
