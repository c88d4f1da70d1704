"""Blocks of values as byte planes, each coded by zstd or left as it is: the lossless code of packed weights.

Of a trained float only the exponent is predictable: 8 bits that hold about 2.7. So a value's bytes are pulled apart
into planes, and each plane of each block is coded for itself. zstd is tuned so that it does almost nothing but Huffman
coding, which is faster than its search for repeats and codes exponents shorter; any zstd reads it. A plane that would
shrink by less than 1.5 % stays as it is, as mantissas do.

    BF16  exponent | sign and mantissa
    F32   exponent | sign and 7 bits of mantissa | two bytes of mantissa (all zeros in what was once half precision)
    F16, F64, integers of several bytes: byte by byte, the highest first
    one byte: itself

Bits are moved, not computed with: NaN, -0 and infinity come back as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
         "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}  # fmt: skip
ROTATED = ("BF16", "F32")  # whose upper half gives its sign to the lower byte, so that the upper is the exponent

PROBE = 1 << 16  # bytes from the middle of a plane by which it is judged
LEAST_GAIN = 0.985


class Coder:
    """zstd, tuned as above. Not to be shared by threads.

    Raises:
        ImportError: no extra [packed].
    """

    def __init__(self) -> None:
        self._zstd = package()
        self._compressor = self._zstd.ZstdCompressor(
            compression_params=self._zstd.ZstdCompressionParameters(
                compression_level=1,
                strategy=self._zstd.STRATEGY_FAST,
                window_log=17,
                hash_log=6,
                min_match=7,
                target_length=0,
                write_content_size=1,
                write_checksum=0,
            )
        )
        self._decompressor = self._zstd.ZstdDecompressor()

    def encode(self, plane: Bytes) -> bytes:
        """A plane, coded; as it is, where that would gain too little."""
        if len(plane) > 2 * PROBE:
            middle = plane[len(plane) // 2 :][:PROBE]
            if len(self._compressor.compress(middle.data)) > LEAST_GAIN * PROBE:
                return plane.tobytes()
        coded = bytes(self._compressor.compress(plane.data))
        return coded if len(coded) <= LEAST_GAIN * len(plane) else plane.tobytes()

    def decode(self, coded: Bytes, size: int) -> Bytes:
        """The plane of `size` bytes.

        Raises:
            ValueError: it is damaged.
        """
        if len(coded) == size:
            return coded
        try:
            # A damaged frame may claim any size, which would be allocated before it is found out.
            if self._zstd.get_frame_parameters(coded.data).content_size != size:
                raise ValueError("a plane of another size")
            plane = np.frombuffer(self._decompressor.decompress(coded.data, max_output_size=size), np.uint8)
        except self._zstd.ZstdError as error:
            raise ValueError(f"a plane that zstd cannot read: {error}") from None
        if len(plane) != size:
            raise ValueError("a plane of another size")
        return plane


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


def split(raw: Bytes, kind: str) -> list[Bytes]:
    """The bytes of whole values → planes."""
    size = SIZES[kind]
    if size == 1:
        return [raw]
    columns = raw.reshape(-1, size)
    low = [np.ascontiguousarray(columns[:, byte]) for byte in reversed(range(size - 2 if kind in ROTATED else size))]
    if kind not in ROTATED:
        return low
    upper = raw.view("<u2")[size // 2 - 1 :: size // 2]
    turned = ((upper << 1) | (upper >> 15)).view(np.uint8).reshape(-1, 2)
    return [np.ascontiguousarray(turned[:, 1]), np.ascontiguousarray(turned[:, 0]), *low]


def join(planes: Sequence[Bytes], kind: str, out: Bytes) -> None:
    """The way back of `split`, into the bytes `out`."""
    size = SIZES[kind]
    if size == 1:
        out[:] = planes[0]
        return
    columns = out.reshape(-1, size)
    if kind in ROTATED:
        turned = planes[0].astype(np.uint16)
        turned <<= 8
        turned |= planes[1]
        upper = turned >> 1
        turned <<= 15
        upper |= turned
        out.view("<u2")[size // 2 - 1 :: size // 2] = upper
        planes, size = planes[2:], size - 2
    for byte, plane in zip(reversed(range(size)), planes, strict=True):
        columns[:, byte] = plane


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
