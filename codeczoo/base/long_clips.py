"""Length without limit: a long clip in several passes that give what one pass would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import CodecNetwork, Context, Decoded, Encoded
from codeczoo.base.ragged import join_chunks


def encode_in_windows(
    codec: CodecNetwork, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int, context: Context
) -> Encoded:
    """One clip [1, C, T] through an encoder of finite receptive field, window by window, exactly.

    Each window carries the context that its frames can see; frames made of the context itself are dropped.
    """
    hop = codec.hop_length
    assert hop is not None and len(waveform) == 1
    total = int(lengths[0])
    left, right = -(-context.left // hop) * hop, -(-context.right // hop) * hop
    # At least as long as half of its context, lest a pass of little more than context be mostly work for nothing.
    step = max((samples - left - right) // hop, (left + right) // (2 * hop), 1) * hop
    pieces = []
    for start in release_memory_between(range(0, total, step)):
        first, last = max(start - left, 0), min(start + step + right, total)
        piece = codec._encode(waveform[..., first:last], lengths.new_tensor([last - first]), num_codebooks)
        skip = (start - first) // hop
        stop = skip + step // hop if start + step < total else None
        pieces.append(piece.codes[..., skip:stop])
    codes = torch.cat(pieces, dim=-1)
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_in_windows(
    codec: CodecNetwork,
    codes: Tensor,
    lengths: Tensor,
    side_info: Mapping[str, Tensor],
    num_samples: Tensor,
    frames: int,
    context: Context,
) -> Decoded:
    """As `encode_in_windows`, for the codes [1, K, N] of one clip."""
    hop = codec.output_hop_length
    assert hop is not None and len(codes) == 1
    total = int(lengths[0])
    step = max(frames - context.left - context.right, (context.left + context.right) // 2, 1)

    def pieces() -> Iterator[Tensor]:
        for start in release_memory_between(range(0, total, step)):
            first, last = max(start - context.left, 0), min(start + step + context.right, total)
            piece = codec._decode(codes[..., first:last], lengths.new_tensor([last - first]), side_info, num_samples)
            skip = (start - first) * hop
            stop = skip + step * hop if start + step < total else int(piece.lengths[0])
            yield piece.waveform[..., skip:stop]

    # Some decoders end a few samples short of the last frame; those samples are zeros, put there without a copy.
    waveform = join_chunks(pieces(), total * hop, least=int(num_samples[0]))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))


def encode_through_state(
    codec: CodecNetwork, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int
) -> Encoded:
    """One clip [1, C, T] through the streaming state of a causal encoder, in chunks of at most `samples`."""
    hop = codec.hop_length or 1
    step, total = max(samples // hop, 1) * hop, int(lengths[0])
    whole = total // hop * hop

    def pieces() -> Iterator[Tensor]:
        state = codec._stream_encode_start(1)
        for start in release_memory_between(range(0, whole, step)):
            chunk = waveform[..., start : min(start + step, whole)]
            codes, counts, state = codec._stream_encode_warmup(chunk, state, num_codebooks)
            yield codes if counts is None else codes[..., : int(counts[0])]
        rest = waveform[..., whole:total]
        codes, counts = codec._stream_encode_flush(rest, lengths - whole, state, num_codebooks)
        yield codes if counts is None else codes[..., : int(counts[0])]

    codes = join_chunks(pieces(), -(-total // hop))
    return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))


def decode_through_state(codec: CodecNetwork, codes: Tensor, lengths: Tensor, frames: int) -> Decoded:
    """As `encode_through_state`, for the codes [1, K, N] of one clip."""
    total = int(lengths[0])

    def pieces() -> Iterator[Tensor]:
        state = codec._stream_decode_start(1)
        for start in release_memory_between(range(0, total, frames)):
            waveform, counts, state = codec._stream_decode_warmup(codes[..., start : min(start + frames, total)], state)
            yield waveform if counts is None else waveform[..., : int(counts[0])]
        waveform, counts = codec._stream_decode_flush(state)
        yield waveform if counts is None else waveform[..., : int(counts[0])]

    waveform = join_chunks(pieces(), total * (codec.output_hop_length or 1))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))
