"""Padding of a ragged batch is that of each item alone, on the CPU and on a device."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch

from codeczoo.nn import padding
from codeczoo.nn.padding import pad, zero_tail_
from tests.support.fake_device import DEVICE, FakeDevice

LENGTHS = torch.tensor([30, 29, 12, 5, 2, 1])
places = pytest.mark.parametrize("device", [torch.device("cpu"), DEVICE], ids=["here", "there"])


def noise() -> torch.Tensor:
    return torch.randn(6, 3, 30, generator=torch.Generator().manual_seed(0))


def fake(device: torch.device) -> FakeDevice | nullcontext[None]:
    return FakeDevice() if device == DEVICE else nullcontext()


@places
@pytest.mark.parametrize("mode", padding.MODES)
def test_each_item_is_padded_as_if_alone(mode: str, device: torch.device) -> None:
    x = noise()
    for left, right in itertools.product([0, 1, 4, 12], [0, 3, 9, torch.tensor([0, 1, 2, 3, 4, 5])]):
        with fake(device):
            given = x.clone().to(device)
            sides = right.to(device) if isinstance(right, torch.Tensor) else right
            found = pad(given, LENGTHS.to(device), left, sides, mode).cpu()
            assert torch.equal(given.cpu(), x), "the caller's tensor"
        for i, length in enumerate(LENGTHS.tolist()):
            own = int(right[i]) if isinstance(right, torch.Tensor) else right
            alone = pad(x[i : i + 1, :, :length], None, left, own, mode)[0]
            assert torch.equal(found[i, :, : alone.shape[-1]], alone), (left, right, length)


@places
@pytest.mark.parametrize("small", [0, 1 << 22])
def test_zeros_stand_behind_each_item_and_nothing_else_changes(
    small: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padding, "MASK_MAX_VALUES", small)
    for count in (0, 1, 7, 40):
        x = noise()
        with fake(device):
            found = zero_tail_(x.clone().to(device), LENGTHS.to(device), count).cpu()
        for i, length in enumerate(LENGTHS.tolist()):
            assert torch.equal(found[i, :, :length], x[i, :, :length])
            assert not found[i, :, length : length + count].any()
