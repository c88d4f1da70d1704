"""Blocks of values as byte planes, each coded by zstd or left as it is: the lossless code of packed weights.

Of a trained float only the exponent is predictable: 8 bits that hold about 2.7. So a value's bytes are pulled apart
into planes, and each plane of each block is a frame of zstd, with a checksum. zstd is tuned so that it does almost
nothing but Huffman coding, which is faster than its search for repeats and codes exponents shorter; any zstd reads it.
A plane that would shrink by less than 1.5 % stays in its frame as it is, as mantissas do.

    BF16  exponent | sign and mantissa
    F32   exponent | sign and 7 bits of mantissa | the two other bytes, or each by itself where one of them is
          predictable (the last is all zeros in what was once half precision)
    F16, F64, integers of several bytes: byte by byte, the highest first
    one byte: itself

Bits are moved, not computed with: NaN, -0 and infinity come back as they were.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
         "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}  # fmt: skip
ROTATED = ("BF16", "F32")  # in whose upper half the exponent's lowest bit and the sign change places

TILE = 1 << 16  # values that are put together at once: they stay in the processor's cache

PROBE = 1 << 16  # bytes from the middle of a plane by which it is judged
LEAST_GAIN = 0.985
TOGETHER = [1, 1, 2]  # bytes of a value in each plane of an F32 block whose two lowest are one plane
HASTY = -1000  # level of zstd that searches for nothing


class Coder:
    """zstd, tuned as above; each frame has its size and the checksum of its content. Not to be shared by threads.

    Raises:
        ImportError: no extra [packed].
    """

    def __init__(self) -> None:
        self._zstd = package()
        options = {"write_content_size": True, "write_checksum": True}
        tuned = self._zstd.ZstdCompressionParameters(
            compression_level=1,
            strategy=self._zstd.STRATEGY_FAST,
            window_log=17,
            hash_log=6,
            min_match=7,
            target_length=0,
            **options,
        )
        self._compressor = self._zstd.ZstdCompressor(compression_params=tuned)
        self._hasty = self._zstd.ZstdCompressor(level=HASTY, **options)
        self._decompressor = self._zstd.ZstdDecompressor()
        self._room = np.empty(0, np.uint8)

    def encode(self, plane: Bytes) -> bytes:
        """A plane as a frame, in which it is as it was where coding would gain too little."""
        return bytes((self._compressor if self.gains(plane) else self._hasty).compress(plane.data))

    def gains(self, plane: Bytes) -> bool:
        """Whether coding makes a plane noticeably shorter."""
        middle = plane[max(len(plane) - PROBE, 0) // 2 :][:PROBE]
        return len(self._compressor.compress(middle.data)) <= LEAST_GAIN * len(middle)

    def decode(self, frame: Bytes, plane: Bytes) -> None:
        """Fill a plane.

        Raises:
            ValueError: it is damaged.
        """
        try:
            about = self._zstd.get_frame_parameters(frame.data)
            # Only a frame of the plane's very size is decoded in one go, with its checksum.
            if about.content_size != len(plane) or not about.has_checksum:
                raise ValueError("a plane of another size")
            reader = self._decompressor.stream_reader(frame.data)
            if reader.readinto(plane.data) != len(plane) or reader.read(1):
                raise ValueError("a plane of another size")
        except self._zstd.ZstdError as error:
            raise ValueError(f"a plane that zstd cannot read: {error}") from None

    def room(self, size: int) -> Bytes:
        """Bytes that are free until the next call: memory that is new costs more than what is done with it."""
        if len(self._room) < size:
            self._room = np.empty(size, np.uint8)
        return self._room[:size]


_own = threading.local()


def coder() -> Coder:
    """This thread's coder.

    Raises:
        ImportError: no extra [packed].
    """
    if not hasattr(_own, "coder"):
        _own.coder = Coder()
    found: Coder = _own.coder
    return found


def package() -> ModuleType:
    """PyPI's zstandard.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise ImportError('packed weights need the package zstandard: pip install "codeczoo[packed]"') from error
    return zstandard


