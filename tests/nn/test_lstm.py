"""LSTMs with a skip: by definition, step by step, and from each item's own end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codeczoo.nn.lstm import LSTM, BidirectionalLSTM


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    r = torch.Generator().manual_seed(seed)
    module = module.double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=r, dtype=torch.float64))
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_layer(x: Tensor, weights: dict[str, Tensor], suffix: str) -> Tensor:
    """[C, T] → [H, T], gate by gate."""
    w_ih, w_hh, b_ih, b_hh = (weights[f"{n}_{suffix}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = torch.zeros(w_hh.shape[1], dtype=x.dtype)
    out = []
    for step in x.T:
        i, f, g, o = (w_ih @ step + b_ih + w_hh @ h + b_hh).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out, dim=1)


def test_two_layers_and_their_input() -> None:
    lstm, x = seeded(LSTM(6)), noise(2, 6, 9)
    weights = dict(lstm.lstm.named_parameters())
    for item, found in zip(x, lstm(x), strict=True):
        torch.testing.assert_close(found, item + one_layer(one_layer(item, weights, "l0"), weights, "l1"))


def test_in_steps_with_the_state_of_each_item() -> None:
    lstm, x = seeded(LSTM(6)), noise(3, 6, 11)
    whole = lstm(x)
    first, (h, c) = lstm.first_chunk(x[..., :4])
    assert h.shape == c.shape == (3, 2, 6)
    order = torch.tensor([2, 0])  # the state is the items', batch first: some may go on alone, in any order
    rest, _ = lstm.step(x[order, :, 4:], (h[order], c[order]))
    torch.testing.assert_close(first, whole[..., :4])
    torch.testing.assert_close(rest, whole[order, :, 4:])
    from_start, _ = lstm.step(x, lstm.initial_state(3))
    torch.testing.assert_close(from_start, whole)


def test_both_directions_side_by_side_and_the_input_twice() -> None:
    lstm, x = seeded(BidirectionalLSTM(5)), noise(1, 5, 8)
    y = x[0]
    for ahead, back in zip(lstm.ahead, lstm.back, strict=True):
        forth = one_layer(y, dict(ahead.named_parameters()), "l0")
        y = torch.cat([forth, one_layer(y.flip(-1), dict(back.named_parameters()), "l0").flip(-1)])
    torch.testing.assert_close(lstm(x)[0], torch.cat([x[0], x[0]]) + y)


def test_the_way_back_starts_at_each_items_own_end() -> None:
    lstm, x, lengths = seeded(BidirectionalLSTM(5)), noise(4, 5, 12), torch.tensor([1, 12, 7, 11])
    for i, (found, length) in enumerate(zip(lstm(x, lengths), lengths.tolist(), strict=True)):
        torch.testing.assert_close(found[:, :length], lstm(x[i : i + 1, :, :length])[0])
