from __future__ import annotations

import torch
from torch import Tensor

from codeczoo import BaseCodec, Codes
from perf.published.interface import Case, Given, Published, from_hub_names, loaded


def meta(given: Given) -> Published:
    from encodec import EncodecModel

    codec = given.codec
    make = {24000: EncodecModel.encodec_model_24khz, 48000: EncodecModel.encodec_model_48khz}[codec.sample_rate]
    model = loaded(make(pretrained=False), given.state).to(codec.device)
    model.set_target_bandwidth(kbits(codec))
    return Published(
        encode=model.encode,
        to_ours=lambda frames: torch.cat([codes for codes, _ in frames], -1),
        decode=model.decode,
        from_ours=segments,
    )


def transformers(given: Given) -> Published:
    from transformers import EncodecConfig, EncodecModel

    model = from_hub_names(EncodecModel, EncodecConfig(), given.state).to(given.codec.device)
    return Published(
        encode=lambda x: model.encode(x, bandwidth=kbits(given.codec)).audio_codes,
        to_ours=lambda codes: codes[0],
        decode=lambda codes: model.decode(codes, [None])[0],
        from_ours=lambda codes: codes.codes[None],
    )


def kbits(codec: BaseCodec) -> float:
    return round((codec.nominal_bitrate or 0) / 1000, 3)


def segments(codes: Codes) -> list[tuple[Tensor, Tensor | None]]:
    """EnCodec's list of (codes, scale), one a segment: the whole clip, or 150 frames."""
    scale = codes.side_info.get("scale")
    if scale is None:
        return [(codes.codes, None)]
    return [(segment, scale[:, i : i + 1]) for i, segment in enumerate(codes.codes.split(150, -1))]


CASES = (
    Case("encodec_24k", "encodec_24k", "encodec", meta),
    Case("encodec_48k", "encodec_48k", "encodec", meta),
    Case("encodec_24k", "encodec_24k", "transformers", transformers, manifest="manifest_hf.json"),
)
