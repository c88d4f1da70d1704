"""XY-Tokenizer, the speech codec of MOSS-TTSD up to version 0.7.

Paper: "XY-Tokenizer: Mitigating the Semantic-Acoustic Conflict in Low-Bitrate Speech Codecs" (arXiv 2506.23325).
Upstream: gyt1145028706/XY-Tokenizer, and OpenMOSS/MOSS-TTSD, whose checkpoints give 24 and 32 kHz.

    encoder: Whisper's log-mel at 16 kHz; two of Whisper's encoders, one with an adapter behind it; an adapter of both;
        4 steps of 20 ms become one
    quantiser: 8 residual codebooks
    decoder: an adapter; 80 ms become 4 steps; Whisper's encoder turned round, to 80 bands at 100 frames a second; Vocos

Followed as published: features are those of a clip with silence behind it, up to 30 s. T samples give floor(T / 1280)
codes, so what is left over comes back as zeros. Attention sees 30 s at most: a longer clip is cut into windows of 30 s
every 20 s, on both sides, and the first 20 s of each count. (A clip of 20 to 30 s is encoded in two windows therefore.)
So the end of a window sees 10 s of what follows, and its start sees nothing before it.

Not followed: a clip shorter than a frame is filled up to one, where upstream gives none. In a ragged batch upstream's
vocoder sees constants behind the shorter clips, and the last second of their audio differs from that of a clip alone;
here each clip has zeros behind its own mel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Rule,
    Variant,
    pad_stack,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.convnext import DEPTHWISE_KERNEL, ConvNeXtBlock
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.log_mel import HOP, whisper_log_mel
from codeczoo.nn.quantizer import Quantizer as BaseQuantizer
from codeczoo.nn.resnet1d import EPS
from codeczoo.nn.rvq import ResidualVQ, at_least_float32, codebook_rule
from codeczoo.nn.sequential import Linear
from codeczoo.nn.whisper import WhisperEncoder, WhisperTransformer, whisper_rules, whisper_transformer_rules

WINDOW, STEP = 375, 250  # frames of a window of a long clip, and from one to the next
HALVES = 2  # Whisper's second convolution takes 2 mel frames a step
LOOK_AHEAD = 2  # mel frames behind a clip that its last step sees


@dataclass(frozen=True)
class XYTokenizerConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz, of the encoder
    output_sample_rate: int = 24000  # Hz, of the decoder
    mels: int = 80
    dim: int = 768  # of every transformer
    num_heads: int = 12
    hidden: int = 3072
    num_layers: int = 12  # of both encoders and of the decoder
    adapter_layers: int = 4
    stride: int = 4  # steps of 20 ms a frame
    num_codebooks: int = 8
    codebook_size: int = 1024
    codebook_dim: int = 512
    vocoder_dim: int = 512
    vocoder_hidden: int = 4096
    vocoder_layers: int = 30
    windows_per_hop: int = 4  # n_fft = that many hops of the vocoder

    @property
    def latent_dim(self) -> int:
        """Of what is quantised: the steps of a frame side by side."""
        return self.stride * self.dim


class Downsample(nn.Module):
    """[B, stride * N, dim] → [B, N, stride * dim]: the steps of a frame side by side, plus a gated convolution."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride, wide = stride, stride * dim
        self.gate, self.up = (Conv1d(dim, wide, stride, stride, bias=False, padding=(0, 0)) for _ in range(2))
        self.down = Linear(wide, wide, bias=False)
        self.norm = nn.LayerNorm(wide)

    def forward(self, x: Tensor) -> Tensor:
        channels_first = x.mT.contiguous()
        y = F.silu(self.gate(channels_first)).mul_(self.up(channels_first)).mT
        return self.norm(self.down(y).add_(x.unflatten(1, (-1, self.stride)).flatten(2)))


