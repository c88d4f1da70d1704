"""WavTokenizer: one codebook, 40 or 75 tokens a second, and a decoder that attends to the whole clip.

Paper: "WavTokenizer: an Efficient Acoustic Discrete Codec Tokenizer for Audio Language Modeling" (arXiv 2408.16532).
Upstream: jishengpeng/WavTokenizer. Six checkpoints of two architectures, told apart by their hop of 600 or 320 samples;
"small", "medium" and "large" name the training data, not the network.

EnCodec's SEANet encoder, not causal, one codebook of 4096, and a Vocos decoder with group norms and attention over the
whole clip. Upstream runs one clip at a time; here each clip of a ragged batch has its own statistics, keys and ends.

Long clips. The encoder is exact in chunks: its convolutions have a finite receptive field, and its LSTM runs forward
only. The decoder is not, because every sample depends on every code. It decodes up to `DEFAULT_WINDOW_SECONDS` (or
`max_chunk_seconds`) at once, and longer clips in windows of that length, which overlap and are faded into each other;
each window has its own norms and attention. The authors trained on clips of 3 s and blame noise in long clips on
attention over more than that, so shorter windows need not sound worse. But they give another signal. Its
signal-to-difference ratio to the clip decoded whole (not measured with the published weights):

    random weights, 32 s in windows of 6, 10, 20, 30 s     17, 21, 27 to 28, 30 to 31 dB
    golden weights, 40 s in windows of 6, 10, 20, 30 s     9 to 11, 12 to 14, 16 to 18, 20 to 22 dB
    golden weights, 240 s in windows of 60, 120 s          18 to 20, 22 to 25 dB

(the first line from `python perf/windows.py --codecs wavtokenizer_40 wavtokenizer_75 --weights random`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from codeczoo.base import (
    BaseCodec,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Rule,
    Variant,
    dense_or_none,
    pad_stack,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.codecs.gguf import wavtokenizer as gguf
from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.convnext import VocosBackbone, vocos_rules
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.overlap_add import copied, join, window_starts
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.seanet import SEANetEncoder, seanet_rules, seanet_rules_transformers

DEFAULT_WINDOW_SECONDS = 120.0  # of the decoder, unless max_chunk_seconds is set; clips up to this length are not cut
WINDOW_FADE_SECONDS = 0.4  # over which one window fades into the next
MIN_WINDOW_SECONDS = 6.0


@dataclass(frozen=True)
class WavTokenizerConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    filters: int = 32  # width of the first convolution
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder; their product is the hop of the decoder too
    dim: int = 512  # of latents and code vectors
    codebook_size: int = 4096
    decoder_dim: int = 768
    hidden_dim: int = 2304  # inside the ConvNeXt blocks
    num_layers: int = 12  # ConvNeXt blocks
    windows_per_hop: int = 4  # n_fft = that many hops


class WavTokenizer(BaseCodec):
    """WavTokenizer (2024): one codebook of 4096 for speech, music and sound, decoded by attention over the whole clip.

    Audio [B, 1, T] at 24 kHz ↔ codes [B, 1, N] at 40 or 75 a second: 0.48 or 0.9 kbit/s.

        codec = load_codec("wavtokenizer_large_40")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    Config = WavTokenizerConfig
    config: WavTokenizerConfig
    hop_length: int
    approximate_when_long: tuple[str, ...] = ("decode",)

    def __init__(self, config: WavTokenizerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        hop = math.prod(config.strides)
        self.sample_rate = config.sample_rate
        self.hop_length = hop
        self.codebook_sizes = (config.codebook_size,)
        self.codebook_choices = (1,)

        self.encoder = SEANetEncoder(1, config.dim, config.filters, config.strides, causal=False)
        self.quantizer = ResidualVQ(1, config.codebook_size, config.dim)
        self.backbone = VocosBackbone(config.dim, config.decoder_dim, config.hidden_dim, config.num_layers)
        self.head = ISTFTHead(config.decoder_dim, config.windows_per_hop * hop, hop)
        self.latent_dim = self.vector_dim = config.dim

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        latent, _ = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Frames(latent, -(-lengths // self.hop_length))

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip, exactly: convolutions with the context that they see, and the LSTM from its last state."""
        chunks = waveform[..., : int(lengths[0])].split(max(samples, self.hop_length), dim=-1)
        for latent in run_chunked(self.encoder.layers, chunks):
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]))

    # -- decode ---------------------------------------------------------------------------------

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, _ = frames
        if exporting() or vectors.shape[-1] <= self._frames_per_window():
            waveform = self.synthesize_whole(vectors, dense_or_none(lengths, vectors.shape[-1]))
        else:
            items = [
                self._synthesize_in_windows(functools.partial(copied, row), n)[0]
                for row, n in zip(vectors, lengths.tolist(), strict=True)
            ]
            waveform, _ = pad_stack(items)
        return Decoded(waveform[:, None], lengths * self.hop_length)

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        waveform = self._synthesize_in_windows(lambda first, last: source(first, last).values, int(lengths[0]))
        return Decoded(waveform[:, None], lengths * self.hop_length)

    def synthesize_whole(self, vectors: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, dim, N] → [B, N * hop], each clip at once."""
        return self.head(self.backbone(vectors, lengths), lengths)

    def _synthesize_in_windows(self, source: Callable[[int, int], Tensor], total: int) -> Tensor:
        """The frames [1, dim, total] of one clip → [1, total * hop], in windows of equal length that overlap; at once
        if one window holds it.

        Two windows are faded into each other where both are far enough from their ends that convolutions see real
        frames only. Each window has its own statistics of group norms and its own attention.
        """
        window, fade = self._frames_per_window(), math.ceil(WINDOW_FADE_SECONDS * self.sample_rate / self.hop_length)
        overlap = 2 * (self.backbone.reach + self.config.windows_per_hop // 2) + fade
        starts = window_starts(total, window, overlap)
        audio = (
            self.synthesize_whole(source(start, min(start + window, total))) for start in release_memory_between(starts)
        )
        return join(audio, [start * self.hop_length for start in starts], fade * self.hop_length)

    def _frames_per_window(self) -> int:
        seconds = max(self.max_chunk_seconds or DEFAULT_WINDOW_SECONDS, MIN_WINDOW_SECONDS)
        return int(seconds * self.sample_rate / self.hop_length)

    # -- weights --------------------------------------------------------------------------------

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse weights of the other architecture.

        Raises:
            ValueError: the weights have another hop; the message names it.
        """
        names = ("head.out.bias", "head.linear.bias", "dec.head.out.bias")  # of the authors, transformers, codec.cpp
        bias = next((tensors[name] for name in names if name in tensors), None)
        hop = self.hop_length if bias is None else (len(bias) - 2) // self.config.windows_per_hop
        if hop != self.hop_length:
            raise ValueError(
                f"these are weights of a WavTokenizer with a hop of {hop} samples ({self.sample_rate / hop:g} tokens a "
                f"second), and this one has {self.hop_length}: load them under the name of one with that hop"
            )


# -- key maps -----------------------------------------------------------------------------------------

WavTokenizer.key_maps = (
    KeyMap(
        "wavtokenizer",
        (
            *seanet_rules("encoder", "feature_extractor.encodec.encoder.model"),
            codebook_rule(
                r"quantizer\.codebooks", "feature_extractor.encodec.quantizer.vq.layers.{}._codebook.embed", 1
            ),
            *vocos_rules("backbone", "backbone"),
        ),
        unused=(
            r"feature_extractor\.encodec\.decoder\..+",  # a whole EnCodec decoder
            r"feature_extractor\.encodec\.quantizer\..+\.(embed_avg|cluster_size|inited)",
            r"head\.istft\.window",
            r"(multiperioddisc|multiresddisc|dac|dacdiscriminator|melspec_loss)\..+",  # of training
        ),
    ),
    KeyMap(
        "wavtokenizer of transformers",
        (
            *seanet_rules_transformers("encoder", "encoder_model.encoder.layers"),
            codebook_rule(r"quantizer\.codebooks", "encoder_model.quantizer.codebook.embed", 1),
            *vocos_rules("backbone", "backbone"),
            Rule(r"head\.out\.(weight|bias)", r"head.linear.\1"),
        ),
        unused=(r"encoder_model\.quantizer\.codebook\.(embed_avg|cluster_size|inited)",),
    ),
)
WavTokenizer.gguf = gguf.layout(WavTokenizer.key_maps[0])
