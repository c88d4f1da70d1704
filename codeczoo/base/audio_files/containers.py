"""The containers that are read, and what is believed of each one's length.

A header's number of samples, the bytes that are there and a decoding to the end may disagree. This table says for each
container which is the truth. Whatever it is, fewer samples than it says are the error "truncated", and a number that
no bytes stand behind costs no memory, because samples are kept as they are decoded, in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codeczoo.base.audio_files import asf, caf, ebml, flac, mpeg, nist, not_audio, ogg, riff, w64
from codeczoo.base.audio_files.parts import File, Part

HEAD = 1 << 12  # bytes by which a container is known
TEXT_OF_LIBSNDFILE = (b"PVF1", b"Creative Voice File", b"ALawSoundFile**")  # headers that are text


@dataclass(frozen=True)
class Container:
    """A form of file: how it is known, which parts it has, and what says how long they are."""

    name: str
    suffixes: tuple[str, ...]  # by which folders are searched
    known: Callable[[bytes], bool]  # by its first bytes, behind an ID3v2 tag
    parts: Callable[[File, int], list[Part]]  # of the file, whose container begins at this byte
    truth: str


def _starts(*words: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head[at:].startswith(words)


def _whole(fallback: str | None = None) -> Callable[[File, int], list[Part]]:
    return lambda file, start: [Part(file.part_of(start, file.size).handle, fallback=fallback)]


def _by(demuxer: str) -> Callable[[File, int], list[Part]]:
    return lambda file, start: [Part(file.part_of(start, file.size).handle, demuxer=demuxer)]


def _matroska(file: File, start: int) -> list[Part]:
    ebml.check(file)
    return [Part(file.handle, demuxer="matroska")]


def _adts(file: File, start: int) -> list[Part]:
    """The frames of AAC have lengths, which must end where the file does."""
    at, data = start, file.at(0, file.size)
    while at + 7 <= len(data) and _is_adts(data[at : at + 7]):
        at += max((data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5, 7)
    if at > len(data):
        raise ValueError(f"{file.name}: truncated: the last AAC frame lacks {at - len(data)} bytes")
    return [Part(file.part_of(start, file.size).handle, demuxer="aac")]


def _is_adts(head: bytes) -> bool:
    return len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


CONTAINERS = (
    Container(
        "WAV",
        (".wav",),
        lambda head: head[:4] in riff.FORMS and head[8:12] == b"WAVE",
        lambda file, start: riff.parts(file.part_of(start, file.size)),
        "the size of the chunk `data`; what writers into a pipe leave there (0, all ones) means to the end. "
        "ADPCM: the chunk `fact` too, because the last block is filled up. MP3 inside: its frames",
    ),
    Container("AIFF", (".aiff", ".aif", ".aifc"), _starts(b"FORM"), _whole("aiff"), "the size of `SSND`; 0: the bytes"),
    Container(
        "W64",
        (".w64",),
        _starts(b"riff"),
        lambda file, start: w64.parts(file.part_of(start, file.size)),
        "the size of `data`; -1: to the end. ADPCM: `fact` too, as in WAV",
    ),
    Container("AU", (".au", ".snd"), _starts(b".snd", b"dns."), _whole("au"), "the header's size; -1: to the end"),
    Container(
        "CAF",
        (".caf",),
        _starts(b"caff"),
        lambda file, start: caf.parts(file.part_of(start, file.size)),
        "the size of `data`; -1: to the end",
    ),
    Container(
        "NIST SPHERE",
        (".sph", ".nist"),
        _starts(b"NIST_1A"),
        lambda file, start: nist.parts(file.part_of(start, file.size)),
        "the header's `sample_count`",
    ),
    Container(
        "FLAC",
        (".flac",),
        _starts(b"fLaC"),
        flac.parts,
        "STREAMINFO's number of samples; 0 (not known), or fewer than the last frame's number: a decoding to the end. "
        "Files end to end: each of them",
    ),
    Container(
        "Ogg",
        (".ogg", ".oga", ".opus", ".spx"),
        _starts(b"OggS"),
        lambda file, start: ogg.parts(file.at(start, file.size - start), file.name),
        "the last page's position of every stream in the chain; the checksums of all pages must match",
    ),
    Container(
        "MP3",
        (".mp3", ".mp2", ".mp1", ".mpga"),
        lambda head: mpeg.starts(head) is not None,
        lambda file, start: mpeg.parts(file.at(0, file.size), file.name),
        "the frames, counted in the bytes; a length frame (Xing, Info, VBRI) only says how many there must be, and "
        "what its encoder added at either end",
    ),
    Container(
        "AAC",
        (".aac",),
        lambda head: _is_adts(head[:7]),
        _adts,
        "a decoding to the end; the last frame must be whole",
    ),
    Container(
        "MPEG-4",
        (".m4a", ".m4b", ".3gp"),
        _starts(b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", at=4),
        _by("mov"),
        "the index of packets, all of which must be there; the track's length cuts what fills the last packet",
    ),
    Container(
        "Matroska",
        (".webm", ".mka"),
        _starts(b"\x1a\x45\xdf\xa3"),
        _matroska,
        "a decoding to the end; no element may be cut, and the length is reached where one is told",
    ),
    Container(
        "WMA",
        (".wma",),
        _starts(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        lambda file, start: asf.parts(file.part_of(start, file.size)),
        "a decoding to the end; the file must be as large as its header says",
    ),
    Container(
        "AMR",
        (".amr", ".awb"),
        _starts(b"#!AMR"),
        _by("amr"),
        "a decoding to the end; the last frame must be whole",
    ),
    Container(
        "WavPack",
        (".wv",),
        _starts(b"wvpk"),
        _by("wv"),
        "a decoding to the end; the first block's number of samples must be reached",
    ),
    Container("True Audio", (".tta",), _starts(b"TTA1"), _by("tta"), "a decoding to the end; the header's"),
)
OTHER = Container(
    "another container of libsndfile",
    (),
    lambda head: True,
    _whole(),
    "the header's size or number of samples where libsndfile tells it (VOC, AVR, SVX, MAT, MPC, WVE); PAF, PVF "
    "and IRCAM have none, so the bytes",
)


# By which folders are searched. They are the same whether or not a decoder for all of them is installed, so that a data
# set has the same clips everywhere: a clip without its decoder fails by name, and the reason says what to install.
# Files of films (.mp4, .mkv) are read where they are named, and not searched for.
SUFFIXES = tuple(suffix for container in CONTAINERS for suffix in container.suffixes)


def identify(file: File) -> tuple[Container, int]:
    """The container of a file by its bytes (never by its name), and the byte at which it begins.

    Raises:
        ValueError: the file is no audio; the message says what it is.
    """
    head = file.at(0, HEAD)
    start = 0
    while (skipped := mpeg.id3v2_length(head)) and start + skipped < file.size:
        start += skipped
        head = file.at(start, HEAD)
    for container in CONTAINERS:
        if container.name != "MP3" and container.known(head):
            return container, start
    found = None if head.startswith(TEXT_OF_LIBSNDFILE) else not_audio.what_is(head, file.size)
    if found is not None:
        raise ValueError(f"{file.name}: not readable as audio: it is {found}")
    mp3 = next(container for container in CONTAINERS if container.name == "MP3")
    if mp3.known(file.at(start, mpeg.SEARCHED)):
        return mp3, start
    return OTHER, start
