"""How the codes of a block of frames become bytes in a `.czt` file: packed bits, or asymmetric numeral systems (ANS)
with a static model for each codebook.

All numbers are integers, so every machine writes and reads the same bytes. `constriction` codes; the model is a table
of frequencies that sum to 2 ** 24, and docs/czt.md has a reader of NumPy alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from codeczoo.czt.chunks import CztError, Fields, varint

PRECISION = 24  # bits of a probability
MAX_MODEL_SIZE = 1 << 20  # entries of a codebook that can have a model
MAX_MODEL_ENTRIES = 1 << 23  # of all codebooks
PACKED, ANS = 0, 1

Array = np.ndarray


def bits_of(size: int) -> int:
    """Bits of a packed code of a codebook of `size` entries: 10 for 1024, 0 for 1."""
    return (size - 1).bit_length()


def can_have_model(sizes: Sequence[int]) -> bool:
    """Whether codes of codebooks of these sizes can be entropy-coded."""
    return max(sizes) <= MAX_MODEL_SIZE and sum(sizes) <= MAX_MODEL_ENTRIES


def packed_bytes(counts: Sequence[int], sizes: Sequence[int]) -> int:
    """Bytes that `pack` makes of so many codes of each codebook."""
    return -(-sum(count * bits_of(size) for count, size in zip(counts, sizes, strict=True)) // 8)


def pack(rows: Sequence[Array], sizes: Sequence[int]) -> bytes:
    """Codes [n_k] of each codebook end to end, each code from its low bit upward, from the low bit of each byte."""
    parts = [
        (row.astype(np.int64)[:, None] >> np.arange(bits_of(size)) & 1).astype(np.uint8).reshape(-1)
        for row, size in zip(rows, sizes, strict=True)
    ]
    return np.packbits(np.concatenate(parts) if parts else np.zeros(0, np.uint8), bitorder="little").tobytes()


def unpack(data: bytes, counts: Sequence[int], sizes: Sequence[int]) -> list[Array]:
    """What `pack` packed: int64 [n_k] of each codebook, each in range."""
    widths = [bits_of(size) for size in sizes]
    total = sum(count * width for count, width in zip(counts, widths, strict=True))
    if len(data) != packed_bytes(counts, sizes):
        raise CztError(f"a block of {total} bits in {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[total:].any():
        raise CztError("a block whose last bits are not 0")
    rows, at = [], 0
    for count, width, size in zip(counts, widths, sizes, strict=True):
        row = bits[at : at + count * width].reshape(count, width).astype(np.int64) @ (1 << np.arange(width))
        if count and int(row.max()) >= size:
            raise CztError(f"a code {int(row.max())} of a codebook of {size} entries")
        rows.append(row)
        at += count * width
    return rows


class Model:
    """A table of frequencies for each codebook; those of one sum to 2 ** 24, and each is at least 1."""

    def __init__(self, tables: Sequence[Array]) -> None:
        self.tables = [np.asarray(table, np.int64) for table in tables]
        for table in self.tables:
            if not len(table) or table.min() < 1 or int(table.sum()) != 1 << PRECISION:
                raise CztError(f"frequencies must be at least 1 and sum to 2 ** {PRECISION}")
        self._coders: list[Any] | None = None

    @classmethod
    def fit(cls, rows: Sequence[Array], sizes: Sequence[int]) -> Model:
        """The model of these codes: int [n_k] of each codebook. A code that is not among them counts as half a one."""
        return cls([_spread(_quantized(np.bincount(r, minlength=n))) for r, n in zip(rows, sizes, strict=True)])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of entries of each codebook."""
        return tuple(len(table) for table in self.tables)

    def bits(self, rows: Sequence[Array]) -> float:
        """Bits that codes [n_k] of each codebook take by this model: the bound that a coder comes near to."""
        return float(
            sum(PRECISION * len(r) - np.log2(t[r]).sum() for r, t in zip(rows, self.tables, strict=True) if len(r))
        )

    def encode(self, rows: Sequence[Array]) -> bytes:
        """Codes [n_k] of each codebook as bytes.

        Raises:
            ImportError: `constriction` is not installed.
        """
        coder = _constriction().stream.stack.AnsCoder()
        # A stack gives back what went in last, so codes are put in from the last one on.
        for row, model in zip(reversed(rows), reversed(self._models()), strict=True):
            if model is not None:
                coder.encode_reverse(np.ascontiguousarray(row, np.int32), model)
        words: Array = coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")  # the last word is never 0

    def decode(self, data: bytes, counts: Sequence[int]) -> list[Array]:
        """What `encode` coded: int64 [n_k] of each codebook."""
        words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
        if len(words) and not words[-1]:
            raise CztError("a block that ends with zeros")
        coder = _constriction().stream.stack.AnsCoder(words)
        rows = [
            np.zeros(count, np.int64) if model is None else np.asarray(coder.decode(model, count), np.int64)
            for model, count in zip(self._models(), counts, strict=True)
        ]
        if not coder.is_empty():
            raise CztError("a block that holds more than its codes")
        return rows

    def to_bytes(self) -> bytes:
        """The tables, for a file: of each codebook the bits of its sum, and each frequency less 1 as a varint."""
        out = bytearray()
        for table in self.tables:
            small, precision = _gathered(table)
            out += varint(precision) + b"".join(varint(int(value) - 1) for value in small)
        return zlib.compress(bytes(out), 9)

    @classmethod
    def from_bytes(cls, data: bytes, sizes: Sequence[int]) -> Model:
        """What `to_bytes` gave, of codebooks of these sizes."""
        if not can_have_model(sizes):
            raise CztError(f"a model of codebooks of {sum(sizes)} entries, the largest of {max(sizes)}, cannot be")
        limit = sum(4 * size + 1 for size in sizes) + 1
        try:
            fields = Fields(zlib.decompressobj().decompress(data, limit))
        except zlib.error as error:
            raise CztError(f"a model that does not unpack ({error})") from error
        tables = []
        for size in sizes:
            precision = fields.varint()
            if precision > PRECISION:
                raise CztError(f"frequencies of {precision} bits; {PRECISION} are the most")
            tables.append(np.array([fields.varint() + 1 for _ in range(size)], np.int64) << (PRECISION - precision))
        fields.end()
        return cls(tables)

    def _models(self) -> list[Any]:
        if self._coders is None:
            categorical = _constriction().stream.model.Categorical
            # It gives every entry 1 and shares out the rest by these weights. They sum to that rest, so nothing is
            # rounded and entry i has exactly table[i] of 2 ** 24. One entry alone takes no bits, and no coder.
            self._coders = [
                categorical((t - 1).astype(np.float64), perfect=False) if len(t) > 1 else None for t in self.tables
            ]
        return self._coders


def _quantized(counts: Array) -> Array:
    """Counts as frequencies that sum to a power of two, each at least 1: by the largest remainder."""
    total = 1 << _precision_of(len(counts))
    weights = np.where(counts > 0, 2 * counts, 1)  # twice, so that half a one is a whole number
    share = (total - len(counts)) * weights
    table = 1 + share // weights.sum()
    left = total - int(table.sum())
    order = np.argsort(-(share % weights.sum()), kind="stable")
    table[order[:left]] += 1
    return table


def _precision_of(size: int) -> int:
    """Bits of the sum of a codebook's frequencies in a file."""
    return min(max(16, bits_of(size) + 4), PRECISION)


def _spread(table: Array) -> Array:
    return table << PRECISION - (int(table.sum()).bit_length() - 1)


def _gathered(table: Array) -> tuple[Array, int]:
    """Frequencies without the zero bits that all end with, and the bits of their sum."""
    spare = int(np.bitwise_or.reduce(table) & -np.bitwise_or.reduce(table)).bit_length() - 1
    return table >> spare, PRECISION - spare


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ImportError("entropy-coded .czt files need constriction: pip install 'codeczoo[czt]'") from error
    return constriction
