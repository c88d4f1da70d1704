"""SpeechBrain's speaker embedding: ECAPA-TDNN, trained on VoxCeleb.

Paper: "ECAPA-TDNN" (arXiv 2005.07143). Model: speechbrain/spkrec-ecapa-voxceleb.

    80 mels of 25 ms every 10 ms, in decibels, at most 80 below the clip's loudest; each without its mean over the clip
    a convolution, three blocks with a dilated Res2 convolution and a squeeze-excitation, all padded by reflection
    the blocks' outputs joined; mean and deviation over time, weighted by attention that knows both → 192

It differs from wespeaker's, which codecs of the zoo hold (`nn.ecapa`), in its padding, in which split of the Res2
convolution stays as it is, and in that attention sees the mean and deviation of the clip. Upstream's batches leak: it
masks the pooling, but its convolutions and its loudest value see the padding. Here each clip has the embedding that it
has alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.model import Model
from codeczoo.base.ragged import valid_mask
from codeczoo.base.variant import Variant
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.ecapa import DILATIONS, SPLITS, BatchNorm

N_FFT, HOP, MELS = 400, 160, 80
FAINTEST, RANGE = 1e-10, 80.0  # power; decibels below the loudest
SMALLEST = 1e-12  # variance


@dataclass(frozen=True)
class EcapaSVConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    channels: int = 1024
    hidden: int = 128  # of a squeeze-excitation
    attention: int = 128
    embedding: int = 192


class Layer(nn.Module):
    """[B, C, N] → [B, C', N]: convolution, ReLU, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = Conv1d(inputs, outputs, kernel, dilation=dilation, pad_mode="reflect")
        self.norm = BatchNorm(outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.norm(self.conv(x, lengths).relu_())


class Res2(nn.Module):
    """[B, C, N] → [B, C, N] in eight splits of the channels: the first stays as it is, each other is convolved, plus
    what the one before it became."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SPLITS
        self.blocks = nn.ModuleList(Layer(width, width, 3, dilation) for _ in range(SPLITS - 1))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        first, *splits = x.chunk(SPLITS, dim=1)
        out = [first]
        for i, (split, block) in enumerate(zip(splits, self.blocks, strict=True)):
            out.append(block(split + out[-1] if i else split, lengths))
        return torch.cat(out, dim=1)


class Excitation(nn.Module):
    """[B, C, N] → [B, C, N]: each channel times a factor that follows from all channels' means over the clip."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv1d(channels, hidden, 1), Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        own = valid_mask(lengths, x.shape[-1])[:, None]
        mean = x.masked_fill(~own, 0.0).sum(-1, keepdim=True) / lengths[:, None, None]
        return x * self.conv2(self.conv1(mean).relu_()).sigmoid_()


class Block(nn.Module):
    """[B, C, N] → [B, C, N]."""

    def __init__(self, channels: int, dilation: int, hidden: int) -> None:
        super().__init__()
        self.tdnn1, self.res2net_block = Layer(channels, channels), Res2(channels, dilation)
        self.tdnn2, self.se_block = Layer(channels, channels), Excitation(channels, hidden)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        inner = self.tdnn2(self.res2net_block(self.tdnn1(x, lengths), lengths), lengths)
        return x + self.se_block(inner, lengths)


class Pooling(nn.Module):
    """[B, C, N] → [B, 2 C]: mean and deviation over a clip's frames, weighted channel by channel."""

    def __init__(self, channels: int, attention: int) -> None:
        super().__init__()
        self.tdnn, self.conv = Layer(3 * channels, attention), Conv1d(attention, channels, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        own = valid_mask(lengths, x.shape[-1])[:, None]
        plain = torch.cat(_statistics(x, own / lengths[:, None, None]), dim=1)
        context = torch.cat([x, plain[..., None].expand(-1, -1, x.shape[-1])], dim=1)
        weights = self.conv(self.tdnn(context, lengths).tanh_()).masked_fill(~own, -torch.inf).softmax(-1)
        return torch.cat(_statistics(x, weights), dim=1)


def _statistics(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """[B, C, N] and weights over N → mean and deviation [B, C]."""
    mean = (weights * x).sum(-1)
    return mean, (weights * (x - mean[..., None]).square()).sum(-1).clamp(min=SMALLEST).sqrt()


class EcapaSV(Model):
    """Speech [B, 1, T] at 16 kHz → speaker embeddings [B, 192]."""

    Config = EcapaSVConfig
    config: EcapaSVConfig
    key_maps = (
        KeyMap(
            "speechbrain",
            (
                Rule(r"(.+)\.norm\.(\w+)", r"\1.norm.norm.\2"),
                Rule(r"(asp_bn)\.(\w+)", r"\1.norm.\2"),
                Rule(r"(fc|.+\.conv\d?)\.(weight|bias)", r"\1.conv.\2"),
            ),
            unused=(r".*num_batches_tracked",),
        ),
    )

    def __init__(self, config: EcapaSVConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        channels, joined = config.channels, len(DILATIONS) * config.channels
        blocks = (Block(channels, dilation, config.hidden) for dilation in DILATIONS)
        self.blocks = nn.ModuleList([Layer(MELS, channels, 5), *blocks])
        self.mfa = Layer(joined, joined)
        self.asp = Pooling(joined, config.attention)
        self.asp_bn = BatchNorm(2 * joined)
        self.fc = Conv1d(2 * joined, config.embedding, 1)

    @property
    def shortest(self) -> int:
        """Samples that make as many frames as the widest reflection needs."""
        return max(DILATIONS) * HOP

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [B, 192] of clips [B, 1, T] of `lengths` [B] samples, each at least `shortest`."""
        frames = 1 + lengths // HOP
        x, states = log_mel(waveform[:, 0], lengths), []
        for block in self.blocks:
            x = block(x, frames)
            states.append(x)
        x = self.mfa(torch.cat(states[1:], dim=1), frames)
        return self.fc(self.asp_bn(self.asp(x, frames))[..., None])[..., 0]


def log_mel(waveform: Tensor, lengths: Tensor) -> Tensor:
    """[B, T] → [B, 80, N] decibels, each mel without its mean over the clip's own frames; zeros behind them."""
    waveform = waveform.masked_fill(~valid_mask(lengths, waveform.shape[-1]), 0.0)
    window = torch.hamming_window(N_FFT, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    power = filters().to(waveform).T @ spectrum.abs().square()
    decibels = 10 * power.clamp(min=FAINTEST).log10()
    frames = 1 + lengths // HOP
    own = valid_mask(frames, decibels.shape[-1])[:, None]
    loudest = decibels.masked_fill(~own, -torch.inf).amax((1, 2), keepdim=True)
    decibels = decibels.maximum(loudest - RANGE).masked_fill(~own, 0.0)
    mean = decibels.sum(-1, keepdim=True) / frames[:, None, None]
    return (decibels - mean).masked_fill(~own, 0.0)


def filters() -> Tensor:
    """[201, 80]: triangles of height 1 on the mel scale of HTK, as wide to the right as to the left."""
    top = 2595 * math.log10(1 + 8000 / 700)
    hertz = 700 * (10 ** (torch.linspace(0, top, MELS + 2, dtype=torch.float64) / 2595) - 1)
    width, centre = (hertz[1:] - hertz[:-1])[:-1], hertz[1:-1]
    slope = (torch.linspace(0, 8000, N_FFT // 2 + 1, dtype=torch.float64)[:, None] - centre) / width
    return torch.minimum(slope + 1, 1 - slope).clamp(min=0)
