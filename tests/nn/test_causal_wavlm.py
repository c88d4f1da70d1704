"""Causal WavLM: against one mask over everything, and chunk by chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.nn import causal_wavlm
from codeczoo.nn.attention import AttentionMask
from codeczoo.nn.causal_wavlm import CausalWavLM
from codeczoo.nn.hubert import HubertConfig
from codeczoo.nn.wavlm import GatedAttention

CONFIG = HubertConfig(
    2, 32, 2, 40, 8, extractor_norm="layer", pre_norm=True, encoder_norm=False, position_kernel=16, causal=True
)
WINDOW, GROUP = 10, 4


@pytest.fixture(scope="module")
def net() -> Any:
    generator = torch.Generator().manual_seed(0)
    made = CausalWavLM(CONFIG, WINDOW, GROUP).double()
    for name, parameter in made.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan**0.5
        if "norm" in name and name.endswith("weight"):
            parameter.data.mul_(0.1).add_(1)
    return made.eval().requires_grad_(False)


def waves(*samples: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(1, 1, n, generator=generator, dtype=torch.float64) for n in samples]


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("frames", [3, 9, 10, 23, 31])
@pytest.mark.parametrize("rows", [4, 8, 128])
def test_attention_is_that_of_one_mask_over_everything(net: Any, frames: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(causal_wavlm, "ROWS", rows)
    attention, x = net.layers[0].attention, waves(frames * 32)[0].view(1, frames, 32)
    seen = torch.zeros(frames, frames, dtype=torch.bool)
    for query in range(frames):
        end = min((query // GROUP + 1) * GROUP, frames)
        seen[query, max(end - WINDOW, 0) : end] = True
    expected = GatedAttention.forward(attention, x, net.relative(AttentionMask(seen), frames))
    assert_close(attention(x, net.attention_mask(frames, None)), expected)


def test_each_item_of_a_batch_is_as_if_alone(net: Any) -> None:
    clips = waves(9000, 1, 6721, 320)
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    batch = net(torch.cat([F.pad(clip, (0, 9000 - clip.shape[-1]), value=9.0) for clip in clips]), lengths)
    for row, clip in zip(batch, clips, strict=True):
        frames = -(-clip.shape[-1] // 320)
        assert net.out_length(clip.shape[-1]) == frames
        assert_close(row[:frames], net(clip)[0])


@pytest.mark.parametrize("groups", [[1] * 8, [3, 1, 4], [8]])
def test_chunks_of_groups_are_the_whole(net: Any, groups: list[int]) -> None:
    """The last one is short."""
    long, short = waves(320 * 34 - 7, 320 * 34 - 7)
    clips, position, parts, state = torch.cat([long, short]), 0, [], net.initial_state(2)
    for count in groups:
        size = count * GROUP * 320
        y, state = net.step(clips[..., position : position + size], state)
        position += size
        parts.append(y)
    rest = F.pad(clips[..., position:], (0, GROUP * 320 - (clips.shape[-1] - position)))
    y, _ = net.step(rest, state, torch.tensor([2, 2]))
    parts.append(y[:, :2])
    assert_close(torch.cat(parts, dim=1), net(clips))
