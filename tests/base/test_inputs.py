"""Every form in which `encode` takes audio gives the codes of the same sound."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile as sf
import torch

from codeczoo import Audio, BaseCodec, load_codec, metrics
from codeczoo.base import warn_once
from codeczoo.base.inputs import read_clips
from codeczoo.base.resampling import resample
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


class Foreign:
    """An array of a library that is neither NumPy nor torch."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self._array


def saved(beside: Path, array: np.ndarray) -> Path:
    np.save(beside.with_name("saved.npy"), array)
    return beside.with_name("saved.npy")


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
    "a file's bytes": lambda path: (path.read_bytes(),),
    "a list of bytes": lambda path: ([bytearray(path.read_bytes())],),
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
    "(waveform, rate) of torchaudio.load": lambda path: ((CLIP, 8000),),
    "(samples, rate) of librosa.load": lambda path: ((CLIP[0].numpy(), np.int64(8000)),),
    "(samples, rate) of soundfile.read, mono": lambda path: (sf.read(path),),
    "(samples, rate) of soundfile.read, [T, C]": lambda path: (sf.read(path, always_2d=True),),
    "(rate, samples) of scipy.io.wavfile.read": lambda path: ((8000, CLIP[0].numpy()),),
    "a pair as a list": lambda path: ([CLIP, 8000],),
    "a list of pairs": lambda path: ([(CLIP, 8000)],),
    "a pair of a batch": lambda path: ((CLIP[None], torch.tensor(8000)),),
    "a row of torchaudio's data sets": lambda path: ((CLIP, 8000, "a text", 19, 198, 0),),
    "[T, C]": lambda path: (CLIP.T, 8000),
    "[T, C], stereo": lambda path: (CLIP.T.repeat(1, 2).numpy(), 8000),
    "[B, T, C]": lambda path: (CLIP.T[None].repeat(1, 1, 2), 8000),
    "dict with [T, C]": lambda path: ({"array": CLIP.T.numpy(), "sampling_rate": 8000},),
    "a row with a dict": lambda path: ({"id": "a", "audio": {"array": CLIP[0], "sampling_rate": 8000}, "path": "x"},),
    "a row with bytes": lambda path: ({"id": 3, "audio": {"bytes": path.read_bytes(), "path": None}, "text": None},),
    "a row with a decoder": lambda path: ({"id": 3, "audio": Decoder(), "path": "elsewhere.flac"},),
    "a row with a path": lambda path: ({"audio": str(path), "text": "a text"},),
    "a row of another name": lambda path: ({"text": "a text", "speech": {"path": str(path), "bytes": None}},),
    "rows as one": lambda path: ({"audio": [{"array": CLIP[0], "sampling_rate": 8000}], "id": ["a"]},),
    "rows with_format('torch')": lambda path: ({"audio": {"array": CLIP[0], "sampling_rate": torch.tensor(8000)}},),
    "a list of rows": lambda path: ([{"audio": {"array": CLIP[0], "sampling_rate": 8000}}],),
    "pyannote's dict": lambda path: ({"waveform": CLIP, "sample_rate": 8000},),
    "a text-to-speech pipeline's dict": lambda path: ({"audio": CLIP.numpy(), "sampling_rate": 8000},),
    "torchcodec's samples": lambda path: (Samples(CLIP, 8000),),
    "an array of another library": lambda path: (Foreign(CLIP[0].numpy()), 8000),
    "a path of a .npy file": lambda path: (saved(path, CLIP[0].numpy()), 8000),
    "a .npy file of [T, C], in Fortran's order": lambda path: (saved(path, np.asfortranarray(CLIP.T.numpy())), 8000),
    "a list of .npy files": lambda path: ([str(saved(path, CLIP.numpy()))], 8000),
    "a row with a .npy file": lambda path: ({"audio": str(saved(path, CLIP.numpy()))}, 8000),
    "a nested tensor": lambda path: (torch.nested.as_nested_tensor([CLIP[0]], layout=torch.jagged), 8000),
    "longdouble": lambda path: (CLIP[0].numpy().astype(np.longdouble), 8000),
    "masked, nothing of it": lambda path: (np.ma.masked_array(CLIP[0].numpy()), 8000),
    "rate as a tensor": lambda path: (CLIP, torch.tensor(8000)),
    "rate as an array of one": lambda path: (CLIP, np.array([8000.0])),
    "rates of a DataLoader's batch": lambda path: (CLIP[None], torch.tensor([8000])),
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


@pytest.mark.parametrize(
    "rate", [16000.0, np.float32(16000), np.int16(16000), torch.tensor(16000), torch.tensor([16000.0])]
)
def test_a_rate_may_be_any_number_wherever_one_is_given(rate: object, path: Path) -> None:
    audio = Audio.of(CLIP, 8000)
    assert audio.resample(rate) == Audio.load(path, sample_rate=rate) == audio.resample(16000)
    assert Audio(CLIP[None], torch.tensor([3000]), rate).sample_rate == 16000
    assert torch.equal(resample(CLIP, 8000, rate), resample(CLIP, 8000, 16000))
    score = metrics.evaluate(CLIP, CLIP * 0.5, rate, metrics="stft")["stft"]
    assert torch.equal(score, metrics.evaluate(CLIP, CLIP * 0.5, 16000, metrics="stft")["stft"])


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


