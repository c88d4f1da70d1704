"""Audio files as people have them: what is read is all of it, and what is not all there is an error that says so."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from codeczoo import Audio, load_codec
from codeczoo.base import audio_io
from codeczoo.base.audio_files.containers import CONTAINERS, SUFFIXES
from codeczoo.base.audio_files.parts import AudioFileWarning
from codeczoo.base.inputs import read_clips
from codeczoo.data import open_source
from codeczoo.data.batching import plan_batches
from tests.support.audio_files import (
    LAME_DELAY,
    Answer,
    ape_tag,
    encoded,
    id3v2,
    mp3,
    ogg_pages,
    sound,
    wav,
    with_checksum,
    with_flac_length,
    without_length_frame,
    written,
)
from tests.support.sound import lag

RATE = 16000
SAMPLES = 20000
PCM = np.round(sound(SAMPLES, RATE) * 32767).astype("<i2")


def read(source: object) -> np.ndarray:
    """[T, C], and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        waveform, _ = audio_io.read(source)  # type: ignore[arg-type]
    return waveform.numpy().T


def refused(source: object, *words: str) -> str:
    """The message of the error that reading raises, which has all of the words."""
    with pytest.raises((ValueError, OSError)) as caught:
        audio_io.read(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    return message


# -- MPEG: no length but that of the frames -----------------------------------------------------------


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (16000, 2), (8000, 1)])
def test_an_mp3_without_a_length_frame_is_read_whole(rate: int, channels: int, mode: str) -> None:
    whole = mp3(sound(3 * rate, rate, channels), rate, mode)
    known = read(whole)
    assert known.shape == (3 * rate, channels)
    stream = without_length_frame(whole)
    for source in (stream, id3v2() + stream, stream + b"TAG" + bytes(125), stream + ape_tag(), Answer(stream)):
        found = read(source)
        # The encoder's delay comes first: nothing says how long it is.
        np.testing.assert_allclose(found[LAME_DELAY : LAME_DELAY + 3 * rate], known, atol=2e-6)
        assert len(found) - 3 * rate < LAME_DELAY + 3 * 1152


def test_an_mp3_is_read_alike_from_a_path_an_open_file_and_a_pipe(tmp_path: Path) -> None:
    data = without_length_frame(mp3(sound(SAMPLES, RATE), RATE))
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    known = read(data)
    assert np.array_equal(read(path), known)
    with path.open("rb") as file:
        assert np.array_equal(read(file), known)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert np.array_equal(read(process.stdout), known)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    data = written(sound(SAMPLES, RATE), RATE, "WAV")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert np.array_equal(read(path), read(data))
    writer.join()


@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp2_is_read_whole(channels: int) -> None:
    samples = sound(2 * RATE, RATE, channels)
    found = read(encoded(samples, RATE, "mp2", "mp2"))
    assert 0 <= len(found) - 2 * RATE < 3 * 1152
    delay = lag(torch.from_numpy(samples[:, 0]), torch.from_numpy(found[: 2 * RATE, 0]))
    assert np.corrcoef(found[delay : delay + RATE, 0], samples[:RATE, 0])[0, 1] > 0.8


def test_an_mp3_inside_a_wav_is_read_whole() -> None:
    stream = without_length_frame(mp3(sound(SAMPLES, RATE), RATE))
    assert np.array_equal(read(wav(stream, RATE, tag=0x55)), read(stream))


