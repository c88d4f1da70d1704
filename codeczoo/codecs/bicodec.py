"""BiCodec, the tokenizer of Spark-TTS: a stream of semantic tokens, and 32 tokens that hold the voice of a clip.

Paper: "Spark-TTS: An Efficient LLM-Based Text-to-Speech Model with Single-Stream Decoupled Speech Tokens" (arXiv
2503.01710). Upstream: SparkAudio/Spark-TTS.

    semantic tokens: wav2vec 2.0 (XLSR-53), the mean of three hidden states; ConvNeXt; one codebook of 8192, by cosine
    voice: mel bands of the first 6 s; ECAPA-TDNN; 32 learned queries attend to it; each becomes six digits of four
        values. A shorter clip is repeated to 6 s
    decoder: ConvNeXt, whose layer norms the voice sets; DAC's decoder with other kernels

The semantic tokens are the codes [B, 1, N]. The voice is a side value of them, `side_info["global_codes"]` [B, 1, 32],
integers below 4096; without it there is no audio, and decoding says so. The voice of one clip with the semantic tokens
of another is voice conversion.

The mel bands are magnitudes without a logarithm. The volume of a clip is set first, by its loud samples; the decoder
does not take that back, so that audio comes back at that volume. Upstream's resampling blocks have a ratio of 1 here,
and add their input up three times. A clip of less than 400 samples is filled up with zeros to 400, which make one
frame; upstream cannot code it. The last frame ends 80 to 399 samples before the clip does: those come back as zeros.
Of several channels upstream takes the first; here, as with every mono codec, their mean is coded.

wav2vec 2.0 attends to the whole clip: clips of up to a minute are encoded whole, longer ones in windows with 5 s of
context to each side, with the volume and the voice of the whole clip. Decoding is exact in passes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import (
    BaseCodec,
    Context,
    Decoded,
    Encoded,
    Frames,
    KeyMap,
    Rule,
    Variant,
    compare_settings,
    dense_or_none,
    release_memory_between,
)
from codeczoo.base.exporting import exporting
from codeczoo.nn import dft
from codeczoo.nn.cache_tiling import run_tiled
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.convnext import ConditionedBlock, ConditionedLayerNorm, VocosBackbone
from codeczoo.nn.ecapa import ECAPA, ecapa_rules
from codeczoo.nn.factorized_vq import FactorizedVQ
from codeczoo.nn.fsq import ProjectedFSQ
from codeczoo.nn.hubert import Hubert, HubertConfig, hubert_rules
from codeczoo.nn.mel import mel_filters
from codeczoo.nn.padding import mask_tail, pad
from codeczoo.nn.perceiver import PerceiverResampler, perceiver_rules
from codeczoo.nn.receptive_field import convolutions_of, receptive_span
from codeczoo.nn.resnet1d import EPS
from codeczoo.nn.rvq import at_least_float32
from codeczoo.nn.sequential import Linear
from codeczoo.nn.snake import UNIT_LAYERS, SnakeConv, SnakeUp

GLOBAL = "global_codes"  # the side value of codes; of latents, what becomes it, and of vectors, what it stands for:
VOICE_LATENTS, VOICE = "voice_latents", "voice"
SHORTEST = 400  # samples that make a frame
CONTEXT_SECONDS = 5.0  # to each side of a window of a long clip
N_FFT, WINDOW, HOP, MELS, LOWEST = 1024, 640, 320, 128, 10.0  # of the mel bands; the lowest in Hz
STAGES, STAGE_LAYERS = 2, 2  # small backbones after the encoder's first and before the prenet's last


@dataclass(frozen=True)
class BiCodecConfig:
    """The network's numbers."""

    sample_rate: int = 16000  # Hz
    reference_seconds: float = 6.0  # of the start of a clip, of which the voice is made
    semantic_states: Sequence[int] = (11, 14, 16)  # of wav2vec 2.0, whose layers end at the last of them
    semantic_dim: int = 1024
    semantic_heads: int = 16
    semantic_hidden: int = 4096
    semantic_extractor: int = 512
    dim: int = 1024  # of latents and of the voice
    vocos_dim: int = 384
    vocos_hidden: int = 2048
    vocos_layers: int = 12
    codebook_size: int = 8192
    codebook_dim: int = 8
    speaker_channels: int = 512  # of ECAPA-TDNN
    speaker_dim: int = 128
    speaker_tokens: int = 32
    speaker_digits: Sequence[int] = (4,) * 6
    decoder_dim: int = 1536  # channels before the first stride; each halves them
    strides: Sequence[int] = (8, 5, 4, 2)  # of the decoder
    kernels: Sequence[int] = (16, 11, 8, 4)

    @property
    def reference_samples(self) -> int:
        return int(self.sample_rate * self.reference_seconds) // HOP * HOP


