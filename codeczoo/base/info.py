"""`CodecInfo`: what a codec is, in one record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodecInfo:
    """What a codec is. Rates in Hz, bitrates in bit/s, times in seconds."""

    name: str
    family: str
    sample_rate: int
    output_sample_rate: int  # of decoded audio
    channels: tuple[int, ...]
    frame_rate: float | None
    hop_length: int | None
    num_codebooks: int
    max_codebooks: int
    codebook_sizes: tuple[int, ...]
    bitrate: float | None
    bitrates: tuple[float, ...]
    causal: bool
    latency: float | None
    parameters: int
    supports_decode: bool
    code_licence: str
    weights_licence: str
    weights: str
    paper: str
    description: str
