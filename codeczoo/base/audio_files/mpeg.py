"""MPEG audio (MP1, MP2, MP3): its frames, counted, because its headers do not say how long it is."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from codeczoo.base.audio_files.mpeg_entry import Frames, encoder_cut
from codeczoo.base.audio_files.parts import Part, Window, warn

# kbit/s by index, of (MPEG-1 or later, layer)
BITRATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, of versions 1, 2, 2.5
LONGEST_FRAME = 2881  # bytes: layer II, 160 kbit/s at 8 kHz
SEARCHED = 1 << 16  # bytes in which the first frame must begin
LIKELY = re.compile(rb"\xff[\xe2-\xff]|ID3|TAG|APETAGEX|LYRICSBEGIN")  # a frame or a tag may begin here
LENGTH_FRAMES = (b"Xing", b"Info", b"VBRI")  # their words
FULL = (1 << 32) - 1


class Header(NamedTuple):
    """What the four bytes of a frame's header say."""

    length: int  # bytes of the frame
    samples: int
    stream: tuple[int, int, int, bool]  # version, layer, rate, mono: the same in all frames of a stream
    side: int  # bytes of side information, behind which a length frame has its word


@dataclass
class Stream:
    """Frames of one kind, between one length frame and the next."""

    kind: tuple[int, int, int, bool]
    info: tuple[int, int, int] | None = None  # where a length frame begins and ends, and where its count is
    announced: int | None = None  # frames, by the length frame
    frames: int = 0
    samples: int = 0
    runs: list[list[int]] = field(default_factory=list)  # [start, stop] of frames without a gap
    starts: list[int] = field(default_factory=list)  # of its frames, in what the runs hold
    size: int = 0  # bytes that the runs hold

    def add(self, start: int, stop: int, samples: int) -> None:
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1][1] = stop
        else:
            self.runs.append([start, stop])
        self.starts.append(self.size)
        self.size += stop - start
        self.frames += 1
        self.samples += samples


