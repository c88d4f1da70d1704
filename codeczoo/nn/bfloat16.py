"""Convolutions, linear layers and LSTMs in bfloat16 on a CPU: what `torch.autocast` does, with less around it.

- Weights are cast once (`base.weight_copies`), in place of at each call.
- Activations [B, C, T] keep their channels next to each other in memory, as oneDNN's kernels want them. In the usual
  order every convolution turns its input and its output around, which for narrow layers takes longer than its products.
- Few steps of a convolution with large weights are one product with its windows: oneDNN would order the weights anew.
- A transposed convolution of whole strides is a linear layer: all samples of a stride from the inputs that reach it.

Where weights want gradients, or a graph is recorded or compiled, the plain way is taken.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.exporting import exporting
from codeczoo.base.weight_copies import copy_of
from codeczoo.nn.inplace import overwritable

# One product with the windows is faster up to so many steps of a batch, with so many weights or more.
WINDOWS_MAX_STEPS, WINDOWS_MIN_WEIGHTS = 1024, 1 << 18


def in_bfloat16(weight: Tensor) -> bool:
    """Whether a layer with this weight computes in bfloat16 by what stands here."""
    return (
        weight.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and weight.dtype == torch.float32
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and overwritable(weight)
        and not exporting()
        and not torch.compiler.is_compiling()
    )


def channels_lie_last(x: Tensor) -> bool:
    """Whether [B, C, T] is in bfloat16, in the order of memory that its convolutions give and take."""
    return x.dtype == torch.bfloat16 and x.ndim == 3 and x.shape[1] > 1 and x.stride(1) == 1 and x.device.type == "cpu"


def channels_last(x: Tensor) -> Tensor:
    """[B, C, T] in bfloat16, channels next to each other in memory."""
    return x.to(torch.bfloat16).mT.contiguous().mT


def cat_steps(parts: list[Tensor]) -> Tensor:
    """`torch.cat` over time that keeps the order of memory, and the type, of the last part."""
    if not channels_lie_last(parts[-1]):
        return torch.cat(parts, dim=-1)
    return torch.cat([part.mT.to(torch.bfloat16) for part in parts], dim=1).mT


# -- layers -------------------------------------------------------------------------------------


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """[..., in] → [..., out]."""
    weight, bias = copy_of(layer, (layer.weight, layer.bias), lambda: _halves(layer.weight, layer.bias))
    return F.linear(x.to(torch.bfloat16), weight, bias)


def convolve(layer: Any, x: Tensor, with_bias: bool, padding: int) -> Tensor:
    """What a `Conv1d` gives for [B, C, T] with `padding` zeros on each side."""
    weight, bias = copy_of(
        layer, (layer.weight, layer.bias), lambda: _for_convolution(*_halves(layer.weight, layer.bias))
    )
    return _convolve(x, weight, bias if with_bias else None, layer.stride, padding, layer.dilation, layer.groups)


def convolve_transposed(layer: Any, x: Tensor, with_bias: bool) -> Tensor:
    """What a `ConvTranspose1d` of one group and a kernel of whole strides gives for [B, C, N], without any trimming."""
    stride, lap = layer.stride, layer.kernel_size // layer.stride - 1

    def make() -> tuple[Tensor, Tensor | None]:
        weight, bias = _halves(layer.weight, layer.bias)
        late = weight.unflatten(-1, (lap + 1, stride)).flip(2)  # [in, out, lap + 1, stride]: the earliest input first
        rows = late.permute(3, 1, 0, 2).flatten(0, 1)  # [stride * out, in, lap + 1]
        return _for_convolution(rows, None if bias is None else bias.repeat(stride))

    weight, bias = copy_of(layer, (layer.weight, layer.bias), make)
    y = _convolve(x, weight, bias if with_bias else None, 1, lap, 1, 1)  # [B, stride * out, N + lap]
    return y.mT.reshape(len(y), -1, len(weight) // stride).mT


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    x, kernel = channels_last(x), weight.shape[-1]
    steps = len(x) * ((x.shape[-1] + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1)
    if groups == 1 and 0 < steps <= WINDOWS_MAX_STEPS and weight.numel() >= WINDOWS_MIN_WEIGHTS:
        rows = F.pad(x.mT, (0, 0, padding, padding)) if padding else x.mT
        return F.linear(_windows(rows, kernel, stride, dilation), weight[:, :, 0].mT.flatten(1), bias).mT
    return F.conv2d(x[:, :, None], weight, bias, (1, stride), (0, padding), (1, dilation), groups).squeeze(2)


def _for_convolution(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """[out, in, kernel] → [out, in, 1, kernel], which lies in memory as [out, kernel, in]."""
    return weight[:, :, None].contiguous(memory_format=torch.channels_last), bias


def recurrent(lstm: nn.LSTM, x: Tensor, past: tuple[Tensor, ...] | None) -> Any:
    """`lstm(x, past)`."""

    def make() -> nn.LSTM:
        with torch.no_grad():
            return copy.deepcopy(lstm).to(torch.bfloat16)

    half = copy_of(lstm, tuple(lstm.parameters()), make)
    return half(x.to(torch.bfloat16), past and tuple(state.to(torch.bfloat16) for state in past))


def _halves(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    weight = weight.detach().to(torch.bfloat16)
    return weight, None if bias is None else bias.detach().to(torch.bfloat16)


def _windows(rows: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """[B, T, C] → [B, T', kernel * C]: what each output step sees, step by step."""
    if kernel == 1 and stride == 1:
        return rows
    batch, total, channels = rows.shape
    rows = rows.contiguous()
    steps = (total - (kernel - 1) * dilation - 1) // stride + 1
    shape = (batch, steps, kernel, channels)
    return rows.as_strided(shape, (total * channels, stride * channels, dilation * channels, 1)).flatten(2)
