"""`Separator.separate`: batches, lengths, segments, shifts, memory, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import codeczoo
from codeczoo import Audio, Separator, list_separators, load_separator
from codeczoo.separation import find_separator
from codeczoo.weights.load import load_model, load_weights
from tests.support.golden import assert_audio_agrees
from tests.support.separation import RATE, SEGMENT, SMALL, long_mix, small_separator, small_variant


@pytest.fixture(params=["small_htdemucs", "small_hdemucs"])
def separator(request: pytest.FixtureRequest) -> Separator:
    return small_separator(request.param)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_names_are_listed_and_found() -> None:
    assert list_separators() == ["hdemucs_mmi", "htdemucs", "htdemucs_6s", "htdemucs_ft"]
    assert list_separators("HT*s") == ["htdemucs", "htdemucs_6s"]
    assert find_separator("adefossez/htdemucs-FT").name == "htdemucs_ft"
    assert codeczoo.load_separator is load_separator
    with pytest.raises(KeyError, match="did you mean 'htdemucs'"):
        find_separator("htdemuc")
    with pytest.raises(KeyError, match="no separator is called 'mimi'"):
        load_separator("mimi")


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("htdemucs", 41984456, 533), ("htdemucs_6s", 27414996, 525), ("hdemucs_mmi", 83637832, 395),
     ("htdemucs_ft", 4 * 41984456, 4 * 533)],
)  # fmt: skip
def test_networks_have_the_published_numbers_of_parameters(name: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        state = find_separator(name).build().state_dict()
    assert (sum(one.numel() for one in state.values()), len(state)) == (parameters, tensors)


def test_a_ragged_batch_gives_each_clip_as_if_it_were_alone(separator: Separator) -> None:
    """Shorter than a segment, one segment, several; the shortest of one sample."""
    clips = [noise(2, n, seed=n) for n in (1, 700, SEGMENT, SEGMENT + 1, 19000)]
    together = separator.separate(clips, RATE)
    for i, clip in enumerate(clips):
        alone = separator.separate(clip, RATE)
        for stem, audio in together.items():
            assert audio.lengths.tolist() == [one.shape[-1] for one in clips]
            assert_audio_agrees(audio[i].waveform, alone[stem].waveform, 1e-5)
            assert not audio.waveform[i, :, clip.shape[-1] :].any()


def test_passes_of_several_segments_change_nothing() -> None:
    variant = small_variant("small_htdemucs")
    mix = noise(2, 30000)
    one, several = (load_model(variant, "random", device="cpu") for _ in range(2))
    several.max_batch_seconds = 3 * SEGMENT / RATE
    for stem, audio in one.separate(mix, RATE).items():
        assert_audio_agrees(several.separate(mix, RATE)[stem].waveform, audio.waveform, 1e-5)


def test_mono_stands_in_both_channels_and_of_many_the_first_two_count(separator: Separator) -> None:
    mix = noise(4, 5000)
    mono = separator.separate(mix[0], RATE)["bass"]
    assert_audio_agrees(separator.separate(mix[:1].repeat(2, 1), RATE)["bass"].waveform, mono.waveform)
    many = separator.separate(mix, RATE)["bass"]
    assert_audio_agrees(separator.separate(mix[:2], RATE)["bass"].waveform, many.waveform)


def test_other_rates_are_resampled_and_files_read(separator: Separator, tmp_path: Path) -> None:
    audio = Audio.of(noise(2, 6000), 22050)
    audio.save(tmp_path / "a.wav", subtype="FLOAT")
    stems = separator.separate(tmp_path / "a.wav")
    assert stems["vocals"].sample_rate == RATE
    assert stems["vocals"].lengths.tolist() == [12000]
    assert_audio_agrees(stems["vocals"].waveform, separator.separate(audio.resample(RATE))["vocals"].waveform, 1e-5)


def test_stems_may_be_chosen(separator: Separator) -> None:
    mix = noise(2, 3000)
    every = separator.separate(mix, RATE)
    some = separator.separate(mix, RATE, stems=["vocals", "drums"])
    assert list(some) == ["vocals", "drums"]
    assert torch.equal(some["drums"].waveform, every["drums"].waveform)
    with pytest.raises(ValueError, match="has the stems drums, bass, other, vocals"):
        separator.separate(mix, RATE, stems=["violin"])


def test_each_stem_of_a_bag_is_of_its_own_network() -> None:
    bag = load_model(small_variant("small_htdemucs", models=4), "random", device="cpu")
    mix = noise(1, 2, SEGMENT)
    stems = bag.separate(mix, RATE)
    for i, (stem, audio) in enumerate(stems.items()):
        one = load_model(small_variant("small_htdemucs"), "random", device="cpu")
        one.models[0].load_state_dict(bag.models[i].state_dict())
        assert torch.equal(audio.waveform, one.separate(mix, RATE)[stem].waveform)


def test_a_network_that_gives_back_the_mix_gives_it_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-fades add up to one, for every length, overlap and delay."""
    for case in SMALL:
        separator = load_model(small_variant(case), "random", device="cpu")
        count = len(separator.sources)
        monkeypatch.setattr(separator, "_run", lambda mix, places: ((name, mix) for name in places))
        for samples, overlap, shifts in [(1, 0.25, 0), (5000, 0.25, 3), (20001, 0.0, 0), (30000, 0.6, 2)]:
            mix = noise(1, 2, samples) + 0.2
            stems = separator.separate(mix, RATE, overlap=overlap, shifts=shifts)
            assert len(stems) == count
            for audio in stems.values():
                assert_audio_agrees(audio.waveform, mix, 1e-5)


