"""What is recorded: a codec's hooks on dense batches, with plain tensors in and out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codeczoo.base.codec import BaseCodec

SIDES = ("encoder", "decoder")


class EncoderGraph(nn.Module):
    """Waveform [B, C, T] at the codec's rate → codes [B, K, N] int64, then side values."""

    def __init__(self, codec: BaseCodec, num_codebooks: int) -> None:
        super().__init__()
        self.codec, self.num_codebooks = codec, num_codebooks

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        lengths = torch.full((waveform.shape[0],), waveform.shape[-1], dtype=torch.int64)
        encoded = self.codec._encode(waveform.clone(), lengths, self.num_codebooks)
        return (encoded.codes, *encoded.side_info.values())


class DecoderGraph(nn.Module):
    """Codes [B, K, N] int64 → waveform [B, C, T]."""

    def __init__(self, codec: BaseCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, codes: Tensor) -> Tensor:
        return decoded(self.codec, codes, (), ())


class DecoderGraphWithSideInfo(nn.Module):
    """Codes [B, K, N] int64 and side values, in the order of `names` → waveform [B, C, T]."""

    def __init__(self, codec: BaseCodec, names: Sequence[str]) -> None:
        super().__init__()
        self.codec, self.names = codec, tuple(names)

    def forward(self, codes: Tensor, *side_info: Tensor) -> Tensor:
        return decoded(self.codec, codes, self.names, side_info)


def decoded(codec: BaseCodec, codes: Tensor, names: Sequence[str], values: Sequence[Tensor]) -> Tensor:
    """Codes [B, K, N] and side values, by name → the waveform [B, C, T] that they decode to."""
    batch = codes.shape[0]
    lengths = torch.full((batch,), codes.shape[-1], dtype=torch.int64)
    unknown = torch.full((batch,), -1, dtype=torch.int64)
    side_info = dict(zip(names, values, strict=True))
    # Behind the codes of a slower codebook stands -1.
    dense = codes.clamp(min=0) if codec.strides else codes
    return codec._decode(dense, lengths, side_info, unknown).waveform


def graph_of(codec: BaseCodec, side: str, num_codebooks: int, names: Sequence[str]) -> nn.Module:
    """`names`: of side values."""
    if side == "encoder":
        return EncoderGraph(codec, num_codebooks)
    return DecoderGraphWithSideInfo(codec, names) if names else DecoderGraph(codec)
