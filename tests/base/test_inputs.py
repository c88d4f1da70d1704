"""Every form in which `encode` takes audio gives the codes of the same sound."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from codeczoo import Audio, BaseCodec, load_codec
from codeczoo.base.inputs import read_clips
from tests.support.sound import chirp

CLIP = (chirp(3000, 8000) * 32768).round() / 32768  # [1, T] that 16-bit files hold exactly


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return load_codec("g711_ulaw", device="cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("audio") / "clip.flac"
    Audio.of(CLIP, 8000).save(place)
    return place


@dataclass
class Entry:
    """A path that is neither a string nor a `Path`, as `os.DirEntry` is."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass
class Samples:
    """torchcodec's `AudioSamples`, [C, T]."""

    data: torch.Tensor
    sample_rate: int


class Decoder:
    """torchcodec's `AudioDecoder`, as far as it is asked."""

    def get_all_samples(self) -> Samples:
        return Samples(CLIP, 8000)


def at_its_end(path: Path) -> BinaryIO:
    file = io.BytesIO(path.read_bytes())
    file.seek(0, io.SEEK_END)
    return file


FORMS: dict[str, Callable[[Path], tuple]] = {
    "path": lambda path: (path,),
    "string": lambda path: (str(path),),
    "anything that is a path": lambda path: (Entry(path),),
    "an open file": lambda path: (io.BytesIO(path.read_bytes()),),
    "an open file, read to its end": lambda path: (at_its_end(path),),
    "numpy [T]": lambda path: (CLIP[0].numpy(), 8000),
    "numpy [C, T]": lambda path: (CLIP.numpy(), 8000),
    "numpy [B, C, T]": lambda path: (CLIP[None].numpy(), 8000),
    "float64": lambda path: (CLIP[0].double().numpy(), 8000),
    "big-endian": lambda path: (CLIP[0].numpy().astype(">f4"), 8000),
    "not contiguous": lambda path: (np.repeat(CLIP[0].numpy(), 2)[::2], 8000),
    "reversed twice": lambda path: (CLIP[0].numpy()[::-1].copy()[::-1], 8000),
    "torch [T]": lambda path: (CLIP[0], 8000),
    "torch [C, T]": lambda path: (CLIP, 8000),
    "torch [B, C, T]": lambda path: (CLIP[None], 8000),
    "with gradient": lambda path: (CLIP.clone().requires_grad_(), 8000),
    "stereo, the same on both sides": lambda path: (CLIP.repeat(2, 1), 8000),
    "Audio": lambda path: (Audio.of(CLIP, 8000),),
    "dict with array": lambda path: ({"array": CLIP[0].numpy(), "sampling_rate": 8000, "path": None},),
    "dict with path": lambda path: ({"path": str(path), "bytes": None},),
    "dict with bytes": lambda path: ({"path": "elsewhere.flac", "bytes": path.read_bytes()},),
    "dict with a bytearray": lambda path: ({"bytes": bytearray(path.read_bytes())},),
    "dict with a memoryview": lambda path: ({"bytes": memoryview(path.read_bytes())},),
    "torchcodec's decoder": lambda path: (Decoder(),),
    "list of one decoder": lambda path: ([Decoder()],),
    "list of one open file": lambda path: ([io.BytesIO(path.read_bytes())],),
    "a generator of paths": lambda path: (path.parent.glob(path.name),),
    "list of one array": lambda path: ([CLIP[0].numpy()], 8000),
    "tuple of one path": lambda path: ((path,),),
    "rate of a NumPy type": lambda path: (CLIP, np.int32(8000)),
    "rate as a whole float": lambda path: (CLIP, 8000.0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_one_clip_in_any_form(form: str, codec: BaseCodec, path: Path) -> None:
    expected = codec.encode(CLIP, 8000)
    codes = codec.encode(*FORMS[form](path))
    assert torch.equal(codes.codes, expected.codes)
    assert codes.num_samples.tolist() == [3000]


def test_a_read_only_array_is_taken_without_a_warning(codec: BaseCodec, recwarn: pytest.WarningsRecorder) -> None:
    array = CLIP[0].numpy().copy()
    array.flags.writeable = False
    assert torch.equal(codec.encode(array, 8000).codes, codec.encode(CLIP, 8000).codes)
    assert not recwarn.list


def test_a_list_may_mix_forms_rates_channels_and_lengths(codec: BaseCodec, path: Path) -> None:
    wide = chirp(5000, 16000).repeat(2, 1)
    clips = [
        path,
        CLIP[0, :100].numpy(),
        Audio.of(wide, 16000),
        {"array": wide[0].numpy(), "sampling_rate": 16000},
        {"bytes": path.read_bytes()},
    ]
    codes = codec.encode(clips, 8000)
    assert codes.num_samples.tolist() == [3000, 100, 2500, 2500, 3000]
    for i, clip in enumerate(clips):
        alone = codec.encode(clip, 8000 if isinstance(clip, np.ndarray) else None)
        assert torch.equal(codes[i].codes, alone.codes), f"clip {i}"
    assert torch.equal(codes[0].codes, codes[4].codes)


def test_a_batch_of_arrays_is_as_many_clips() -> None:
    clips = read_clips(torch.randn(3, 2, 50), 8000)
    assert [clip.waveform.shape for clip in clips] == [(2, 50)] * 3


def test_encoding_leaves_the_input_as_it_was(codec: BaseCodec) -> None:
    mine = CLIP.clone()
    codec.reconstruct(mine, 8000)
    codec.reconstruct(mine.numpy(), 8000)
    assert torch.equal(mine, CLIP)


def test_rates_meet_the_codecs(codec: BaseCodec) -> None:
    """The sound of another rate is the sound: coded at 8 kHz, and given back at its own."""
    wide = chirp(44100, 44100)
    codes = codec.encode(wide, 44100)
    assert codes.num_samples.tolist() == [8000] and codes.sample_rate == 8000
    back = codec.reconstruct(wide, 44100)
    assert (back.sample_rate, back.lengths.tolist()) == (44100, [44100])


def test_rates_of_numpys_types_are_numbers_too(codec: BaseCodec) -> None:
    expected = codec.encode(CLIP, 8000).codes
    assert torch.equal(codec.encode(CLIP, 8000, num_codebooks=np.int64(1)).codes, expected)
    assert torch.equal(codec.encode(CLIP, 8000, bitrate=np.int32(64000)).codes, expected)
    assert torch.equal(codec.encode(CLIP, 8000, bitrate=np.float32(64000)).codes, expected)


def test_half_precision_audio_is_taken(codec: BaseCodec) -> None:
    assert codec.encode(CLIP.half(), 8000).codes.shape == (1, 1, 3000)


def test_the_readmes_flow(codec: BaseCodec, path: Path, tmp_path: Path) -> None:
    Audio.of(chirp(7000, 22050).repeat(2, 1), 22050).save(tmp_path / "b.wav")
    codes = codec.encode([path, tmp_path / "b.wav"])
    audio = codec.decode(codes)
    assert (audio.sample_rate, audio.lengths.tolist()) == (8000, [3000, -(-7000 * 8000 // 22050)])
    audio.save([tmp_path / "a.opus", Entry(tmp_path / "b.mp3")])
    assert Audio.load(tmp_path / "a.opus").lengths.tolist() == [3000]
    assert Audio.load(tmp_path / "b.mp3").lengths.tolist() == [audio.lengths.tolist()[1]]