@lru_cache(maxsize=4096)
def header(word: bytes) -> Header | None:
    """A frame's header; None if these four bytes are none. Frames of "free" bitrate, which nobody writes, are none."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version, layer = word[1] >> 3 & 3, 4 - (word[1] >> 1 & 3)
    bitrate, rate, padding = word[2] >> 4, word[2] >> 2 & 3, word[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or bitrate in (0, 15):
        return None
    first = 1 if version == 3 else 2
    hertz, bits = RATES[version][rate], 1000 * BITRATES[first, layer][bitrate]
    mono = word[3] >> 6 == 3
    samples = 384 if layer == 1 else 1152 if layer == 2 or first == 1 else 576
    length = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    side = (17 if mono else 32) if first == 1 else (9 if mono else 17)
    return Header(length, samples, (version, layer, hertz, mono), side)


def id3v2_length(head: bytes) -> int:
    """Bytes of the ID3v2 tag that begins with `head`; 0 if it is none."""
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
        return 0
    return (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (20 if head[5] & 16 else 10)


def tag_length(data: bytes, at: int) -> int:
    """Bytes of a tag (ID3v1, ID3v2, APE, Lyrics3) that begins at `at`; 0 if none does."""
    head = data[at : at + 32]
    if size := id3v2_length(head):
        return size if at + size <= len(data) else 0
    if head[:4] == b"TAG+" and len(data) - at >= 227:
        return 227
    if head[:3] == b"TAG" and len(data) - at == 128:
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size = int.from_bytes(head[12:16], "little")
        size = 32 + (size if int.from_bytes(head[20:24], "little") & 1 << 29 else 0)
        return size if at + size <= len(data) else 0
    if head[:11] == b"LYRICSBEGIN":
        end = max(data.find(b"LYRICS200", at), data.find(b"LYRICSEND", at))
        return end + 9 - at if end > 0 else 0
    return 0


def starts(data: bytes) -> int | None:
    """Where the first frame begins, behind tags; None if the bytes are no MPEG audio."""
    at = 0
    while skipped := tag_length(data, at):
        at += skipped
    return next(_syncs(data[: at + SEARCHED + 2 * LONGEST_FRAME], at, None), None)


def parts(data: bytes, name: str) -> list[Part]:
    """The streams of an MPEG audio file, each with the number of samples that its frames have.

    Raises:
        ValueError: the last frame is cut, announced frames are missing, or most of the bytes are no frames.
    """
    streams, strange = _streams(data, name)
    left_out, sound = sum(stop - start for start, stop in strange), sum(stream.size for stream in streams)
    if left_out > sound:
        raise ValueError(f"{name}: damaged: {left_out} bytes are no MPEG frames, and {sound} bytes are")
    if strange:
        where = ", ".join(f"{a} to {b}" for a, b in strange[:3]) + (" and more" if len(strange) > 3 else "")
        warn(name, f"bytes {where} are neither MPEG frames nor a tag; what they held is left out")
    found = [_part(data, stream, name) for stream in streams if stream.frames or stream.announced]
    if not found:
        raise ValueError(f"{name}: the file holds no samples")
    return found


def _streams(data: bytes, name: str) -> tuple[list[Stream], list[tuple[int, int]]]:
    """The streams, and the places that are neither frames nor tags."""
    streams: list[Stream] = []
    strange: list[tuple[int, int]] = []
    at, size = 0, _end(data)
    marks = {place for word in LENGTH_FRAMES for place in _places(data, word)}
    while at < size:
        found = header(data[at : at + 4])
        known = streams[-1].kind if streams else None
        if found is not None and (found.stream == known or _confirmed(data, at, found)):
            stop = at + found.length
            if stop > size:  # a frame that is cut, perhaps with a tag behind it
                last = streams[-1] if streams else None
                if last is None or last.announced is None or last.frames < last.announced:
                    raise ValueError(
                        f"{name}: truncated: the last frame has {size - at} of {found.length} bytes "
                        f"({last.samples if last else 0} samples come before it)"
                    )
                break
            kind = _length_frame(data, at, found, marks)
            if kind is not None or found.stream != known:
                streams.append(Stream(found.stream))
            if kind is None:
                streams[-1].add(at, stop, found.samples)
            else:
                place, announced = kind
                streams[-1].announced = announced
                streams[-1].info = (at, stop, place) if place else None
            at = stop
        elif skipped := tag_length(data, at):
            at += skipped
        else:
            begin, at = at, min(next(_syncs(data, at + 1, known), size), size)
            if data[begin:at].strip(b"\0"):
                strange.append((begin, at))
    return streams, strange


def _places(data: bytes, word: bytes) -> Iterator[int]:
    place = data.find(word)
    while place >= 0:
        yield place
        place = data.find(word, place + 1)


def _end(data: bytes) -> int:
    """Where the sound ends at the latest: before the tags that are found by their end."""
    end = len(data)
    while True:
        if data[end - 128 : end - 125] == b"TAG":
            end -= 128
        elif data[end - 32 : end - 24] == b"APETAGEX" and (size := int.from_bytes(data[end - 20 : end - 16], "little")):
            end -= size + (32 if data[end - 9] & 128 else 0)  # it may have a header too
        elif data[end - 9 : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
            end -= int(data[end - 15 : end - 9]) + 15
        else:
            return max(end, 0)


def _part(data: bytes, stream: Stream, name: str) -> Part:
    announced = stream.announced
    # Some writers count the length frame too.
    if announced is not None and stream.frames < max(announced - 1, 1):
        raise ValueError(f"{name}: truncated: {announced} frames are announced and {stream.frames} are there")
    body = b"".join(data[start:stop] for start, stop in stream.runs)
    enter = _frames(data, stream, body).enter
    if stream.info is None:
        # More than the length of any file of so many frames, by the first one's length.
        handle = io.BytesIO(body)
        claimed = len(body) + (stream.frames + 2) * LONGEST_FRAME
        window = Window(handle, 0, len(body), claimed=claimed)
        return Part(window, samples=stream.samples, estimated=True, enter=enter)
    begin, stop, place = stream.info
    frame = bytearray(data[begin:stop])
    if stream.frames != announced:
        frame[place : place + 4] = min(stream.frames, FULL).to_bytes(4, "big")
        if frame[place - 1] & 2:  # the bytes are counted too
            frame[place + 4 : place + 8] = min(len(frame) + len(body), FULL).to_bytes(4, "big")
    return Part(io.BytesIO(bytes(frame) + body), enter=enter)


def _frames(data: bytes, stream: Stream, body: bytes) -> Frames:
    found = header(body[:4])
    cut = None
    if stream.info is not None:
        begin, stop, place = stream.info
        cut = encoder_cut(data[begin:stop], place)
    return Frames(
        body,
        stream.starts,
        samples=found.samples if found else 0,
        layer=stream.kind[1],
        side=found.side if found else 0,
        longest=LONGEST_FRAME,
        cut=cut,
        gapless=stream.info is not None,
    )


def _length_frame(data: bytes, at: int, found: Header, marks: Set[int]) -> tuple[int, int | None] | None:
    """Of a length frame, the place of its count (0: it is to be left out) and the count; None if it is none.

    `marks` are the places where the word of such a frame stands.
    """
    places = [place for place in (4 + found.side, 6 + found.side, 36) if at + place in marks]  # 6: behind a checksum
    for place in places:
        word = data[at + place : at + place + 18]
        if found.stream[1] == 3 and word[:4] != b"VBRI" and len(word) >= 12:
            if not word[7] & 1:
                return 0, None  # it counts nothing
            return place + 8, int.from_bytes(word[8:12], "big")
        if place == 36 and word[:4] == b"VBRI" and len(word) == 18:
            return 0, int.from_bytes(word[14:18], "big")
    return None


def _confirmed(data: bytes, at: int, found: Header) -> bool:
    """Whether another frame, a tag or the end of the file follows."""
    stop = at + found.length
    following = header(data[stop : stop + 4])
    if following is not None:
        return following.stream[:3] == found.stream[:3]
    return stop == len(data) or tag_length(data, stop) > 0


def _syncs(data: bytes, at: int, known: tuple[int, int, int, bool] | None) -> Iterator[int]:
    """Where frames or tags begin, from `at` on."""
    for match in LIKELY.finditer(data, at):
        place = match.start()
        found = header(data[place : place + 4])
        if found is None:
            if tag_length(data, place):
                yield place
        elif _confirmed(data, place, found) or (found.stream == known and place + found.length > len(data)):
            yield place
