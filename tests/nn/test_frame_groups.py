"""Streams of frame groups: any chunks, items on timetables of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from codeczoo.base.cuda_graph import where
from codeczoo.nn.frame_groups import FrameGroups

SIZE, IN, OUT = 4, 3, 2
GROUPS = FrameGroups(SIZE, IN, OUT)


def run(x: Tensor, state: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Two steps a frame: the sum over its group (as far as it goes), and that plus all before the group."""
    frames = x.unflatten(-1, (-1, SIZE, IN))[..., 0]  # [B, 1, groups, size]
    if own is not None:
        frames = frames * (torch.arange(SIZE) < own[:, None, None, None])
    sums = frames.sum(-1)
    total = state[:, None, None] + sums.cumsum(-1)
    y = torch.stack([sums, total], dim=-1).repeat_interleave(SIZE, dim=2).flatten(2)
    return y, total[:, 0, -1]


def whole(x: Tensor) -> Tensor:
    """Of one clip [T]."""
    frames = x[::IN]
    sums = torch.stack([group.sum() for group in frames.split(SIZE)])
    y = torch.stack([sums, sums.cumsum(0)], dim=-1).repeat_interleave(SIZE, dim=0)
    return y[: len(frames)].flatten()


def start(batch: int) -> Any:
    return GROUPS.initial_state(torch.zeros(batch), torch.zeros(batch, 1, 0), torch.zeros(batch, 1, 0))


@pytest.mark.parametrize("seed", range(6))
def test_chunks_of_any_size_and_items_that_pause(seed: int) -> None:
    r = torch.Generator().manual_seed(seed)
    clips = torch.randint(1, 99, (3, 1, 400), generator=r).float()
    state, position, heard = start(3), [0, 0, 0], [[], [], []]
    for _ in range(9):
        frames = int(torch.randint(1, 10, (), generator=r))
        active = torch.rand(3, generator=r) < 0.7
        x = torch.stack([clip[:, n : n + frames * IN] for clip, n in zip(clips, position, strict=True)])
        settled = GROUPS.is_running(state)
        y, counts, after = GROUPS.step(x, state, run)
        state = where(active, after, state)
        assert y.shape[-1] == frames * OUT and int(counts.max()) <= frames * OUT
        assert not settled or counts.tolist() == [frames * OUT] * 3
        for i in active.nonzero().flatten().tolist():
            heard[i].append(y[i, 0, : int(counts[i])])
            position[i] += frames * IN
    rest = torch.tensor([0, 1, 2])
    tail = torch.stack([clip[:, n : n + 2] for clip, n in zip(clips, position, strict=True)])
    y, counts = GROUPS.flush(tail, rest, state, run)
    for i in range(3):
        given = torch.cat([*heard[i], y[i, 0, : int(counts[i])]])
        assert torch.equal(given, whole(clips[i, 0, : position[i] + int(rest[i])]))


def test_whole_groups_come_at_once() -> None:
    x = torch.arange(1.0, 16 * IN + 1)[None, None]
    state, parts = start(1), []
    for chunk in x.split([4 * IN, 8 * IN, 4 * IN], dim=-1):
        y, counts, state = GROUPS.step(chunk, state, run)
        assert counts.tolist() == [y.shape[-1]]
        parts.append(y)
    assert torch.equal(torch.cat(parts, dim=-1)[0, 0], whole(x[0, 0]))
    assert not GROUPS.is_running(state)
    y, counts = GROUPS.flush(x[..., :0], torch.tensor([0]), state, run)
    assert (y.shape[-1], counts.tolist()) == (0, [0])


def test_a_stream_settles_one_group_late() -> None:
    x = torch.ones(1, 1, IN)
    state, given = start(1), []
    for _ in range(7):
        _, counts, state = GROUPS.step(x, state, run)
        given.append(int(counts) // OUT)
    assert given == [0, 0, 0, 0, 1, 1, 1]
    assert GROUPS.is_running(state)
