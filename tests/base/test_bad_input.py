"""Bad input: a table of what goes wrong, and what is then said. Each message names the thing and the way out."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codeczoo import Audio, Codes, list_codecs, load_codec
from codeczoo.base import audio_io
from codeczoo.base.resampling import resample
from tests.support.small import codec_of
from tests.support.sound import chirp

T = torch.zeros(100)


@dataclass(frozen=True)
class Case:
    """`act(folder)` must raise exactly `error`, and its message must hold every one of `says`."""

    name: str
    act: Callable[[Path], Any]
    error: type[Exception]
    says: tuple[str, ...]


def ulaw() -> Any:
    return load_codec("g711_ulaw", device="cpu")


def opus() -> Any:
    return load_codec("opus_24k", device="cpu")


def snac() -> Any:
    return codec_of("snac_24khz", "small", torch.float32)


def snac_codes() -> Codes:
    return snac().codes_from_tensor(torch.zeros(2, 3, 8, dtype=torch.int64))


def encode(audio: Any, *args: Any, **options: Any) -> Callable[[Path], Any]:
    return lambda folder: ulaw().encode(audio, *args, **options)


def decode(codes: Any) -> Callable[[Path], Any]:
    return lambda folder: ulaw().decode(codes)


def codes_of(values: torch.Tensor, codec: str = "g711_ulaw", sizes: tuple[int, ...] = (256,), **more: Any) -> Codes:
    full = torch.full((len(values),), len(values[0, 0]))
    return Codes(**{"codes": values, "lengths": full, "num_samples": full, "sample_rate": 8000, "codec": codec,
                    "codebook_sizes": sizes, "frame_rate": 8000.0, **more})  # fmt: skip


def with_value(value: int) -> torch.Tensor:
    codes = torch.zeros(3, 1, 10, dtype=torch.int64)
    codes[2, 0, 7] = value
    return codes


def spoilt(value: float) -> torch.Tensor:
    clip = torch.zeros(2, 50)
    clip[1, 3] = value
    return clip


def written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def npy(array: np.ndarray) -> Callable[[Path], Path]:
    """A `.npy` file, with pickles where NumPy writes them."""

    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return make


HUGE_NPY = b"\x93NUMPY\x01\x00F\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,), }".replace(
    b"10**12", b"1" + b"0" * 12
).ljust(69) + b"\n"  # fmt: skip


def cut(suffix: str, keep: float) -> Callable[[Path], Path]:
    """A file of which only the beginning is there."""

    def make(folder: Path) -> Path:
        path = folder / f"cut{suffix}"
        audio_io.write(path, chirp(24000, 24000), 24000)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return make


def load(make: Callable[[Path], Path]) -> Callable[[Path], Any]:
    return lambda folder: ulaw().encode(make(folder))


FORMS = ("a path", "an open file", "NumPy", "Audio", "'array'", "list")

CASES = [
    # -- what is not audio
    Case("None", encode(None), TypeError, ("it is NoneType", *FORMS)),
    Case("a number", encode(3.0, 8000), TypeError, ("it is float", *FORMS)),
    Case("bytes", encode(b"RIFF"), ValueError, ("<bytes>", "not readable as audio")),
    Case("a bytearray", encode(bytearray(b"RIFF")), ValueError, ("<bytes>", "not readable as audio")),
    Case("a memoryview", encode(memoryview(b"RIFF")), ValueError, ("<bytes>", "not readable as audio")),
    Case("a text file", lambda folder: ulaw().encode(written("a.txt", b"RIFF")(folder).open(encoding="utf-8")),
         TypeError, ("it is TextIOWrapper", *FORMS)),
    Case("a class", encode(Audio), TypeError, ("it is type", *FORMS)),
    Case("a set", encode({"a.wav"}), TypeError, ("it is set", *FORMS)),
    Case("None in a list", encode([T, None], 8000), TypeError, ("clip 1", "NoneType", *FORMS)),
    Case("a list of numbers", encode([0.1, 0.2], 8000), TypeError, ("list of numbers", "numpy.asarray")),
    Case("a list of NumPy's numbers", encode(list(np.zeros(2)), 8000), TypeError, ("numbers", "numpy.asarray")),
    Case("samples among numbers", encode([T, 8000, 8000]), TypeError, ("numbers in it", "sample_rate=")),
    Case("a pair against the rate", encode((T, 8000), 16000), ValueError, ("sample_rate=16000", "tuple", "8000 Hz")),
    Case("a pair of a bool", encode((T, True)), TypeError, ("numbers in it",)),
    Case("a pair at rate 0", encode([(T, 0)]), ValueError, ("clip 0", "positive", "it is 0")),
    Case("a list of lists", encode([[0.1, 0.2]], 8000), TypeError, ("clip 0", "it is list")),
    Case("a list of lists of arrays", encode([[T, T]], 8000), TypeError, ("clip 0", "it is list")),
    Case("samples one by one", encode([T[0], T[1]], 8000), ValueError, ("clip 0", "[T]", "()")),
    Case("an empty generator", lambda _: ulaw().encode(path for path in ()), ValueError, ("no audio was given",)),
    Case("an empty list", encode([], 8000), ValueError, ("no audio was given",)),
    Case("an array of objects", encode(np.array([[1.0], None], dtype=object), 8000), TypeError, ("objects", "list")),
    Case("an array of strings", encode(np.array(["a.wav"]), 8000), TypeError, ("<U5", "not audio")),
    Case("a dict of nothing", encode({}), ValueError, ("'array'", "'bytes'", "'path'")),
    Case("a dict of other things", encode({"text": "a", 3: T}), ValueError, ("['3', 'text']", "'array'")),
    Case("a row without rate", encode({"audio": T}), ValueError, ("'audio'", "'sample_rate'")),
    Case("a row without audio", encode({"audio": None, "text": "a"}), ValueError, ("['audio', 'text']",)),
    Case("a row with two audios", encode({"clean": {"array": T}, "noisy": {"array": T}}), ValueError,
         ("['clean', 'noisy']", "row['clean']")),
    Case("a row against the rate", encode({"audio": {"array": T, "sampling_rate": 8000}}, 16000), ValueError,
         ("sample_rate=16000", "dict", "8000 Hz")),
    Case("masked samples", encode(np.ma.masked_array(np.zeros(9), [0, 1] + [0] * 7), 8000), ValueError,
         ("1 samples are masked", "filled(0)")),
    Case("a sparse tensor", encode(torch.eye(2).to_sparse(), 8000), TypeError, ("sparse", "to_dense()")),
    Case("a nested tensor in a list", encode([torch.nested.nested_tensor([T, T])], 8000), TypeError,
         ("clip 0", "nested", "unbind()")),
    Case("a tensor without values", encode(torch.zeros(9, device="meta"), 8000), TypeError, ("'meta'",)),
    Case("Codes", encode(codes_of(with_value(0))), TypeError, ("it is Codes", *FORMS)),
    Case("an array file missing", encode("nowhere.npy", 8000), FileNotFoundError, ("nowhere.npy",)),
    Case("an array file without rate", load(npy(np.zeros(9))), ValueError, ("pass sample_rate=",)),
    Case("an array file of objects", load(npy(np.array([None]))), ValueError, ("a.npy", "objects")),
    Case("an array file of text", load(written("a.npy", b"RIFF" * 99)), ValueError, ("a.npy", "not a readable .npy")),
    Case("an array file of integers", lambda folder: ulaw().encode(npy(np.zeros(9, int))(folder), 8000), TypeError,
         ("int64", "samples / 32768")),
    Case("an array file that announces too much", load(written("a.npy", HUGE_NPY)), ValueError, ("a.npy",)),
    Case("a dict without rate", encode({"array": T}), ValueError, ("'sampling_rate'",)),
    Case("a batch in a list", encode([Audio.of(torch.zeros(2, 1, 9), 8000)]), ValueError, ("one clip", "holds 2")),
    # -- types and shapes
    Case("16-bit integers", encode(np.zeros(9, np.int16), 8000), TypeError, ("torch.int16", "samples / 32768")),
    Case("unsigned bytes", encode(np.zeros(9, np.uint8), 8000), TypeError, ("torch.uint8", "floating point")),
    Case("integers of a dict", encode({"array": [1, 2, 3], "sampling_rate": 8000}), TypeError, ("int64", "floating")),
    Case("dates", encode(np.zeros(9, "M8[s]"), 8000), TypeError, ("datetime64", "not audio")),
    Case("int64", encode(torch.zeros(9, dtype=torch.int64), 8000), TypeError, ("torch.int64", "floating point")),
    Case("bool", encode(np.zeros(9, bool), 8000), TypeError, ("torch.bool", "floating point")),
    Case("complex", encode(torch.zeros(9, dtype=torch.complex64), 8000), TypeError, ("complex64", "floating point")),
    Case("integers in a list", encode([T, T.short()], 8000), TypeError, ("clip 1", "torch.int16")),
    Case("no axis", encode(np.float32(0.5), 8000), TypeError, ("float32", *FORMS)),
    Case("no axis, an array", encode(np.array(0.5), 8000), ValueError, ("[T], [C, T] or [B, C, T]", "()")),
    Case("four axes", encode(torch.zeros(1, 1, 1, 9), 8000), ValueError, ("[B, C, T]", "(1, 1, 1, 9)")),
    Case("a batch inside a list", encode([torch.zeros(2, 1, 9)], 8000), ValueError, ("clip 0", "[C, T]", "(2, 1, 9)")),
    Case("axes swapped", encode(torch.zeros(16000, 9), 8000), ValueError, ("16000 channels", "swapped", "[C, T]")),
    Case("axes of a batch swapped", encode(torch.zeros(3, 500, 9), 8000), ValueError, ("clip 0", "500 channels")),
    Case("axes of one of a list swapped", encode([T, torch.zeros(20, 10)], 8000), ValueError, ("clip 1", "20 chan")),
    Case("a sample out of all range", encode([T, T + 1e10], 8000), ValueError, ("clip 1", "1e+10", "full scale is 1")),
    # -- content
    Case("no samples", encode(torch.zeros(0), 8000), ValueError, ("no samples", "(1, 0)")),
    Case("no samples in a list", encode([T, T[:0]], 8000), ValueError, ("clip 1", "no samples")),
    Case("no channels", encode(torch.zeros(0, 9), 8000), ValueError, ("no samples", "(0, 9)")),
    Case("no clips", encode(torch.zeros(0, 1, 9), 8000), ValueError, ("no audio was given",)),
    Case("NaN", encode(spoilt(torch.nan), 8000), ValueError, ("1 of 100 samples are NaN or infinite",)),
    Case("infinity", encode([T, spoilt(-torch.inf)], 8000), ValueError, ("clip 1", "NaN or infinite")),
    # -- sample rates
    Case("no rate", encode(T), ValueError, ("sample rate", "pass sample_rate=")),
    Case("no rate in a list", encode([T, T]), ValueError, ("clip 0", "pass sample_rate=")),
    Case("rate 0", encode(T, 0), ValueError, ("sample_rate", "positive", "it is 0")),
    Case("rate negative", encode(T, -16000), ValueError, ("sample_rate", "positive", "-16000")),
    Case("rate NaN", encode(T, torch.nan), ValueError, ("sample_rate", "positive", "nan")),
    Case("rate infinite", encode(T, float("inf")), ValueError, ("sample_rate", "positive", "inf")),
    Case("rate broken", encode(T, 44100.5), ValueError, ("whole number", "44100.5")),
    Case("rate a string", encode(T, "16000"), TypeError, ("number of Hz", "'16000'")),
    Case("rate a bool", encode(T, True), TypeError, ("number of Hz", "True")),
    Case("rate of a dict", encode({"array": T, "sampling_rate": 0}), ValueError, ("positive", "it is 0")),
    Case("rate a bool's tensor", encode(T, torch.tensor(True)), TypeError, ("number of Hz", "tensor(True)")),
    Case("rate a broken tensor", encode(T, torch.tensor(0.5)), ValueError, ("whole number", "tensor(0.5000)")),
    Case("rates that differ", encode(T, torch.tensor([8000, 16000])), ValueError, ("one rate", "[8000, 16000]")),
    Case("rate an empty array", encode(T, np.zeros(0)), TypeError, ("number of Hz",)),
    Case("rate complex", encode(T, 8000 + 0j), TypeError, ("number of Hz", "(8000+0j)")),
    Case("rate of a dict missing", encode({"array": T, "sampling_rate": None}), TypeError, ("number of Hz", "None")),
    Case("rate against an Audio's", encode(Audio.of(T, 8000), 16000), ValueError, ("sample_rate=16000", "8000 Hz")),
    Case("rates differ", lambda _: ulaw().reconstruct([Audio.of(T, 8000), Audio.of(T, 16000)]), ValueError,
         ("differ in sample rate", "[8000, 16000]", "sample_rate=")),
    Case("channels differ", lambda _: ulaw().reconstruct([T, torch.zeros(2, 9)], 8000), ValueError,
         ("differ in channel count", "[1, 2]", "channels=")),
    Case("resample to 0", lambda _: Audio.of(T, 8000).resample(0), ValueError, ("new_rate", "positive", "0")),
    Case("resample to text", lambda _: Audio.of(T, 8000).resample("16k"), TypeError, ("new_rate", "Hz", "'16k'")),
    Case("resample to None", lambda _: Audio.of(T, 8000).resample(None), TypeError, ("new_rate", "Hz", "None")),
    Case("resample integers", lambda _: resample(T.long(), 8000, 16000), TypeError, ("floating point", "int64")),
    # -- how many bits
    Case("codebooks too many", encode(T, 8000, num_codebooks=40), ValueError,
         ("g711_ulaw has 1 codebooks", "num_codebooks=40 was asked for")),
    Case("codebooks 0", encode(T, 8000, num_codebooks=0), ValueError, ("g711_ulaw", "num_codebooks=0")),
    Case("codebooks a float", encode(T, 8000, num_codebooks=1.0), TypeError, ("num_codebooks", "whole number", "1.0")),
    Case("codebooks a bool", encode(T, 8000, num_codebooks=True), TypeError, ("num_codebooks", "True")),
    Case("bitrate unknown", encode(T, 8000, bitrate=6000), ValueError, ("g711_ulaw", "64000 bit/s", "bitrate=6000")),
    Case("bitrate unknown, Opus", lambda _: opus().encode(T, 8000, bitrate=6000), ValueError,
         ("opus_24k", "24000 bit/s", "bitrate=6000")),
    Case("bitrate NaN", encode(T, 8000, bitrate=torch.nan), ValueError, ("64000 bit/s", "bitrate=nan")),
    Case("bitrate a string", encode(T, 8000, bitrate="64k"), TypeError, ("number of bit/s", "'64k'")),
    Case("bitrate and codebooks", encode(T, 8000, num_codebooks=1, bitrate=64000), ValueError, ("not both",)),
    Case("bitrate at loading", lambda _: load_codec("opus_24k", bitrate=1), ValueError, ("opus_24k", "24000 bit/s")),
    # -- codes
    Case("codes None", decode(None), TypeError, ("Codes, or integers [B, K, N]", "NoneType")),
    Case("codes complex", decode(torch.zeros(1, 1, 9, dtype=torch.complex64)), TypeError, ("integers", "complex64")),
    Case("codes in a list", decode([codes_of(with_value(0))]), TypeError,
         ("was given list of Codes", "Codes.cat()", "concat()")),
    Case("codes as a path", decode(Path("codes.safetensors")), TypeError, ("[B, K, N]", "PosixPath")),
    Case("codes an array of floats", decode(np.zeros((1, 1, 9))), TypeError, ("integers", "float64")),
    Case("codes an array of bools", decode(np.zeros((1, 1, 9), bool)), TypeError, ("integers", "bool")),
    Case("codes of one clip", decode(np.zeros((1, 9), int)), ValueError, ("[B, K, N]", "(1, 9)", "codes[None]")),
    Case("codes as text", decode("codes"), TypeError, ("[B, K, N]", "str")),
    Case("codes of no list", decode([]), TypeError, ("[B, K, N]", "empty list")),
    Case("codes as flat numbers", decode([1, 2, 3]), ValueError, ("[K, N]", "[0] axes")),
    Case("codes as lists of floats", decode([[[0.5]]]), TypeError, ("[B, K, N]", "float64")),
    Case("codes as unequal lists", decode([[[1, 2], [1]]]), TypeError, ("[B, K, N]", "unequal")),
    Case("codes of paths", decode(["a.safetensors"]), TypeError, ("[B, K, N]", "<U13")),
    Case("codes of clips of unequal codebooks", decode([np.zeros((1, 9), int), np.zeros((2, 9), int)]), ValueError,
         ("codebooks", "[1, 2]")),
    Case("levels that do not fit", lambda _: snac().decode([torch.zeros(1, n, dtype=torch.int64) for n in (2, 4, 9)]),
         ValueError, ("(4, 2, 1) frames", "[(1, 3), (1, 5), (1, 9)]", "[(1, 2), (1, 4), (1, 9)]")),
    Case("levels too many", lambda _: snac().decode([torch.zeros(1, n, dtype=torch.int64) for n in (1, 2, 4, 8)]),
         ValueError, ("3 codebooks", "4 levels")),
    Case("one level", lambda _: snac().decode([torch.zeros(1, 2, dtype=torch.int64)]), ValueError, ("[1, K, N]",)),
    Case("later codebooks alone", lambda _: snac_codes()[:, 1:], IndexError,
         ("codebooks 1 to 2 alone", "[:, :3]", "codes.tensor[:, 1:]")),
    Case("one codebook by its number", lambda _: snac_codes()[:, 0], IndexError, ("codebooks", "slice", "not by 0")),
    Case("every other frame", lambda _: snac_codes()[..., ::2], IndexError, ("frames", "without a step")),
    Case("more axes than there are", lambda _: snac_codes()[:, :, :, :], IndexError, ("three axes", "has 4")),
    Case("frames within a slow one", lambda _: snac_codes()[..., 1:5], ValueError, ("frames 1 to 5 of 8", "of 4")),
    Case("a file's bytes cut in time", lambda _: opus().encode(T, 48000).frames(0, 2), ValueError,
         ("opus_24k cannot be cut", "no fixed duration")),
    Case("files joined in time", lambda _: Codes.concat([opus().encode(T, 48000)] * 2), ValueError, ("join in time",)),
    Case("a batch joined with one in time", lambda _: Codes.concat([codes := codes_of(with_value(0)), codes[0]]),
         ValueError, ("codes of [1, 3] clips", "Codes.cat")),
    Case("nothing joined in time", lambda _: Codes.concat([]), ValueError, ("no codes were given",)),
    Case("codes into another type", lambda _: codes_of(with_value(0)).to(torch.int16), TypeError,
         ("int64", "codes.tensor.to(torch.int16)")),
    Case("codes as an array", lambda _: np.asarray(codes_of(with_value(0))), TypeError, (".numpy(index)", ".tensor")),
    *[
        Case(f"codes saved as {suffix}",
             lambda folder, suffix=suffix: codes_of(with_value(0)).save(folder / f"a{suffix}"), ValueError,
             (f"a{suffix}", "safetensors", suffix.lower()))
        for suffix in (".npy", ".NPZ", ".pt", ".ecdc", ".wav")
    ],
    Case("codes of a .npy file", lambda folder: Codes.load(npy(np.zeros((1, 1, 9), int))(folder)), ValueError,
         ("a.npy", "codes_from_tensor(numpy.load(path))")),
    Case("codes of floats", decode(torch.zeros(1, 1, 9)), TypeError, ("integers", "torch.float32")),
    Case("codes of bools", decode(torch.zeros(1, 1, 9, dtype=torch.bool)), TypeError, ("integers", "torch.bool")),
    Case("codes [K, N]", decode(torch.zeros(1, 9, dtype=torch.int64)), ValueError, ("[B, K, N]", "(1, 9)")),
    Case("codebooks too many in codes", decode(torch.zeros(1, 8, 9, dtype=torch.int64)), ValueError,
         ("K at most 1 for g711_ulaw", "(1, 8, 9)")),
    Case("codebooks none in codes", decode(torch.zeros(1, 0, 9, dtype=torch.int64)), ValueError, ("g711_ulaw", "K")),
    Case("no frames", decode(torch.zeros(1, 1, 0, dtype=torch.int64)), ValueError, ("no frames to decode", "item 0")),
    Case("no frames in one item",
         decode(codes_of(torch.zeros(2, 1, 9, dtype=torch.int64), lengths=torch.tensor([9, 0]))), ValueError,
         ("no frames to decode", "item 1")),
    Case("no items", decode(torch.zeros(0, 1, 9, dtype=torch.int64)), ValueError, ("no codes to decode", "empty")),
    Case("a code too high", decode(with_value(256)), ValueError,
         ("g711_ulaw", "code 256 at item 2, codebook 0, frame 7", "0 to 255")),
    Case("a code negative", decode(with_value(-1)), ValueError, ("code -1 at item 2, codebook 0, frame 7", "0 to 255")),
    Case("a code far out", decode(codes_of(with_value(2**40))), ValueError, (str(2**40), "out of range", "0 to 255")),
    Case("codes of another codec", lambda _: ulaw().decode(load_codec("g711_alaw", device="cpu").encode(T, 8000)),
         ValueError, ("made by g711_alaw", "g711_ulaw cannot decode them")),
    Case("codes of no codec", decode(codes_of(with_value(0), "mine")), ValueError, ("made by mine", "g711_ulaw")),
    Case("noise as a file", lambda _: opus().decode(torch.randint(0, 256, (1, 1, 500))), ValueError,
         ("opus_24k", "item 0", "not a whole OPUS file")),
    Case("Codes of floats", lambda _: codes_of(torch.zeros(1, 1, 9)), TypeError, ("Codes.codes", "integer tensor")),
    Case("Codes complex", lambda _: codes_of(torch.zeros(1, 1, 9) + 0j), TypeError, ("integer tensor",)),
    Case("Codes as an array", lambda _: codes_of(np.zeros((1, 1, 9), np.int64)), TypeError, ("integer tensor",)),
    Case("Codes at rate 0", lambda _: codes_of(with_value(0), sample_rate=0), ValueError, ("sample_rate", "it is 0")),
    Case("Codes without rate", lambda _: codes_of(with_value(0), sample_rate=None), TypeError, ("sample_rate", "None")),
    Case("Codes of empty codebooks", lambda _: codes_of(with_value(0), sizes=(0,)), ValueError,
         ("codebook_sizes", "positive", "(0,)")),
    Case("Codes with stride 0", lambda _: codes_of(with_value(0), strides=(0,)), ValueError, ("strides", "positive")),
    Case("Codes with broken samples", lambda _: codes_of(with_value(0), num_samples=torch.ones(3)), TypeError,
         ("num_samples", "whole numbers", "float32")),
    Case("Codes with negative samples", lambda _: codes_of(with_value(0), num_samples=torch.tensor([1, 2, -5])),
         ValueError, ("num_samples", "-1 = not known", "-5")),
    Case("Codes without lengths", lambda _: codes_of(with_value(0), lengths=None), TypeError, ("lengths", "None")),
    Case("Codes with a number as side value", lambda _: codes_of(with_value(0), side_info={"gain": 0.5}), TypeError,
         ("'gain'", "tensor [3, ...]", "float")),
    Case("more samples than the codes hold", decode(codes_of(with_value(0), num_samples=torch.tensor([9, 10**9, 9]))),
         ValueError, ("g711_ulaw", "at most 10 samples", str(10**9))),
    Case("Codes with too long lengths", lambda _: codes_of(with_value(0), lengths=torch.tensor([11, 1, 1])), ValueError,
         ("lengths", "frames", "10")),
    Case("Codes with too few lengths", lambda _: codes_of(with_value(0), lengths=torch.tensor([1])), ValueError,
         ("lengths must be [3]", "(1,)")),
    Case("Codes with too few sizes", lambda _: codes_of(with_value(0), sizes=()), ValueError,
         ("1 codebooks", "0 codebook_sizes")),
    Case("a side value short", lambda _: codes_of(with_value(0), side_info={"gain": torch.ones(2)}), ValueError,
         ("'gain'", "[3, ...]", "(2,)")),
    # -- names
    Case("a codec unknown", lambda _: load_codec("opus_25k"), KeyError, ("'opus_25k'", "did you mean", "'opus_24k'")),
    Case("a codec None", lambda _: load_codec(None), TypeError, ("name is a string", "None")),
    Case("a codec's name empty", lambda _: load_codec(""), KeyError, ("''", "list_codecs()")),
    Case("a pattern None", lambda _: list_codecs(None), TypeError, ("pattern", "'dac_*'", "None")),
    Case("a device unknown", lambda _: load_codec("mulaw", device="gpu"), ValueError, ("'gpu'", "choose of", "cpu")),
    Case("a precision unknown", lambda _: load_codec("g711_ulaw", precision="half"), ValueError, ("exact", "'half'")),
    Case("streaming what looks ahead", lambda _: opus().stream(), ValueError, ("opus_24k is not causal", "encode()")),
    # -- files
    Case("a file missing", encode("nowhere.wav"), FileNotFoundError, ("no audio file", "'nowhere.wav'")),
    Case("a folder", lambda folder: ulaw().encode(folder), FileNotFoundError, ("no audio file",)),
    Case("a file missing in a dict", encode({"path": "nowhere.mp3"}), FileNotFoundError, ("'nowhere.mp3'",)),
    Case("a file missing in a list", encode([T, "nowhere.wav"], 8000), FileNotFoundError, ("'nowhere.wav'",)),
    Case("a file empty", load(written("empty.wav", b"")), ValueError, ("empty.wav", "the file is empty")),
    Case("a text named .wav", load(written("text.wav", b"This is no audio. " * 99)), ValueError,
         ("text.wav", "not readable as audio")),
    Case("bytes of no format", encode({"bytes": b"This is no audio. " * 99}), ValueError, ("not readable as audio",)),
    Case("an open file of no format", encode(io.BytesIO(b"This is no audio. " * 99)), ValueError, ("not readable",)),
    Case("an open file that is empty", encode(io.BytesIO()), ValueError, ("<bytes>", "empty")),
    Case("bytes empty", encode({"bytes": b""}), ValueError, ("empty",)),
    Case("a header without samples", load(cut(".wav", 0.0009)), ValueError, ("cut.wav",)),
    *[
        Case(f"{suffix} cut at {keep:.0%}", load(cut(suffix, keep)), ValueError, (f"cut{suffix}",))
        for suffix in (".wav", ".flac", ".ogg", ".opus")
        for keep in (0.1, 0.5, 0.97)
    ],
    Case("one bad file of a list", lambda folder: ulaw().encode([T, cut(".wav", 0.5)(folder)], 8000), ValueError,
         ("clip 1", "cut.wav", "truncated")),
    # -- writing
    Case("an unknown suffix", lambda folder: Audio.of(T, 8000).save(folder / "a.aac"), ValueError,
         ("'.aac'", ".wav", ".mp3")),
    Case("no folder", lambda folder: Audio.of(T, 8000).save(folder / "no" / "a.wav"), FileNotFoundError,
         ("a.wav", "no folder")),
    Case("an open file without a format", lambda _: Audio.of(T, 8000).save(io.BytesIO()), ValueError,
         ("<file>", "format=")),
    Case("a folder as a file", lambda folder: Audio.of(T, 8000).save(folder), ValueError, ("suffix", ".wav")),
    Case("NaN into a file", lambda folder: audio_io.write(folder / "a.wav", T + torch.nan, 8000), ValueError, ("NaN",)),
    Case("nothing into a file", lambda folder: audio_io.write(folder / "a.wav", T[:0], 8000), ValueError, ("(1, 0)",)),
    Case("Opus at 44.1 kHz", lambda folder: Audio.of(T, 44100).save(folder / "a.opus"), ValueError,
         ("44100", "48000", "resample")),
    Case("MP3 at 96 kHz", lambda folder: Audio.of(T, 96000).save(folder / "a.mp3"), ValueError, ("a.mp3", "96000")),
    Case("MP3 of six channels", lambda folder: Audio.of(torch.zeros(6, 99), 8000).save(folder / "a.mp3"), ValueError,
         ("6 channels", "mix")),
    # -- the types themselves
    Case("Audio of integers", lambda _: Audio(T[None, None].short(), torch.tensor([9]), 8000), TypeError,
         ("floating point", "Audio.of()")),
    Case("Audio [T]", lambda _: Audio(T, torch.tensor([9]), 8000), ValueError, ("[B, C, T]", "(100,)")),
    Case("Audio without rate", lambda _: Audio(T[None, None], torch.tensor([9]), None), TypeError, ("sample_rate",)),
    Case("Audio at rate NaN", lambda _: Audio(T[None, None], torch.tensor([9]), torch.nan), ValueError, ("nan",)),
    Case("Audio with lengths too long", lambda _: Audio(T[None, None], torch.tensor([101]), 8000), ValueError,
         ("lengths", "100 samples")),
    Case("Audio with lengths of floats", lambda _: Audio(T[None, None], torch.tensor([9.0]), 8000), TypeError,
         ("whole numbers of samples", "float32")),
    Case("Audio with negative lengths", lambda _: Audio(T[None, None], torch.tensor([-1]), 8000), ValueError,
         ("lengths", "[-1]")),
    Case("Audio as an array", lambda _: np.asarray(Audio.of(T, 8000)), TypeError, (".numpy(index)", ".waveform")),
    Case("mix to no channel", lambda _: Audio.of(T, 8000).mix(0), ValueError, ("channels", "0")),
    Case("an item that is not there", lambda _: Audio.of(T, 8000)[1], IndexError, ("item 1", "batch has 1")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_an_error_that_says_what_and_what_to_do(case: Case, tmp_path: Path) -> None:
    with pytest.raises(case.error) as caught:
        case.act(tmp_path)
    assert caught.type is case.error
    message = str(caught.value)
    missing = [words for words in case.says if words not in message]
    assert not missing, f"{missing} not in: {message}"
    assert not re.search(r"Traceback|<codeczoo|object at 0x", message)
