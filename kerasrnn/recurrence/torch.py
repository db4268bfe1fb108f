"""The time loop on PyTorch: the steps one after the other, or cuDNN on a GPU."""

import sys
from typing import Any

from kerasrnn.recurrence import cudnn, unrolled
from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable

Tensor = Any


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`."""
    if cudnn.runs(cell, options, call, jit_compile, cudnn_refusal):
        return cudnn.loop(sys.modules[__name__], cell, options, unrolled.with_own_states(call))
    return unrolled.run(cell, options, call, jit_compile)


# cuDNN: see `backend.CudnnBackend`.


def cudnn_refusal(mode: str, call: Call) -> str | None:
    """See `backend.CudnnBackend`."""
    import torch

    x = call.sequences
    if not torch.backends.cudnn.is_acceptable(x):
        return f"PyTorch runs cuDNN for no {x.dtype} on the device {x.device}"
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return "PyTorch traces the surrounding function"
    return None


def cudnn_kernel(
    mode: str, x: Tensor, states: list[Tensor], weights: Tensor, lengths: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """See `backend.CudnnBackend`. PyTorch's own modules run cuDNN's kernels."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    (_, steps, features), units = x.shape, states[0].shape[-1]
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[mode]
    module = kind(features, units, batch_first=True, device="meta")  # without weights of its own
    module.train(torch.is_grad_enabled())  # otherwise cuDNN stores nothing for a gradient
    # Views: PyTorch would copy separate weights to such a buffer in every call.
    shapes = [parameter.shape for parameter in module.parameters()]
    parts = torch.split(weights, [shape.numel() for shape in shapes])
    names = [name for name, _ in module.named_parameters()]
    views = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
    if lengths is not None:
        x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    initial = [state[None] for state in states]  # (layers, batch, units)
    outputs, finals = torch.func.functional_call(
        module, views, (x, tuple(initial) if mode == "lstm" else initial[0])
    )
    if lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=steps)
    return outputs, [final[0] for final in (finals if mode == "lstm" else [finals])]


def take_steps(x: Tensor, steps: Tensor) -> Tensor:
    """See `backend.CudnnBackend`."""
    import torch

    return torch.take_along_dim(x, steps.long()[:, :, None], dim=1)
