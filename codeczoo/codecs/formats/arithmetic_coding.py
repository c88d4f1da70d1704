"""The arithmetic coder of EnCodec's `.ecdc` files: whole numbers alone, so that every machine gives the same bytes.

A symbol's share of 2^24 follows from its probability; the shares of a codebook lie one after the other. The interval
of what has been coded is doubled, with a bit more at its lower end, until it is 2^24 wide, and then narrowed to the
symbol's share. Bits at the top that both of its ends have in common are written. Bits fill each byte from the low one
upward.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RANGE_BITS = 24
RANGE = 1 << RANGE_BITS  # what a codebook's shares add up to, at most
LEAST_SHARE = 2  # of a symbol of any probability
STEP = np.float32(1e-8)  # probabilities are rounded down to a multiple of it


def ends_of_shares(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Where each symbol's share of 2^24 ends: probabilities [..., symbols] → the same shape, rising.

    In float32, operation by operation as the published format has it.

    Raises:
        ValueError: more symbols than have room, or probabilities that are not numbers.
    """
    symbols = probabilities.shape[-1]
    reserved = LEAST_SHARE * symbols / RANGE
    if reserved > 1:
        raise ValueError(f"{symbols} symbols have no room in {RANGE}")
    if not np.isfinite(probabilities).all():
        raise ValueError("the language model gives probabilities that are not numbers")
    rounded = np.floor(probabilities / STEP) * STEP
    shares = np.floor(np.float32((1 - reserved) * RANGE) * rounded).astype(np.int64) + LEAST_SHARE
    return np.cumsum(shares, axis=-1)


def least_bits(symbols: int) -> float:
    """What the most probable symbol takes, in bits: more than 0, since the others keep their least share."""
    return float(-np.log2(1 - LEAST_SHARE * (symbols - 1) / RANGE))


class ArithmeticEncoder:
    """Symbols → bytes.

    encoder = ArithmeticEncoder()
    for symbol, ends in ...:
        encoder.push(symbol, ends)  # ends: a row of `ends_of_shares`
    data = encoder.finish()
    """

    def __init__(self) -> None:
        self._low = self._high = 0  # the interval's ends, both of them in it
        self._open = 0  # bits of them that are not written yet
        self._bits: list[str] = []

    def push(self, symbol: int, ends: npt.NDArray[np.int64]) -> None:
        more = _doublings(self._high - self._low + 1)
        self._low, self._high, self._open = self._low << more, ((self._high + 1) << more) - 1, self._open + more
        first, last = _narrowed(self._high - self._low + 1, symbol, ends)
        self._low, self._high = self._low + first, self._low + last
        shared = self._open - (self._low ^ self._high).bit_length()
        self._write(shared)
        self._high &= (1 << self._open) - 1

    def finish(self) -> bytes:
        """The bytes of all symbols; nothing can be pushed afterwards."""
        self._write(self._open)
        bits = np.frombuffer("".join(self._bits).encode(), np.uint8) - ord("0")
        return np.packbits(bits, bitorder="little").tobytes()

    def _write(self, count: int) -> None:
        """Write the top `count` open bits of the lower end."""
        self._open -= count
        if count:
            self._bits.append(f"{self._low >> self._open:0{count}b}")
            self._low &= (1 << self._open) - 1


class ArithmeticDecoder:
    """Bytes → symbols, given for each the same shares with which it was pushed.

    Args:
        start: the byte at which the symbols begin.
    """

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data, self._place = data, 8 * start  # the next bit
        self._low = self._high = self._value = 0
        self._open = 0

    def pull(self, ends: npt.NDArray[np.int64]) -> int:
        """The next symbol.

        Raises:
            ValueError: the data end, or no symbol has this value: damaged, or pushed with other shares.
        """
        more = _doublings(self._high - self._low + 1)
        self._value = self._value << more | self._read(more)
        self._low, self._high, self._open = self._low << more, ((self._high + 1) << more) - 1, self._open + more
        width, offset = self._high - self._low + 1, self._value - self._low
        symbol = int(np.searchsorted(ends, (offset << RANGE_BITS) // width, side="right"))
        first, last = _narrowed(width, symbol, ends) if symbol < len(ends) else (0, -1)
        if offset > last:
            raise ValueError("a value that no symbol has")
        self._low, self._high = self._low + first, self._low + last
        self._open = (self._low ^ self._high).bit_length()
        mask = (1 << self._open) - 1
        self._low, self._high, self._value = self._low & mask, self._high & mask, self._value & mask
        return symbol

    def finish(self) -> int:
        """The byte behind the symbols.

        Raises:
            ValueError: the bits are not those that an encoder leaves there: damaged, or pushed with other shares.
        """
        end = -(-self._place // 8)
        if self._value != self._low or self._read(8 * end - self._place):
            raise ValueError("an end that no encoder writes")
        return end

    def _read(self, count: int) -> int:
        """The next bits, the first of them the highest."""
        first, last = self._place // 8, -(-(self._place + count) // 8)
        if last > len(self._data):
            raise ValueError("it ends before its last symbol")
        bits = f"{int.from_bytes(self._data[first:last], 'little'):0{8 * (last - first)}b}"[::-1]
        start = self._place - 8 * first
        self._place += count
        return int(bits[start : start + count] or "0", 2)


def _doublings(width: int) -> int:
    """How often an interval is doubled until it is at least 2^24 wide."""
    return max(RANGE_BITS + 1 - width.bit_length(), 0)


def _narrowed(width: int, symbol: int, ends: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The first and last place of a symbol in an interval of that width."""
    begin = int(ends[symbol - 1]) if symbol else 0
    return -(-begin * width >> RANGE_BITS), (int(ends[symbol]) - 1) * width >> RANGE_BITS
