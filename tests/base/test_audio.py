"""`Audio`: made, indexed, changed, shown, saved and read again."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from codeczoo import Audio
from codeczoo.base import audio_io
from codeczoo.base.audio import MAX_PLAYERS, clean, stack
from codeczoo.base.device import available_devices
from tests.support.sound import chirp, lag, si_sdr

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000]


def batch(lengths: tuple[int, ...] = (300, 500, 100), channels: int = 1, rate: int = 16000) -> Audio:
    return stack([chirp(n, rate, seed=n).repeat(channels, 1) * (1 + i) / 4 for i, n in enumerate(lengths)], rate)


# -- a batch --------------------------------------------------------------------------------------


def test_a_batch_knows_itself() -> None:
    audio = batch(channels=2)
    assert (len(audio), audio.channels, audio.sample_rate, audio.device.type) == (3, 2, 16000, "cpu")
    assert audio.waveform.shape == (3, 2, 500)
    assert audio.lengths.dtype == torch.int64
    assert audio.seconds.tolist() == [300 / 16000, 500 / 16000, 100 / 16000]
    assert not audio.waveform[0, :, 300:].any() and not audio.waveform[2, :, 100:].any()
    with pytest.raises(dataclasses.FrozenInstanceError):
        audio.sample_rate = 8000


@pytest.mark.parametrize(
    ("index", "items"),
    [
        (1, [1]),
        (-1, [2]),
        (np.int64(2), [2]),
        (torch.tensor(0), [0]),
        (slice(1, None), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([2, 0, 0], [2, 0, 0]),
        ((2, 0), [2, 0]),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
    ],
)
def test_items_are_cut_to_the_longest_that_remains(index: object, items: list[int]) -> None:
    audio = batch()
    part = audio[index]
    assert isinstance(part, Audio) and part.sample_rate == audio.sample_rate
    assert part.lengths.tolist() == [audio.lengths.tolist()[i] for i in items]
    assert part.waveform.shape == (len(items), 1, max(part.lengths.tolist()))
    for got, i in zip(part.split(), items, strict=True):
        assert torch.equal(got, audio.split()[i])


def test_iteration_and_split_give_every_clip_at_its_length() -> None:
    audio = batch()
    assert [clip.shape for clip in audio.split()] == [(1, 300), (1, 500), (1, 100)]
    assert [item.waveform.shape for item in audio] == [(1, 1, 300), (1, 1, 500), (1, 1, 100)]
    assert torch.equal(stack([item.waveform[0] for item in audio], 16000).waveform, audio.waveform)
    assert len(audio[0:0]) == 0


def test_numpy_is_one_clip() -> None:
    assert batch().numpy(2).shape == (100,)
    assert batch(channels=2).numpy(0).shape == (2, 300)
    assert batch().to(torch.float64).numpy().dtype == np.float32


@pytest.mark.parametrize(
    ("audio", "shown"),
    [
        (batch((16000,)), "Audio(1 x 1.00 s, mono, 16000 Hz, torch.float32, cpu)"),
        (batch((8000, 16000), 2), "Audio(2 x 0.50 to 1.00 s, stereo, 16000 Hz, torch.float32, cpu)"),
        (batch((8000, 8000), 6), "Audio(2 x 0.50 to 0.50 s, 6 channels, 16000 Hz, torch.float32, cpu)"),
        (batch()[0:0], "Audio(0 x 0.00 to 0.00 s, mono, 16000 Hz, torch.float32, cpu)"),
    ],
)
def test_it_prints_what_it_is(audio: Audio, shown: str) -> None:
    assert repr(audio) == shown


def test_what_stands_behind_an_end_is_cleaned_away() -> None:
    audio = clean(torch.ones(2, 1, 10), torch.tensor([4, 8]), 8000)
    assert audio.waveform.sum((1, 2)).tolist() == [4, 8] and audio.waveform.shape[-1] == 8
    assert audio.trim(5).lengths.tolist() == [4, 5]
    assert audio.trim(torch.tensor([1, 100])).lengths.tolist() == [1, 8]


# -- in a notebook --------------------------------------------------------------------------------


def test_a_notebook_plays_every_clip() -> None:
    audio = batch((300, 500), channels=2, rate=44100)
    page = audio._repr_html_()
    players = re.findall(r'<audio controls[^>]* src="data:audio/flac;base64,([^"]+)"', page)
    assert len(players) == 2
    for data, clip in zip(players, audio.split(), strict=True):
        samples, rate = sf.read(io.BytesIO(base64.b64decode(data)), dtype="float32", always_2d=True)
        assert rate == 44100
        assert np.abs(samples.T - clip.numpy()).max() <= 1 / 32768


def test_a_notebook_shows_the_first_of_many_and_says_so() -> None:
    page = batch(tuple(range(100, 100 + MAX_PLAYERS + 3)))._repr_html_()
    assert page.count("<audio") == MAX_PLAYERS and "and 3 more" in page


def test_a_notebook_shows_what_cannot_be_played() -> None:
    silent = Audio(torch.zeros(2, 1, 10), torch.tensor([10, 0]), 8000)
    assert silent._repr_html_().count("<audio") == 1 and "samples" in silent._repr_html_()
    assert "NaN" in Audio(torch.full((1, 1, 10), torch.nan), torch.tensor([10]), 8000)._repr_html_()


# -- changing -------------------------------------------------------------------------------------


def test_another_rate_keeps_the_sound_in_its_place() -> None:
    audio = batch((8001, 4000))
    other = audio.resample(44100)
    assert other.sample_rate == 44100
    assert other.lengths.tolist() == [-(-8001 * 44100 // 16000), 11025]
    back = other.resample(16000)
    for clip, again in zip(audio.split(), back.split(), strict=True):
        assert lag(clip[0], again[0, : clip.shape[-1]]) == 0
        assert si_sdr(clip[0], again[0, : clip.shape[-1]]) > 25
    alone = audio[1].resample(44100).waveform[0]
    assert torch.equal(other.split()[1], alone), "what stands beside a clip does not change it"
    assert audio.resample(16000) is audio


def test_channels_are_mixed_by_the_mean_and_made_by_repetition() -> None:
    two = Audio.of(torch.stack([torch.ones(8), torch.zeros(8)]), 8000)
    assert two.mix(1).waveform.tolist() == [[[0.5] * 8]]
    assert two.mix(1).mix(6).waveform.shape == (1, 6, 8)
    assert two.mix(2) is two
    with pytest.raises(ValueError, match=r"from 2 to 3 channels.*mix\(1\)"):
        two.mix(3)


def test_types_and_devices_move_together() -> None:
    audio = batch().to(torch.float64)
    assert audio.waveform.dtype == torch.float64 and audio.lengths.dtype == torch.int64
    for name in available_devices():
        there = audio.to(name)
        assert str(there.device) == str(there.lengths.device) and str(there.device).startswith(name)
        assert torch.equal(there.cpu().waveform, audio.waveform)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(suffix, n) for suffix in audio_io.FORMATS for n in (1, 2, 6) if n <= 2 or suffix != ".mp3"],
)
def test_every_format_keeps_rate_length_and_channels_in_their_order(suffix: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    for rate in RATES:
        if (suffix == ".opus" and rate not in audio_io.OPUS_RATES) or (suffix == ".mp3" and rate > 48000):
            continue
        n = rate // 4 + 1
        # A tone of its own for each channel; low, because one channel of six may be for a subwoofer.
        tones = [0.2 * torch.sin(2 * torch.pi * (40 + 16 * c) / rate * torch.arange(n)) for c in range(channels)]
        clip = torch.stack(tones) if channels > 1 else chirp(n, rate)
        Audio.of(clip, rate).save(path)
        again = Audio.load(path)
        assert (again.sample_rate, again.lengths.tolist(), again.channels) == (rate, [n], channels)
        heard = again.waveform[0]
        if suffix in (".wav", ".flac"):
            assert float((heard - clip).abs().max()) <= 1 / 32768
        elif channels > 1:
            assert torch.equal(torch.fft.rfft(heard).abs().argmax(1), torch.fft.rfft(clip).abs().argmax(1))
        else:
            # Opus's speech coder is up to 3.5 samples of 48 kHz off (see codecs/sndfile.py).
            assert abs(lag(clip[0], heard[0])) <= (4 if suffix == ".opus" else 0)


def test_more_bits_and_bitrates_can_be_asked_for(tmp_path: Path) -> None:
    audio = batch((4000,))
    audio.save(tmp_path / "a.wav", subtype="FLOAT")
    assert torch.equal(Audio.load(tmp_path / "a.wav").waveform, audio.waveform)
    audio.save(tmp_path / "small.opus", compression_level=1.0)
    audio.save(tmp_path / "large.opus", compression_level=0.0)
    assert (tmp_path / "small.opus").stat().st_size < (tmp_path / "large.opus").stat().st_size


def test_a_batch_is_saved_to_as_many_files(tmp_path: Path) -> None:
    audio = batch()
    paths = [tmp_path / f"{i}.flac" for i in range(3)]
    audio.save(paths)
    again = Audio.load(paths)
    assert again.lengths.tolist() == audio.lengths.tolist()
    assert float((again.waveform - audio.waveform).abs().max()) <= 1 / 32768
    with pytest.raises(ValueError, match="3 clips needs 3 paths; 1 were given"):
        audio.save(tmp_path / "all.wav")


def test_an_open_file_is_written_and_read(tmp_path: Path) -> None:
    audio, buffer = batch((500,)), io.BytesIO()
    audio.save(buffer, format="FLAC")
    assert float((Audio.load(buffer).waveform - audio.waveform).abs().max()) <= 1 / 32768
    with (tmp_path / "named.mp3").open("wb") as file:
        audio.save(file)
    assert sf.info(tmp_path / "named.mp3").format == "MP3"
    other = io.BytesIO()
    audio[[0, 0]].save([tmp_path / "one.wav", other], format="WAV")
    assert len(Audio.load([tmp_path / "one.wav", other])) == 2


def test_load_resamples_and_mixes_on_the_way(tmp_path: Path) -> None:
    batch((1000,), rate=8000).save(tmp_path / "low.wav")
    batch((1000,), channels=2, rate=48000).save(tmp_path / "high.flac")
    both = [tmp_path / "low.wav", str(tmp_path / "high.flac")]
    audio = Audio.load(both, sample_rate=24000, channels=1)
    assert (audio.sample_rate, audio.channels, audio.lengths.tolist()) == (24000, 1, [3000, 500])
    with pytest.raises(ValueError, match=r"sample rate \(\[8000, 48000\]\).*sample_rate="):
        Audio.load(both, channels=1)
    with pytest.raises(ValueError, match=r"channel count \(\[1, 2\]\).*channels="):
        Audio.load(both, sample_rate=24000)


def test_samples_over_full_scale_are_clipped_in_integer_files(tmp_path: Path) -> None:
    Audio.of(torch.tensor([2.0, -2.0, 0.0]), 8000).save(tmp_path / "loud.wav")
    assert Audio.load(tmp_path / "loud.wav").waveform.flatten().tolist() == [32767 / 32768, -1, 0]
    Audio.of(torch.tensor([2.0, -2.0, 0.0]), 8000).save(tmp_path / "float.wav", subtype="FLOAT")
    assert Audio.load(tmp_path / "float.wav").waveform.flatten().tolist() == [2.0, -2.0, 0.0]


def test_like_another_in_rate_length_and_channels() -> None:
    other = Audio.of([torch.rand(2, 700), torch.rand(2, 300)], 44100)
    made = Audio.of([torch.rand(1, 200), torch.rand(1, 250)], 22050).matched_to(other)
    assert (made.sample_rate, made.channels, made.lengths.tolist()) == (44100, 2, [700, 300])
    assert torch.equal(made.waveform[:, 0], made.waveform[:, 1])
    assert bool((made.waveform[0, :, 400:] == 0).all()) and bool((made.waveform[0, 0, :400] != 0).any())


def test_a_wav_written_into_a_pipe_is_whole(tmp_path: Path) -> None:
    """Its writer could not know the length and announced the most that there can be."""
    path = tmp_path / "pipe.wav"
    batch((500,)).save(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert Audio.load(path).lengths.tolist() == [500]
