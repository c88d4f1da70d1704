"""HDemucs: hybrid Demucs (Défossez 2021, arXiv 2111.03600), here `hdemucs_mmi`.

Upstream: https://github.com/adefossez/demucs (was facebookresearch/demucs), PyPI `demucs`.

Two U-Nets, over spectrogram and waveform, that become one where the spectrogram has one bin left. The two deepest
layers run along time, with an LSTM and attention in their `DConv`. The decoder starts from zeros: all signal comes
by skips. Norms run over all of a segment, so nothing streams; a segment may have any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.variant import Variant
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.sequential import Linear
from codeczoo.separation.hybrid import (
    STRIDE,
    DecoderLayer,
    Embedding,
    EncoderLayer,
    InnerLayers,
    into_stems,
    key_map,
    rules_of,
    spectrum_of,
    standardised,
)
from codeczoo.separation.separator import Separator

LSTM_STEPS = 200  # that the LSTM sees at once
ATTENTION_HEADS, DECAYS = 4, 4
MASKED = -100.0  # score of a step with itself


@dataclass(frozen=True)
class HDemucsConfig:
    """Numbers of a network.

    Attributes:
        segment_samples: what goes through the network at once.
        groups: of the norms of the two deepest layers.
    """

    sources: tuple[str, ...]
    segment_samples: int
    models: int = 1
    sample_rate: int = 44100
    channels: int = 48
    growth: int = 2
    depth: int = 6
    compress: int = 4
    n_fft: int = 4096
    groups: int = 4


# -- inside the deepest layers ----------------------------------------------------------------------------------------


class FramedLSTM(nn.Module):
    """[B, C, T] → [B, C, T]: two LSTM layers in both directions, a linear layer, plus the input.

    More than LSTM_STEPS steps are cut into frames of that length that overlap by half; each is run from zero state, and
    of each its middle half is kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, 2, bidirectional=True)
        self.linear = Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        steps, hop = x.shape[-1], LSTM_STEPS // 2
        if steps <= LSTM_STEPS:
            return x + self._run(x)
        frames = -(-steps // hop)
        cut = F.pad(x, (0, (frames + 1) * hop - steps)).unfold(-1, LSTM_STEPS, hop)  # [B, C, frames, LSTM_STEPS]
        y = self._run(cut.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), frames)).transpose(1, 2)
        edge = hop // 2
        middle = y[..., edge:-edge].flatten(2)
        return x + torch.cat([y[:, :, 0, :edge], middle, y[:, :, -1, -edge:]], dim=-1)[..., :steps]

    def _run(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)


