"""The chunks of a `.czt` file: each has a type, a length, a payload and a check sum.

So a file can be streamed, searched and joined with another. docs/czt.md describes the format byte by byte.

    chunk = type (1 byte; of a header 4: "CZT1") · length of the payload (varint) · payload · CRC-32

The check sum counts the chunk's number in its section too. So a chunk that is missing, doubled or out of place is found
like one that is damaged.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, NamedTuple

HEADER, MODEL, CLIP, DATA, END_OF_CLIP, END = b"CZT1", b"m", b"c", b"d", b"e", b"z"
MAGIC = HEADER
KINDS = (MODEL, CLIP, DATA, END_OF_CLIP, END)
MAX_VARINT_BYTES = 9  # 63 bits
SKIPPED = 2 * MAX_VARINT_BYTES  # bytes that are read of a chunk that is skipped
PIECE = 1 << 20  # bytes that are read at once: a length is believed no further than the bytes that come


class CztError(ValueError):
    """A `.czt` file that is damaged, cut short, or of another kind."""


class Chunk(NamedTuple):
    """One chunk of a file; `payload` is the first bytes of one that was skipped."""

    kind: bytes
    payload: bytes
    offset: int  # of the chunk in the file, in bytes
    number: int  # in its section


def varint(value: int) -> bytes:
    """A whole number from 0 in 7 bits a byte, from the low ones; the high bit says that more follow."""
    if value < 0:
        raise ValueError(f"a varint is at least 0; it is {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(next_byte: Callable[[], bytes]) -> int:
    """The way back of `varint`, from bytes one by one."""
    value = 0
    for place in range(MAX_VARINT_BYTES):
        (byte,) = next_byte()
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value
    raise CztError(f"a number of more than {MAX_VARINT_BYTES} bytes")


class Fields:
    """Reads a payload from its start, field by field."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at = payload, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.payload) - self.at:
            raise CztError(f"a field of {count} bytes where {len(self.payload) - self.at} are left")
        self.at += count
        return self.payload[self.at - count : self.at]

    def varint(self) -> int:
        return read_varint(lambda: self.take(1))

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self.payload) - self.at)

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.payload):
            raise CztError(f"{len(self.payload) - self.at} bytes too many in a chunk")


def put_text(text: str) -> bytes:
    """A text in UTF-8 behind its length."""
    return varint(len(text.encode())) + text.encode()


def chunk(kind: bytes, payload: bytes, number: int) -> bytes:
    """A whole chunk, the `number`-th of its section."""
    head = kind + varint(len(payload))
    return head + payload + zlib.crc32(payload, zlib.crc32(head, number)).to_bytes(4, "little")


class ChunkReader:
    """Reads the chunks of an open file, from where it stands. The file need not be able to seek."""

    def __init__(self, file: BinaryIO, number: int = 0) -> None:
        self.file, self.number, self.at = file, number, 0

    def read(self, skip: Collection[bytes] = ()) -> Chunk | None:
        """The next chunk, whole and checked; None at the end of the file.

        Args:
            skip: types of which only the first bytes are read, unchecked. The file must be able to seek.

        Raises:
            CztError: the file ends within the chunk, its check sum differs, or no chunk begins there.
        """
        offset, first = self.at, self._take(1, may_end=True)
        if not first:
            return None
        if first == HEADER[:1]:
            first += self._take(len(HEADER) - 1)
            self.number = 0
        if first not in (HEADER, *KINDS):
            raise CztError(f"no chunk begins at byte {offset}, where {first!r} stands")
        head, size = self._length(first)
        if first in skip and size > SKIPPED:
            return self._skip(first, size, offset)
        payload = self._take(size)
        if zlib.crc32(payload, zlib.crc32(head, self.number)) != int.from_bytes(self._take(4), "little"):
            raise CztError(f"the chunk at byte {offset} is damaged, or not in its place: its check sum differs")
        self.number += 1
        return Chunk(first, payload, offset, self.number - 1)

    def __iter__(self) -> Iterator[Chunk]:
        while (found := self.read()) is not None:
            yield found

    def _skip(self, kind: bytes, size: int, offset: int) -> Chunk:
        payload = self._take(SKIPPED)
        self.file.seek(size - SKIPPED, os.SEEK_CUR)
        self.at += size - SKIPPED
        self._take(4)  # the check sum, which must be there
        self.number += 1
        return Chunk(kind, payload, offset, self.number - 1)

    def _length(self, head: bytes) -> tuple[bytes, int]:
        """The bytes before the payload, and its length."""
        before = bytearray(head)

        def next_byte() -> bytes:
            byte = self._take(1)
            before.extend(byte)
            return byte

        size = read_varint(next_byte)
        return bytes(before), size

    def _take(self, count: int, may_end: bool = False) -> bytes:
        parts, left = [], count
        while left:
            part = self.file.read(min(left, PIECE))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        if left and not (may_end and left == count):
            raise CztError(f"cut short: {left} of {count} bytes are missing at byte {self.at + count - left}")
        self.at += count - left
        return b"".join(parts)