def test_shifts_are_fixed_by_their_seed(separator: Separator) -> None:
    mix = noise(2, 3000)
    once, again, other = (separator.separate(mix, RATE, shifts=1, seed=seed)["other"].waveform for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_a_shift_is_zeros_before_the_clip(separator: Separator) -> None:
    mix = noise(2, 3000)
    (delay,) = separator._delays(1, 7)
    centred = torch.nn.functional.pad(mix, (delay, 0))
    # Mean and deviation are of the clip without the zeros, so the two differ by what they normalise with.
    mean, std = mix.mean(0).mean(), mix.mean(0).std() + 1e-8
    padded = torch.nn.functional.pad((mix - mean) / std, (delay, 0))
    separated = separator.separate(mix, RATE, shifts=1, seed=7)["drums"].waveform[0]
    original = separator_scale(separator, padded)
    assert centred.shape == padded.shape
    assert_audio_agrees(separated, original[..., delay:] * std + mean, 1e-4)


def separator_scale(separator: Separator, padded: torch.Tensor) -> torch.Tensor:
    """Drums of what is normalised already."""
    import codeczoo.separation.separator as module

    kept = module._scale
    module._scale = lambda clip: (clip.new_zeros(()), clip.new_ones(()))
    try:
        return separator.separate(padded, RATE)["drums"].waveform[0]
    finally:
        module._scale = kept


def test_silence_gives_finite_stems(separator: Separator) -> None:
    stems = separator.separate(torch.zeros(2, 5000), RATE)
    assert all(bool(audio.waveform.isfinite().all()) for audio in stems.values())


def test_progress_is_told(separator: Separator, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[float, float]] = []
    separator.separate(noise(2, 20000), RATE, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 4
    assert told[-1][0] == pytest.approx(told[-1][1])
    separator.separate(noise(2, 5000), RATE, progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [({"overlap": 1.0}, "overlap must be from 0 to below 1"), ({"shifts": -1}, "shifts must be a whole number"),
     ({"segment": 0.0}, "segment must be a length"), ({"stems": []}, "has the stems")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(separator: Separator, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        separator.separate(noise(2, 100), RATE, **options)


def test_a_segment_longer_than_the_trained_one_is_refused_by_a_transformer_alone() -> None:
    longer = 2 * SEGMENT / RATE
    small_separator("small_hdemucs").separate(noise(2, 100), RATE, segment=longer)
    with pytest.raises(ValueError, match=r"up to 0\.181406 s for htdemucs"):
        small_separator("small_htdemucs").separate(noise(2, 100), RATE, segment=longer)


def test_float64_agrees_and_half_precision_runs(separator: Separator) -> None:
    case = "small_hdemucs" if separator.name == "hdemucs_mmi" else "small_htdemucs"
    mix = long_mix(case)
    exact = small_separator(case, torch.float64).separate(mix.double(), RATE)
    for stem, audio in separator.separate(mix, RATE).items():
        assert_audio_agrees(audio.waveform, exact[stem].waveform, 1e-5)
    half = load_model(small_variant(case), "random", device="cpu", dtype=torch.bfloat16)
    assert all(bool(audio.waveform.isfinite().all()) for audio in half.separate(noise(2, 4000), RATE).values())


def test_a_saved_state_dict_loads(separator: Separator, tmp_path: Path) -> None:
    torch.save(separator.state_dict(), tmp_path / "own.pt")
    other = separator.variant.build()
    load_weights(other, tmp_path / "own.pt")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in separator.state_dict().items())
    assert other.weights_source == str(tmp_path / "own.pt")
    assert other.weights_hash


@pytest.mark.parametrize("device", [d for d in ("cuda", "mps") if getattr(torch, d).is_available()])
def test_devices_agree(device: str) -> None:
    for case in SMALL:
        mix, here = long_mix(case), small_separator(case)
        there = load_model(small_variant(case), "random", device=device)
        there.load_state_dict(here.state_dict())
        for stem, audio in here.separate(mix, RATE).items():
            assert_audio_agrees(there.separate(mix, RATE)[stem].waveform, audio.waveform, 1e-4)