# -- what the networks are given ----------------------------------------------------------------------


def normalise_volume(x: Tensor) -> Tensor:
    """Clips [B, T], zeros behind each → the same, brought to a volume by the samples above 0.01.

    A peak below 0.1 becomes 0.1. Of more than ten such samples, the mean of those from 90 to 99 % of their order
    becomes 0.2, by a factor of 0.1 to 10; then a peak above 1 becomes 1.
    """
    sizes = x.abs().sort(-1).values
    peak, count = sizes[:, -1:], (sizes > 0.01).sum(-1, keepdim=True)
    place = torch.arange(x.shape[-1], device=x.device) - (x.shape[-1] - count)
    counted = (place >= count * 9 // 10) & (place < count * 99 // 100)
    volume = (sizes * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True)
    gain = torch.where(peak < 0.1, 0.1 / peak.clamp(min=1e-3), 1.0)
    loud = gain * (0.2 / volume).clamp(0.1, 10)
    loud = torch.where(peak * loud > 1, 1 / peak, loud)
    return x * torch.where(count > 10, loud, gain)


def standardise(x: Tensor, lengths: Tensor) -> Tensor:
    """Clips [B, T], zeros behind each → the same of zero mean and unit variance."""
    count = lengths[:, None]
    centred = mask_tail(x - x.sum(-1, keepdim=True) / count, lengths)
    return centred / (centred.square().sum(-1, keepdim=True) / count + 1e-7).sqrt()


def mel_bands(x: Tensor, sample_rate: int) -> Tensor:
    """Clips [B, T] → magnitudes [B, mels, T // 320 + 1]."""
    wide = at_least_float32(x)
    window, filters = _constants(sample_rate, wide.dtype, wide.device)
    if exporting():
        padded, outside = pad(wide[:, None], None, N_FFT // 2, N_FFT // 2, "reflect")[:, 0], (N_FFT - WINDOW) // 2
        frames = dft.framed(padded, N_FFT, HOP) * F.pad(window, (outside, N_FFT - WINDOW - outside))
        real, imag = dft.spectra(frames, N_FFT)
        return ((real.square() + imag.square()).sqrt() @ filters).mT.to(x.dtype)
    spectrum = torch.stft(wide, N_FFT, HOP, WINDOW, window, center=True, pad_mode="reflect", return_complex=True)
    return (spectrum.abs().mT @ filters).mT.to(x.dtype)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for callers who record gradients
def _constants(sample_rate: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Hann's window and the filters of `mel_bands`."""
    window, filters = torch.hann_window(WINDOW, dtype=torch.float64), mel_filters(sample_rate, N_FFT, MELS, LOWEST)
    return window.to(device, dtype), filters.to(device, dtype)


# -- the voice ----------------------------------------------------------------------------------------


class SpeakerEncoder(nn.Module):
    """Mel bands [B, mels, T] → tokens [B, M] → voice [B, dim]."""

    def __init__(self, config: BiCodecConfig) -> None:
        super().__init__()
        dim, tokens = config.speaker_dim, config.speaker_tokens
        self.ecapa = ECAPA(MELS, config.speaker_channels)
        self.sampler = PerceiverResampler(3 * config.speaker_channels, dim, tokens)
        self.quantizer = ProjectedFSQ(dim, config.speaker_digits)
        self.project = Linear(dim * tokens, config.dim)

    def latents(self, mel: Tensor) -> Tensor:
        """[B, mels, T] → what is quantised, [B, speaker_dim, M]."""
        return self.sampler(self.ecapa(mel).mT).mT

    def decode(self, codes: Tensor) -> Tensor:
        return self.project(self.quantizer.decode(codes).flatten(1))

    def straight_through(self, latents: Tensor) -> Tensor:
        """[B, speaker_dim, M] → voice [B, dim]."""
        return self.project(self.quantizer.straight_through(latents).flatten(1))


# -- encoder and decoder ------------------------------------------------------------------------------


def stages(config: BiCodecConfig) -> nn.ModuleList:
    """Backbones [B, vocos_dim, N] → [B, N, vocos_dim], before each of which stands a factor of three."""
    dim, hidden = config.vocos_dim, config.vocos_hidden
    return nn.ModuleList(VocosBackbone(dim, dim, hidden, STAGE_LAYERS, attention=False) for _ in range(STAGES))


class Encoder(nn.Module):
    """Features [B, semantic_dim, N] → latent [B, dim, N]."""

    def __init__(self, config: BiCodecConfig) -> None:
        super().__init__()
        sizes = (config.semantic_dim, config.vocos_dim, config.vocos_hidden, config.vocos_layers)
        self.encoder = VocosBackbone(*sizes, attention=False)
        self.stages = stages(config)
        self.project = Linear(config.vocos_dim, config.dim)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.encoder(features, lengths)
        for stage in self.stages:
            x = stage(3 * x.mT, lengths)
        return self.project(x).mT


class Prenet(nn.Module):
    """Quantised [B, dim, N] and voice [B, dim] → [B, dim, N]."""

    def __init__(self, config: BiCodecConfig) -> None:
        super().__init__()
        channels, hidden, dim = config.vocos_dim, config.vocos_hidden, config.dim
        self.first = Linear(dim, channels)
        self.stages = stages(config)
        self.embed = Conv1d(channels, channels, 7)
        self.norm = ConditionedLayerNorm(channels, dim)
        self.blocks = nn.ModuleList(ConditionedBlock(channels, hidden, dim) for _ in range(config.vocos_layers))
        self.final_norm = nn.LayerNorm(channels, EPS)
        self.last = Linear(channels, dim)

    def forward(self, latent: Tensor, voice: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(latent.mT)
        for stage in self.stages:
            x = stage(3 * x.mT, lengths)
        x = self.norm(self.embed(x.mT, lengths).mT, voice)
        for block in self.blocks:
            x = block(x, lengths, voice)
        return self.last(self.final_norm(x)).mT


class Decoder(nn.Module):
    """[B, dim, N] → waveform [B, 1, N * hop]."""

    def __init__(self, config: BiCodecConfig) -> None:
        super().__init__()
        channels = config.decoder_dim
        self.first = Conv1d(config.dim, channels, 7)
        self.blocks = nn.ModuleList()
        for stride, kernel in zip(config.strides, config.kernels, strict=True):
            self.blocks.append(SnakeUp(channels, kernel, stride, ((kernel - stride) // 2,) * 2))
            channels //= 2
        self.last = SnakeConv(channels, 1, 7)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x, lengths)
        for block in self.blocks[:-1]:
            x, lengths = run_tiled([block], x, lengths)
        return run_tiled([self.blocks[-1], self.last], x, lengths)[0].tanh_()


class BiCodec(BaseCodec):
    """BiCodec (Spark-TTS, 2025): a speech codec of semantic tokens in time and 32 tokens for a clip's voice.

    Speech [B, 1, T] at 16 kHz ↔ codes [B, 1, N] at 50 a second, 0.65 kbit/s, and the side value `global_codes`
    [B, 1, 32] of each clip, without which nothing decodes.

        codec = load_codec("bicodec")
        codes = codec.encode("talk.wav")
        voice = codes.side_info["global_codes"]
        audio = codec.decode(codes)
    """

    Config = BiCodecConfig
    config: BiCodecConfig
    hop_length: int
    settings_files = ("config.yaml",)
    approximate_when_long = ("encode",)
    min_chunk_seconds = 60.0

    def __init__(self, config: BiCodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,)
        self.codebook_choices = (1,)
        self.side_sizes = {GLOBAL: math.prod(config.speaker_digits)}
        self.latent_dim = self.vector_dim = config.dim
        self.semantic = Hubert(
            HubertConfig(
                max(config.semantic_states),
                config.semantic_dim,
                config.semantic_heads,
                config.semantic_hidden,
                config.semantic_extractor,
                extractor_norm="layer",
                conv_bias=True,
                pre_norm=True,
                encoder_norm=False,
            )
        )
        self.encoder = Encoder(config)
        self.quantizer = FactorizedVQ(config.dim, config.codebook_size, config.codebook_dim)
        self.speaker = SpeakerEncoder(config)
        self.prenet = Prenet(config)
        self.decoder = Decoder(config)
        first, last = receptive_span(convolutions_of(self.prenet, self.decoder), 0, self.hop_length - 1)
        self.decode_context = Context(-first, last)

    # -- encode ---------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        speech, reference, lengths = self.prepared(waveform, lengths)
        latent = self.semantic_latents(speech, dense_or_none(lengths, speech.shape[-1]))
        return Frames(latent, self.semantic.out_length(lengths), {VOICE_LATENTS: self.voice_latents(reference)})

    def _quantize(self, frames: Frames, num_codebooks: int) -> Encoded:
        voice = self.speaker.quantizer.encode(self._voice_of(frames))
        return Encoded(self.quantizer.encode(frames.values)[:, None], frames.lengths, {GLOBAL: voice[:, None]})

    def _voice_of(self, frames: Frames) -> Tensor:
        """The voice latents [B, speaker_dim, M]."""
        found = frames.side_info.get(VOICE_LATENTS)
        wanted = [frames.values.shape[0], self.config.speaker_dim, self.config.speaker_tokens]
        if found is None or list(found.shape) != wanted:
            there = "they have none" if found is None else f"its shape is {list(found.shape)}"
            raise ValueError(
                f"{self.name}: latents need the side value {VOICE_LATENTS!r} {wanted}, which holds the voice; {there}"
            )
        return found

    def prepared(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 1, T] → what wav2vec 2.0 hears [B, 1, T'], what the voice is made of [B, R], and the lengths of the
        first. Both are made in float64, where the device has it."""
        waveform = F.pad(waveform[:, 0], (0, max(SHORTEST - waveform.shape[-1], 0)))
        lengths = lengths.clamp(min=SHORTEST)
        wide = waveform.to(torch.float32 if waveform.device.type == "mps" else torch.float64)
        normalised = normalise_volume(wide)
        places = torch.arange(self.config.reference_samples, device=waveform.device) % lengths[:, None]
        speech = standardise(normalised, lengths)[:, None]
        return speech.to(waveform.dtype), normalised.gather(-1, places).to(waveform.dtype), lengths

    def semantic_features(self, speech: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → the mean of some hidden states, [B, semantic_dim, N]."""
        wanted = self.config.semantic_states
        heard = [state for i, state in enumerate(self.semantic.states(speech, lengths)) if i in wanted]
        return (sum(heard[1:], heard[0]) / len(heard)).mT.contiguous()

    def semantic_latents(self, speech: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 1, T] → what is quantised, [B, dim, N]."""
        features = self.semantic_features(speech, lengths)
        return self.encoder(features, None if lengths is None else self.semantic.out_length(lengths))

    def voice_latents(self, reference: Tensor) -> Tensor:
        """[B, R] → [B, speaker_dim, M]."""
        return self.speaker.latents(mel_bands(reference, self.sample_rate))

    def encode_voice(self, reference: Tensor) -> Tensor:
        """[B, R] → [B, 1, M]."""
        return self.speaker.quantizer.encode(self.voice_latents(reference))[:, None]

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip; only what wav2vec 2.0 attends to differs from the whole."""
        speech, reference, lengths = self.prepared(waveform[..., : int(lengths[0])], lengths)
        total, hop = self.semantic.out_length(speech.shape[-1]), self.hop_length
        context = round(CONTEXT_SECONDS * self.sample_rate / hop)
        step = max(samples // hop - 2 * context, context)
        voice = {VOICE_LATENTS: self.voice_latents(reference)}
        for start in release_memory_between(range(0, total, step)):
            first, last = max(start - context, 0), min(start + step + context, total)
            latent = self.semantic_latents(speech[..., first * hop : (last - 1) * hop + SHORTEST])
            latent = latent[..., start - first :][..., :step]
            yield Frames(latent, lengths.new_tensor([latent.shape[-1]]), voice)

    # -- decode ---------------------------------------------------------------------------------

    def _vectors(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor]) -> Frames:
        voice = self.speaker.decode(self._global_codes(side_info, codes.shape[0]))
        return Frames(self.quantizer.vectors(codes), lengths, {VOICE: voice})

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        voice = self.speaker.straight_through(self._voice_of(frames))
        return Frames(self.quantizer.straight_through(frames.values), frames.lengths, {VOICE: voice})

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        vectors, lengths, side_info = frames
        voice, wanted = side_info.get(VOICE), [vectors.shape[0], self.config.dim]
        if voice is None or list(voice.shape) != wanted:
            there = "they have none" if voice is None else f"its shape is {list(voice.shape)}"
            raise ValueError(f"{self.name}: vectors need the side value {VOICE!r} {wanted}; {there}")
        own = dense_or_none(lengths, vectors.shape[-1])
        x = self.prenet(vectors, voice, own)
        return Decoded(self.decoder(x + voice[..., None], own), lengths * self.hop_length)

    def _global_codes(self, side_info: Mapping[str, Tensor], batch: int) -> Tensor:
        """[B, M]."""
        wanted = [batch, 1, self.config.speaker_tokens]
        found = side_info.get(GLOBAL)
        if found is None or list(found.shape) != wanted:
            there = "they have none" if found is None else f"its shape is {list(found.shape)}"
            raise ValueError(
                f"{self.name}: codes need the side value {GLOBAL!r} {wanted}, which holds the voice; {there}. "
                f'codes_from_tensor(codes, side_info={{"{GLOBAL}": ...}}) puts both together'
            )
        return found[:, 0]

    # -- weights --------------------------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare what BiCodec/config.yaml says beside the tensors with this variant.

        Raises:
            ValueError: they differ; every difference is listed.
        """
        there = metadata.get("config", {}).get("audio_tokenizer", {})
        here: dict[str, dict[str, Any]] = {
            "mel_params": {"sample_rate": self.sample_rate, "n_fft": N_FFT, "win_length": WINDOW, "hop_length": HOP,
                           "mel_fmin": LOWEST, "num_mels": MELS},
            "encoder": {"sample_ratios": [1] * STAGES},
            "prenet": {"sample_ratios": [1] * STAGES, "use_tanh_at_final": False},
            "speaker_encoder": {"fsq_levels": self.config.speaker_digits, "fsq_num_quantizers": 1},
            "decoder": {"rates": self.config.strides, "kernel_sizes": self.config.kernels},
        }  # fmt: skip
        named = {f"{part}.{name}": value for part, values in here.items() for name, value in values.items()}
        compare_settings({f"{part}.{k}": v for part in here for k, v in there.get(part, {}).items()}, named)


# -- key map ------------------------------------------------------------------------------------------


def _key_map(num_blocks: int) -> KeyMap:
    prenet, blocks = "prenet.vocos_backbone.", []
    for i in range(num_blocks):
        ours, block = rf"decoder\.blocks\.{i}\.", f"decoder.model.{i + 1}.block."
        blocks += [Rule(ours + r"snake\.(\w+)", rf"{block}0.\1"), Rule(ours + r"up\.(\w+)", rf"{block}1.\1")]
        for unit in range(3):
            for place, part in enumerate(UNIT_LAYERS):
                blocks.append(Rule(rf"{ours}units\.{unit}\.{part}\.(\w+)", rf"{block}{unit + 2}.block.{place}.\1"))
    return KeyMap(
        "bicodec",
        (
            *hubert_rules("semantic", "wav2vec2"),
            Rule(r"(encoder|prenet)\.stages\.(\d+)\.(.+)", r"\1.downsample.\2.1.\3"),
            Rule(r"quantizer\.codebook", "quantizer.codebook.weight"),
            Rule(r"quantizer\.(in|out)_proj\.(\w+)", r"quantizer.\1_project.\2"),
            *ecapa_rules(r"speaker\.ecapa", "speaker_encoder.speaker_encoder"),
            *perceiver_rules(r"speaker\.sampler", "speaker_encoder.perceiver_sampler"),
            Rule(r"speaker\.(.+)", r"speaker_encoder.\1"),
            Rule(r"prenet\.first\.(\w+)", r"prenet.linear_pre.\1"),
            Rule(r"prenet\.(embed\.\w+|norm\..+)", rf"{prenet}\1"),
            Rule(r"prenet\.blocks\.(.+)", rf"{prenet}convnext.\1"),
            Rule(r"prenet\.final_norm\.(\w+)", rf"{prenet}final_layer_norm.\1"),
            Rule(r"prenet\.last\.(\w+)", r"prenet.linear.\1"),
            Rule(r"decoder\.first\.(\w+)", r"decoder.model.0.\1"),
            *blocks,
            Rule(r"decoder\.last\.snake\.alpha", f"decoder.model.{num_blocks + 1}.alpha"),
            Rule(r"decoder\.last\.conv\.(\w+)", rf"decoder.model.{num_blocks + 2}.\1"),
        ),
        unused=(
            r"postnet\..+",  # of training, like the rest
            r"speaker_encoder\.speaker_encoder\.(pool|bn|linear)\..+",  # the x-vector
            r".+\.num_batches_tracked",
            r"quantizer\.(cluster_size|codevectors|weight_proj\.\w+)",  # also that of wav2vec 2.0
            r"project_(q|hid)\.\w+",
            r"wav2vec2\.masked_spec_embed",
            r"wav2vec2\.encoder\.layer_norm\.\w+",  # after layers that nothing reads
            r"wav2vec2\.encoder\.layers\.(1[6-9]|2\d)\..+",
        ),
    )


BiCodec.key_maps = (_key_map(len(BiCodecConfig.strides)),)
