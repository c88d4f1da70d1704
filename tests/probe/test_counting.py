"""The sample of clips, the shares of equal codes, and the changes of audio."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from codeczoo import Audio, Codes
from codeczoo.probe.agreement import Agreement, equal_codes
from codeczoo.probe.changes import amplified, noisy, shifted
from codeczoo.probe.sample import ClipSample


def clips(count: int, frames: int) -> list[tuple[str, np.ndarray]]:
    return [(f"clip {i}", np.full((2, frames), i)) for i in range(count)]


def held(sample: ClipSample) -> list[int]:
    return sorted(int(codes[0]) for codes in sample.clips(0))


def test_a_sample_is_bounded_and_does_not_depend_on_the_order() -> None:
    found = []
    for seed in range(5):
        sample = ClipSample((1000, 1000), (1, 1), max_frames=1000)
        given = clips(200, 20)
        random.Random(seed).shuffle(given)
        for id, codes in given:
            sample.add(id, codes)
            assert sample.frames <= 1000
        found.append(held(sample))
    assert all(one == found[0] for one in found) and len(found[0]) == 50
    assert np.mean(found[0]) == pytest.approx(99.5, abs=25)  # of all parts of the data set
    assert not sample.complete
    whole = ClipSample((1000, 1000), (1, 1), max_frames=4000)
    for id, codes in clips(200, 20):
        whole.add(id, codes)
    assert whole.complete and held(whole) == list(range(200))


def test_one_long_clip_does_not_fill_a_sample() -> None:
    sample = ClipSample((8, 8), (1, 1), max_frames=800)
    sample.add("long", np.zeros((2, 100_000), np.int64))
    assert sample.frames == 100 and sample.cut == 1


def test_a_fifth_of_the_clips_is_held_out_and_none_is_in_both() -> None:
    sample = ClipSample((100, 100), (1, 1))
    for id, codes in clips(23, 4):
        sample.add(id, codes)
    train, test = (sorted(int(codes[0]) for codes in part) for part in sample.split(0))
    assert len(test) == 5 and sorted(train + test) == list(range(23))
    few = ClipSample((100, 100), (1, 1))
    for id, codes in clips(2, 4):
        few.add(id, codes)
    assert [len(part) for part in few.split(0)] == [1, 1]


def test_pairs_of_codebooks_of_different_rates() -> None:
    """The first codebook has a code for each second frame; each code of the second one stands beside it."""
    sample = ClipSample((8, 8), (2, 1))
    sample.add("a", np.array([[5, 6, 7, -1, -1], [0, 1, 2, 3, 4]]))
    for first, second, turned in ((0, 1, False), (1, 0, True)):
        slow, fast = sample.pair(first, second)[:: -1 if turned else 1]
        assert slow.tolist() == [5, 5, 6, 6, 7] and fast.tolist() == [0, 1, 2, 3, 4]


def codes_of(rows: list[list[list[int]]], lengths: list[int]) -> Codes:
    return Codes(torch.tensor(rows), torch.tensor(lengths), torch.tensor([-1] * len(rows)), 16000, "some", (9, 9), 50.0)


def test_equal_codes_are_counted_within_both_lengths() -> None:
    one = codes_of([[[1, 2, 3], [4, 5, 6]], [[1, 1, -1], [2, 2, -1]]], [3, 2])
    other = codes_of([[[1, 2, 0, 7], [4, 0, 0, 7]], [[1, 0, -1, -1], [2, 2, -1, -1]]], [4, 2])
    equal, total = equal_codes(one, other)
    assert equal.tolist() == [[2, 1], [1, 2]] and total.tolist() == [[3, 3], [2, 2]]
    equal, total = equal_codes(one, other, missing=True)
    assert equal.tolist() == [[2, 1], [1, 2]] and total.tolist() == [[4, 4], [2, 2]]


def test_the_interval_of_a_share_is_that_of_a_binomial_over_clips() -> None:
    """Clips of one code each, equal with probability 0.3: the interval is that of 400 draws."""
    generator = np.random.default_rng(0)
    agreement = Agreement(1)
    for i in range(400):
        agreement.add(f"{i}", np.array([int(generator.random() < 0.3)]), np.array([1]))
    found = agreement.overall()
    assert found.share is not None and found.low is not None and found.high is not None
    width = 2 * 1.96 * (found.share * (1 - found.share) / 400) ** 0.5
    assert found.high - found.low == pytest.approx(width, rel=0.2)
    assert found.low < found.share < found.high and found.codes == 400


def test_nothing_counted_and_one_clip() -> None:
    agreement = Agreement(2)
    assert agreement.overall().share is None
    agreement.add("a", np.array([1, 0]), np.array([4, 4]))
    found = agreement.to_dict()
    assert found["all"] == {"share": 0.125, "low": None, "high": None, "codes": 8}
    assert [book["share"] for book in found["codebooks"]] == [0.25, 0]


def test_noise_has_the_level_that_was_asked_for_and_follows_from_the_id() -> None:
    torch.manual_seed(0)
    audio = Audio.of([torch.randn(1, 4000) * 0.1, torch.randn(1, 2500), torch.zeros(1, 3000)], 16000)
    changed = noisy(audio, ["a", "b", "c"], 40.0)
    for before, after in list(zip(audio.split(), changed.split(), strict=True))[:2]:
        noise = after - before
        assert 10 * float((before.square().mean() / noise.square().mean()).log10()) == pytest.approx(40, abs=0.01)
    assert not changed.split()[2].any()
    assert not changed.waveform[1, :, 2500:].any()  # nothing behind a clip's own samples
    alone = noisy(audio[1], ["b"], 40.0)
    assert torch.equal(alone.split()[0], changed.split()[1])
    assert not torch.equal(noisy(audio[1], ["other"], 40.0).waveform, alone.waveform)


def test_a_shift_and_a_gain() -> None:
    audio = Audio.of([torch.arange(5.0)[None], torch.arange(3.0)[None]], 16000)
    moved = shifted(audio)
    assert [clip[0].tolist() for clip in moved.split()] == [[1, 2, 3, 4], [1, 2]]
    louder = amplified(audio, 20.0)
    assert louder.split()[1][0].tolist() == pytest.approx([0, 10, 20])
