"""Audio files of many forms, made in the test that reads them: by soundfile, by PyAV, and by a few lines of bytes."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
import soundfile as sf

FORMATS = {"flac": "s16", "tta": "s16", "wavpack": "s16p"}  # of samples, where FFmpeg's first choice is another
LAME_DELAY = 1105  # samples: LAME's own delay, 576, and a decoder's, 529


def sound(samples: int, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """[T, C] float32: a tone under noise whose level changes, so that a variable bitrate varies."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    level = np.where((t * 5) % 2 < 1, 0.3, 0.003)[:, None]
    tone = 0.2 * np.sin(2 * np.pi * 440 * t)[:, None]
    return (tone + level * rng.standard_normal((samples, channels))).clip(-0.99, 0.99).astype(np.float32)


def written(samples: np.ndarray, rate: int, format: str, subtype: str | None = None, **options: Any) -> bytes:
    """A file as libsndfile writes it."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=format, subtype=subtype, **options)
    return buffer.getvalue()


def encoded(samples: np.ndarray, rate: int, container: str, codec: str, **options: str) -> bytes:
    """A file as FFmpeg writes it; `options` are the container's."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as out:
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        stream = out.add_stream(codec, rate=rate, layout=layout, bit_rate=128_000)
        if codec in FORMATS:
            stream.codec_context.format = FORMATS[codec]
        for start in range(0, len(samples), 4608):  # as many as a frame of FLAC has
            block = np.ascontiguousarray(samples[start : start + 4608].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return buffer.getvalue()


def mp3(samples: np.ndarray, rate: int, mode: str = "VARIABLE") -> bytes:
    """With a length frame, as LAME writes it into a file."""
    return written(samples, rate, "MP3", bitrate_mode=mode)


def without_length_frame(data: bytes) -> bytes:
    """An MP3 as LAME writes it into a pipe: from its second frame on."""
    assert b"Xing" in data[:64] or b"Info" in data[:64]
    return data[data.index(data[:2], 100) :]


def id3v2(size: int = 1000) -> bytes:
    return b"ID3\x04\0\0" + bytes([0, 0, size >> 7, size & 127]) + b"\xff\xfb\x90" + bytes(size - 3)


def ape_tag() -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0abcd"
    return item + b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, 0) + bytes(8)


def wav(
    data: bytes, rate: int, tag: int = 1, channels: int = 1, bits: int = 16, sizes: tuple[int, int] | None = None
) -> bytes:
    """A WAV of `data`; `sizes` are what it says of itself and its samples, if they are not to be true."""
    riff, samples = sizes or (36 + len(data), len(data))
    width = channels * bits // 8 if tag == 1 else 1
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits if tag == 1 else 0)
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", samples)
        + data
    )


def with_flac_length(data: bytes, samples: int) -> bytes:
    """A FLAC file whose header tells this number of samples; 0 means that it does not know, as in a pipe."""
    out = bytearray(data)
    out[21] = out[21] & 0xF0 | samples >> 32
    out[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(out)


def ogg_pages(data: bytes) -> list[bytes]:
    pages = []
    while data:
        count = data[26]
        size = 27 + count + sum(data[27 : 27 + count])
        pages.append(data[:size])
        data = data[size:]
    return pages


def _ogg_entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


OGG_TABLE = [_ogg_entry(byte) for byte in range(256)]


def with_checksum(page: bytes) -> bytes:
    """An Ogg page with the checksum that its bytes have."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value = value << 8 & 0xFFFFFFFF ^ OGG_TABLE[value >> 24 ^ byte]
    return page[:22] + value.to_bytes(4, "little") + page[26:]


class Answer(io.RawIOBase):
    """A stream that cannot seek, like the answer of a web server."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:1000])