# -- axes, channels and scale -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((50, 2), (2, 50)),  # 50 channels of two samples are none
        ((16000, 1), (1, 16000)),
        ((9, 8), (8, 9)),
        ((2, 50), (2, 50)),
        ((2, 1), (2, 1)),  # a stereo clip of one sample
        ((8, 3), (8, 3)),  # as few channels as there are: as documented
        ((16, 16), (16, 16)),
        ((16, 4000), (16, 4000)),
    ],
)
def test_time_is_found_where_it_is_unmistakable(shape: tuple[int, int], taken: tuple[int, int]) -> None:
    array = torch.rand(shape)
    expected = array if shape == taken else array.T
    for form in (array, array.numpy(), [array], {"array": array.numpy(), "sampling_rate": 8000}, (array, 8000)):
        (clip,) = read_clips(form, 8000)
        assert torch.equal(clip.waveform, expected)
    (clip,) = read_clips(Audio(array[None], torch.tensor([shape[1]]), 8000))
    assert torch.equal(clip.waveform, array), "an Audio says what its axes are"


def test_a_nested_tensor_is_as_many_clips_of_their_own_lengths() -> None:
    for layout in (torch.jagged, torch.strided):
        clips = read_clips(torch.nested.as_nested_tensor([CLIP[0], CLIP[0, :100]], layout=layout), 8000)
        assert [clip.waveform.shape for clip in clips] == [(1, 3000), (1, 100)]
        assert torch.equal(clips[0].waveform, CLIP)


def test_rows_of_a_data_set_are_taken_together(codec: BaseCodec) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"array": CLIP[0].numpy(), "sampling_rate": 8000}, {"array": CLIP[0, :100].numpy(), "sampling_rate": 8000}]
    held = datasets.Dataset.from_list([{"id": str(i), "audio": row} for i, row in enumerate(rows)])
    expected = codec.encode(rows).codes
    for form in (held[:2], list(held), held.with_format("torch")[0:2], held.with_format("numpy")[0:2]):
        assert torch.equal(codec.encode(form).codes, expected)
    assert torch.equal(codec.encode(held[0]).codes, expected[:1])
    assert torch.equal(codec.encode(held.with_format("torch")[0]).codes, expected[:1])


def twice(use: Callable[[], object]) -> None:
    for _ in range(2):
        use()


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warn_once, "_given", set())


@pytest.mark.usefixtures("nothing_said")
def test_more_channels_than_a_codec_takes_are_warned_of_once(codec: BaseCodec) -> None:
    eight = chirp(3000, 8000).repeat(8, 1)
    with pytest.warns(UserWarning, match=r"8 channels, and g711_ulaw takes 1: .* pass \[8, 1, T\]") as said:
        twice(lambda: codec.encode(eight, 8000))
    assert len(said) == 1 and said[0].filename == __file__
    assert len(codec.encode(eight[:, None], 8000)) == 8, "the way out"


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.filterwarnings("error")
def test_stereo_and_loud_but_plausible_audio_is_nobodys_mistake(codec: BaseCodec) -> None:
    codec.encode(chirp(3000, 8000).repeat(2, 1) * 7, 8000)


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize("how", ["array", "file", "stream", "metrics"])
def test_floats_in_the_range_of_integers_are_warned_of_once(how: str, codec: BaseCodec, tmp_path: Path) -> None:
    loud = chirp(3000, 8000) * 20000
    sf.write(tmp_path / "loud.wav", loud[0].numpy(), 8000, subtype="FLOAT")
    uses: dict[str, Callable[[], object]] = {
        "array": lambda: codec.encode(loud, 8000),
        "file": lambda: codec.encode(tmp_path / "loud.wav"),
        "stream": lambda: codec.stream().encode(loud[None]),
        "metrics": lambda: metrics.evaluate(loud, loud, 8000, metrics="waveform"),
    }
    peak = f"{float(loud.abs().max()):.4g}"
    with pytest.warns(UserWarning, match=rf"samples reach {peak}, and full scale is 1: .*samples / 32768") as said:
        twice(uses[how])
    assert len(said) == 1


@pytest.mark.usefixtures("nothing_said")
def test_metrics_take_axes_and_warn_of_channels_as_codecs_do() -> None:
    wide = chirp(4000, 16000).repeat(2, 1)
    noisy = wide + 0.01 * torch.randn(wide.shape, generator=torch.Generator().manual_seed(0))
    expected = metrics.evaluate(wide, noisy, 16000, "si_sdr")["si_sdr"]
    for swap in (lambda x: x.T, lambda x: x.T[None], lambda x: [x.T], lambda x: (x, 16000), lambda x: (x.T, 16000)):
        assert torch.equal(metrics.evaluate(swap(wide), swap(noisy), 16000, "si_sdr")["si_sdr"], expected)
    eight = chirp(4000, 16000).repeat(8, 1)
    with pytest.warns(UserWarning, match=r"the reference is one clip of 8 channels\. .* pass \[8, 1, T\]") as said:
        metrics.evaluate(eight, eight, 16000, metrics="waveform")
    assert len(said) == 1
