"""How a batch goes through a network: less time, the same codes, no more memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeczoo import BaseCodec, load_codec, register_codec
from codeczoo.base import Encoded
from codeczoo.base.strategy import Strategy, by_rule, fitted, fixed_strategy
from tests.support.known_codecs import KNOWN, Known
from tests.support.registering import registered_for_a_while
from tests.support.small import codec_of

# with and without LSTM, GroupNorm, attention; multi-scale, in segments, filled up
FAMILIES = (
    *("encodec_24k", "mimi", "wavtokenizer_large_40", "sqcodec_16k_3kbps", "funcodec_en_libritts_16k_nq32ds640"),
    *("s3tokenizer_v2_25hz", "focalcodec_50hz"),
)
MORE = (
    *("encodec_48k", "dac_16k", "snac_24khz", "speechtokenizer_16k", "bigcodec_1k", "nanocodec_1k78bps_12hz"),
    "xcodec2_16k",
)
IN_ONE = Strategy(1e6)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def clips_of(codec: BaseCodec, seconds: list[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = [(codec.channels[-1], int(s * codec.sample_rate)) for s in seconds]
    return [0.1 * torch.randn(one, generator=generator, dtype=torch.float64) for one in shape]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_codes_are_the_same_side_by_side_as_in_one_group_and_alone(name: str) -> None:
    codec = codec_of(name, "small", torch.float64)
    clips = clips_of(codec, [0.3, 0.21, 0.33, 0.3, 0.12, 0.25, 0.31])
    with fixed_strategy(IN_ONE):
        assert len(codec._groups(torch.tensor([clip.shape[-1] for clip in clips]), 1)) == 1
        together = codec.encode(clips, codec.sample_rate)
        audio = codec.decode(together) if codec.supports_decode else None
        alone = codec.encode(clips[5], codec.sample_rate)
    with fixed_strategy(Strategy(1e6, 2, 1)):
        assert len(codec._groups(torch.tensor([clip.shape[-1] for clip in clips]), 1)) == 2
        beside = codec.encode(clips, codec.sample_rate)
        sound = codec.decode(together) if codec.supports_decode else None
    assert torch.equal(beside.codes, together.codes) and torch.equal(beside.lengths, together.lengths)
    assert torch.equal(beside[5].codes, alone.codes)
    if audio is not None and sound is not None:
        assert torch.equal(sound.lengths, audio.lengths)
        assert float((sound.waveform - audio.waveform).abs().max()) <= 1e-9 * float(audio.waveform.abs().max())


@pytest.mark.usefixtures("two_threads")
def test_the_rule_itself_with_trained_weights_in_float32() -> None:
    codec = load_codec("zoo_16k", device="cpu")
    clips = [clip.float() for clip in clips_of(codec, [0.5, 0.31, 0.7, 0.4])]
    assert codec.strategy(4, 0.7).beside == 2 and codec.strategy(4, 0.7, "decode").beside == 2
    beside = codec.encode(clips, 16000)
    for clip, codes in zip(clips, beside, strict=True):
        assert torch.equal(codec.encode(clip, 16000).codes, codes.codes)
    assert torch.equal(codec.quantize(codec.latents(clips, 16000)).codes, beside.codes)
    assert torch.equal(codec.synthesize(codec.vectors(beside)).waveform, codec.decode(beside).waveform)
    assert torch.get_num_threads() == 2


class Counting(Known):
    """It knows how many seconds are inside of it at once, and how many groups."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weight = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.inside: list[float] = []
        self.most, self.widest = 0.0, 0
        self.lock = threading.Lock()
        self.meet: threading.Barrier | None = None

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        seconds = waveform.shape[0] * waveform.shape[-1] / self.sample_rate
        with self.lock:
            self.inside.append(seconds)
            self.most, self.widest = max(self.most, sum(self.inside)), max(self.widest, len(self.inside))
        if self.meet is not None:
            self.meet.wait()
        try:
            return super()._encode(waveform, lengths, num_codebooks)
        finally:
            with self.lock:
                self.inside.remove(seconds)


