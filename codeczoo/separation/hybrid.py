"""What HTDemucs and HDemucs share: two U-Nets, one over a spectrogram, one over the waveform (arXiv 2111.03600).

The frequency branch is [B, C, F, T] with convolutions along F; the time branch is [B, C, T]. In both, `DConv` runs
along time. Every input is dense: the networks normalise over the whole of it, so that no part can be padding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.istft import istft_same
from codeczoo.nn.stft import stft
from codeczoo.nn.transformer import LayerScale

KERNEL, STRIDE = 8, 4  # of both branches' layers, along frequency or time
EMBEDDING_SCALE = 0.2 * 10  # of the bins' embedding: its weight, and a factor that its published values lack


# -- spectra ----------------------------------------------------------------------------------------------------------


def spectrum_of(waveform: Tensor, n_fft: int) -> Tensor:
    """[B, C, T] → complex [B, C, n_fft / 2, ceil(T / hop)], hop = n_fft / 4; the Nyquist bin is left out."""
    hop = n_fft // 4
    frames = -(-waveform.shape[-1] // hop)
    side = hop // 2 * 3
    x = _mirrored(waveform, side, side + frames * hop - waveform.shape[-1])
    z = stft(x.flatten(0, 1), n_fft, hop).unflatten(0, waveform.shape[:2])
    return z[..., :-1, 2 : 2 + frames] / math.sqrt(n_fft)


def waveform_of(real: Tensor, imaginary: Tensor, n_fft: int, samples: int) -> Tensor:
    """The inverse of `spectrum_of`: two [..., n_fft / 2, N] → [..., samples]."""
    hop = n_fft // 4
    # Zeros stand for the Nyquist bin, and for the two frames on each side.
    parts = (F.pad(part.mT, (0, 1, 2, 2)).flatten(0, -3) for part in (real, imaginary))
    x = istft_same(torch.complex(*parts), n_fft, hop)[..., 2 * hop : 2 * hop + samples]
    return x.mul_(math.sqrt(n_fft)).unflatten(0, real.shape[:-2])


def _mirrored(x: Tensor, left: int, right: int) -> Tensor:
    """Reflection on both sides. An input no longer than the longer side gets zeros first, on the right as far as there
    is padding to take their place."""
    lacking = max(max(left, right) - x.shape[-1] + 1, 0)
    after = min(lacking, right)
    before = lacking - after
    return F.pad(F.pad(x, (before, after)), (left - before, right - after), mode="reflect")


def standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each item less its mean, over its deviation (n - 1) + 1e-5; and both, to undo it."""
    axes = tuple(range(1, x.ndim))
    std, mean = torch.std_mean(x, dim=axes, keepdim=True)
    return (x - mean) / (1e-5 + std), mean, std


# -- layers -----------------------------------------------------------------------------------------------------------


class Conv2d(nn.Module):
    """[B, in, F, T] → [B, out, F', T]: `kernel` (bins, steps), a stride and zeros along frequency."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, (self.stride, 1), self.padding)


class ConvTranspose2d(nn.Module):
    """[B, in, F, T] → [B, out, F', T]: the full transposed convolution along frequency."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(inputs, outputs, kernel, 1))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor, trim: int = 0) -> Tensor:
        """`trim` bins are left out at each end."""
        return F.conv_transpose2d(x, self.weight, self.bias, (self.stride, 1), (trim, 0))


class DConvLayer(nn.Module):
    """x + scale · GLU(norm(expand(inner(GELU(norm(squeeze x)))))): `inner` is nothing, or an LSTM and attention."""

    def __init__(self, channels: int, hidden: int, dilation: int, inner: Sequence[tuple[str, nn.Module]] = ()) -> None:
        super().__init__()
        self.squeeze = Conv1d(channels, hidden, 3, dilation=dilation)
        self.norm1 = GroupNorm(1, hidden)
        self.inner = nn.ModuleDict(dict(inner))
        self.expand = Conv1d(hidden, 2 * channels, 1)
        self.norm2 = GroupNorm(1, 2 * channels)
        self.scale = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm1(self.squeeze(x)))
        for layer in self.inner.values():
            y = layer(y)
        y = F.glu(self.norm2(self.expand(y)), dim=1)
        return torch.addcmul(x, y, self.scale.scale[:, None])