class Quantizer(BaseQuantizer):
    """Residual codebooks between projections from and to `latent_dim`."""

    def __init__(self, config: XYTokenizerConfig) -> None:
        super().__init__()
        self.input_proj = Conv1d(config.latent_dim, config.codebook_dim, 1)
        self.vq = ResidualVQ(config.num_codebooks, config.codebook_size, config.codebook_dim)
        self.output_proj = Conv1d(config.codebook_dim, config.latent_dim, 1)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, latent_dim, N] → codes [B, K, N]."""
        return self.vq.encode(self.input_proj(x), num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, K, N] → [B, latent_dim, N]."""
        return self.output_proj(self.vq.decode(codes))

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.output_proj(self.vq.straight_through(self.input_proj(latent), num_codebooks))

    def tables(self) -> list[Tensor]:
        return self.vq.tables()


class MelDecoder(nn.Module):
    """Steps [B, N, dim] → mel bands [B, mels, 2 N]. Both transposed convolutions look back only."""

    def __init__(self, config: XYTokenizerConfig, positions: int) -> None:
        super().__init__()
        dim = config.dim
        self.body = WhisperTransformer(dim, config.num_layers, config.num_heads, config.hidden, positions)
        self.deconv1 = ConvTranspose1d(dim, dim, 3, HALVES)
        self.deconv2 = ConvTranspose1d(dim, config.mels, 3, 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return F.gelu(self.deconv2(F.gelu(self.deconv1(self.body(x, lengths).mT.contiguous()))))


class Vocoder(nn.Module):
    """Mel bands [B, mels, F] → waveform [B, F * hop_length]: Vocos."""

    def __init__(self, config: XYTokenizerConfig, hop_length: int) -> None:
        super().__init__()
        dim = config.vocoder_dim
        self.embed = Conv1d(config.mels, dim, DEPTHWISE_KERNEL)
        self.norm = nn.LayerNorm(dim, EPS)
        self.convnext = nn.ModuleList(ConvNeXtBlock(dim, config.vocoder_hidden) for _ in range(config.vocoder_layers))
        self.final_layer_norm = nn.LayerNorm(dim, EPS)
        self.head = ISTFTHead(dim, config.windows_per_hop * hop_length, hop_length)

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.norm(self.embed(mel, lengths).mT)
        for block in self.convnext:
            x = block(x, lengths)
        return self.head(self.final_layer_norm(x), lengths)


class XYTokenizer(BaseCodec):
    """XY-Tokenizer (Gong and others, 2025): a speech codec of 1 kbit/s whose codes carry text and voice alike.

    Audio [B, 1, T] at 16 kHz → codes [B, 8, N] at 12.5 a second → audio at 16, 24 or 32 kHz, by variant.

        codec = load_codec("xy_tokenizer_ttsd_v0")
        audio = codec.decode(codec.encode("speech.wav"))
    """

    Config = XYTokenizerConfig
    config: XYTokenizerConfig
    hop_length: int

    def __init__(self, config: XYTokenizerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        per_frame = HALVES * config.stride  # mel frames
        self.sample_rate, self.hop_length = config.sample_rate, per_frame * HOP
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = (config.num_codebooks,)
        self.latent_dim = self.vector_dim = config.latent_dim

        dim, steps = config.dim, WINDOW * config.stride
        layers = (config.num_layers, config.num_heads, config.hidden)
        adapter = (dim, config.adapter_layers, config.num_heads, config.hidden)
        self.semantic = WhisperEncoder(config.mels, dim, *layers, steps)
        self.semantic_adapter = WhisperTransformer(*adapter, steps)
        self.acoustic = WhisperEncoder(config.mels, dim, *layers, steps)
        self.join = Linear(2 * dim, dim)
        self.join_adapter = WhisperTransformer(*adapter, steps)
        self.downsample = Downsample(dim, config.stride)
        self.quantizer = Quantizer(config)
        self.narrow = Linear(config.latent_dim, dim)
        self.decoder_adapter = WhisperTransformer(*adapter, WINDOW)
        self.widen = Linear(dim, config.latent_dim)
        self.upsample = ConvTranspose1d(config.latent_dim, dim, config.stride, config.stride, bias=False)
        self.decoder = MelDecoder(config, steps)
        self.vocoder = Vocoder(config, self.hop_length * config.output_sample_rate // config.sample_rate // per_frame)

    @property
    def output_sample_rate(self) -> int:
        return self.config.output_sample_rate

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        if exporting():  # one window
            count = max(waveform.shape[-1] // self.hop_length, 1)
            return Frames(self.window_latents(waveform)[..., :count], (lengths // self.hop_length).clamp(min=1))
        hop, samples = self.hop_length, [max(n, self.hop_length) for n in lengths.tolist()]
        counts = [n // hop for n in samples]
        waveform = F.pad(waveform, (0, max(hop - waveform.shape[-1], 0)))
        values = waveform.new_zeros(len(samples), self.latent_dim, max(counts))
        for windows in self._passes(counts):
            ends = [min(samples[item] - start * hop, WINDOW * hop) for item, start in windows]
            parts = [waveform[item, :, start * hop :][:, : max(ends)] for item, start in windows]
            batch = torch.stack([F.pad(part, (0, max(ends) - part.shape[-1])) for part in parts])
            own = None if min(ends) == max(ends) else torch.tensor(ends, device=waveform.device)
            for row, (item, start) in zip(self.window_latents(batch, own), windows, strict=True):
                count = min(counts[item] - start, STEP)
                values[item, :, start : start + count] = row[:, :count]
        return Frames(values, (lengths // hop).clamp(min=1))

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        yield self._latents(waveform, lengths)  # its windows are its definition

    def _passes(self, counts: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
        """Windows that go through the network together: item and first frame of each. `counts`: frames of the items."""
        windows = [(item, start) for item, count in enumerate(counts) for start in range(0, count, STEP)]
        longest = min(max(counts), WINDOW) * self.hop_length
        together = max(int(self._chunk_seconds() * self.sample_rate) // longest, 1)
        for first in release_memory_between(range(0, len(windows), together)):
            yield windows[first : first + together]

    def window_latents(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One window: [B, 1, T], zeros behind each item's length, T the longest → what is quantised, [B, D, N]."""
        mel = self.features(waveform)
        longest = -(-waveform.shape[-1] // HOP) // HALVES
        steps = None if lengths is None else -(-lengths // HOP) // HALVES
        semantic, acoustic = (side.body(side.halve(mel)[:, :longest], steps) for side in (self.semantic, self.acoustic))
        both = torch.cat([self.semantic_adapter(semantic, steps), acoustic], dim=-1)
        x = self.join_adapter(self.join(both), steps)
        return self.downsample(x[:, : longest // self.config.stride * self.config.stride]).mT

    def features(self, waveform: Tensor) -> Tensor:
        """[B, 1, T] → [B, mels, F], as of a clip with silence behind it, as far as the clip's last step sees."""
        frames = -(-waveform.shape[-1] // HOP) + LOOK_AHEAD
        whole = HALVES * self.config.stride
        frames = -(-frames // whole) * whole
        frames = frames if exporting() else min(frames, WINDOW * whole)
        filled = F.pad(at_least_float32(waveform[:, 0]), (0, frames * HOP - waveform.shape[-1]))
        return whisper_log_mel(filled, mels=self.config.mels).to(waveform.dtype)

    # -- decode ---------------------------------------------------------------------------------

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        if exporting():  # one window
            return Decoded(self.synthesize_window(frames.values), frames.lengths * (self.output_hop_length or 1))
        return self._synthesize_windows(lambda item, first, last: frames.values[item, :, first:last], frames.lengths)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        return self._synthesize_windows(lambda item, first, last: source(first, last).values[0], lengths)

    def _synthesize_windows(self, source: Callable[[int, int, int], Tensor], lengths: Tensor) -> Decoded:
        """`source`: item, first and last frame → vectors [D, last - first]."""
        counts, hop = lengths.tolist(), self.output_hop_length or 1
        waveform = torch.zeros(len(lengths), 1, max(counts) * hop, device=self.device, dtype=self.dtype)
        for windows in self._passes(counts):
            ends = [min(counts[item] - start, WINDOW) for item, start in windows]
            parts = [source(item, start, start + end) for (item, start), end in zip(windows, ends, strict=True)]
            batch = pad_stack(parts)[0]
            own = None if min(ends) == max(ends) else torch.tensor(ends, device=batch.device)
            found = self.synthesize_window(batch, own)
            for row, (item, start), end in zip(found, windows, ends, strict=True):
                count = min(end, STEP) * hop
                waveform[item, :, start * hop : start * hop + count] = row[:, :count]
        return Decoded(waveform, lengths * hop)

    def synthesize_window(self, vectors: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One window: [B, latent_dim, N] → [B, 1, N * output_hop_length]."""
        stride = self.config.stride
        x = self.widen(self.decoder_adapter(self.narrow(vectors.mT), lengths))
        x = self.upsample(x.mT.contiguous()).mT
        mel = self.decoder(x, None if lengths is None else lengths * stride)
        return self.vocoder(mel, None if lengths is None else lengths * stride * HALVES)[:, None]


# -- key maps -----------------------------------------------------------------------------------------

ENCODERS = {"semantic": "semantic_encoder", "acoustic": "acoustic_encoder"}
TRANSFORMERS = {
    "semantic_adapter": "semantic_encoder_adapter",
    "join_adapter": "pre_rvq_adapter",
    "decoder_adapter": "post_rvq_adapter",
    r"decoder\.body": "acoustic_decoder",
}
LAYERS = {
    "join": "pre_rvq_adapter.proj",
    r"downsample\.gate": "downsample.gate_proj",
    r"downsample\.up": "downsample.up_proj",
    r"downsample\.down": "downsample.down_proj",
    r"downsample\.norm": "downsample.layer_norm",
    "narrow": "post_rvq_adapter.proj",
    "widen": "post_rvq_adapter.out_proj",
    "upsample": "upsample.up_conv",
    r"decoder\.deconv1": "acoustic_decoder.deconv1",
    r"decoder\.deconv2": "acoustic_decoder.deconv2",
}


def _key_map(name: str, vocoder: str, feed_forward: str = "") -> KeyMap:
    """`vocoder` and `feed_forward`: what stands before the keys of the two."""
    rules: list[Rule] = []
    for ours, theirs in ENCODERS.items():
        rules += whisper_rules(ours, theirs, "positional_embedding", feed_forward)
    for ours, theirs in TRANSFORMERS.items():
        rules += whisper_transformer_rules(ours, theirs, "positional_embedding", feed_forward)
    rules += [Rule(rf"{ours}\.(\w+)", rf"{theirs}.\1") for ours, theirs in LAYERS.items()]
    return KeyMap(
        name,
        (
            *rules,
            codebook_rule(r"quantizer\.vq\.codebooks", "quantizer.quantizers.{}.codebook", 8),
            Rule(r"vocoder\.(head\..+)", rf"{vocoder}.\1"),
            Rule(r"vocoder\.(.+)", rf"{vocoder}.backbone.\1"),
        ),
        unused=(
            r"quantizer\.quantizers\.\d+\.(inited|cluster_size|embed_avg)",
            r".+\.istft\.window",  # computed here
        ),
    )


XYTokenizer.key_maps = (
    _key_map("xy_tokenizer", "vocos"),
    _key_map("xy_tokenizer of MOSS-TTSD", "enhanced_vocos"),
    _key_map("xy_tokenizer of MOSS-TTSD for transformers", "enhanced_vocos", "mlp."),
)
