"""Snake, the activation that DAC and its heirs use, and the residual units that they build on it.

Snake is x plus a squared sine, so that a network can extrapolate periodic signals, which ReLU continues linearly:
"Neural Networks Fail to Learn Periodic Functions and How to Fix It" (arXiv 2006.08195). SnakeBeta has a separate
parameter for the size of the sine: BigVGAN (arXiv 2206.04658). The residual unit is that of DAC (arXiv 2306.06546).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.nn import cuda_kernels
from codeczoo.nn.cache_tiling import run_tiled, tile_values
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.inplace import overwritable

EPS = 1e-9
UNIT_LAYERS = ("snake1", "conv1", "snake2", "conv2")  # of `SnakeUnit`, as they follow each other


def snake(
    x: Tensor, alpha: Tensor, beta: Tensor, eps: float, inplace: bool = False, bias: Tensor | None = None
) -> Tensor:
    """y + sin²(alpha · y) / (beta + eps) of y = x + bias, x [B, C, T]; the others [1, C, 1] or any shape that is
    constant over time.

    One kernel on CUDA. Elsewhere it uses one temporary, and on a CPU it runs tile by tile, because memory traffic is
    most of its cost.
    """
    if exporting():
        return x + (x * alpha).sin().square() * (beta + eps).reciprocal()
    if cuda_kernels.here(x):
        return cuda_kernels.snake(x, bias, alpha, beta, eps)
    x = x if bias is None else x + bias
    size = (beta + eps).reciprocal()
    if not overwritable(x, alpha, size):
        return x + (x * alpha).sin().square() * size
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return _snake(x, alpha, size, x if inplace else None)
    out = x if inplace else torch.empty_like(x)
    steps = max(tile_values() * x.shape[-1] // max(x.numel(), 1), 1)
    for source, target in zip(x.split(steps, dim=-1), out.split(steps, dim=-1), strict=True):
        _snake(source, alpha, size, target)
    return out


def _snake(x: Tensor, alpha: Tensor, size: Tensor, out: Tensor | None) -> Tensor:
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and alpha.dtype == torch.float32:
        wide = x.float()  # once, in place of by each operation
        wide.addcmul_((wide * alpha).sin_().square_(), size)
        return wide.to(x.dtype) if out is None else out.copy_(wide)
    squared = (x * alpha).sin_().square_()
    return torch.addcmul(x, squared, size, out=squared if out is None else out)


class Snake(nn.Module):
    """x + sin²(αx) / (α + eps), [B, C, T] → [B, C, T], with an α for each channel."""

    def __init__(self, channels: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.empty(1, channels, 1))

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        return snake(x, self.alpha, self.alpha, self.eps, inplace)


class SnakeBeta(nn.Module):
    """x + sin²(x · e^α) / (e^β + eps), [B, C, T] → [B, C, T], with α and β for each channel, stored as logarithms."""

    def __init__(self, channels: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.empty(1, channels, 1))
        self.beta = nn.Parameter(torch.empty(1, channels, 1))

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        return snake(x, self.alpha.exp(), self.beta.exp(), self.eps, inplace)


class SnakeUnit(nn.Module):
    """[B, C, T] → [B, C, T]: x plus snake, dilated convolution, snake, convolution of width 1."""

    def __init__(self, channels: int, dilation: int, kernel_size: int = 7, groups: int = 1, eps: float = EPS) -> None:
        super().__init__()
        self.snake1 = Snake(channels, eps)
        self.conv1 = Conv1d(channels, channels, kernel_size, dilation=dilation, groups=groups)
        self.snake2 = Snake(channels, eps)
        self.conv2 = Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if cuda_kernels.here(x):  # CUDA adds a convolution's bias in a separate kernel
            alpha, eps = self.snake2.alpha, self.snake2.eps
            y = self.conv1.without_bias(self.snake1(x), lengths)
            y = self.conv2.without_bias(snake(y, alpha, alpha, eps, bias=_column(self.conv1)))
            return cuda_kernels.add(y, _column(self.conv2), _middle(x, y.shape[-1]))
        y = self.conv1(self.snake1(x), lengths)
        y = self.conv2(self.snake2(y, inplace=True))
        return y.add_(_middle(x, y.shape[-1]))


def _column(conv: Conv1d) -> Tensor:
    """Its bias, [C, 1]."""
    assert conv.bias is not None
    return conv.bias[:, None]


def _middle(x: Tensor, steps: int) -> Tensor:
    """All of x, but where the padding was taken off."""
    lost = (x.shape[-1] - steps) // 2
    return x[..., lost : x.shape[-1] - lost]


class SnakeUnits(nn.ModuleList):
    """[B, C, T] → [B, C, T]: residual units of growing dilation, one after the other."""

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int] = (1, 3, 9),
        kernel_size: int = 7,
        groups: int = 1,
        eps: float = EPS,
    ) -> None:
        super().__init__(SnakeUnit(channels, dilation, kernel_size, groups, eps) for dilation in dilations)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return run_tiled(list(self), x, lengths)[0]


class SnakeDown(nn.Module):
    """[B, C, T] → [B, 2C, T / stride]: residual units, snake, strided convolution."""

    def __init__(self, channels: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.units = SnakeUnits(channels, groups=groups)
        self.snake = Snake(channels)
        self.down = Conv1d(channels, 2 * channels, 2 * stride, stride, padding=(-(-stride // 2),) * 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.down(self.snake(self.units(x, lengths), inplace=True), lengths)


class SnakeUp(nn.Module):
    """[B, C, N] → [B, C / 2, about N * stride]: snake, transposed convolution, residual units.

    Args:
        trim: samples cut off the start and the end of the transposed convolution.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, trim: tuple[int, int]) -> None:
        super().__init__()
        self.snake = Snake(channels)
        self.up = ConvTranspose1d(channels, channels // 2, kernel_size, stride, trim=trim)
        self.units = SnakeUnits(channels // 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.up(self.snake(x), lengths)
        return self.units(x, None if lengths is None else self.up.out_length(lengths))


class SnakeConv(nn.Module):
    """[B, C, T] → [B, C', T]: how DAC's encoder and decoder end."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.snake = Snake(in_channels)
        self.conv = Conv1d(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.conv(self.snake(x), lengths)
