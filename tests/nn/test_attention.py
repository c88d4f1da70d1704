"""Attention in its three patterns, rotary positions, and the ring of keys and values of a stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from codeczoo.nn.attention import Attention, AttentionMask, Chunk, everything, ring_size, window_after
from codeczoo.nn.rotary import Rotary, neighbours_to_halves
from codeczoo.nn.transformer import FeedForward, Transformer, TransformerLayer

DIM, HEADS = 16, 2


def transformer(window: int | None = None, causal: bool = True, layers: int = 2) -> Transformer:
    """Seeded, float64, with rotary positions and layer scales."""
    blocks = [
        TransformerLayer(DIM, Attention(DIM, HEADS), FeedForward(DIM, 24), layer_scale=(True, True))
        for _ in range(layers)
    ]
    net = Transformer(blocks, rotary=Rotary(DIM // HEADS), causal=causal, window=window).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend_by_hand(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 20, 41])
@pytest.mark.parametrize("window", [1, 2, 6])
def test_a_window_is_what_a_mask_over_all_steps_gives(window: int, steps: int) -> None:
    attention = Attention(DIM, HEADS).double().requires_grad_(False)
    for parameter in attention.parameters():
        parameter.copy_(noise(*parameter.shape, seed=2))
    x = noise(3, steps, DIM)
    q, k, v = attention.project(x)
    age = torch.arange(steps)[:, None] - torch.arange(steps)
    expected = attention.merge(attend_by_hand(q, k, v, (age >= 0) & (age < window)))
    attention_mask = window_after(torch.zeros(3, dtype=torch.int64), steps, window)
    torch.testing.assert_close(attention(x, attention_mask), expected)


def test_a_window_over_a_long_clip_takes_memory_for_its_length_alone() -> None:
    steps, window = 5000, 50
    mask = window_after(torch.zeros(1, dtype=torch.int64), steps, window).mask
    assert mask.numel() <= 4 * steps * window
    net = transformer(window)
    x = noise(1, steps, DIM)
    # Two layers see no further back than two windows, and rotation depends on differences alone.
    torch.testing.assert_close(net(x)[:, -1], net(x[:, -2 * window :])[:, -1], rtol=1e-9, atol=1e-12)


def test_full_attention_keeps_to_each_item() -> None:
    net, lengths = transformer(causal=False), torch.tensor([7, 1, 4])
    x = noise(3, 7, DIM)
    batch = net(x, lengths)
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(batch[i, :length], net(x[i : i + 1, :length])[0])


def test_causal_attention_sees_nothing_of_what_comes() -> None:
    net, x = transformer(), noise(2, 9, DIM)
    torch.testing.assert_close(net(x)[:, :5], net(x[:, :5]))


@pytest.mark.parametrize("seed", range(4))
def test_chunks_of_any_size_equal_the_whole(seed: int) -> None:
    """Short ones, which are written into the ring in place, and longer ones, among them some longer than the ring."""
    window, r = 10, np.random.default_rng(seed)
    room = ring_size(window) - (window - 1)
    net, x = transformer(window), noise(2, 160, DIM)
    whole, state, out, position = net(x), net.initial_state(2), [], 0
    while position < x.shape[1]:
        steps = int(r.choice([1, 2, room, room + 1, 3 * window, r.integers(1, 40)]))
        y, state = net.step(x[:, position : position + steps], state)
        out.append(y)
        position += steps
    torch.testing.assert_close(torch.cat(out, dim=1), whole)


@pytest.mark.parametrize("seed", range(4))
def test_items_stand_still_and_start_anew_by_themselves(seed: int) -> None:
    """Items that are paused are fed NaN, which must reach nobody, not even themselves later on."""
    window, r = 10, np.random.default_rng(seed)
    net, x = transformer(window), noise(3, 200, DIM)
    state, done, out = net.initial_state(3), [0, 0, 0], [[], [], []]
    for _ in range(30):
        steps = int(r.choice([1, 2, 6, 9, 25]))
        active = torch.from_numpy(r.random(3) < 0.6)
        chunk = torch.full((3, steps, DIM), torch.nan, dtype=torch.float64)
        for i in range(3):
            if active[i] and (r.random() < 0.1 or done[i] + steps > x.shape[1]):
                state = _choose(torch.arange(3) == i, net.initial_state(3), state)
                done[i], out[i] = 0, []
            if active[i]:
                chunk[i] = x[i, done[i] : done[i] + steps]
        y, after = net.step(chunk, state)
        state = _choose(active, after, state)
        for i in range(3):
            if active[i]:
                out[i].append(y[i])
                done[i] += steps
    for i in range(3):
        torch.testing.assert_close(torch.cat([x.new_zeros(0, DIM), *out[i]]), net(x[i : i + 1, : done[i]])[0])


def _choose(mask: Tensor, new: object, old: object) -> object:
    """As a stream does: what a step gave back as it got it is not chosen, but kept."""
    return tree_map(lambda n, o: n if n is o else torch.where(mask.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)


def test_the_state_before_a_chunk_stays_good() -> None:
    net, x = transformer(10), noise(2, 40, DIM)
    _, state = net.step(x[:, :30], net.initial_state(2))
    first, _ = net.step(x[:, 30:33], state)
    net.step(noise(2, 5, DIM, seed=9), state)
    again, _ = net.step(x[:, 30:33], state)
    assert torch.equal(first, again)


def test_a_ring_has_room_for_its_window_and_a_short_chunk() -> None:
    for window in (1, 2, 10, 250):
        assert ring_size(window) >= window - 1 + 6
    assert ring_size(250) == 256
    assert Chunk(torch.zeros(1, dtype=torch.int64), 6, 250).in_place


def test_rotation_depends_on_differences_alone_also_far_out() -> None:
    rotary, q, k = Rotary(64), noise(1, 1, 1, 64), noise(1, 1, 1, 64, seed=3)
    at = lambda x, position: rotary(torch.tensor([position]), torch.float64)(x)  # noqa: E731
    near = at(q, 17) @ at(k, 5).mT
    for far in (1000, 90_000, 16_000_000):  # the last is a week at 25 steps a second
        torch.testing.assert_close(at(q, far + 12) @ at(k, far).mT, near, rtol=0, atol=1e-7)
    assert abs(float(at(q, 18) @ at(k, 5).mT - near)) > 1e-3


def test_neighbours_become_halves() -> None:
    """Rotation of neighbouring pairs as complex numbers, the authors' layout, gives the same products."""
    heads, dim, steps = 2, 8, 5
    weight_q, weight_k, x = noise(heads * dim, DIM), noise(heads * dim, DIM, seed=2), noise(steps, DIM, seed=3)

    def turned(weight: Tensor) -> Tensor:
        pairs = torch.view_as_complex((x @ weight.T).view(steps, heads, dim // 2, 2).transpose(0, 1).contiguous())
        angles = torch.arange(steps)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    def ours(weight: Tensor) -> Tensor:
        rows = (x @ neighbours_to_halves(weight, heads).T).view(steps, heads, dim).transpose(0, 1)
        return Rotary(dim)(torch.arange(steps), torch.float64)(rows)

    torch.testing.assert_close(ours(weight_q) @ ours(weight_k).mT, turned(weight_q) @ turned(weight_k).mT)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="window=5 is for causal attention"):
        transformer(window=5, causal=False)
    with pytest.raises(ValueError, match="only attention within a window can be streamed"):
        transformer().initial_state(1)


def test_everything_is_seen_without_lengths() -> None:
    assert everything(4) == AttentionMask()
    assert everything(4, torch.tensor([2, 4])).mask.flatten(1).tolist() == [[True, True, False, False], [True] * 4]
