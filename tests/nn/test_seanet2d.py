"""SEANet in two dimensions, the STFT beneath it, and windows over it: items as if alone."""

from __future__ import annotations

import itertools

import pytest
import torch

from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.overlap_add import join, window_starts
from codeczoo.nn.seanet2d import NormedConv2d, SEANetDecoder2d, SEANetEncoder2d, Stack2d
from codeczoo.nn.stft import istft, stft
from codeczoo.weights.load import randomise

STRIDES = [(2, 1), (4, 2), (2, 3)]
LENGTHS = torch.tensor([23, 1, 2, 7, 12, 18])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def ready(net: torch.nn.Module) -> torch.nn.Module:
    randomise(net)
    return net.double().requires_grad_(False)


@pytest.mark.parametrize("way", ["all_at_once", "item_by_item"])  # that of other devices, and the CPU's
@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_a_ragged_batch_is_each_item_alone(way: str, which: str) -> None:
    encoder = SEANetEncoder2d(3, 5, 8, STRIDES, residual_units=2, group_ratio=1)
    decoder = SEANetDecoder2d(3, 5, 8, STRIDES[::-1], group_ratio=2, transposed_group_ratio=4)
    net: Stack2d = ready({"encoder": encoder, "decoder": decoder}[which])
    x = noise(6, 3, 17, 23) if which == "encoder" else noise(6, 5, 23)
    for item, length in zip(x, LENGTHS.tolist(), strict=True):
        item[..., length:] = 1e3  # nothing of it may be heard
    y = getattr(net, way)(x.clone(), LENGTHS)
    for item, out, length in zip(x, y, LENGTHS.tolist(), strict=True):
        alone, _ = net(item[None, ..., :length].clone())
        assert alone.shape[-1] == net.out_length(length)
        torch.testing.assert_close(out[..., : alone.shape[-1]], alone[0], rtol=1e-9, atol=1e-10)
    assert net(x)[0].shape[1:-1] == ((5,) if which == "encoder" else (3, 17))


def test_what_a_last_window_lacks_is_mirrored_in_front() -> None:
    """By hand: 3 steps under a kernel of 4 and a stride of 2 are x2 x1 | x0 x1 x2 | x1, and no row is added."""
    conv = ready(NormedConv2d(1, 1, (1, 4), (1, 2)))
    x = noise(1, 1, 1, 3)
    padded = torch.cat([x[..., 2:], x[..., 1:2], x, x[..., 1:2]], dim=-1)
    expected = torch.stack([(padded[0, 0, 0, i : i + 4] * conv.weight[0, 0, 0]).sum() for i in (0, 2)]) + conv.bias
    torch.testing.assert_close(conv(x), conv.norm(expected.view(1, 1, 1, 2)))


@pytest.mark.parametrize("groups", [1, 2])
def test_group_norm_over_frequency_and_time(groups: int) -> None:
    norm: GroupNorm = ready(GroupNorm(groups, 4))
    x, lengths = 2 + noise(3, 4, 5, 9), torch.tensor([9, 1, 4])
    for way in (norm.item_by_item, norm.all_at_once):
        y = way(x.clone(), lengths)
        for item, out, length in zip(x, y, lengths.tolist(), strict=True):
            torch.testing.assert_close(out[None, ..., :length], norm(item[None, ..., :length]))


def test_stft_and_its_inverse_are_those_of_torch_for_each_item() -> None:
    waveform, lengths = noise(4, 2000), torch.tensor([2000, 300, 1281, 1600])
    window = torch.hann_window(512).double()
    spectrum = stft(waveform, 512, 160, lengths)
    columns = lengths // 160 + 1
    back = istft(torch.complex(spectrum.real * 2, spectrum.imag * 3), 512, 160, columns)
    for i, (length, count) in enumerate(zip(lengths.tolist(), columns.tolist(), strict=True)):
        own = torch.stft(waveform[i, :length], 512, 160, window=window, return_complex=True)
        torch.testing.assert_close(spectrum[i, :, :count], own)
        own = torch.istft(torch.complex(own.real * 2, own.imag * 3), 512, 160, window=window)
        torch.testing.assert_close(back[i, : len(own)], own)
        assert len(own) == (count - 1) * 160


@pytest.mark.parametrize(("total", "window"), [(10, 10), (11, 10), (57, 10), (1000, 64)])
@pytest.mark.parametrize("fade", [0, 3])
def test_windows_cover_and_join_to_the_whole(total: int, window: int, fade: int) -> None:
    starts = window_starts(total, window, overlap=4)
    assert starts[0] == 0 and starts[-1] + window == total
    assert all(0 < b - a <= window - 4 for a, b in itertools.pairwise(starts))
    x = noise(2, total)
    torch.testing.assert_close(join([x[:, s : s + window] for s in starts], starts, fade), x)


def test_a_fade_goes_from_one_window_to_the_next() -> None:
    joined = join([torch.zeros(10), torch.ones(10)], [0, 6], fade=2)
    assert joined.tolist() == [0] * 7 + [0.25, 0.75] + [1] * 7
