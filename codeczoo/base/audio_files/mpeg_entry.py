"""Entering an MPEG stream far behind its start, with the very samples that decoding from the start gives there.

A frame of layer III takes bits from those before it (the reservoir), adds its first half to the last half of the one
before it, and the filter bank goes round in 16 places. So decoding begins at a frame whose number is a multiple of 8,
where the filter bank stands as at the start; the side information of the first frames is blanked, so that they decode
to silence and only fill the reservoir; and what comes of a few more frames is thrown away.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from codeczoo.base.audio_files.parts import Part, Window

ROUND = 8  # frames after which the filter bank of any version stands as before
RESERVOIR = 16  # frames that are blanked; the shortest ones hold 511 bytes in nine
WARM = 4  # frames that are decoded and thrown away
DECODER_DELAY = 529  # samples that libmpg123 cuts off at the start, beside the encoder's delay, and at the end
VERSION_1 = 8  # bit of a header's second byte: MPEG-1, whose frames reach back 511 bytes, and others 255
CHECKSUM = 1  # bit of a header's second byte: no checksum follows


@dataclass(frozen=True)
class Frames:
    """The frames of a stream: their bytes without a gap, and where each begins."""

    body: bytes
    starts: Sequence[int]
    samples: int  # of each
    layer: int
    side: int  # bytes of side information
    longest: int  # bytes that a frame may have
    cut: tuple[int, int] | None  # samples that its encoder says it put at the start and the end; None: it says nothing
    gapless: bool  # a length frame is there, by which the decoder cuts

    def enter(self, wanted: int, total: int) -> tuple[Part, int] | None:
        """A part from a place before sample `wanted` on, and the sample that it begins with.

        Args:
            total: samples that the stream gives when it is decoded from its start.

        Returns:
            None where it is not certain that the samples are the same, or not worth it.
        """
        count = len(self.starts)
        begin, end = 0, 0
        if self.gapless:
            before, behind = self.cut or (0, 0)
            begin, end = before + DECODER_DELAY, max(behind - DECODER_DELAY, 0)
        if self.layer == 1 or total != count * self.samples - begin - end:
            return None
        first = min((wanted + begin) // self.samples, count - 1) - WARM - RESERVOIR
        first = first // ROUND * ROUND
        position = first * self.samples - begin
        if first <= 0 or position < 0:
            return None
        origin = self.starts[first]
        data = bytearray(memoryview(self.body)[origin:])
        if self.layer == 3 and not self._blank(data, first):
            return None
        left = count - first
        window = Window(io.BytesIO(data), 0, len(data), claimed=len(data) + (left + 2) * self.longest)
        return Part(window, samples=left * self.samples, most=total - position, estimated=True), position

    def _blank(self, data: bytearray, first: int) -> bool:
        """Make the first frames of `data`, which begins with frame `first`, silent; False if they have checksums.

        They still say that they take all the bits before them that may be taken, because a decoder keeps no others.
        """
        origin, kept = self.starts[first], 0
        for number in range(first, first + RESERVOIR):
            at = self.starts[number] - origin
            if not data[at + 1] & CHECKSUM:
                return False
            new = data[at + 1] & VERSION_1
            data[at + 4 : at + 4 + self.side] = bytes(self.side)
            data[at + 4] = kept >> 1 if new else kept
            data[at + 5] |= (kept & 1) << 7 if new else 0
            kept = min(kept + self.starts[number + 1] - self.starts[number] - 4 - self.side, 511 if new else 255)
        return True


def encoder_cut(frame: bytes, place: int) -> tuple[int, int] | None:
    """Samples that LAME or FFmpeg put at the start and the end, as a length frame tells them.

    Args:
        place: where the frame's count stands, behind its word and flags.
    """
    flags = frame[place - 1]
    at = place + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    told = frame[at + 21 : at + 24]
    if len(told) < 3 or not any(frame[at : at + 9]):
        return None
    return told[0] << 4 | told[1] >> 4, (told[1] & 15) << 8 | told[2]
