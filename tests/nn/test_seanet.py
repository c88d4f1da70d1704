"""SEANet: against its rules written out, each item by itself, in parts, and in chunks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.nn import seanet
from codeczoo.nn.conv import Conv1d, ConvTranspose1d
from codeczoo.nn.seanet import ResidualUnit, SEANetDecoder, SEANetEncoder, SEANetStack
from codeczoo.nn.stream_warmup import StreamWarmup

ENCODEC_24K: dict[str, Any] = {"filters": 4, "dimension": 12}
ENCODEC_48K = {**ENCODEC_24K, "channels": 2, "causal": False, "norm": True}
SPEECHTOKENIZER = {**ENCODEC_24K, "causal": False, "bidirectional": True}  # the encoder; its decoder's LSTM has one way
MIMI = {
    **ENCODEC_24K,
    "pad_mode": "zeros",
    "pad_to_full_window": False,
    "lstm_layers": 0,
    "conv_shortcut": False,
    "last_kernel": 3,
}
NETS = {"encodec_24k": ENCODEC_24K, "encodec_48k": ENCODEC_48K, "speechtokenizer": SPEECHTOKENIZER, "mimi": MIMI}
HOP = 320


def seeded(net: SEANetStack, seed: int = 0) -> SEANetStack:
    """Values of a size that keeps activations at about 1, so that every layer matters."""
    r = torch.Generator().manual_seed(seed)
    net = net.double().requires_grad_(False)
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.copy_(torch.randn(parameter.shape, generator=r, dtype=torch.float64) / math.sqrt(fan_in))
    return net


def encoder_of(name: str) -> SEANetStack:
    return seeded(SEANetEncoder(**NETS[name]))


def decoder_of(name: str) -> SEANetStack:
    return seeded(SEANetDecoder(**{k: v for k, v in NETS[name].items() if k != "bidirectional"}))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- by definition --------------------------------------------------------------------------------


def plain_conv(conv: Any, x: Tensor) -> Tensor:
    """A convolution of EnCodec, as its paper's code pads it: mirrored; an input no longer than the larger pad is first
    lengthened by zeros, which are cut off again behind."""
    kernel, stride = conv.weight.shape[-1], conv.stride
    total = (kernel - 1) * conv.dilation + 1 - stride
    right = 0 if conv.causal else total // 2
    left = total - right
    steps = math.ceil(x.shape[-1] / stride)
    right += (steps - 1) * stride + kernel - total - x.shape[-1]
    lengthened = max(left, right) - x.shape[-1] + 1
    if lengthened > 0:
        x = F.pad(F.pad(x, (0, lengthened)), (left, right), mode="reflect")
        x = x[..., : x.shape[-1] - lengthened]
    else:
        x = F.pad(x, (left, right), mode="reflect")
    return normed(conv, F.conv1d(x, conv.weight, conv.bias, stride))


def plain_transposed(conv: Any, x: Tensor, causal: bool) -> Tensor:
    y = normed(conv, F.conv_transpose1d(x, conv.weight, conv.bias, conv.stride))
    total = conv.kernel_size - conv.stride
    right = total if causal else total // 2
    return y[..., total - right : y.shape[-1] - right]


def normed(conv: Any, y: Tensor) -> Tensor:
    if conv.norm is None:
        return y
    mean, variance = y.mean(), y.var(correction=0)
    return (y - mean) / (variance + 1e-5).sqrt() * conv.norm.weight[:, None] + conv.norm.bias[:, None]


def plain(net: SEANetStack, x: Tensor, causal: bool) -> Tensor:
    """The net layer by layer on one clip [1, C, T], with the padding of EnCodec."""
    for layer in net.layers:
        if isinstance(layer, ResidualUnit):
            _, first, _, second = layer.block
            x = plain_conv(second, F.elu(plain_conv(first, F.elu(x)))) + plain_conv(layer.shortcut, x)
        elif isinstance(layer, Conv1d):
            x = plain_conv(layer, x)
        elif isinstance(layer, ConvTranspose1d):
            x = plain_transposed(layer, x, causal)
        elif isinstance(layer, nn.ELU):
            x = F.elu(x)
        else:
            x = x + layer.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
    return x


@pytest.mark.parametrize("name", ["encodec_24k", "encodec_48k"])
@pytest.mark.parametrize("samples", [1, 2, 3, 6, 7, 40, 319, 320, 321, 640, 959, 961, 2240, 3001])
def test_the_encoder_by_definition_down_to_one_sample(name: str, samples: int) -> None:
    """Short last segments of EnCodec at 48 kHz meet the rule for inputs no longer than the pad."""
    net = encoder_of(name)
    x = noise(1, NETS[name].get("channels", 1), samples)
    found, _ = net(x)
    assert found.shape[-1] == math.ceil(samples / HOP)
    torch.testing.assert_close(found, plain(net, x, NETS[name].get("causal", True)))


@pytest.mark.parametrize("name", ["encodec_24k", "encodec_48k"])
@pytest.mark.parametrize("frames", [1, 2, 6, 7, 9])
def test_the_decoder_by_definition_down_to_one_frame(name: str, frames: int) -> None:
    net, x = decoder_of(name), noise(1, 12, frames)
    found, _ = net(x)
    assert found.shape[-1] == frames * HOP
    torch.testing.assert_close(found, plain(net, x, NETS[name].get("causal", True)))


def test_layers_stand_at_the_published_places() -> None:
    encoder, decoder = encoder_of("encodec_24k"), decoder_of("encodec_24k")
    strided = [i for i, layer in enumerate(encoder.layers) if isinstance(layer, Conv1d) and layer.stride > 1]
    assert strided == [3, 6, 9, 12] and encoder.layers[13].lstm.num_layers == 2 and len(encoder.layers) == 16
    assert [i for i, layer in enumerate(decoder.layers) if isinstance(layer, ConvTranspose1d)] == [3, 6, 9, 12]


# -- each item by itself --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encodec_24k", "encodec_48k", "speechtokenizer"])
@pytest.mark.parametrize("way", ["on a CPU", "elsewhere"])
def test_a_ragged_batch_is_each_item_alone(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = encoder_of(name), decoder_of(name)
    if way == "on a CPU":  # in parts so small that this batch is cut
        monkeypatch.setattr(seanet, "CACHE_TILE_VALUES", 1)
    else:
        monkeypatch.setattr(
            SEANetStack, "forward", lambda net, x, own: (seanet._through(net.layers, x, own), net.out_length(own))
        )
    lengths = torch.tensor([1, 5000, 319, 321, 40, 4801, 2240])
    x = noise(len(lengths), NETS[name].get("channels", 1), 5000)
    latents, frames = encoder(x.clone(), lengths)
    assert frames.tolist() == [math.ceil(n / HOP) for n in lengths.tolist()]
    for i, (samples, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone = seanet._through(encoder.layers, x[i : i + 1, :, :samples], None)
        torch.testing.assert_close(latents[i : i + 1, :, :count], alone)

    z = noise(len(frames), 12, int(frames.max()))
    audio, samples_out = decoder(z.clone(), frames)
    assert samples_out.tolist() == [HOP * n for n in frames.tolist()]
    for i, count in enumerate(frames.tolist()):
        alone = seanet._through(decoder.layers, z[i : i + 1, :, :count], None)
        torch.testing.assert_close(audio[i : i + 1, :, : HOP * count], alone)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("samples", [HOP * 23, HOP * 31 + 1])
def test_in_parts_is_in_one_go(name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = encoder_of(name), decoder_of(name)
    samples -= samples % HOP if name == "mimi" else 0
    x, z = noise(3, NETS[name].get("channels", 1), samples), noise(3, 12, samples // HOP)
    before = x.clone()
    whole, audio = seanet._through(encoder.layers, x, None), seanet._through(decoder.layers, z, None)
    monkeypatch.setattr(seanet, "CACHE_TILE_VALUES", 1)
    torch.testing.assert_close(encoder(x)[0], whole)
    torch.testing.assert_close(decoder(z)[0], audio)
    assert torch.equal(x, before), "the caller's tensor is left alone"


# -- chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encodec_24k", "mimi"])
def test_chunks_are_the_whole(name: str) -> None:
    encoder, decoder = encoder_of(name), decoder_of(name)
    x = noise(2, 1, HOP * 16)
    whole, _ = encoder(x)
    if encoder.warmup:
        first, state = encoder.first_chunk(x[..., : encoder.warmup])
    else:
        first, state = encoder.step(x[..., : 2 * HOP], encoder.initial_state(2))
    out, place = [first], first.shape[-1] * HOP
    for hops in (1, 3, 1, 2):
        y, state = encoder.step(x[..., place : place + hops * HOP], state)
        out.append(y)
        place += hops * HOP
    y, _ = encoder.step(x[..., place:], state)
    torch.testing.assert_close(torch.cat([*out, y], dim=-1), whole)

    z = noise(2, 12, 12)
    audio, _ = decoder(z)
    first, state = (
        decoder.first_chunk(z[..., :7]) if decoder.warmup else decoder.step(z[..., :7], decoder.initial_state(2))
    )
    second, state = decoder.step(z[..., 7:8], state)
    third, _ = decoder.step(z[..., 8:], state)
    torch.testing.assert_close(torch.cat([first, second, third], dim=-1), audio)


def test_a_warmup_is_as_long_as_it_must_be() -> None:
    encoder, decoder = encoder_of("encodec_24k"), decoder_of("encodec_24k")
    assert (encoder.warmup, decoder.warmup) == (7 * HOP, 7)
    assert encoder_of("mimi").warmup == decoder_of("mimi").warmup == 0
    x = noise(1, 1, 9 * HOP)
    whole, _ = encoder(x)
    torch.testing.assert_close(encoder.first_chunk(x[..., : 7 * HOP])[0], whole[..., :7])
    early, _ = encoder.first_chunk(x[..., : 6 * HOP])
    assert not torch.allclose(early, whole[..., :6], atol=1e-3), "with a hop less, what is mirrored is not known"


def test_the_start_is_held_back_until_it_can_be_mirrored() -> None:
    encoder = encoder_of("encodec_24k")
    held, x = StreamWarmup(encoder, 1, HOP), noise(1, 1, 9 * HOP + 123)
    state, counts, out = held.initial_state(1), [], []
    for i in range(9):
        y, count, state = held.warm_up(x[..., i * HOP : (i + 1) * HOP], state)
        counts.append(y.shape[-1] if count is None else int(count))
        out.append(y)
    assert counts == [0, 0, 0, 0, 0, 0, 7, 1, 1]
    assert count is None, "a stream that runs has nothing to sort out"
    last, count = held.flush(x[..., 9 * HOP :], torch.tensor([123]), state)
    assert count.tolist() == [1]
    torch.testing.assert_close(torch.cat([*out, last], dim=-1), encoder(x)[0])


def test_a_clip_may_end_before_its_start_was_given() -> None:
    encoder = encoder_of("encodec_24k")
    held, x = StreamWarmup(encoder, 1, HOP), noise(4, 1, 3 * HOP)
    _, counts, state = held.warm_up(x[..., : 2 * HOP], held.initial_state(4))
    assert counts.tolist() == [0, 0, 0, 0]
    state = {**state, "seen": torch.tensor([2, 2, 0, 0])}  # two items stand at their start
    y, counts = held.flush(x[..., 2 * HOP : 2 * HOP + 99], torch.tensor([99, 0, 99, 0]), state)
    assert counts.tolist() == [3, 2, 1, 0]
    torch.testing.assert_close(y[:1], encoder(x[:1, :, : 2 * HOP + 99])[0])
    torch.testing.assert_close(y[1:2, :, :2], encoder(x[1:2, :, : 2 * HOP])[0])
    torch.testing.assert_close(y[2:3, :, :1], encoder(x[2:3, :, 2 * HOP : 2 * HOP + 99])[0])
