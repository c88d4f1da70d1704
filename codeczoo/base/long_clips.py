"""Clips of any length in bounded memory: chunks whose results, joined, are those of the whole clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from codeczoo.base.cuda_graph import State
from codeczoo.base.memory import release_memory_between
from codeczoo.base.network import CodecNetwork, Context, Decoded
from codeczoo.base.ragged import join_chunks


def frames_in_chunks(
    codec: CodecNetwork,
    waveform: Tensor,
    lengths: Tensor,
    samples: int,
    context: Context,
    run: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[Tensor]:
    """One clip [1, C, T] through an encoder of finite receptive field, in chunks of about `samples`, exactly.

    Each chunk is encoded with the context that its frames see; the frames of the context itself are dropped.

    Args:
        run: waveform [1, C, t] and its length [1] → its frames [1, D, n]: latents, or codes.
    """
    hop = codec.hop_length
    assert hop is not None and len(waveform) == 1
    total = int(lengths[0])
    left, right = -(-context.left // hop) * hop, -(-context.right // hop) * hop
    # A chunk is at least half as long as its context: otherwise most of the work would be on context.
    step = max((samples - left - right) // hop, (left + right) // (2 * hop), 1) * hop
    for start in release_memory_between(range(0, total, step)):
        first, last = max(start - left, 0), min(start + step + right, total)
        frames = run(waveform[..., first:last], lengths.new_tensor([last - first]))
        skip = (start - first) // hop
        yield frames[..., skip : skip + step // hop if start + step < total else None]


def decode_in_chunks(
    codec: CodecNetwork,
    total: int,
    num_samples: Tensor,
    frames: int,
    context: Context,
    run: Callable[[int, int], Decoded],
) -> Decoded:
    """As `frames_in_chunks`, for the `total` frames of one clip, in chunks of about `frames`.

    Args:
        run: frames `first` to `last` → their audio.
    """
    hop = codec.output_hop_length
    assert hop is not None
    step = max(frames - context.left - context.right, (context.left + context.right) // 2, 1)

    def chunks() -> Iterator[Tensor]:
        for start in release_memory_between(range(0, total, step)):
            first, last = max(start - context.left, 0), min(start + step + context.right, total)
            decoded = run(first, last)
            skip = (start - first) * hop
            stop = skip + step * hop if start + step < total else int(decoded.lengths[0])
            yield decoded.waveform[..., skip:stop]

    # Some decoders end a few samples short of the last frame; those samples are zeros, added without a copy.
    waveform = join_chunks(chunks(), total * hop, least=int(num_samples[0]))
    return Decoded(waveform, num_samples.new_tensor([waveform.shape[-1]]))


def frames_through_state(
    codec: CodecNetwork,
    waveform: Tensor,
    lengths: Tensor,
    samples: int,
    warmup: Callable[[Tensor, State], tuple[Tensor, Tensor | None, State]],
    flush: Callable[[Tensor, Tensor, State], tuple[Tensor, Tensor | None]],
) -> Iterator[Tensor]:
    """One clip [1, C, T] through the streaming state of a causal encoder, in chunks of at most `samples`.

    Args:
        warmup, flush: the hooks of that stream (`base.stream`), for latents or for codes.
    """
    hop = codec.hop_length or 1
    step, total = max(samples // hop, 1) * hop, int(lengths[0])
    whole = total // hop * hop
    state = codec._stream_encode_start(1)
    for start in release_memory_between(range(0, whole, step)):
        chunk = waveform[..., start : min(start + step, whole)]
        frames, counts, state = warmup(chunk, state)
        yield frames if counts is None else frames[..., : int(counts[0])]
    frames, counts = flush(waveform[..., whole:total], lengths - whole, state)
    yield frames if counts is None else frames[..., : int(counts[0])]


def decode_through_state(
    codec: CodecNetwork,
    lengths: Tensor,
    frames: int,
    warmup: Callable[[int, int, State], tuple[Tensor, Tensor | None, State]],
) -> Decoded:
    """As `frames_through_state`, for the frames of one clip, `lengths` [1], in chunks of at most `frames`.

    Args:
        warmup: frames `first` to `last` and the state before them → their audio, and the state after them.
    """
    total = int(lengths[0])

    def chunks() -> Iterator[Tensor]:
        state = codec._stream_decode_start(1)
        for start in release_memory_between(range(0, total, frames)):
            waveform, counts, state = warmup(start, min(start + frames, total), state)
            yield waveform if counts is None else waveform[..., : int(counts[0])]
        waveform, counts = codec._stream_decode_flush(state)
        yield waveform if counts is None else waveform[..., : int(counts[0])]

    waveform = join_chunks(chunks(), total * (codec.output_hop_length or 1))
    return Decoded(waveform, lengths.new_tensor([waveform.shape[-1]]))


def join_codes(chunks: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Codes [B, K, n] of consecutive chunks → [B, K, N]. Codebook k has one code for each strides[k] frames, at the
    left of its row; chunks but the last are a whole number of them."""
    if max(strides) == 1:
        return torch.cat(list(chunks), dim=-1)
    total = sum(chunk.shape[-1] for chunk in chunks)
    rows = []
    for k, stride in enumerate(strides):
        row = torch.cat([chunk[:, k, : -(-chunk.shape[-1] // stride)] for chunk in chunks], dim=-1)
        rows.append(torch.nn.functional.pad(row, (0, total - row.shape[-1])))
    return torch.stack(rows, dim=1)
