"""Clips of any length in bounded memory: chunks whose results, joined, are those of the whole clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import CodecNetwork, Context, Decoded, Encoded
from codeczoo.base.ragged import join_chunks


def encode_in_chunks(
    codec: CodecNetwork, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int, context: Context
) -> Encoded:
    """One clip [1, C, T] through an encoder of finite receptive field, in chunks of about `samples`, exactly.

    Each chunk is encoded with the context that its frames see; the frames of the context itself are dropped.
    """
    hop = codec.hop_length
    assert hop is not None and len(waveform) == 1
    total = int(lengths[0])
    left, right = -(-context.left // hop) * hop, -(-context.right // hop) * hop
    # A chunk is at least half as long as its context: otherwise most of the work would be on context.
    step = max((samples - left - right) // hop, (left + right) // (2 * hop), 1) * hop
    chunks = []
    for start in release_memory_between(range(0, total, step)):
        first, last = max(start - left, 0), min(start + step + right, total)
        encoded = codec._encode(waveform[..., first:last], lengths.new_tensor([last - first]), num_codebooks)
        skip = (start - first) // hop
        stop = skip + step // hop if start + step < total else None
        chunks.append(encoded.codes[..., skip:stop])
    codes = torch.cat(chunks, dim=-1)
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_in_chunks(
    codec: CodecNetwork,
    codes: Tensor,
    lengths: Tensor,
    side_info: Mapping[str, Tensor],
    num_samples: Tensor,
    frames: int,
    context: Context,
) -> Decoded:
    """As `encode_in_chunks`, for the codes [1, K, N] of one clip, in chunks of about `frames`."""
    hop = codec.hop_length
    assert hop is not None and len(codes) == 1
    total = int(lengths[0])
    step = max(frames - context.left - context.right, (context.left + context.right) // 2, 1)

    def chunks() -> Iterator[Tensor]:
        for start in release_memory_between(range(0, total, step)):
            first, last = max(start - context.left, 0), min(start + step + context.right, total)
            decoded = codec._decode(codes[..., first:last], lengths.new_tensor([last - first]), side_info, num_samples)
            skip = (start - first) * hop
            stop = skip + step * hop if start + step < total else int(decoded.lengths[0])
            yield decoded.waveform[..., skip:stop]

    # Some decoders end a few samples short of the last frame; those samples are zeros, added without a copy.
    waveform = join_chunks(chunks(), total * hop, least=int(num_samples[0]))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))


def encode_through_state(
    codec: CodecNetwork, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int
) -> Encoded:
    """One clip [1, C, T] through the streaming state of a causal encoder, in chunks of at most `samples`."""
    hop = codec.hop_length or 1
    step, total = max(samples // hop, 1) * hop, int(lengths[0])
    whole = total // hop * hop

    def chunks() -> Iterator[Tensor]:
        state = codec._stream_encode_start(1)
        for start in release_memory_between(range(0, whole, step)):
            chunk = waveform[..., start : min(start + step, whole)]
            codes, counts, state = codec._stream_encode_warmup(chunk, state, num_codebooks)
            yield codes if counts is None else codes[..., : int(counts[0])]
        rest = waveform[..., whole:total]
        codes, counts = codec._stream_encode_flush(rest, lengths - whole, state, num_codebooks)
        yield codes if counts is None else codes[..., : int(counts[0])]

    codes = join_chunks(chunks(), -(-total // hop))
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_through_state(codec: CodecNetwork, codes: Tensor, lengths: Tensor, frames: int) -> Decoded:
    """As `encode_through_state`, for the codes [1, K, N] of one clip, in chunks of at most `frames`."""
    total = int(lengths[0])

    def chunks() -> Iterator[Tensor]:
        state = codec._stream_decode_start(1)
        for start in release_memory_between(range(0, total, frames)):
            waveform, counts, state = codec._stream_decode_warmup(codes[..., start : min(start + frames, total)], state)
            yield waveform if counts is None else waveform[..., : int(counts[0])]
        waveform, counts = codec._stream_decode_flush(state)
        yield waveform if counts is None else waveform[..., : int(counts[0])]

    waveform = join_chunks(chunks(), total * (codec.hop_length or 1))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))
