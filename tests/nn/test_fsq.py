"""FSQ: order of digits, bounds and rounding of each published use."""

from __future__ import annotations

import math

import pytest
import torch

from codeczoo.nn.fsq import FSQ, GroupFSQ, ProjectedFSQ


@pytest.mark.parametrize("levels", [(7, 7, 7), (9, 9, 7, 7), (4, 4, 4), (3,) * 8, (8, 5, 2)])
def test_every_code_comes_back(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels).double()
    codes = torch.arange(fsq.size)[None]
    values = fsq.decode(codes)
    assert values.shape == (1, len(levels), fsq.size)
    assert len(values[0].T.unique(dim=0)) == fsq.size
    # A projection whose bound is just the value: what leads to these levels leads back to these codes.
    half = torch.tensor(levels, dtype=torch.float64)[:, None] // 2
    reach = torch.tensor([(n - 1) * 1.001 / 2 for n in levels], dtype=torch.float64)[:, None]
    offset = torch.tensor([0.0 if n % 2 else 0.5 for n in levels], dtype=torch.float64)[:, None]
    z = ((values * half + offset) / reach).atanh() - (offset / reach).atanh()
    assert torch.equal(fsq.encode(z), codes)


def test_the_first_digit_runs_fastest() -> None:
    fsq = FSQ((7, 5, 3))
    big = torch.tensor([[[9.0, -9, -9, 0], [-9, 9, -9, 0], [-9, -9, 9, 0]]])
    assert fsq.encode(big).tolist() == [[6, 4 * 7, 2 * 35, 3 + 2 * 7 + 1 * 35]]
    assert fsq.decode(torch.tensor([[1]]))[0, :, 0].tolist() == pytest.approx([-2 / 3, -1, -1])


def test_s3tokenizer_is_three_levels_between_thresholds() -> None:
    """tanh times 0.999 is rounded: the thresholds lie at tanh = 0.5005005."""
    fsq = FSQ((3,), scale=0.9990000128746033)
    h = torch.tensor([-0.51, -0.5004, 0.0, 0.5004, 0.5006], dtype=torch.float64).atanh()
    assert fsq.encode(h[None, None]).tolist() == [[0, 1, 1, 1, 2]]


def test_x_codec_2_bounds_twice() -> None:
    once, twice = (ProjectedFSQ(1, (4,), bounds=n).double() for n in (1, 2))
    with torch.no_grad():
        for fsq in (once, twice):
            fsq.project_in.weight.fill_(1)
            fsq.project_in.bias.zero_()
    z = torch.linspace(-4, 4, 81, dtype=torch.float64)
    shift = torch.tensor(0.5 / 1.5015, dtype=torch.float64).atanh()
    bound = lambda x: (x + shift).tanh() * 1.5015 - 0.5  # noqa: E731
    assert torch.equal(once.encode(z[None, None])[0], bound(z).round().long() + 2)
    assert torch.equal(twice.encode(z[None, None])[0], bound(bound(z)).round().long() + 2)
    assert not torch.equal(once.encode(z[None, None]), twice.encode(z[None, None]))
    assert FSQ((4,)).decode(torch.arange(4)[None]).flatten().tolist() == [-1, -0.5, 0, 0.5]


def test_a_digit_needs_two_levels() -> None:
    with pytest.raises(ValueError, match="two levels"):
        FSQ((7, 1))


def test_nemo_shifts_by_the_tangent() -> None:
    """Of z just above the place where the halves lie, one shift rounds up what the other rounds down."""
    half, level = 7 / 2 * 0.999, 1.5
    edge = math.atanh((level + 0.5) / half)
    low, high = sorted(f(0.5 / half) for f in (math.tan, math.atanh))
    z = torch.tensor([edge - (low + high) / 2], dtype=torch.float64)[None, None]
    assert FSQ((8,), 0.999).encode(z).item() == 6  # atanh is the larger one
    assert FSQ((8,), 0.999, shift=torch.tan).encode(z).item() == 5


def test_groups_are_quantised_by_themselves() -> None:
    one, groups = FSQ((5, 4), 0.999).double(), GroupFSQ(3, (5, 4), 0.999).double()
    z = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0))
    codes = groups.encode(z)
    assert torch.equal(codes, torch.stack([one.encode(part) for part in z.chunk(3, dim=1)], dim=1))
    values = torch.cat([one.decode(codes[:, k]) for k in range(3)], dim=1)
    assert torch.equal(groups.decode(codes), values)
    with pytest.raises(ValueError, match="codes of all 3 groups are needed; these are of 2"):
        groups.decode(codes[:, :2])
