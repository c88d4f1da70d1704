"""FunCodec's numbers, and how they are read from the `config.yaml` that lies beside a published checkpoint.

The keys are those of FunCodec's training recipes; a key that the file lacks has the recipes' default. The file can
describe more networks than were published: settings of another network are errors that name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeczoo.base import differing

# Settings that the networks of `nn.seanet` and `nn.seanet2d` are built for → the value that each must have.
REQUIRED_OF_BOTH: Mapping[str, Any] = {
    "norm": "time_group_norm",
    "causal": False,
    "activation": "ELU",
    "pad_mode": "reflect",
    "residual_kernel_size": 3,
    "compress": 2,
    "true_skip": False,
    "add_snake_activation": False,
    "final_activation": None,
    "trim_right_ratio": 1.0,
}
REQUIRED_OF_TIME_MODELS: Mapping[str, Any] = REQUIRED_OF_BOTH | {
    "kernel_size": 7,
    "last_kernel_size": 7,
    "n_residual_layers": 1,
    "seq_model": "lstm",
    "seq_layer_num": 2,
    "res_seq": True,
    "double_filters": True,
    "half_filters": True,
}
REQUIRED_OF_FREQUENCY_MODELS: Mapping[str, Any] = REQUIRED_OF_BOTH | {
    "kernel_size": 3,
    "last_kernel_size": 3,
    "seq_model": "none",
    "dilation_base": 1,
}
# FunCodec's value of a setting that the file lacks, where it is not the one above.
FUNCODEC_DEFAULTS: Mapping[str, Any] = {
    "norm": "weight_norm",
    "kernel_size": 7,
    "last_kernel_size": 7,
    "seq_model": "lstm",
    "dilation_base": 2,
}
REQUIRED_MODEL_CONF: Mapping[str, Any] = {"audio_normalize": True, "segment_dur": None, "bypass_quantizer": False}
REQUIRED_QUANTIZER_CONF: Mapping[str, Any] = {"q0_ds_ratio": 1, "codec_range": None}


@dataclass(frozen=True)
class FunCodecConfig:
    """The network's numbers. With `n_fft` it is a frequency model."""

    sample_rate: int = 16000  # Hz
    filters: int = 32  # width of the first convolution
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder, over time
    dim: int = 128
    num_codebooks: int = 32
    codebook_size: int = 1024
    n_fft: int | None = None  # points of the STFT
    stft_hop: int = 160  # samples
    frequency_strides: Sequence[int] = (4, 4, 4, 4)  # of the encoder
    residual_units: int = 1  # a stage
    group_ratio: int | None = None  # see `nn.seanet2d`
    transposed_group_ratio: int | None = None


def read_config(published: Mapping[str, Any]) -> FunCodecConfig:
    """The numbers in a published `config.yaml`.

    Raises:
        ValueError: settings of a network that is not of this family; each of them is named.
    """
    model, encoder, decoder, quantizer = (
        _table(published, f"{name}_conf") for name in ("model", "encoder", "decoder", "quantizer")
    )
    spectral = published.get("model") == "freq_codec"
    must = REQUIRED_OF_FREQUENCY_MODELS if spectral else REQUIRED_OF_TIME_MODELS
    shape = "_2d" if spectral else ""
    domain = ["mag_phase", "mag_phase"] if spectral else "time"
    wrong = [
        *_differ(
            "",
            published,
            {
                "model": "freq_codec" if spectral else "encodec",
                "encoder": f"encodec_seanet_encoder{shape}",
                "decoder": f"encodec_seanet_decoder{shape}",
                "quantizer": "costume_quantizer",
                "input_size": 3 if spectral else 1,
            },
        ),
        *_differ("encoder_conf.", encoder, must, FUNCODEC_DEFAULTS),
        *_differ("decoder_conf.", decoder, must, FUNCODEC_DEFAULTS),
        *_differ("decoder_conf.", decoder, _shared(encoder)),
        *_differ("model_conf.", model, {**REQUIRED_MODEL_CONF, "codec_domain": domain}),
        *_differ("quantizer_conf.", quantizer, REQUIRED_QUANTIZER_CONF),
    ]
    if wrong:
        raise ValueError(
            f"its config.yaml describes a network that FunCodec's published models are not: {'; '.join(wrong)}"
        )
    pairs = encoder.get("ratios", [(4, 1), (4, 1), (4, 2), (4, 1)] if spectral else [8, 5, 4, 2])
    backward = [tuple(pair) if spectral else (1, pair) for pair in reversed(pairs)]  # the file has the decoder's order
    spectrum = _table(model, "domain_conf")
    return FunCodecConfig(
        sample_rate=published.get("sampling_rate", 16000),
        filters=encoder.get("n_filters", 32),
        strides=tuple(time for _, time in backward),
        dim=encoder.get("dimension", 128),
        num_codebooks=quantizer.get("num_quantizers", 8),
        codebook_size=quantizer.get("codebook_size", 1024),
        n_fft=spectrum.get("n_fft", 512) if spectral else None,
        stft_hop=spectrum.get("hop_length", 160),
        frequency_strides=tuple(frequency for frequency, _ in backward) if spectral else (4, 4, 4, 4),
        residual_units=encoder.get("n_residual_layers", 1),
        group_ratio=_ratio(encoder.get("conv_group_ratio")),
        transposed_group_ratio=_ratio(decoder.get("tr_conv_group_ratio")),
    )


def differences(there: FunCodecConfig, here: FunCodecConfig) -> list[str]:
    """Every number in which two configs differ, in words."""
    return [f"{name} is {one} there and {other} here" for name, one, other in differing(asdict(there), asdict(here))]


def _table(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"its config.yaml is not one of FunCodec: {name} is {value!r}, not a table")
    return value


def _shared(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's settings that the decoder must share."""
    return {
        name: encoder[name]
        for name in ("n_filters", "ratios", "n_residual_layers", "conv_group_ratio")
        if name in encoder
    }


def _ratio(value: int | None) -> int | None:
    """A group ratio; the file's -1 means no groups."""
    return value if value is not None and value > 0 else None


def _differ(
    where: str, there: Mapping[str, Any], must: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[str]:
    """The settings of `there`, completed by `defaults`, that have another value than in `must`."""
    found = differing({**(defaults or {}), **there}, must)
    return [f"{where}{name} is {theirs!r}, not {value!r}" for name, theirs, value in found]
