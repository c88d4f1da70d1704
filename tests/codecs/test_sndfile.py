"""Opus, Vorbis and MP3: aligned to the sample, at their own length, at the bitrate they say, the same every time."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import soundfile as sf
import torch

from codeczoo import Audio, BaseCodec, Codes, list_codecs, load_codec
from codeczoo.base import audio_io
from codeczoo.codecs.formats import ogg
from codeczoo.data import embedded_clips
from tests.support.sound import chirp, lag, si_sdr, speech

NAMES = [name for name in list_codecs() if name.startswith(("opus_", "vorbis_", "mp3_"))]
ONE_OF_EACH = ["opus_6k", "opus_24k", "vorbis_64k", "mp3_32k", "mp3_64k"]
# Where Opus changes between its speech and its music coder within a clip, they stand up to 2.3 samples apart.
HYBRID = ("opus_24k", "opus_32k", "opus_48k")

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {}  # nothing in it could be smaller
DEVICE_VARIANTS = ("opus_12k",)  # one library writes all files, whatever the bitrate


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> BaseCodec:
    return load_codec(request.param, device="cpu")


def stereo(clip: torch.Tensor) -> torch.Tensor:
    """[2, T]: a source left of the middle. (One that reached an ear later would be brought nearer by joint stereo.)"""
    return torch.cat([clip, 0.5 * clip])


def test_output_aligns_with_input_to_the_sample(codec: BaseCodec) -> None:
    rate = codec.sample_rate
    lengths = [577, 1105, 5000, rate + 17]
    for channels in codec.channels:
        clips = [chirp(n, rate, seed=n) for n in lengths]
        heard = codec.decode(codec.encode([stereo(c) if channels == 2 else c for c in clips], rate))
        assert heard.channels == channels and heard.lengths.tolist() == lengths
        for clip, back in zip(clips, heard.split(), strict=True):
            slack = 0 if codec.name not in HYBRID else 1 if clip.shape[-1] >= 5000 else 2
            for side, heard_side in zip(clip.expand(channels, -1), back, strict=True):
                assert abs(lag(side, heard_side)) <= slack, f"{clip.shape[-1]} samples, {channels} channels"


def test_speech_aligns_too(codec: BaseCodec) -> None:
    clip = speech(codec.sample_rate, 2.5)
    heard = codec.decode(codec.encode(clip, codec.sample_rate)).waveform[0]
    assert abs(lag(clip[0], heard[0])) <= (1 if codec.name in HYBRID else 0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_clips_of_any_length_come_back_at_it(name: str) -> None:
    """From one sample upward, and around the ends of frames and pages."""
    codec = load_codec(name, device="cpu")
    lengths = [1, 2, 50, 119, 311, 312, 313, 575, 576, 959, 960, 961, 1151, 1152, 1153, 47687, 47688, 47689]
    clips = [chirp(n, codec.sample_rate) for n in lengths]
    codes = codec.encode(clips, codec.sample_rate)
    heard = codec.decode(codes)
    assert heard.lengths.tolist() == lengths
    assert bool(torch.isfinite(heard.waveform).all())
    for clip, one in zip(clips, codes, strict=True):
        bare = codec.decode(one.codes).waveform.shape[-1]  # nobody says how long it was
        padding = 2304 if name.startswith("mp3") else 2 if name in HYBRID else 0
        assert clip.shape[-1] <= bare <= clip.shape[-1] + padding


def test_measured_bitrate_is_the_nominal_one(codec: BaseCodec) -> None:
    """On ten seconds of speech, file header and all. A Vorbis quality is only about a bitrate."""
    measured = float(codec.encode(speech(codec.sample_rate, 10.0), codec.sample_rate).bitrate)
    assert measured == pytest.approx(codec.nominal_bitrate, rel=0.2 if codec.name.startswith("vorbis") else 0.12)


def test_bitrate_is_that_of_the_file_and_can_be_asked_for() -> None:
    codec = load_codec("opus_24k", device="cpu")
    codes = codec.encode(speech(48000, 1.5), 48000, bitrate=24000)
    assert codes.num_bits.tolist() == [8 * int(codes.lengths[0])]
    assert float(codes.bitrate) == 8 * int(codes.lengths[0]) / 1.5
    assert (codes.frame_rate, codes.codebook_sizes, codes.num_codebooks) == (None, (256,), 1)
    assert codec.info.bitrates == (24000.0,)


@pytest.mark.parametrize("ladder", ["opus", "vorbis", "mp3"])
def test_more_bits_sound_better(ladder: str) -> None:
    clip = Audio.of(speech(24000, 5.0), 24000)
    rungs = {"opus": (6, 12, 64, 128), "vorbis": (48, 64, 96, 128), "mp3": (32, 48, 64, 96, 128, 192)}[ladder]
    quality = [
        si_sdr(clip.waveform[0, 0], load_codec(f"{ladder}_{rung}k", device="cpu").reconstruct(clip).waveform[0, 0])
        for rung in rungs
    ]
    assert quality == sorted(quality) and quality[-1] > quality[0] + 5


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_clip_has_one_encoding(name: str) -> None:
    """Every time, in every batch, whatever stands beside it: also where mono, stereo and more come together."""
    codec = load_codec(name, device="cpu")
    clips = [(clip[:, : rate // 2], rate) for clip, rate in map(audio_io.read, embedded_clips()[3:9])]
    clips.append((chirp(30000, 48000).repeat(6, 1), 48000))
    assert {len(clip) for clip, _ in clips} == {1, 2, 6}
    batch = codec.encode([{"array": clip.numpy(), "sampling_rate": rate} for clip, rate in clips])
    heard = codec.decode(batch)
    for i, (clip, rate) in enumerate(clips):
        alone = codec.encode(clip, rate)
        assert torch.equal(batch[i].codes, alone.codes)
        one = codec.decode(alone).waveform[0]
        assert torch.equal(heard.split()[i], one.expand(heard.channels, -1))


@pytest.mark.parametrize("name", ["opus_24k", "opus_6k", "vorbis_64k", "mp3_64k"])
def test_the_codes_are_a_file_that_any_player_reads(name: str) -> None:
    codec = load_codec(name, device="cpu")
    codes = codec.encode(stereo(speech(codec.sample_rate, 1.3)), codec.sample_rate)
    file = codes.codes[0, 0].to(torch.uint8).numpy().tobytes()
    samples, rate = sf.read(io.BytesIO(file), dtype="float32", always_2d=True)
    heard = codec.decode(codes).waveform[0]
    assert rate == codec.sample_rate
    assert torch.equal(torch.from_numpy(samples.T)[:, : heard.shape[-1]], heard)


def test_more_than_two_channels_are_mixed_to_one() -> None:
    codec = load_codec("vorbis_64k", device="cpu")
    clip = torch.cat([chirp(20000, 44100, seed=i) for i in range(6)])
    assert torch.equal(codec.encode(clip, 44100).codes, codec.encode(clip.mean(0), 44100).codes)
    back = codec.reconstruct(clip, 44100)
    assert back.channels == 6 and back.lengths.tolist() == [20000]


def test_what_is_too_little_for_two_channels_is_mono() -> None:
    codec = load_codec("opus_6k", device="cpu")
    assert codec.channels == (1,)
    clip = stereo(speech(8000, 3.0))
    codes = codec.encode(clip, 8000)
    assert float(codes.bitrate) < 8000
    assert codec.decode(codes).channels == 1
    assert codec.reconstruct(clip, 8000).channels == 2


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_silence_is_coded_and_stays_silent(name: str) -> None:
    codec = load_codec(name, device="cpu")
    heard = codec.reconstruct(torch.zeros(2, 12345), 24000)
    assert heard.lengths.tolist() == [12345] and float(heard.waveform.abs().max()) < 1e-3


# -- damage ---------------------------------------------------------------------------------------


def damaged(codes: Codes, item: int, position: int) -> Codes:
    values = codes.codes.clone()
    values[item, 0, position] ^= 0x55
    return replace(codes, codes=values)


@pytest.mark.parametrize("name", ["opus_24k", "opus_12k", "vorbis_64k"])
@pytest.mark.parametrize("position", [0, 30, 40, 200, -3])
def test_damaged_codes_are_an_error_that_names_the_item(name: str, position: int) -> None:
    codec = load_codec(name, device="cpu")
    codes = codec.encode([speech(16000, 1.0)] * 3, 16000)
    with pytest.raises(ValueError, match=rf"{name}: item 1: these codes are not a whole (OPUS|VORBIS) file"):
        codec.decode(damaged(codes, 1, position))


@pytest.mark.parametrize("name", ["opus_24k", "vorbis_64k", "mp3_32k"])
def test_codes_cut_short_are_an_error(name: str) -> None:
    codec = load_codec(name, device="cpu")
    codes = codec.encode(speech(16000, 3.0), 16000)
    half = codes.codes.shape[-1] // 2
    cut = replace(codes, codes=codes.codes[..., :half], lengths=torch.tensor([half]))
    with pytest.raises(ValueError, match=f"{name}: item 0: these codes are not a whole .* file"):
        codec.decode(cut)


def test_bytes_of_another_format_are_an_error() -> None:
    vorbis = load_codec("vorbis_64k", device="cpu").encode(speech(16000, 1.0), 16000)
    opus = load_codec("opus_24k", device="cpu")
    with pytest.raises(ValueError, match=r"not a whole OPUS file of 48000 Hz, but .*VORBIS.*44100"):
        opus.decode(vorbis.codes)
    with pytest.raises(ValueError, match="made by vorbis_64k; opus_24k cannot decode them"):
        opus.decode(vorbis)


# -- the Ogg file ---------------------------------------------------------------------------------


def test_the_checksum_of_a_page_is_oggs() -> None:
    buffer = io.BytesIO()
    sf.write(buffer, speech(16000, 2.0)[0].numpy(), 16000, format="OGG", subtype="OPUS")
    file, position = buffer.getvalue(), 0
    while position < len(file):
        end = position + 27 + file[position + 26]
        end += sum(file[position + 27 : end])
        page = file[position:end]
        stored = int.from_bytes(page[22:26], "little")
        assert ogg.checksum(page[:22] + bytes(4) + page[26:]) == stored
        position = end


@pytest.mark.parametrize(("subtype", "rate"), [("OPUS", 48000), ("VORBIS", 44100)])
def test_a_file_made_minimal_sounds_the_same(subtype: str, rate: int) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, stereo(speech(rate, 9.0)).numpy().T, rate, format="OGG", subtype=subtype)
    file = buffer.getvalue()
    small = ogg.write_pages(ogg.minimal(file))
    assert len(small) < len(file) and b"ENCODER" not in small
    assert len(list(ogg.read_pages(small))) < len(list(ogg.read_pages(file)))
    before, after = (sf.read(io.BytesIO(data), dtype="float32")[0] for data in (file, small))
    assert before.shape == after.shape and (before == after).all()
    assert ogg.write_pages(ogg.minimal(small)) == small