@pytest.fixture
def counting() -> Iterator[Counting]:
    with registered_for_a_while():
        register_codec(KNOWN.replace("Known", "Counting"), Counting)
        codec = load_codec("known", "random", device="cpu")
        assert isinstance(codec, Counting)
        yield codec


@pytest.mark.usefixtures("two_threads")
def test_all_groups_together_stay_within_the_bound(counting: Counting) -> None:
    clips = [torch.zeros(1, 16000) for _ in range(16)]
    counting.meet = threading.Barrier(2, timeout=60)  # two are inside at once, or this is broken
    counting.max_chunk_seconds = 4.0
    counting.encode(clips, 16000)
    assert (counting.most, counting.widest) == (4.0, 2)
    counting.meet, counting.most, counting.widest = None, 0.0, 0
    counting.max_chunk_seconds = 1.5  # no room for two clips: one after the other
    counting.encode(clips, 16000)
    assert (counting.most, counting.widest) == (1.0, 1)


@pytest.mark.usefixtures("two_threads")
def test_a_clip_that_fails_fails_as_ever(counting: Counting) -> None:
    def fail(*args: object) -> Encoded:
        raise RuntimeError("of this clip")

    counting._encode = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="of this clip"):
        counting.encode([torch.zeros(1, 16000) for _ in range(8)], 16000)


@pytest.mark.usefixtures("two_threads")
def test_gradients_and_modes_run_as_without() -> None:
    codec = codec_of("encodec_24k", "small", torch.float64)
    clips = clips_of(codec, [0.25] * 8)
    codes = codec.encode(clips, codec.sample_rate)
    with codec.gradients():
        vectors = codec.vectors(codes)
        values = vectors.values.clone().requires_grad_()
        codec.synthesize(vectors.with_values(values)).waveform.square().sum().backward()
        assert codec._plan(codes.num_samples, 1, False)[1].threads is None
    assert values.grad is not None and bool(values.grad.abs().sum(1).gt(0).any(-1).all())
    with torch.device("cpu"):
        assert codec.strategy(8).threads is None
        assert torch.equal(codec.encode(clips, codec.sample_rate).codes, codes.codes)


def test_the_rule() -> None:
    assert by_rule(32, 1.0, 30.0, 1, False) == Strategy(30.0)  # one thread
    assert by_rule(3, 1.0, 30.0, 4, False) == Strategy(30.0)  # too few clips
    assert by_rule(8, 20.0, 30.0, 2, False) == Strategy(30.0)  # too long for two at once
    assert by_rule(6, 1.0, 30.0, 2, False).beside == 2
    assert by_rule(31, 0.5, 30.0, 2, True).beside == 1  # a recurrent network wants 16 clips in each group
    assert by_rule(32, 0.5, 30.0, 2, True).beside == 2
    assert by_rule(8, 0.05, 30.0, 2, False).beside == 1  # not a second of audio in each group


def test_groups_are_of_one_size_so_that_none_is_idle() -> None:
    rule = by_rule(16, 1.0, 30.0, 2, False)
    assert fitted(rule, 16, 1.0, 30.0, 2).seconds == 8.0
    assert fitted(rule, 15, 1.0, 30.0, 2).seconds == 8.0
    assert fitted(rule, 40, 1.0, 30.0, 2).seconds == 10.0  # four groups
    assert fitted(Strategy(8.0, 2, 1), 11, 1.0, 30.0, 2).seconds == 6.0
    assert fitted(Strategy(8.0, 4, 2), 32, 1.0, 30.0, 4) == Strategy(8.0, 2, 2)  # no more threads than there are
    assert fitted(Strategy(8.0, 2, 1), 8, 20.0, 30.0, 2) == Strategy(30.0)


def test_a_strategy_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="need threads="):
        Strategy(8.0, beside=2)
    with pytest.raises(ValueError, match="greater than zero"):
        Strategy(0.0)
    codec = load_codec("zoo_16k", device="cpu")
    with pytest.raises(ValueError, match="'encode' or 'decode'; it is 'both'"):
        codec.strategy(operation="both")
