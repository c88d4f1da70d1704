"""MOSS-Audio-Tokenizer, the codec of MOSS-TTS: causal transformers and nothing else, as a stream too.

Paper: "MOSS-Audio-Tokenizer: Scaling Audio Tokenizers for Future Audio Foundation Models" (arXiv 2602.10934), which
calls the architecture Cat. Upstream: OpenMOSS/MOSS-Audio-Tokenizer, and the modelling files of the hub repositories.

    encoder: patches of 240 samples; transformers, between which 2 steps become one; 12.5 frames a second
    quantiser: 16 or 32 residual codebooks, searched by direction in 8 dimensions
    decoder: the encoder mirrored

There is no convolution, so neither side looks ahead. Each transformer sees a few seconds back, some of them fewer than
others. Stereo is interleaved sample by sample: the network runs at twice the rate and has one channel.

Followed as published: T samples give floor(T / hop) codes, so what is left over comes back as zeros. (The 24 kHz code
also returns a last code of no meaning, which its lengths leave out.) Not followed: a clip shorter than a frame is
filled up to one, where upstream gives none. In a stream of more than a frame a step, the 24 kHz code forgets a few
steps of the window; this one does not. Published settings may ask for bfloat16; here arithmetic is float32, unless
`load_codec` is given another dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base import BaseCodec, Decoded, Frames, KeyMap, Rule, Variant, compare_settings
from codeczoo.nn.attention import Attention
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.factorized_vq import ResidualFactorizedVQ
from codeczoo.nn.padding import mask_tail
from codeczoo.nn.quantizer import Quantizer as BaseQuantizer
from codeczoo.nn.rotary import Rotary, qkv_to_halves
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward, State, Transformer, TransformerLayer

HEAD_DIM = 64
HIDDEN = 4  # of the feed-forward, times the width


@dataclass(frozen=True)
class MossAudioTokenizerConfig:
    """The network's numbers.

    `dims` to `contexts` have a number for each stage of the encoder, in its order, and the last number also counts for
    the stages after it. The decoder has the same ones in the other order.
    """

    sample_rate: int = 48000  # Hz
    channels: int = 2
    patches: Sequence[int] = (240, 2, 2, 2, 4)  # steps that become one before each stage, and after the last
    dims: Sequence[int] = (768,)  # at the input (the first has the samples of a patch); of the decoder at the output
    widths: Sequence[int] = (256,)  # inside
    layers: Sequence[int] = (4, 2, 2, 4)
    contexts: Sequence[float] = (4, 6, 8, 10)  # seconds that attention sees
    always_project: bool = True  # into the width and out of it, also where nothing changes
    code_dim: int = 768  # of the latents
    vq_dim: int = 512  # of what the codebooks' vectors are projected to
    num_codebooks: int = 16
    codebook_size: int = 1024
    codebook_dim: int = 8
    rotary_base: float = 10000.0


@dataclass(frozen=True)
class StageNumbers:
    """Of one transformer, in the encoder's direction."""

    dim: int  # at its input
    out_dim: int
    width: int
    layers: int
    context: float  # seconds
    window: int  # steps


def stages_of(config: MossAudioTokenizerConfig) -> list[StageNumbers]:
    """Those of the encoder; of the decoder reversed, with `dim` and `out_dim` changed over."""
    count = len(config.patches) - 1
    dims, widths, layers, contexts = (
        [*numbers, *[numbers[-1]] * (count - len(numbers))][:count]
        for numbers in (config.dims, config.widths, config.layers, config.contexts)
    )
    dims[0] = config.patches[0]
    outs = [dim // patch for dim, patch in zip([*dims[1:], config.code_dim], config.patches[1:], strict=True)]
    stages, rate = [], float(config.sample_rate * config.channels)
    for i in range(count):
        rate /= config.patches[i]
        stages.append(
            StageNumbers(dims[i], outs[i], widths[i], layers[i], contexts[i], max(round(rate * contexts[i]), 1))
        )
    return stages


class Patch(nn.Module):
    """[B, size * N, C] → [B, N, C * size]: the steps of a patch side by side, those of each channel together."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.size)).mT.flatten(2)


class Unpatch(Patch):
    """[B, N, C * size] → [B, size * N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.size)).mT.flatten(1, 2)


