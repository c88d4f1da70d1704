"""NanoCodec: NVIDIA NeMo's speech codec of 12.5 or 21.5 frames a second, made for language models.

Paper: "NanoCodec: Towards High-Quality Ultra Fast Speech LLM Inference" (arXiv 2508.05835). Upstream: NVIDIA NeMo
(NVIDIA-NeMo/Speech), its class AudioCodecModel; the checkpoints are `.nemo` archives.

    encoder: conv; for each stride: residual blocks, leaky ReLU, strided conv; leaky ReLU, conv
    quantiser: each four channels are the digits of one code (FSQ in groups)
    decoder: conv; for each stride: half-snake, transposed conv, residual blocks; half-snake, conv, clamp

The encoder repeats the edge value wherever it pads and looks 1.2 s ahead at 12.5 frames a second, 0.6 s at 21.5. The
decoder is causal and streams: of each two channels its transposed convs make one. A clip is filled up with zeros to
whole frames.

Not followed: upstream pads the clips of a batch with zeros at every layer, which changes the last 5 to 6 codes of the
shorter ones. Here each repeats its own edge, as it does alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Context, Decoded, Frames, KeyMap, Rule, Variant, compare_settings, dense_or_none
from codeczoo.codecs.formats.nemo_archive import read_nemo
from codeczoo.codecs.gguf import nanocodec as gguf
from codeczoo.nn.bfloat16 import channels_lie_last
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.fsq import GroupFSQ
from codeczoo.nn.hifigan import MultiReceptiveField, widest
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.snake import EPS, snake

State = Any  # a tree of tensors [B, ...]

KERNELS, DILATIONS = (3, 7, 11), (1, 3, 5)  # of the residual blocks
SLOPE = 0.01  # of leaky ReLU; HiFi-GAN's is 0.1
FSQ_SCALE = 1 - 1e-3


@dataclass(frozen=True)
class NanoCodecConfig:
    """The network's numbers."""

    strides: Sequence[int]  # of the encoder; the decoder's are these in reverse
    num_codebooks: int
    levels: Sequence[int]  # of the digits of a code
    sample_rate: int = 22050  # Hz
    encoder_dim: int = 24  # channels after the first convolution; each stride doubles them
    decoder_dim: int = 864  # channels before the first stride; each halves them

    @property
    def latent_dim(self) -> int:
        return self.num_codebooks * len(self.levels)


def leaky_relu(channels: int, inplace: bool) -> nn.Module:
    """The activation of its residual blocks, as `MultiReceptiveField` takes one."""
    return nn.LeakyReLU(SLOPE, inplace)


