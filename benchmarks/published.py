"""The published implementations behind one face, for `compare.py`: the only place that imports them.

Each is built from the tensors of a golden manifest and used as its authors use it at inference: weight norm stays as
their loader leaves it, modules are in eval mode, and the caller switches gradients off. `encode` and `decode` are the
authors' own calls on tensors at the codec's rate; `to_ours` and `from_ours` only change the form of codes and are not
timed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeczoo import BaseCodec, Codes

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A published codec. `decode` is None where it only encodes."""

    encode: Callable[[Tensor], Any]  # [B, C, T] → codes in its own form
    to_ours: Callable[[Any], Tensor]  # its codes → [B, K, N]
    decode: Callable[[Any], Tensor] | None = None  # its codes → [B, C, T'] or [B, T']
    from_ours: Callable[[Codes], Any] = lambda codes: codes.codes


@dataclass(frozen=True)
class Case:
    """One of our variants beside a published implementation of it, with weights of a golden folder."""

    variant: str
    folder: str  # under tests/golden
    package: str  # its name on the package index, or of its repository
    build: Callable[[State, BaseCodec, Path | None], Published]
    manifest: str = "manifest.json"
    checkout: bool = False  # not on the index: its repository must be given
    zeroed: str = ""  # keys that end so are set to 0 on both sides

    @property
    def family(self) -> str:
        return self.variant.partition("_")[0]

    @property
    def name(self) -> str:
        return f"{self.variant} ({self.package})"


def loaded(module: torch.nn.Module, state: State, strict: bool = True) -> Any:
    """`module` with `state` in it, ready for inference."""
    module.load_state_dict(dict(state), strict=strict)
    return module.eval()


