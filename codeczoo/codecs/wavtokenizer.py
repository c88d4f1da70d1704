"""WavTokenizer: one codebook, 40 or 75 tokens a second, and a decoder that attends to the whole clip.

Paper: "WavTokenizer: an Efficient Acoustic Discrete Codec Tokenizer for Audio Language Modeling" (arXiv 2408.16532).
Upstream: jishengpeng/WavTokenizer. Six checkpoints of two architectures, told apart by their hop of 600 or 320 samples;
"small", "medium" and "large" name the training data, not the network.

EnCodec's SEANet encoder without causality, one codebook of 4096, and a Vocos decoder with group norms and attention
over the whole clip. Upstream runs one clip at a time; here every clip of a ragged batch has its own statistics, its own
keys and its own ends.

Long clips. The encoder is exact in passes: its convolutions see a finite stretch, and its LSTM runs forward only.
The decoder cannot be: every sample depends on every code. It takes up to `WHOLE_SECONDS` in one pass (or what
`max_chunk_seconds` says), and beyond that windows of that length, which overlap and are faded into each other.
Each window then has norms and attention of its own. The authors trained on clips of 3 s and blame noise in long ones
on attention over more than that, so shorter windows need not be worse; they are another signal, though. How far from
that of one pass (signal-to-difference ratio; not measured with the published weights):

    random weights, 32 s in windows of 6, 10, 20, 30 s     17, 21, 27 to 28, 30 to 31 dB
    golden weights, 40 s in windows of 6, 10, 20, 30 s     9 to 11, 12 to 14, 16 to 18, 20 to 22 dB
    golden weights, 240 s in windows of 60, 120 s          18 to 20, 22 to 25 dB

(the first line from `python perf/windows.py --codecs wavtokenizer_40 wavtokenizer_75 --weights random`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codeczoo.base.catalogue import Variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.key_map import KeyMap
from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import Decoded, Encoded
from codeczoo.base.ragged import dense_or_none, pad_stack
from codeczoo.nn.chunked import run_chunked
from codeczoo.nn.convnext import VocosBackbone, vocos_rules
from codeczoo.nn.istft import ISTFTHead
from codeczoo.nn.overlap_add import join, window_starts
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.seanet import SEANetEncoder, seanet_rules

WHOLE_SECONDS = 120.0  # the longest clip that is decoded in one pass unless max_chunk_seconds says otherwise
FADE_SECONDS = 0.4  # over which one window gives way to the next
LEAST_SECONDS = 6.0  # no window is shorter


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
    """Codes [B, 1, N] at 40 or 75 a second."""

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

    # -- encode ---------------------------------------------------------------------------------

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        latent = self.encode_latent(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Encoded(self.quantizer.encode(latent), -(-lengths // self.hop_length))

    def encode_latent(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → what is quantised, [B, dim, ceil(T / hop)]."""
        return self.encoder(waveform, lengths)[0]

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip, exactly: convolutions with the context that they see, and the LSTM from where it stopped."""
        pieces = waveform[..., : int(lengths[0])].split(max(samples, self.hop_length), dim=-1)
        codes = [self.quantizer.encode(latent) for latent in run_chunked(self.encoder.layers, pieces)]
        return Encoded(torch.cat(codes, dim=-1), -(-lengths // self.hop_length))

    # -- decode ---------------------------------------------------------------------------------

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        if codes.shape[-1] <= self._frames_per_window():
            waveform = self.decode_whole(codes, dense_or_none(lengths, codes.shape[-1]))
        else:
            items = [self.decode_in_windows(item[None, :, :n])[0] for item, n in zip(codes, lengths, strict=True)]
            waveform, _ = pad_stack(items)
        return Decoded(waveform[:, None], lengths * self.hop_length)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        return self._decode(codes, lengths, side_info, num_samples)

    def decode_whole(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, N] → [B, N * hop] in one pass."""
        return self.head(self.backbone(self.quantizer.decode(codes), lengths), lengths)

    def decode_in_windows(self, codes: Tensor) -> Tensor:
        """One clip [1, 1, N] → [1, N * hop], in windows of equal length that overlap; in one pass if one holds it.

        Where two meet, each is far enough from its edge that its convolutions see nothing but real frames, and one is
        faded into the other. Statistics of the group norms and the reach of attention are each window's own.
        """
        window, fade = self._frames_per_window(), math.ceil(FADE_SECONDS * self.sample_rate / self.hop_length)
        overlap = 2 * (self.backbone.reach + self.config.windows_per_hop // 2) + fade
        starts = window_starts(codes.shape[-1], window, overlap)
        pieces = (self.decode_whole(codes[..., start : start + window]) for start in release_memory_between(starts))
        return join(pieces, [start * self.hop_length for start in starts], fade * self.hop_length)

    def _frames_per_window(self) -> int:
        seconds = max(self.max_chunk_seconds or WHOLE_SECONDS, LEAST_SECONDS)
        return int(seconds * self.sample_rate / self.hop_length)

    # -- weights --------------------------------------------------------------------------------

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Say so if these are weights of the other architecture.

        Raises:
            ValueError: they are; the message names their hop.
        """
        if "head.out.bias" not in tensors:
            return
        hop = (len(tensors["head.out.bias"]) - 2) // self.config.windows_per_hop
        if hop != self.hop_length:
            raise ValueError(
                f"these are weights of a WavTokenizer with a hop of {hop} samples ({self.sample_rate / hop:g} tokens a "
                f"second), and this one has {self.hop_length}: load them under the name of one with that hop"
            )


# -- key map ------------------------------------------------------------------------------------------

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
)