class Stage(nn.Module):
    """[B, N, dim] → [B, N, out_dim]: a causal transformer within a window, and the way into its width and out of it."""

    def __init__(self, dim: int, out_dim: int, numbers: StageNumbers, config: MossAudioTokenizerConfig) -> None:
        super().__init__()
        width, always = numbers.width, config.always_project
        self.input_proj = Linear(dim, width, bias=False) if always or dim != width else nn.Identity()
        self.transformer = Transformer(
            [
                TransformerLayer(
                    width,
                    Attention(width, width // HEAD_DIM),
                    FeedForward(width, HIDDEN * width),
                    layer_scale=(True, True),
                )
                for _ in range(numbers.layers)
            ],
            rotary=Rotary(HEAD_DIM, config.rotary_base),
            causal=True,
            window=numbers.window,
        )
        self.output_proj = Linear(width, out_dim, bias=False) if always or out_dim != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.output_proj(self.transformer(self.input_proj(x)))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next N steps, and the state after them."""
        x, state = self.transformer.step(self.input_proj(x), state)
        return self.output_proj(x), state


class Side(nn.ModuleList):
    """Encoder or decoder: patches and stages in the order in which they run, which numbers the published ones too."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x

    def initial_state(self, batch_size: int) -> list[State]:
        return [module.transformer.initial_state(batch_size) for module in self if isinstance(module, Stage)]

    def step(self, x: Tensor, state: Sequence[State]) -> tuple[Tensor, list[State]]:
        """The next steps, and the state after them."""
        before, after = iter(state), []
        for module in self:
            if isinstance(module, Stage):
                x, own = module.step(x, next(before))
                after.append(own)
            else:
                x = module(x)
        return x, after


class Quantizer(BaseQuantizer):
    """Residual codebooks between projections from and to the latents."""

    def __init__(self, config: MossAudioTokenizerConfig) -> None:
        super().__init__()
        self.input_proj = Conv1d(config.code_dim, config.vq_dim, 1)
        self.rvq = ResidualFactorizedVQ(config.vq_dim, config.num_codebooks, config.codebook_size, config.codebook_dim)
        self.output_proj = Conv1d(config.vq_dim, config.code_dim, 1)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """[B, code_dim, N] → codes [B, K, N]."""
        return self.rvq.encode(self.input_proj(x), num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, K, N] → [B, code_dim, N]."""
        return self.output_proj(self.rvq.decode(codes))

    def straight_through(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        return self.output_proj(self.rvq.straight_through(self.input_proj(latent), num_codebooks))

    def tables(self) -> list[Tensor]:
        return self.rvq.tables()


class MossAudioTokenizer(BaseCodec):
    """MOSS-Audio-Tokenizer (OpenMOSS, 2026): a streaming codec for speech, music and sound, made of transformers alone.

    Audio [B, C, T] at 24 kHz (C = 1) or 48 kHz (C = 2) ↔ codes [B, K, N] at 12.5 a second, K from 1 to 16 or 32.

        codec = load_codec("moss_audio_tokenizer_nano")
        audio = codec.decode(codec.encode("song.wav", num_codebooks=8))
    """

    Config = MossAudioTokenizerConfig
    config: MossAudioTokenizerConfig
    hop_length: int

    def __init__(self, config: MossAudioTokenizerConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.channels = config.sample_rate, (config.channels,)
        self.hop_length = math.prod(config.patches) // config.channels
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(range(1, config.num_codebooks + 1))
        self.causal = True
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.code_dim

        encoder: list[nn.Module] = [Patch(config.patches[0])]
        decoder: list[nn.Module] = [Unpatch(config.patches[0])]
        for numbers, patch in zip(stages_of(config), config.patches[1:], strict=True):
            encoder.append(Stage(numbers.dim, numbers.out_dim, numbers, config))
            decoder.append(Stage(numbers.out_dim, numbers.dim, numbers, config))
            if patch > 1:
                encoder.append(Patch(patch))
                decoder.append(Unpatch(patch))
        self.encoder = Side(encoder)
        self.quantizer = Quantizer(config)
        self.decoder = Side(decoder[::-1])

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Those of whole frames; of one at least."""
        samples, hop = waveform.shape[-1], self.hop_length
        waveform = F.pad(waveform, (0, max(samples // hop, 1) * hop - samples))
        return Frames(self.encoder(_interleaved(waveform)).mT, (lengths // hop).clamp(min=1))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        waveform = self._waveform(self.decoder(frames.values.mT))
        return Decoded(waveform, frames.lengths * self.hop_length)

    def _waveform(self, x: Tensor) -> Tensor:
        """The network's one channel [B, C * T, 1] → [B, C, T]."""
        return x.view(x.shape[0], -1, self.config.channels).mT

    # -- streaming ------------------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> list[State]:
        return self.encoder.initial_state(batch_size)

    def _stream_latents_warmup(self, waveform: Tensor, state: list[State]) -> tuple[Tensor, None, list[State]]:
        x, state = self.encoder.step(_interleaved(waveform), state)
        return x.mT, None, state

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: list[State]) -> tuple[Tensor, Tensor]:
        """Nothing, because what fills no frame gives no code; but one of a clip that is shorter than a frame."""
        if rest.shape[-1] == 0:
            return rest.new_zeros(len(rest), self.latent_dim, 0), lengths
        last = F.pad(mask_tail(rest, lengths), (0, self.hop_length - rest.shape[-1]))
        latent, _, _ = self._stream_latents_warmup(last, state)
        steps_so_far, _ = state[0]
        return latent, ((steps_so_far == 0) & (lengths > 0)).long()

    def _stream_decode_start(self, batch_size: int) -> list[State]:
        return self.decoder.initial_state(batch_size)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: list[State]) -> tuple[Tensor, None, list[State]]:
        x, state = self.decoder.step(vectors.mT, state)
        return self._waveform(x), None, state

    def _stream_decode_flush(self, state: list[State]) -> tuple[Tensor, None]:
        steps_so_far, _ = state[0]
        weight = self.quantizer.output_proj.weight
        return weight.new_zeros(len(steps_so_far), self.config.channels, 0), None  # nothing is held back

    # -- settings beside the weights --------------------------------------------------------------

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Compare config.json: the windows leave no trace in the tensors.

        Raises:
            ValueError: it is of another model; the message lists what differs.
        """
        settings = metadata.get("config")
        if not isinstance(settings, Mapping):
            return
        config, stages = self.config, stages_of(self.config)
        there = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
        here: dict[str, Any] = {
            "sampling_rate": config.sample_rate,
            "sample_rate": config.sample_rate,
            "downsample_rate": self.hop_length,
            "number_channels": config.channels,
        }
        quantizer = settings.get("quantizer_kwargs")
        there |= quantizer if isinstance(quantizer, Mapping) else {}
        here |= {"num_quantizers": config.num_codebooks, "codebook_size": config.codebook_size,
                 "codebook_dim": config.codebook_dim, "rvq_dim": config.vq_dim}  # fmt: skip
        for side, numbers in (("encoder", stages), ("decoder", stages[::-1])):
            there |= _of_side(side, settings.get(f"{side}_kwargs"), settings)
            patches = [patch for patch in config.patches if patch > 1]
            here[f"{side}'s patch_size"] = patches if side == "encoder" else patches[::-1]
            here[f"{side}'s d_model"] = [one.width for one in numbers]
            here[f"{side}'s num_layers"] = [one.layers for one in numbers]
            here[f"{side}'s context_duration"] = [one.context for one in numbers]
        compare_settings(there, here)


def _interleaved(waveform: Tensor) -> Tensor:
    """[B, C, T] → the network's one channel, [B, C * T, 1]: a sample of each channel in turn."""
    return waveform.mT.flatten(1)[..., None]


def _of_side(side: str, modules: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a published list of modules, as far as it mentions them for each."""
    if not isinstance(modules, Sequence) or not all(isinstance(module, Mapping) for module in modules):
        return {}
    usual = {"context_duration": settings.get("causal_transformer_context_duration")}
    found = {}
    for key in ("patch_size", "d_model", "num_layers", "context_duration"):
        kind = "PatchedPretransform" if key == "patch_size" else "Transformer"
        values = [module.get(key, usual.get(key)) for module in modules if module.get("module_type") == kind]
        if values and None not in values:
            found[f"{side}'s {key}"] = values
    return found


# -- key maps ---------------------------------------------------------------------------------------

LAYER, THEIRS = r"((?:encoder|decoder)\.\d+\.transformer\.layers\.\d+)\.", r"\1."


def _halves(qkv: Tensor) -> Tensor:
    """Rotary pairs are neighbours in the published rows."""
    return qkv_to_halves(qkv, len(qkv) // (3 * HEAD_DIM))


def _key_map(name: str, in_proj: str, out_proj: str, feed_forward: Mapping[str, str]) -> KeyMap:
    level = r"quantizer\.rvq\.levels\.(\d+)\."
    return KeyMap(
        name,
        (
            Rule(LAYER + r"attention\.in_proj\.weight", f"{THEIRS}self_attn.{in_proj}.weight", _halves),
            Rule(LAYER + r"attention\.out_proj\.weight", f"{THEIRS}self_attn.{out_proj}.weight"),
            *(Rule(rf"{LAYER}feed_forward\.{ours}\.weight", f"{THEIRS}{x}.weight") for ours, x in feed_forward.items()),
            Rule(LAYER + r"scale(\d)\.scale", rf"{THEIRS}layer_scale_\2.scale"),
            Rule(level + "codebook", r"quantizer.quantizers.\1.codebook.weight"),
            Rule(level + r"(\w+_proj)\.(\w+)", r"quantizer.quantizers.\1.\2.\3"),
        ),
    )


MossAudioTokenizer.key_maps = (
    _key_map("moss_audio_tokenizer of 48 kHz", "in_proj", "out_proj", {"linear1": "ffn.0", "linear2": "ffn.2"}),
    _key_map(
        "moss_audio_tokenizer of 24 kHz", "in_projs.0", "out_projs.0", {"linear1": "linear1", "linear2": "linear2"}
    ),
)
