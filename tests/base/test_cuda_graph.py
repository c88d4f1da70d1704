"""Steps over tensors that stay where they are: all of `cuda_graph=True` but the capture itself, which takes CUDA."""

from __future__ import annotations

import pytest
import torch

from codeczoo.base.cuda_graph import MAX_GRAPHS, CapturedSteps
from tests.contract.test_registry import clips_of
from tests.support.small import CAUSAL, codec_of


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_chunks_of_ever_new_lengths_run_too(name: str) -> None:
    """Beyond the graphs that a stream holds, back at a length that has one, and after a new start."""
    codec = codec_of(name, "small", torch.float64)
    hop, lengths = codec.hop_length or 1, [*range(1, MAX_GRAPHS + 3), 2, 1, MAX_GRAPHS + 2, 3]
    clip = clips_of(codec, [hop * sum(lengths)], seed=8)[0][None]
    plain, graphs = codec.stream(), codec.stream(cuda_graph=True)
    for turn in range(2):
        position = 0
        for n in lengths:
            chunk = clip[..., position * hop : (position + n) * hop]
            expected, found = plain.encode(chunk), graphs.encode(chunk)
            assert torch.equal(found.codes, expected.codes), f"turn {turn}, frame {position}"
            if int(expected.lengths.min()):
                ready = expected.codes[..., : int(expected.lengths[0])]
                assert_near(graphs.decode(ready).waveform, plain.decode(ready).waveform)
            position += n
        assert torch.equal(graphs.flush().codes, plain.flush().codes)
        assert_near(graphs.flush_decoder().waveform, plain.flush_decoder().waveform)


def test_what_a_step_gives_is_the_callers_own() -> None:
    codec = codec_of("mimi", "small", torch.float64)
    stream = codec.stream(cuda_graph=True)
    first = stream.encode(clips_of(codec, [codec.hop_length], seed=1)[0][None])
    kept = first.codes.clone()
    stream.encode(clips_of(codec, [codec.hop_length], seed=2)[0][None])
    assert torch.equal(first.codes, kept)


def test_a_stream_begun_in_inference_mode_goes_on_outside() -> None:
    codec = codec_of("mimi", "small", torch.float64)
    clip = clips_of(codec, [codec.hop_length * 4], seed=1)[0][None]
    whole = codec.encode(clip, codec.sample_rate)
    chunks = clip.split(codec.hop_length, dim=-1)
    with torch.inference_mode():
        stream = codec.stream(cuda_graph=True)
        pieces = [stream.encode(chunk.clone()) for chunk in chunks[:2]]
    pieces += [stream.encode(chunk) for chunk in chunks[2:]]
    assert torch.equal(torch.cat([piece.codes for piece in pieces], dim=-1), whole.codes)


def test_state_whose_parts_share_memory_is_kept_before_it_is_written() -> None:
    """Two parts that swap places, and one that is the other shifted."""

    def step(x: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        a, b = state
        return a + x, (b, torch.cat([a[:, 1:], x], dim=1))

    graphs, state = CapturedSteps(), (torch.zeros(2, 3), torch.ones(2, 3))
    expected = state
    for n in range(4):
        x, active = torch.full((2, 1), float(n)), torch.tensor([True, n != 1])
        wanted, after = step(x, expected)
        expected = tuple(torch.where(active[:, None], new, old) for new, old in zip(after, expected, strict=True))
        found, state = graphs(step, x, state, active, "kind")
        assert torch.equal(found, wanted)
        assert all(torch.equal(ours, truth) for ours, truth in zip(state, expected, strict=True))