class DecayingAttention(nn.Module):
    """[B, C, T] → [B, C, T] plus the input: attention to all other steps, less the farther they are.

    How much less each query decides: its penalty for a step |t - s| away is |t - s| · Σ f · sigmoid(decay_f) / 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content, self.query, self.key = (Conv1d(channels, channels, 1) for _ in range(3))
        self.query_decay = Conv1d(channels, ATTENTION_HEADS * DECAYS, 1)
        self.proj = Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:  # [B, H, T, C / H]
            return y.unflatten(1, (ATTENTION_HEADS, -1)).mT

        steps = torch.arange(x.shape[-1], device=x.device)
        distance = (steps[:, None] - steps).abs().to(x.dtype)
        factor = torch.arange(1, DECAYS + 1, device=x.device, dtype=x.dtype)
        penalty = heads(self.query_decay(x)).sigmoid() @ (factor / 4)  # [B, H, queries]
        bias = -penalty[..., None] * distance
        # What a step scores with itself is MASKED, whatever q · k is.
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.content(x))
        scores = torch.baddbmm(bias.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).mT, alpha=q.shape[-1] ** -0.5)
        scores.diagonal(dim1=-2, dim2=-1).fill_(MASKED)
        out = scores.softmax(-1).unflatten(0, q.shape[:2]) @ v
        return x + self.proj(out.mT.flatten(1, 2))


class Deep(InnerLayers):
    """Both of them."""

    @staticmethod
    def of(channels: int) -> Sequence[tuple[str, nn.Module]]:
        return (("lstm", FramedLSTM(channels)), ("attention", DecayingAttention(channels)))


# -- the network ------------------------------------------------------------------------------------------------------


class HDemucsNetwork(nn.Module):
    """A mix [B, 2, T] → its stems [B, S, 2, T]."""

    def __init__(self, config: HDemucsConfig) -> None:
        super().__init__()
        self.config, stems, compress = config, len(config.sources), config.compress
        widths = [config.channels * config.growth**i for i in range(config.depth)]
        outer = range(config.depth - 2)
        deep: dict[str, Any] = {"groups": config.groups, "inner": Deep}
        bins = config.n_fft // 2 // STRIDE ** len(outer)  # all that are left go into one
        self.encoder, self.tencoder = nn.ModuleList(), nn.ModuleList()
        self.decoder, self.tdecoder = nn.ModuleList(), nn.ModuleList()
        for i in outer:
            inputs, inputs_t = (widths[i - 1], widths[i - 1]) if i else (4, 2)
            self.encoder.append(EncoderLayer(inputs, widths[i], compress, frequency=True))
            self.tencoder.append(EncoderLayer(inputs_t, widths[i], compress, frequency=False))
        self.encoder.append(
            EncoderLayer(widths[-3], widths[-2], compress, frequency=True, kernel=bins, padding=0, **deep)
        )
        self.tencoder.append(EncoderLayer(widths[-3], widths[-2], compress, frequency=False, bare=True))
        self.encoder.append(
            EncoderLayer(widths[-2], widths[-1], compress, frequency=False, kernel=4, stride=2, padding=1, **deep)
        )
        norm: dict[str, Any] = {"groups": config.groups}
        self.decoder.append(DecoderLayer(widths[-1], widths[-2], frequency=False, kernel=4, stride=2, trim=1, **norm))
        self.decoder.append(DecoderLayer(widths[-2], widths[-3], frequency=True, kernel=bins, trim=0, **norm))
        self.tdecoder.append(DecoderLayer(widths[-2], widths[-3], frequency=False, bare=True, **norm))
        for i in reversed(outer):
            outputs, outputs_t = (widths[i - 1], widths[i - 1]) if i else (4 * stems, 2 * stems)
            self.decoder.append(DecoderLayer(widths[i], outputs, frequency=True, last=i == 0))
            self.tdecoder.append(DecoderLayer(widths[i], outputs_t, frequency=False, last=i == 0))
        self.freq_emb = Embedding(config.n_fft // 2 // STRIDE, config.channels)

    def forward(self, mix: Tensor) -> Tensor:
        samples = mix.shape[-1]
        z = spectrum_of(mix, self.config.n_fft)
        x, mean, std = standardised(torch.view_as_real(z).movedim(-1, 2).flatten(1, 2))
        t, mean_t, std_t = standardised(mix)
        frames, dtype = x.shape[-1], self.freq_emb.weight.dtype
        x, t = x.to(dtype), t.to(dtype)
        skips, skips_t, steps = [], [], []
        for i, layer_t in enumerate(self.tencoder):
            steps.append(t.shape[-1])
            t = layer_t(t)
            if layer_t.bare:
                x = self.encoder[i](x, t[:, :, None])
            else:
                x = self.encoder[i](x)
                skips_t.append(t)
            if i == 0:
                x = self.freq_emb(x)
            skips.append(x)
        one_bin = self.encoder[-1](x[:, :, 0])
        x, _ = self.decoder[0](torch.zeros_like(one_bin), one_bin, frames)
        x = x[:, :, None]
        for layer, layer_t in zip(list(self.decoder)[1:], self.tdecoder, strict=True):
            x, before = layer(x, skips.pop(), frames)
            if layer_t.bare:
                t, _ = layer_t(before[:, :, 0], None, steps.pop())
            else:
                t, _ = layer_t(t, skips_t.pop(), steps.pop())
        x, t = torch.addcmul(mean, x, std), torch.addcmul(mean_t, t, std_t)
        return into_stems(x, t, len(self.config.sources), self.config.n_fft, samples)


# -- the separator ----------------------------------------------------------------------------------------------------


class HDemucs(Separator):
    """Music into drums, bass, other and vocals, at 44.1 kHz in stereo.

        separator = load_separator("hdemucs_mmi")
        stems = separator.separate("song.wav")      # {"drums": Audio [1, 2, T], …}

    Segments of 44 s, or as many as `separate(segment=)` says: they bound the memory that it takes.
    """

    Config: ClassVar[Any] = HDemucsConfig
    key_maps = (key_map("demucs", rules_of()),)

    def __init__(self, config: HDemucsConfig, variant: Variant) -> None:
        super().__init__(config, variant, [HDemucsNetwork(config) for _ in range(config.models)])