class HalfSnake(nn.Module):
    """[B, C, T] → [B, C, T]: snake on the first C // 2 channels, leaky ReLU on the others."""

    def __init__(self, channels: int, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1, channels // 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = self.alpha.shape[1]
        if channels_lie_last(x):  # a part of the channels is then slow
            y = F.leaky_relu(x, SLOPE)
            y[:, :size] = snake(x[:, :size], self.alpha, self.alpha, EPS)
            return y
        first, rest = x.tensor_split((size,), dim=1)
        return torch.cat([snake(first, self.alpha, self.alpha, EPS), F.leaky_relu(rest, SLOPE)], dim=1)


class Encoder(nn.Module):
    """Waveform [B, 1, T], T and `lengths` whole frames → latents [B, latent_dim, N]."""

    def __init__(self, config: NanoCodecConfig) -> None:
        super().__init__()
        channels, edge = config.encoder_dim, "replicate"
        self.first = Conv1d(1, channels, 7, pad_mode=edge)
        blocks, downs = nn.ModuleList(), nn.ModuleList()
        for stride in config.strides:
            blocks.append(MultiReceptiveField(channels, KERNELS, DILATIONS, activation=leaky_relu, pad_mode=edge))
            padding = (-(-stride // 2),) * 2
            downs.append(Conv1d(channels, 2 * channels, 2 * stride, stride, padding=padding, pad_mode=edge))
            channels *= 2
        self.blocks, self.downs = cast(Sequence[MultiReceptiveField], blocks), cast(Sequence[Conv1d], downs)
        self.last = Conv1d(channels, config.latent_dim, 7, pad_mode=edge)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(waveform, lengths)
        for block, down in zip(self.blocks, self.downs, strict=True):
            x = down(F.leaky_relu_(block(x, lengths), SLOPE), lengths)
            lengths = None if lengths is None else down.out_length(lengths)
        return self.last(F.leaky_relu_(x, SLOPE), lengths)

    def receptive_span(self) -> tuple[int, int]:
        """The first and the last sample that frame 0 sees."""
        stages = zip(map(widest, self.blocks), self.downs, strict=True)
        return receptive_span(convolutions_of(self.first, *chain(*stages), self.last), 0, 0)


class Decoder(nn.Module):
    """Latents [B, latent_dim, N] → waveform [B, 1, N * hop] within ±1. Causal."""

    def __init__(self, config: NanoCodecConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        self.first = Conv1d(config.latent_dim, channels, 7, padding="causal")
        activations, ups, blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stride in reversed(config.strides):
            activations.append(HalfSnake(channels))
            channels //= 2
            ups.append(ConvTranspose1d(2 * channels, channels, 2 * stride, stride, groups=channels))
            blocks.append(MultiReceptiveField(channels, KERNELS, DILATIONS, causal=True, activation=HalfSnake))
        self.activations, self.ups = cast(Sequence[HalfSnake], activations), cast(Sequence[ConvTranspose1d], ups)
        self.blocks = cast(Sequence[MultiReceptiveField], blocks)
        self.last_activation = HalfSnake(channels)
        self.last = Conv1d(channels, 1, 3, padding="causal")

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for activation, up, block in zip(self.activations, self.ups, self.blocks, strict=True):
            x = block(up(activation(x)))
        return self.last(self.last_activation(x)).clamp_(-1, 1)

    def receptive_span(self, hop_length: int) -> tuple[int, int]:
        """The first and the last frame that the samples of frame 0 see."""
        stages = zip(self.ups, map(widest, self.blocks), strict=True)
        return receptive_span(convolutions_of(self.first, *chain(*stages), self.last), 0, hop_length - 1)

    def initial_state(self, batch_size: int) -> State:
        layers = (self.first, *self.ups, *self.blocks, self.last)
        return [layer.initial_state(batch_size) for layer in layers]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames [B, latent_dim, n] → their samples, and the state after them."""
        (first, *stages, last), count = state, len(self.ups)
        ups, blocks = stages[:count], stages[count:]
        x, first = self.first.step(x, first)
        for i, (activation, up, block) in enumerate(zip(self.activations, self.ups, self.blocks, strict=True)):
            x, ups[i] = up.step(activation(x), ups[i])
            x, blocks[i] = block.step(x, blocks[i])
        x, last = self.last.step(self.last_activation(x), last)
        return x.clamp_(-1, 1), [first, *ups, *blocks, last]


class NanoCodec(BaseCodec):
    """NanoCodec (NVIDIA, 2025): a speech codec of 12.5 or 21.5 frames a second, whose decoder streams.

    Speech [B, 1, T] at 22.05 kHz ↔ codes [B, K, N], always of all K = 4, 8 or 13 codebooks of the variant.

        codec = load_codec("nanocodec_1k78bps_12hz")
        codes = codec.encode("talk.wav")
        audio = codec.decode(codes)
        stream = codec.stream()  # of codes: the encoder looks ahead
        chunk = stream.decode(codes.codes[..., :2])
    """

    Config = NanoCodecConfig
    config: NanoCodecConfig
    hop_length: int
    settings_files = ("model_config.yaml",)  # of an archive that was unpacked
    readers = {".nemo": read_nemo}  # noqa: RUF012

    def __init__(self, config: NanoCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (math.prod(config.levels),) * config.num_codebooks
        self.codebook_choices = (config.num_codebooks,)
        self.causal_decoder = True
        self.latent_dim = self.vector_dim = config.latent_dim
        self.encoder = Encoder(config)
        self.quantizer = GroupFSQ(config.num_codebooks, config.levels, FSQ_SCALE, shift=torch.tan)
        self.decoder = Decoder(config)
        first, last = self.encoder.receptive_span()
        self.encode_context = Context(-first, last - self.hop_length + 1)
        self.latency = (last + 1) / self.sample_rate
        self.decode_context = Context(-self.decoder.receptive_span(self.hop_length)[0], 0)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        frames = -(-lengths // self.hop_length)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return Frames(self.encoder(waveform, dense_or_none(frames * self.hop_length, waveform.shape[-1])), frames)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        return Decoded(self.decoder(frames.values), frames.lengths * self.hop_length)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_decode_start(self, batch_size: int) -> State:
        return self.decoder.initial_state(batch_size)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, None, State]:
        waveform, state = self.decoder.step(vectors, state)
        return waveform, None, state

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, None]:
        return self._anchor.new_zeros(len(state[0]), 1, 0), None  # nothing is held back

    # -- checkpoints ----------------------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare the settings in the archive with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        there: dict[str, Any] = {}
        for name, value in metadata.get("model_config", {}).items():
            there |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        # Classes by their last name. What refers to another setting says nothing by itself.
        there = {k: v.rpartition(".")[2] if k.endswith("._target_") else v for k, v in there.items()}
        compare_settings({k: v for k, v in there.items() if not str(v).startswith("${")}, self._published_settings())

    def _published_settings(self) -> dict[str, Any]:
        config = self.config
        encoder = {
            "_target_": "HiFiGANEncoder",
            "down_sample_rates": config.strides,
            "encoded_dim": config.latent_dim,
            "base_channels": config.encoder_dim,
            "activation": "lrelu",
            "pad_mode": "replicate",
        }
        decoder = {
            "_target_": "CausalHiFiGANDecoder",
            "up_sample_rates": config.strides[::-1],
            "input_dim": config.latent_dim,
            "base_channels": config.decoder_dim,
            "activation": "half_snake",
            "output_activation": "clamp",
            "pad_mode": "zeros",
            "n_groups_equal_to_out_channels": True,
        }
        quantizer = {"num_groups": config.num_codebooks, "num_levels_per_group": config.levels}
        parts = {"audio_encoder": encoder, "vector_quantizer": quantizer, "audio_decoder": decoder}
        dotted = {f"{part}.{name}": value for part, own in parts.items() for name, value in own.items()}
        return {"sample_rate": config.sample_rate, "samples_per_frame": self.hop_length, **dotted}

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Compare the levels that the quantiser keeps among the tensors: they show in no shape.

        Raises:
            ValueError: they differ.
        """
        for key, tensor in tensors.items():
            there = tensor.flatten().tolist() if re.fullmatch(r"vector_quantizer\.fsqs\.\d+\.num_levels", key) else None
            if there not in (None, list(self.config.levels)):
                raise ValueError(f"{key} is {there} there; {self.name} has {list(self.config.levels)}")


# -- key maps -----------------------------------------------------------------------------------------

UNIT = r"(en|de)coder\.blocks\.(\d+)\.blocks\.(\d+)\.units\.(\d+)\."  # ours
PLACE = r"audio_\1coder.res_layers.\2.res_blocks.\3.res_blocks.\4."
ALPHA = "activation.snake_act.alpha"

NanoCodec.key_maps = (
    KeyMap(
        "nemo",
        (
            Rule(r"(en|de)coder\.first\.(\w+)", r"audio_\1coder.pre_conv.conv.\2"),
            Rule(r"(en|de)coder\.last\.(\w+)", r"audio_\1coder.post_conv.conv.\2"),
            Rule(r"encoder\.downs\.(\d+)\.(\w+)", r"audio_encoder.down_sample_conv_layers.\1.conv.\2"),
            Rule(r"decoder\.ups\.(\d+)\.(\w+)", r"audio_decoder.up_sample_conv_layers.\1.conv.\2"),
            Rule(r"decoder\.activations\.(\d+)\.alpha", rf"audio_decoder.activations.\1.{ALPHA}"),
            Rule(r"decoder\.last_activation\.alpha", f"audio_decoder.post_activation.{ALPHA}"),
            Rule(UNIT + r"conv1\.(\w+)", PLACE + r"input_conv.conv.\5"),
            Rule(UNIT + r"conv2\.(\w+)", PLACE + r"skip_conv.conv.\5"),
            Rule(UNIT + r"act1\.alpha", f"{PLACE}input_activation.{ALPHA}"),
            Rule(UNIT + r"act2\.alpha", f"{PLACE}skip_activation.{ALPHA}"),
        ),
        unused=(
            r"vector_quantizer\..+",  # constants
            r"(discriminator|speaker_encoder|speaker_encoder_resampler|slm_encoder|slm_predictor)\..+",  # of training
            r"\w+_loss_fn\..+",
        ),
    ),
)
NanoCodec.gguf = gguf.layout(NanoCodec.key_maps[0])