class DConv(nn.Module):
    """Two `DConvLayer`s of dilation 1 and 2, along time: [B, C, T] or [B, C, F, T], each bin by itself."""

    def __init__(self, channels: int, compress: int, inner: type[InnerLayers] | None = None) -> None:
        super().__init__()
        hidden = channels // compress
        self.layers = nn.ModuleList(
            DConvLayer(channels, hidden, dilation, inner.of(hidden) if inner else ()) for dilation in (1, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2).flatten(0, 1) if x.ndim == 4 else x
        for layer in self.layers:
            y = layer(y)
        return y.unflatten(0, (len(x), -1)).transpose(1, 2) if x.ndim == 4 else y


class InnerLayers:
    """What a deep `DConvLayer` has inside."""

    @staticmethod
    def of(channels: int) -> Sequence[tuple[str, nn.Module]]:
        raise NotImplementedError


class EncoderLayer(nn.Module):
    """Strided convolution, GELU, `DConv`, then 1 x 1 with GLU: [B, in, F, T] → [B, out, F', T], or along time.

    Args:
        frequency: the convolution runs along frequency, `kernel` bins.
        groups: of the norms after both convolutions; 0 = none.
        bare: the convolution alone.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        compress: int,
        *,
        frequency: bool,
        kernel: int = KERNEL,
        stride: int = STRIDE,
        padding: int = 2,
        groups: int = 0,
        inner: type[InnerLayers] | None = None,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.frequency, self.bare = stride, frequency, bare
        self.conv: nn.Module
        self.rewrite: nn.Module
        if frequency:
            self.conv = Conv2d(inputs, outputs, (kernel, 1), stride, (padding, 0))
        else:
            self.conv = Conv1d(inputs, outputs, kernel, stride, padding=(padding, padding))
        if bare:
            return
        self.norm1 = GroupNorm(groups, outputs) if groups else nn.Identity()
        self.dconv = DConv(outputs, compress, inner)
        self.rewrite = Conv2d(outputs, 2 * outputs, (1, 1)) if frequency else Conv1d(outputs, 2 * outputs, 1)
        self.norm2 = GroupNorm(groups, 2 * outputs) if groups else nn.Identity()

    def forward(self, x: Tensor, injected: Tensor | None = None) -> Tensor:
        """`injected` is added to what the convolution gives."""
        fill = 0 if self.frequency else -x.shape[-1] % self.stride
        if fill:  # padding by nothing would copy the map
            x = F.pad(x, (0, fill))
        y = self.conv(x)
        if self.bare:
            return y
        if injected is not None:
            y = y + injected
        y = self.dconv(F.gelu(self.norm1(y)))
        return F.glu(self.norm2(self.rewrite(y)), dim=1)


class DecoderLayer(nn.Module):
    """Skip, 3 x 3 with GLU, `DConv`, then a transposed convolution and GELU, with which `EncoderLayer` is undone.

    Args:
        compress: of `DConv`; 0 = there is none.
        trim: what is cut on each side of the bins, or on the left of the steps.
        last: no GELU.
        bare: the transposed convolution alone (and its norm and GELU), no skip.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        compress: int = 0,
        *,
        frequency: bool,
        kernel: int = KERNEL,
        stride: int = STRIDE,
        trim: int = 2,
        groups: int = 0,
        last: bool = False,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.frequency, self.trim, self.last, self.bare = frequency, trim, last, bare
        self.conv_tr: nn.Module
        self.rewrite: nn.Module
        if frequency:
            self.conv_tr = ConvTranspose2d(inputs, outputs, kernel, stride)
        else:
            self.conv_tr = ConvTranspose1d(inputs, outputs, kernel, stride, trim=(0, 0))
        self.norm2 = GroupNorm(groups, outputs) if groups else None
        if bare:
            return
        if frequency:
            self.rewrite = Conv2d(inputs, 2 * inputs, (3, 3), padding=(1, 1))
        else:
            self.rewrite = Conv1d(inputs, 2 * inputs, 3)
        self.norm1 = GroupNorm(groups, 2 * inputs) if groups else nn.Identity()
        self.dconv = DConv(inputs, compress) if compress else nn.Identity()

    def forward(self, x: Tensor, skip: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
        """The output, along time `steps` long, and what goes into the transposed convolution."""
        y = x
        if skip is not None:
            y = self.dconv(F.glu(self.norm1(self.rewrite(x + skip)), dim=1))
        if self.frequency and self.norm2 is None:
            z = self.conv_tr(y, self.trim)
        else:
            z = self.conv_tr(y)
            if self.norm2 is not None:  # it sees what will be cut too
                z = self.norm2(z)
            axis, length = (-2, z.shape[-2] - 2 * self.trim) if self.frequency else (-1, steps)
            z = z.narrow(axis, self.trim, length)
        return (z if self.last else F.gelu(z)), y


class Embedding(nn.Module):
    """A vector a bin, added to [B, C, F, T]."""

    def __init__(self, bins: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(bins, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.weight.T[..., None], alpha=EMBEDDING_SCALE)


def into_stems(spectrum: Tensor, waveform: Tensor, stems: int, n_fft: int, samples: int) -> Tensor:
    """What both branches end with, [B, stems * 4, F, T] and [B, stems * 2, T'] → [B, stems, 2, samples]. A stem's
    channels lie side by side; in the spectrum each has a real and an imaginary part."""
    parts = spectrum.unflatten(1, (stems, -1, 2))
    out = waveform_of(parts[:, :, :, 0], parts[:, :, :, 1], n_fft, samples)
    return out.add_(waveform[..., :samples].unflatten(1, (stems, -1)))


# -- published names --------------------------------------------------------------------------------------------------


def rules_of(deep: str = "45") -> tuple[Rule, ...]:
    """Published names of both families. `nn.Sequential` numbers the parts of a DConv layer, and where an LSTM and
    attention are inside (encoder layers `deep`), the numbers behind them differ."""
    inside, any_layer = rf"(encoder\.[{deep}]\.)dconv\.layers\.(\d)\.", r"(.*)dconv\.layers\.(\d)\."
    within = {"inner.lstm": 3, "inner.attention": 4, "expand": 5, "norm2": 6, "scale": 8}
    usual = {"squeeze": 0, "norm1": 1, "expand": 3, "norm2": 4, "scale": 6}
    return (
        Rule(r"freq_emb\.weight", "freq_emb.embedding.weight"),
        *(
            Rule(rf"{place}{re.escape(part)}\.(.*)", rf"\1dconv.layers.\2.{number}.\3")
            for place, parts in ((inside, within), (any_layer, usual))
            for part, number in parts.items()
        ),
    )


def key_map(name: str, rules: Sequence[Rule], files: Sequence[str] = ("",)) -> KeyMap:
    """The published naming of one network, or of several, each behind the stem of its file."""
    every = []
    for i, stem in enumerate(files):
        before = f"{stem}." if stem else ""
        every += [Rule(rf"models\.{i}\.{rule.ours}", before + str(rule.published)) for rule in rules]
        every.append(Rule(rf"models\.{i}\.(.*)", before + r"\1"))
    return KeyMap(name, tuple(every))