def frames_of(block: Bytes, kind: str) -> list[bytes]:
    """A block's bytes as frames, one a plane."""
    own, planes = coder(), split(block, kind)
    if kind == "F32" and not any(own.gains(plane) for plane in planes[2:]):
        lower = np.ascontiguousarray(block.view("<u2")[::2]).view(np.uint8)
        planes = [*planes[:2], lower]  # is put together sooner
    return [own.encode(plane) for plane in planes]


def fill(block: Bytes, frames: Sequence[Bytes], kind: str) -> None:
    """The way back of `frames_of`, into the bytes `block`.

    Raises:
        ValueError: a frame is damaged.
    """
    own, size = coder(), SIZES[kind]
    widths = [1] * size if len(frames) == size else TOGETHER
    room = block if size == 1 else own.room(len(block))
    ends = np.cumsum(widths) * (len(block) // size)
    planes = np.split(room, ends[:-1])
    for frame, plane in zip(frames, planes, strict=True):
        own.decode(frame, plane)
    if size > 1:
        join(planes, kind, block)


def split(raw: Bytes, kind: str) -> list[Bytes]:
    """The bytes of whole values → planes."""
    size = SIZES[kind]
    if size == 1:
        return [raw]
    columns = raw.reshape(-1, size)
    low = [np.ascontiguousarray(columns[:, byte]) for byte in reversed(range(size - 2 if kind in ROTATED else size))]
    if kind not in ROTATED:
        return low
    upper = np.ascontiguousarray(raw.view("<u2")[size // 2 - 1 :: size // 2])
    exponent = (upper >> 7).astype(np.uint8)
    sign = ((upper >> 8) & 0x80).astype(np.uint8)
    return [exponent, sign | (upper & 0x7F).astype(np.uint8), *low]


def join(planes: Sequence[Bytes], kind: str, out: Bytes) -> None:
    """The way back of `split`, into the bytes `out`."""
    size = SIZES[kind]
    if size == 1:
        out[:] = planes[0]
        return
    if kind in ROTATED:
        _join_rotated(planes, out, size)
        return
    columns = out.reshape(-1, size)
    for byte, plane in zip(reversed(range(size)), planes, strict=True):
        columns[:, byte] = plane


def _join_rotated(planes: Sequence[Bytes], out: Bytes, size: int) -> None:
    """`join` for BF16 and F32: in whole words, each plane brought to its place and added."""
    words = out.view(f"<i{size}")
    exponent, signed, *low = planes
    bits = 8 * (size - 2)  # below the mantissa's upper 7
    parts: list[tuple[NDArray[Any], int]] = [(exponent, bits + 7)]
    if len(low) == 1:
        parts.append((low[0].view("<u2"), 0))
    else:
        parts += [(plane, 8 * byte) for byte, plane in zip(reversed(range(size - 2)), low, strict=True)]
    room = np.empty(min(TILE, len(words)), words.dtype)
    no_exponent = words.dtype.type(~(0xFF << bits + 7))
    for start in range(0, len(words), TILE):
        word = words[start : start + TILE]
        word[:] = signed.view(np.int8)[start : start + TILE]  # the sign is spread over all upper bits
        word <<= bits
        word &= no_exponent
        other = room[: len(word)]
        for plane, shift in parts:
            other[:] = plane[start : start + TILE]
            if shift:
                other <<= shift
            word |= other


def delta(raw: Bytes, row: int) -> Bytes:
    """One-byte values → differences along rows of `row` values, modulo 256; the first of each row stays."""
    table = raw.reshape(-1, row)
    return np.concatenate([table[:, :1], table[:, 1:] - table[:, :-1]], axis=1).ravel()


def undo_delta(raw: Bytes, row: int) -> Bytes:
    return np.cumsum(raw.reshape(-1, row), axis=1, dtype=np.uint8).ravel()


def entropy(raw: Bytes) -> float:
    """Bits a byte, of the bytes by themselves."""
    counts = np.bincount(raw, minlength=256)
    shares = counts[counts > 0] / max(len(raw), 1)
    return float(-(shares * np.log2(shares)).sum())