def test_a_cut_mp3_is_no_shorter_mp3() -> None:
    whole = mp3(sound(2 * RATE, RATE), RATE)
    refused(whole[: len(whole) // 2], "truncated")
    refused(whole[:-300], "truncated")
    stream = without_length_frame(whole)
    refused(stream[: len(stream) // 2], "truncated", "the last frame has")
    refused(stream[:-1], "truncated")


def test_a_length_frame_that_counts_too_few_is_overruled() -> None:
    whole = bytearray(mp3(sound(2 * RATE, RATE), RATE))
    known = read(bytes(whole))
    at = max(whole.find(b"Xing"), whole.find(b"Info")) + 8
    whole[at : at + 4] = (5).to_bytes(4, "big")
    assert np.array_equal(read(bytes(whole)), known)


def test_what_is_no_frame_is_warned_of() -> None:
    stream = without_length_frame(mp3(sound(2 * RATE, RATE), RATE, "CONSTANT"))
    half = stream.index(stream[:3], len(stream) // 2)
    with pytest.warns(AudioFileWarning, match=f"bytes {half} to {half + 50} are neither MPEG frames nor a tag"):
        audio_io.read(stream[:half] + b"some text that a server put into the stream ......" + stream[half:])


def test_a_few_frames_in_a_file_of_something_else_make_no_mp3() -> None:
    frames = without_length_frame(mp3(sound(2 * RATE, RATE), RATE, "CONSTANT"))[:1152]
    noise = np.random.default_rng(0).bytes(20000)
    refused(b"\x00\x01" + noise[:5000] + frames + noise[5000:], "damaged", "bytes are no MPEG frames")


# -- files end to end -----------------------------------------------------------------------------------

CHAINED: dict[str, Callable[[np.ndarray], bytes]] = {
    "wav": lambda x: written(x, RATE, "WAV"),
    "flac": lambda x: written(x, RATE, "FLAC"),
    "flac of no length": lambda x: with_flac_length(written(x, RATE, "FLAC"), 0),
    "mp3": lambda x: mp3(x, RATE),
    "vorbis": lambda x: written(x, RATE, "OGG", "VORBIS"),
    "opus": lambda x: written(x, RATE, "OGG", "OPUS"),
    "ogg flac": lambda x: encoded(x, RATE, "ogg", "flac"),
}


@pytest.mark.parametrize("kind", CHAINED)
def test_files_end_to_end_are_all_read(kind: str) -> None:
    first, second = (CHAINED[kind](sound(n, RATE, seed=n)) for n in (9000, 7000))
    found = read(first + second)
    assert len(found) == 16000
    assert np.array_equal(found, np.concatenate([read(first), read(second)]))
    three, rate = audio_io.read(first + second + first, offset=0.5, duration=1.0)
    assert rate == RATE
    assert np.array_equal(three.numpy().T, read(first + second + first)[8000:24000])


def test_an_mp3_with_a_length_frame_and_one_without_are_both_read() -> None:
    first, second = mp3(sound(9000, RATE), RATE), without_length_frame(mp3(sound(7000, RATE), RATE))
    assert len(read(first + second)) == 9000 + len(read(second))


def test_streams_of_different_rates_end_to_end_are_refused() -> None:
    for make in (lambda rate: written(sound(9000, rate), rate, "OGG"), lambda rate: mp3(sound(9000, rate), rate)):
        refused(make(16000) + make(8000), "different rates", "16000, 8000", "split the file")
    refused(
        written(sound(900, RATE), RATE, "WAV") + written(sound(900, RATE, 2), RATE, "WAV"), "channel counts", "1, 2"
    )


# -- Ogg ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_is_cut_or_damaged_is_refused(subtype: str) -> None:
    whole = written(sound(6 * RATE, RATE), RATE, "OGG", subtype)
    pages = ogg_pages(whole)
    assert b"".join(map(with_checksum, pages)) == whole
    refused(whole[:-1], "truncated", "last page")
    refused(whole[: -len(pages[-1]) + 10], "truncated", "last page")
    damaged = bytearray(whole)
    damaged[-20] ^= 1
    refused(bytes(damaged), "damaged", f"byte {len(whole) - len(pages[-1])}", "checksum")
    # Cut between two pages nothing is missing but the end mark: recorders write such files.
    with pytest.warns(AudioFileWarning, match="end mark"):
        waveform, _ = audio_io.read(b"".join(pages[:-1]))
    assert 0 < waveform.shape[1] < 6 * RATE


# -- FLAC -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_without_a_length_is_read_whole(channels: int) -> None:
    whole = written(sound(SAMPLES, RATE, channels), RATE, "FLAC")
    for told in (0, 1000):  # as from a pipe, and too few
        other = with_flac_length(whole, told)
        assert np.array_equal(read(other), read(whole))
        assert np.array_equal(read(id3v2() + other), read(whole))
        assert np.array_equal(read(Answer(other)), read(whole))


def test_a_cut_flac_is_refused_with_and_without_a_length() -> None:
    whole = written(sound(SAMPLES, RATE), RATE, "FLAC")
    for told in (SAMPLES, 0):
        other = with_flac_length(whole, told)
        for cut in (1, 2, 3, 10, 200, len(whole) // 2, len(whole) - 60):
            refused(other[:-cut])


# -- sizes that were never filled in --------------------------------------------------------------------

END = 2**32 - 1


@pytest.mark.parametrize(
    "sizes", [(0, 0), (36, 0), (END, END), (0, END), (2**31 - 1, 2**31 - 37), (END, END - 36), (END, 0)], ids=str
)
def test_a_wav_whose_sizes_were_never_filled_in_is_read_to_its_end(sizes: tuple[int, int]) -> None:
    data = PCM.tobytes()
    assert np.array_equal(read(wav(data, RATE, sizes=sizes)), read(wav(data, RATE)))
    assert np.array_equal(read(Answer(wav(data, RATE, sizes=sizes))), read(wav(data, RATE)))


def test_a_wav_that_is_empty_has_no_samples() -> None:
    refused(wav(b"", RATE), "no samples")
    notes = b"LIST" + struct.pack("<I", 4) + b"INFO"
    refused(wav(notes, RATE, sizes=(36 + len(notes), 0)), "no samples")
    refused(wav(notes, RATE, sizes=(36, 0)), "no samples")


def test_a_large_size_that_is_none_of_those_is_a_cut_file() -> None:
    refused(wav(PCM.tobytes(), RATE, sizes=(3 * 10**9 + 36, 3 * 10**9)), "truncated", "3000000000", str(PCM.nbytes))


def test_bytes_behind_a_wav_are_warned_of() -> None:
    data = wav(PCM.tobytes(), RATE)
    with pytest.warns(AudioFileWarning, match="5000 bytes behind"):
        waveform, _ = audio_io.read(data + bytes(range(1, 251)) * 20)
    assert waveform.shape[1] == len(PCM)
    for tail in (b"TAG" + bytes(125), id3v2(), bytes(7)):
        assert len(read(data + tail)) == len(PCM)


@pytest.mark.parametrize(
    ("format", "place", "unfilled"),
    [
        ("W64", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", b"\xff" * 7 + b"\x7f"),
        ("CAF", b"data", b"\xff" * 8),
        ("AU", b".snd\0\0\0\x18", b"\xff" * 4),
        ("AIFF", b"SSND", bytes(4)),
        ("RF64", b"ds64\x1c\0\0\0", bytes(24)),
        ("RF64", b"ds64\x1c\0\0\0", b"\xff" * 16 + bytes(8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_its_siblings_are_read_to_their_end(format: str, place: bytes, unfilled: bytes) -> None:
    whole = written(PCM, RATE, format, "PCM_16")
    at = whole.index(place) + len(place)
    other = whole[:at] + unfilled + whole[at + len(unfilled) :]
    assert np.array_equal(read(other), read(whole))


# -- cut files of every format of libsndfile that tells its size ----------------------------------------

TELL_NO_SIZE = {"PAF", "PVF", "IRCAM", "XI", "RAW", "SD2", "HTK", "SDS"}


def formats() -> Iterator[tuple[str, str]]:
    for format in sf.available_formats():
        if format not in TELL_NO_SIZE:
            yield from ((format, subtype) for subtype in sf.available_subtypes(format))


@pytest.mark.parametrize(("format", "subtype"), list(formats()))
def test_half_a_file_is_never_taken_for_a_whole_one(format: str, subtype: str) -> None:
    rate = 8000
    try:
        whole = written(sound(SAMPLES, rate), rate, format, subtype)
    except sf.LibsndfileError as error:
        pytest.skip(f"this libsndfile does not write it: {error.error_string}")
    assert len(read(whole)) >= SAMPLES
    for kept in (0.9, 0.5, 0.2):
        refused(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("W64", "MS_ADPCM"), ("W64", "IMA_ADPCM")],
)
@pytest.mark.parametrize("samples", [20002, 24001])
def test_what_fills_the_last_block_is_no_part_of_the_recording(format: str, subtype: str, samples: int) -> None:
    whole = written(sound(samples, 8000), 8000, format, subtype)
    at, width = whole.index(b"fact") + (8 if format == "WAV" else 24), 4 if format == "WAV" else 8

    def telling(count: int) -> bytes:
        return whole[:at] + count.to_bytes(width, "little") + whole[at + width :]

    filled = read(telling(10**6))
    assert len(filled) > samples
    assert np.array_equal(read(telling(samples)), filled[:samples])
    # That much is no filling: the number is wrong, and nothing is cut off.
    assert np.array_equal(read(telling(3)), filled)


# -- more samples announced than there are ----------------------------------------------------------------


def enormous() -> dict[str, bytes]:
    """Files that announce as much as their headers can."""
    x = sound(SAMPLES, RATE)
    flac, vorbis, stream = written(x, RATE, "FLAC"), written(x, RATE, "OGG"), bytearray(mp3(x, RATE))
    at = max(stream.find(b"Xing"), stream.find(b"Info")) + 8
    stream[at : at + 4] = b"\xff" * 4
    pages = ogg_pages(vorbis)
    pages[-1] = with_checksum(pages[-1][:6] + (10**12).to_bytes(8, "little") + pages[-1][14:])
    w64, caf, au = (written(PCM, RATE, format) for format in ("W64", "CAF", "AU"))
    at = w64.index(b"data") + 16
    w64 = w64[:at] + (10**15).to_bytes(8, "little") + w64[at + 8 :]
    at = caf.index(b"data") + 4
    caf = caf[:at] + (10**15).to_bytes(8, "big") + caf[at + 8 :]
    return {
        "wav": wav(PCM.tobytes(), RATE, sizes=(4 * 10**9, 4 * 10**9 - 36)),
        "flac": with_flac_length(flac, 2**36 - 1),
        "mp3": bytes(stream),
        "ogg": b"".join(pages),
        "w64": w64,
        "caf": caf,
        "au": au[:8] + b"\x10\x00\x00\x00" + au[12:],
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is limited on Linux")
def test_an_announcement_costs_no_memory(tmp_path: Path) -> None:
    for name, data in enormous().items():
        (tmp_path / f"a.{name}").write_bytes(data)
    script = """
import resource, sys
from pathlib import Path
from codeczoo.base.audio_files.reading import read_samples
from codeczoo.base.audio_files.stretch import Stretch
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27,) * 2)
for path in sys.argv[1:]:
    try:
        print(path, read_samples(path, Stretch())[0].shape)
    except ValueError as error:
        print(error)
"""
    paths = sorted(map(str, tmp_path.iterdir()))
    said = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert len(lines) == len(paths)
    for line, path in zip(lines, paths, strict=True):
        assert line.startswith(f"{path}: ") and ("truncated" in line or "damaged or cut" in line), line


# -- formats of FFmpeg ------------------------------------------------------------------------------------

# container, codec → container's name in the table, and samples by which the length may differ
BY_FFMPEG = {
    ("ipod", "aac"): ("MPEG-4", 1024),
    ("ipod", "alac"): ("MPEG-4", 0),
    ("mp4", "libopus"): ("MPEG-4", 400),
    ("adts", "aac"): ("AAC", 3 * 1024),
    ("webm", "libopus"): ("Matroska", 400),
    ("matroska", "flac"): ("Matroska", 0),
    ("matroska", "aac"): ("Matroska", 2048),
    ("asf", "wmav2"): ("WMA", 3 * 2048),
    ("wv", "wavpack"): ("WavPack", 0),
    ("tta", "tta"): ("True Audio", 0),
    ("ogg", "flac"): ("Ogg", 0),
    ("wav", "adpcm_yamaha"): ("WAV", 4096),
    ("caf", "adpcm_ima_qt"): ("CAF", 64),
}
LOSSLESS = ("alac", "flac", "wavpack", "tta")


@functools.lru_cache
def by_ffmpeg(kind: tuple[str, str], channels: int = 1) -> bytes:
    """A second at 48 kHz."""
    return encoded(sound(48000, 48000, channels), 48000, *kind)


@pytest.fixture(params=["PyAV", "an ffmpeg program"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With PyAV, and with an ffmpeg program and no PyAV."""
    if request.param != "PyAV":
        if shutil.which("ffmpeg") is None:
            pytest.skip("there is no ffmpeg program")
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", BY_FFMPEG, ids="-".join)
def test_formats_of_ffmpeg_are_read_whole(kind: tuple[str, str], channels: int, reader: str) -> None:
    tolerance = BY_FFMPEG[kind][1]
    found = read(by_ffmpeg(kind, channels))
    assert found.shape[1] == channels
    assert abs(len(found) - 48000) <= (tolerance if reader == "PyAV" else max(tolerance, 2048))
    if kind[1] in LOSSLESS:
        np.testing.assert_allclose(found, sound(48000, 48000, channels), atol=1e-4)


@pytest.mark.parametrize("kind", BY_FFMPEG, ids="-".join)
def test_cut_files_of_ffmpegs_formats_are_refused(kind: tuple[str, str], reader: str) -> None:
    whole = by_ffmpeg(kind)
    for kept in (0.9, 0.5, 0.2):
        refused(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize("kind", BY_FFMPEG, ids="-".join)
def test_without_ffmpeg_its_formats_are_an_error_that_says_what_to_install(
    kind: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_ffmpeg(kind)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", "")
    refused(by_ffmpeg(kind), BY_FFMPEG[kind][0], "codeczoo[files]", "ffmpeg")


def test_amr_is_read(reader: str) -> None:
    frame = b"\x3c" + bytes(range(31))  # 12.2 kbit/s, 20 ms
    data = b"#!AMR\n" + frame * 50
    waveform, rate = audio_io.read(data)
    assert (waveform.shape, rate) == ((1, 8000), 8000)


def test_a_playlist_is_no_audio_file(tmp_path: Path) -> None:
    """FFmpeg itself would open the files that it names."""
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n")
    refused(path, "not readable as audio", "a text")


# -- no audio at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        ("\ufeff\n<html lang='ja'>見つかりません</html>".encode(), "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML or a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b'{"error": "not found"}', "JSON"),
        (b"Not Found", "a text, which begins 'Not Found'"),
        ("größer".encode("utf-16"), "a text"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "an image"),
        (bytes(5000), "zero"),
        (b"", "empty"),
        (bytes(range(1, 200)) * 9, "Format not recognised"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".m4a", ".au", ".raw"])
def test_what_is_no_audio_is_called_what_it_is(content: bytes, words: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    refused(path, str(path), words)


def test_the_name_of_a_file_says_nothing_of_its_content(tmp_path: Path) -> None:
    for suffix in (".mp3", ".flac", ".raw", ".au", ""):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(wav(PCM.tobytes(), RATE))
        assert len(read(path)) == len(PCM)


# -- forms of a file --------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that gives the files of a folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def test_addresses_are_read(server: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    path = tmp_path / "a b.wav"
    path.write_bytes(wav(PCM.tobytes(), RATE))
    (tmp_path / "page.wav").write_text("<html></html>")
    known = read(path)
    for address in (f"{server}/a%20b.wav", path.as_uri().replace("%20", " "), f"file://{path}"):
        assert np.array_equal(read(address), known)
        (clip,) = read_clips(address)
        assert clip.sample_rate == RATE
    refused(f"{server}/none.wav", f"{server}/none.wav", "no audio file")
    refused(f"{server}/page.wav", f"{server}/page.wav", "a web page")
    refused(f"file://{path}.none", "no audio file")
    refused("nosuchscheme://a/b.wav", "nosuchscheme", "fsspec")
    with socket.socket() as nobody:  # it is bound and does not listen
        nobody.bind(("127.0.0.1", 0))
        refused(f"http://127.0.0.1:{nobody.getsockname()[1]}/a.wav", "a.wav", "Cannot connect to host")


def test_a_stream_that_cannot_seek_is_read() -> None:
    data = written(sound(SAMPLES, RATE), RATE, "FLAC")
    assert np.array_equal(read(Answer(data)), read(data))
    (clip,) = read_clips(Answer(data))  # type: ignore[arg-type]
    assert clip.waveform.shape == (1, SAMPLES)

    class OnlyRead:
        read = staticmethod(io.BytesIO(data).read)

    assert np.array_equal(read(OnlyRead()), read(data))


def test_a_file_that_is_open_for_text_is_refused(tmp_path: Path) -> None:
    class Text:
        def read(self) -> str:
            return "RIFF"

    with pytest.raises(TypeError, match="'rb'"):
        audio_io.read(Text())  # type: ignore[arg-type]


def test_an_open_soundfile_is_read_whole_and_left_where_it_was(tmp_path: Path) -> None:
    data = without_length_frame(mp3(sound(SAMPLES, RATE), RATE))
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    known = read(data)
    descriptor = os.open(path, os.O_RDONLY)
    for source in (path, str(path), io.BytesIO(data), descriptor):
        with sf.SoundFile(source) as file:
            before = file.read(1000)
            assert np.array_equal(read(file), known)
            (clip,) = read_clips(file)
            assert clip.waveform.shape[1] == len(known)
            np.testing.assert_allclose(np.concatenate([before, file.read(1000)]), known[:2000, 0], atol=1e-6)
        refused(file, "closed")
    raw = tmp_path / "a.raw"
    raw.write_bytes(PCM.tobytes())
    with sf.SoundFile(raw, samplerate=RATE, channels=1, subtype="PCM_16") as file:
        refused(file, "a.raw", "without a header", "sample_rate=")
    with sf.SoundFile(tmp_path / "new.wav", "w", RATE, 1) as file:
        refused(file, "open for writing")


def test_bytes_are_audio_like_any_file() -> None:
    data = wav(PCM.tobytes(), RATE)
    codec = load_codec("ulaw")
    known = codec.encode(io.BytesIO(data))
    for form in (data, bytearray(data), memoryview(data), {"bytes": data}, [data]):
        assert torch.equal(codec.encode(form).codes, known.codes)  # type: ignore[arg-type]
    assert len(Audio.of([data, Answer(data)])) == 2  # type: ignore[list-item]


def test_what_fails_while_a_file_is_read_is_told_as_it_is() -> None:
    class Failing(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            if self.tell() > 8000:
                raise OSError("the network is down")
            return super().read(count)

    refused(Failing(wav(PCM.tobytes(), RATE)), "the network is down")


# -- a stretch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["wav", "flac", "flac of no length", "mp3", "mp3 stream", "vorbis", "opus", "aac", "adpcm", "aiff"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stretch_is_what_the_whole_file_has_there(kind: str, channels: int, tmp_path: Path) -> None:
    x = sound(6 * RATE, RATE, channels)
    more = {
        "mp3 stream": lambda: without_length_frame(mp3(x, RATE)),
        "aac": lambda: encoded(x, RATE, "ipod", "aac"),
        "adpcm": lambda: written(x, RATE, "WAV", "IMA_ADPCM"),
        "aiff": lambda: written(x, RATE, "AIFF"),
    }
    path = tmp_path / "a"
    path.write_bytes(more[kind]() if kind in more else CHAINED[kind](x))
    whole, rate = audio_io.read(path)
    assert rate == RATE
    total = whole.shape[1]
    for offset, duration in [
        (0.0, 0.1),
        (0.123456, 0.3),
        (None, 1.5),
        (2.71, 1.1),
        (4.9, None),
        (5.5, 0.5 + total / RATE - 6),
    ]:
        found, _ = audio_io.read(path, offset=offset, duration=duration)
        start = round((offset or 0) * RATE)
        count = total - start if duration is None else round(duration * RATE)
        assert torch.equal(found, whole[:, start : start + count]), (offset, duration)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (48000, 2), (16000, 1), (8000, 2)])
def test_a_stretch_deep_inside_an_mp3_is_exact_without_what_comes_before(rate: int, channels: int, mode: str) -> None:
    """Frames borrow bits from those before them: decoding begins a few frames earlier, and not at the start."""
    file = mp3(sound(8 * rate, rate, channels), rate, mode)
    layer_2 = encoded(sound(8 * rate, rate, channels), rate, "mp2", "mp2") if rate > 8000 else file
    rng = np.random.default_rng(rate)
    for data in (file, without_length_frame(file), layer_2):
        whole = read(data)
        for start in [*rng.integers(4 * rate, 7 * rate, 6).tolist(), len(whole) - 1, len(whole) - 3000]:
            waveform, _ = audio_io.read(data, offset=start / rate, duration=0.2 if start < 7 * rate else None)
            stop = start + round(0.2 * rate) if start < 7 * rate else len(whole)
            assert np.array_equal(waveform.numpy().T, whole[start:stop]), start


def test_audio_load_reads_a_stretch_of_each_file(tmp_path: Path) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.flac"]
    for path in paths:
        audio_io.write(path, torch.from_numpy(sound(SAMPLES, RATE)).T, RATE)
    audio = Audio.load(paths, offset=0.25, duration=0.5)
    assert torch.equal(audio.waveform, Audio.load(paths).waveform[..., 4000:12000])
    assert len(Audio.load(paths[0], 8000, offset=1.0).waveform[0, 0]) == 2000


def test_a_stretch_that_is_not_there_is_refused() -> None:
    data = wav(PCM.tobytes(), RATE)  # 1.25 s
    for options, words in [
        ({"offset": -1.0}, ("offset", "-1")),
        ({"offset": float("nan")}, ("offset", "nan")),
        ({"duration": 0.0}, ("duration", "0")),
        ({"duration": 1e-6}, ("no sample", "16000 Hz")),
        ({"offset": 1.25}, ("begins at 1.25 s", "has 1.250 s")),
        ({"offset": 7.0, "duration": 1.0}, ("begins at 7.0 s", "has 1.250 s")),
        ({"offset": 1.0, "duration": 1.0}, ("ends at 2.0 s", "has 1.250 s")),
    ]:
        with pytest.raises(ValueError) as caught:
            audio_io.read(data, **options)
        assert all(word in str(caught.value) for word in words), caught.value
    # Times of a manifest are rounded.
    assert audio_io.read(data, offset=1.0, duration=0.3)[0].shape == (1, 4000)


# -- what a file says of itself ---------------------------------------------------------------------------


def test_a_file_says_its_rate_channels_and_length_without_being_decoded() -> None:
    x = sound(SAMPLES, RATE, 2)
    for kind in ("wav", "flac", "mp3", "vorbis", "opus"):
        assert audio_io.info(CHAINED[kind](x)) == (RATE, 2, SAMPLES)
    stream = without_length_frame(mp3(x, RATE))
    assert audio_io.info(stream) == (RATE, 2, len(read(stream)))
    assert audio_io.info(CHAINED["opus"](x) * 3) == (RATE, 2, 3 * SAMPLES)
    assert audio_io.info(with_flac_length(CHAINED["flac"](x), 0)) == (RATE, 2, None)
    rate, channels, samples = audio_io.info(by_ffmpeg(("ipod", "alac"), 2))
    assert (rate, channels, samples) == (48000, 2, 48000)
    with pytest.raises(ValueError, match="a web page"):
        audio_io.info(b"<html>")


def test_clips_of_ffmpegs_formats_are_batched_like_others(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.m4a").write_bytes(by_ffmpeg(("ipod", "alac")))
    (tmp_path / "broken.m4a").write_bytes(by_ffmpeg(("ipod", "alac"))[:1000])
    batches = [[entry.id for entry in batch.entries] for batch in plan_batches(open_source(str(tmp_path)), 8, 60.0)]
    assert sorted(batches) == [["0.m4a", "1.m4a", "2.m4a"], ["broken.m4a"]]


# -- the table -------------------------------------------------------------------------------------------------


def test_the_docs_name_every_container_and_suffix() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audio_files.md").read_text(encoding="utf-8")
    for container in CONTAINERS:
        assert f"| {container.name}" in text
    assert not [suffix for suffix in SUFFIXES if f"`{suffix}`" not in text]


def test_a_folder_is_searched_for_all_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(PCM.tobytes(), RATE))
    (tmp_path / "b.m4a").write_bytes(by_ffmpeg(("ipod", "aac")))
    (tmp_path / "c.mp2").write_bytes(b"<html>")
    source = open_source(str(tmp_path))
    assert [entry.id for entry in source.entries()] == ["a.wav", "b.m4a", "c.mp2"]