def part(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def identity(value: Any) -> Any:
    return value


# -- Mimi ---------------------------------------------------------------------------------------


def moshi_mimi(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from moshi.models import loaders

    model = loaded(loaders.get_mimi(None, device="cpu", num_codebooks=codec.num_codebooks), state)
    model = model.to(codec.device)
    return Published(encode=model.encode, to_ours=identity, decode=model.decode)


def transformers_mimi(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from transformers import MimiConfig, MimiModel

    model = from_hub_names(MimiModel, MimiConfig(), state).to(codec.device)
    return Published(
        encode=lambda x: model.encode(x, num_quantizers=codec.num_codebooks).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(codes).audio_values,
    )


def from_hub_names(kind: Any, config: Any, state: State) -> Any:
    """A model of transformers, through the renaming that its own loader does."""
    return kind.from_pretrained(None, config=config, state_dict=dict(state)).eval()


# -- DAC ----------------------------------------------------------------------------------------


def descript_dac(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from dac import DAC

    numbers = codec.config
    model = loaded(
        DAC(
            encoder_rates=list(numbers.encoder_rates),
            decoder_rates=list(numbers.decoder_rates),
            latent_dim=numbers.latent_dim,
            n_codebooks=numbers.num_codebooks,
            sample_rate=numbers.sample_rate,
        ),
        state,
    ).to(codec.device)
    return Published(
        encode=lambda x: model.encode(model.preprocess(x, codec.sample_rate))[1],
        to_ours=identity,
        decode=lambda codes: model.decode(model.quantizer.from_codes(codes)[0]),
    )


def transformers_dac(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from transformers import DacConfig, DacModel

    numbers = codec.config
    config = DacConfig(
        downsampling_ratios=list(numbers.encoder_rates),
        upsampling_ratios=list(numbers.decoder_rates),
        n_codebooks=numbers.num_codebooks,
        sampling_rate=numbers.sample_rate,
    )
    model = from_hub_names(DacModel, config, state).to(codec.device)
    hop = codec.hop_length or 1
    return Published(
        # Its feature extractor pads to the hop; the model itself does not.
        encode=lambda x: model.encode(torch.nn.functional.pad(x, (0, -x.shape[-1] % hop))).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(audio_codes=codes).audio_values,
    )


# -- EnCodec ------------------------------------------------------------------------------------


def meta_encodec(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from encodec import EncodecModel

    make = {24000: EncodecModel.encodec_model_24khz, 48000: EncodecModel.encodec_model_48khz}[codec.sample_rate]
    model = loaded(make(pretrained=False), state).to(codec.device)
    model.set_target_bandwidth(kbits(codec))
    return Published(
        encode=model.encode,
        to_ours=lambda frames: torch.cat([codes for codes, _ in frames], -1),
        decode=model.decode,
        from_ours=segments,
    )


def kbits(codec: BaseCodec) -> float:
    return round((codec.nominal_bitrate or 0) / 1000, 3)


def segments(codes: Codes) -> list[tuple[Tensor, Tensor | None]]:
    """EnCodec's list of (codes, scale), one a segment: the whole clip, or 150 frames."""
    scale = codes.side.get("scale")
    if scale is None:
        return [(codes.codes, None)]
    return [(piece, scale[:, i : i + 1]) for i, piece in enumerate(codes.codes.split(150, -1))]


def transformers_encodec(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from transformers import EncodecConfig, EncodecModel

    model = from_hub_names(EncodecModel, EncodecConfig(), state).to(codec.device)
    return Published(
        encode=lambda x: model.encode(x, bandwidth=kbits(codec)).audio_codes,
        to_ours=lambda codes: codes[0],
        decode=lambda codes: model.decode(codes, [None])[0],
        from_ours=lambda codes: codes.codes[None],
    )


# -- WavTokenizer -------------------------------------------------------------------------------


def wavtokenizer(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    assert checkout is not None
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    model_class = importlib.import_module("decoder.pretrained").WavTokenizer
    tokens = codec.sample_rate // (codec.hop_length or 1)
    (config,) = (checkout / "configs").glob(f"*frame{tokens}_*.yaml")
    model = model_class.from_hparams0802(str(config))
    # The manifest does not give the window's values: it is the one that the class computes.
    model = loaded(model, {**state, "head.istft.window": model.head.istft.window}).to(codec.device)
    bandwidth = torch.tensor([0], device=codec.device)
    return Published(
        encode=lambda x: model.encode_infer(x[:, 0], bandwidth_id=bandwidth)[1],
        to_ours=lambda codes: codes.transpose(0, 1),
        decode=lambda codes: model.decode(model.codes_to_features(codes), bandwidth_id=bandwidth),
        from_ours=lambda codes: codes.codes.transpose(0, 1),
    )


# -- others -------------------------------------------------------------------------------------


def speechtokenizer(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from speechtokenizer import SpeechTokenizer

    config = {
        "sample_rate": 16000,
        "n_filters": 64,
        "strides": [8, 5, 4, 2],
        "dimension": 1024,
        "semantic_dimension": 768,
        "bidirectional": True,
        "dilation_base": 2,
        "residual_kernel_size": 3,
        "n_residual_layers": 1,
        "lstm_layers": 2,
        "activation": {"elu": "ELU", "snake": "Snake"}[codec.config.activation],
        "codebook_size": 1024,
        "n_q": 8,
    }
    model = loaded(SpeechTokenizer(config), state).to(codec.device)
    return Published(
        encode=model.encode,
        to_ours=lambda codes: codes.transpose(0, 1),
        decode=model.decode,
        from_ours=lambda codes: codes.codes.transpose(0, 1),
    )


def bigcodec(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from bigcodec import BigCodec

    model = BigCodec(
        ngf=48,
        use_rnn=True,
        rnn_bidirectional=False,
        rnn_num_layers=2,
        up_ratios=(2, 2, 2, 5, 5),
        dilations=(1, 3, 9),
        out_channels=1024,
        codebook_size=8192,
        vq_num_quantizers=1,
        codebook_dim=8,
    )
    loaded(model.encoder, part(state, "CodecEnc."))
    loaded(model.decoder, part(state, "generator."))
    model = model.eval().to(codec.device)
    return Published(
        encode=model.encode,
        to_ours=lambda codes: codes.transpose(0, 1),
        decode=lambda codes: model.decode(codes),
        from_ours=lambda codes: codes.codes.transpose(0, 1),
    )


def snac(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from snac import SNAC

    numbers = codec.config
    model = SNAC(
        sampling_rate=numbers.sample_rate,
        encoder_dim=numbers.encoder_dim,
        encoder_rates=list(numbers.encoder_rates),
        decoder_dim=numbers.decoder_dim,
        decoder_rates=list(numbers.decoder_rates),
        attn_window_size=numbers.window,
        vq_strides=list(numbers.vq_strides),
    )
    model = loaded(model, state).to(codec.device)

    def rows(levels: list[Tensor]) -> Tensor:
        longest = levels[-1].shape[-1]
        return torch.stack([torch.nn.functional.pad(x, (0, longest - x.shape[-1]), value=-1) for x in levels], 1)

    return Published(
        encode=model.encode,
        to_ours=rows,
        decode=model.decode,
        from_ours=lambda codes: [torch.stack(codes.level(k)) for k in range(codes.num_codebooks)],
    )


def auv(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    from unittest.mock import patch

    from auv.model import AUV

    model = AUV()
    with patch("torch.load", lambda *args, **kwargs: dict(state)):  # its constructor is its loader
        model.from_pretrained("")
    model = model.eval().to(codec.device)
    rate = codec.sample_rate
    return Published(
        # Upstream encodes one clip a call.
        encode=lambda x: [model.encode({"sample": clip, "sample_rate": rate})["tokens"] for clip in x],
        to_ours=lambda tokens: torch.stack([clip.reshape(1, -1) for clip in tokens]),
        decode=lambda codes: model.decode_tokens(codes),
        from_ours=lambda codes: codes.codes.transpose(1, 2),
    )


def s3tokenizer(state: State, codec: BaseCodec, checkout: Path | None) -> Published:
    import s3tokenizer as package

    name = codec.name.removeprefix("s3tokenizer_")
    kind = {"v1": package.S3Tokenizer, "v2": package.S3TokenizerV2, "v3": package.S3TokenizerV3}[name[:2]]
    model = loaded(kind(f"speech_tokenizer_{name}"), state).to(codec.device)

    def encode(waveform: Tensor) -> Tensor:
        mels = [package.log_mel_spectrogram(x, device=x.device) for x in waveform[:, 0]]
        return model.quantize(*package.padding(mels))[0]

    return Published(encode=encode, to_ours=lambda codes: codes.long()[:, None])


# SNAC's decoder adds noise that upstream draws anew at each call; with these at zero it adds none on either side, at
# the same cost, and audio can be compared.
SNAC_NOISE = "linear.parametrizations.weight.original0"

CASES = (
    Case("mimi", "mimi", "moshi", moshi_mimi),
    Case("dac_16k", "dac_16k", "descript-audio-codec", descript_dac),
    Case("dac_24k", "dac_24k", "descript-audio-codec", descript_dac),
    Case("dac_44k", "dac_44k", "descript-audio-codec", descript_dac),
    Case("dac_44k_16kbps", "dac_44k_16kbps", "descript-audio-codec", descript_dac),
    Case("encodec_24k", "encodec_24k", "encodec", meta_encodec),
    Case("encodec_48k", "encodec_48k", "encodec", meta_encodec),
    Case("wavtokenizer_large_40", "wavtokenizer_40", "WavTokenizer", wavtokenizer, checkout=True),
    Case("wavtokenizer_large_speech_75", "wavtokenizer_75", "WavTokenizer", wavtokenizer, checkout=True),
    Case("mimi", "mimi", "transformers", transformers_mimi, manifest="manifest_hf.json"),
    Case("dac_44k", "dac_44k", "transformers", transformers_dac, manifest="manifest_hf.json"),
    Case("encodec_24k", "encodec_24k", "transformers", transformers_encodec, manifest="manifest_hf.json"),
    Case("speech_tokenizer_16k", "speechtokenizer_16k", "speechtokenizer", speechtokenizer),
    Case("speechtokenizer_snake_16k", "speechtokenizer_snake_16k", "speechtokenizer", speechtokenizer),
    Case("bigcodec_1k", "bigcodec_16k", "bigcodec", bigcodec),
    Case("snac_24khz", "snac_24khz", "snac", snac, zeroed=SNAC_NOISE),
    Case("snac_32khz", "snac_32khz", "snac", snac, zeroed=SNAC_NOISE),
    Case("auv", "auv", "auv", auv),
    Case("s3tokenizer_v1", "s3tokenizer_v1", "s3tokenizer", s3tokenizer),
    Case("s3tokenizer_v1_25hz", "s3tokenizer_v1_25hz", "s3tokenizer", s3tokenizer),
    Case("s3tokenizer_v2_25hz", "s3tokenizer_v2_25hz", "s3tokenizer", s3tokenizer),
    Case("s3tokenizer_v3_25hz", "s3tokenizer_v3_25hz", "s3tokenizer", s3tokenizer),
)
