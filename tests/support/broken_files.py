"""Files that are no clips, in the ways in which they come: cut, empty, of another kind, with a header that lies."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from tests.support.command_line import write_sound

RATE = 8000


def sound(format: str, subtype: str | None = None, seconds: float = 0.4, seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.2, 0.2, int(seconds * RATE))
    sf.write(file, noise, RATE, subtype, format=format)
    return file.getvalue()


def wav(samples: bytes, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    """A WAV file with any numbers in its header."""
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac_that_announces(samples: int, seed: int = 0) -> bytes:
    """A FLAC file of 0.4 s with another number of samples in its header (36 bits)."""
    data = bytearray(sound("FLAC", seed=seed))
    streaminfo = data.index(b"fLaC") + 8  # 4 bytes of mark, 4 of the block's head
    packed = int.from_bytes(data[streaminfo + 10 : streaminfo + 18], "big")
    data[streaminfo + 10 : streaminfo + 18] = (packed >> 36 << 36 | samples).to_bytes(8, "big")
    return bytes(data)


def png() -> bytes:
    """A picture of one pixel."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n"
FLOATS = np.linspace(-0.1, 0.1, 3200, dtype="<f4")
FLOATS_NAN, FLOATS_INF = FLOATS.copy(), FLOATS.copy()
FLOATS_NAN[100], FLOATS_INF[100] = np.nan, np.inf

# suffix → content, by what is wrong
BROKEN: Mapping[str, tuple[str, Callable[[int], bytes]]] = {
    "empty": (".wav", lambda seed: b""),
    "zeros": (".wav", lambda seed: bytes(5000)),
    "random": (".wav", lambda seed: np.random.default_rng(seed).bytes(5000)),
    "text": (".wav", lambda seed: b"This file was removed on request.\n" * (seed + 1)),
    "web page": (".mp3", lambda seed: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * (seed + 1)),
    "LFS pointer": (".flac", lambda seed: POINTER),
    "picture": (".ogg", lambda seed: png()),
    "pickle": (".wav", lambda seed: pickle.dumps({"array": [0.0] * 1000})),
    "cut WAV": (".wav", lambda seed: sound("WAV", seed=seed)[:-2000]),
    "cut FLAC": (".flac", lambda seed: sound("FLAC", seed=seed)[:-2000]),
    "cut Ogg": (".ogg", lambda seed: sound("OGG", "VORBIS", seed=seed)[:-700]),
    "cut AIFF": (".aiff", lambda seed: sound("AIFF", seed=seed)[:-2000]),
    "head alone": (".wav", lambda seed: wav(b"")),
    "rate 0": (".wav", lambda seed: wav(bytes(3200), rate=0)),
    "no channels": (".wav", lambda seed: wav(bytes(3200), channels=0)),
    "unknown coding": (".wav", lambda seed: wav(bytes(3200), kind=0x4242)),
    "NaN": (".wav", lambda seed: wav(FLOATS_NAN.tobytes(), bits=32, kind=3)),
    "infinity": (".wav", lambda seed: wav(FLOATS_INF.tobytes(), bits=32, kind=3)),
    "FLAC of 68 719 476 735 samples": (".flac", lambda seed: flac_that_announces(2**36 - 1, seed)),
    "link to nowhere": (".wav", lambda seed: b""),
}


def write_broken(folder: Path, copies: int = 2) -> list[str]:
    """`copies` files of each way; their names."""
    names = []
    for number, (way, (suffix, content)) in enumerate(BROKEN.items()):
        for copy in range(copies):
            path = folder / f"{way.replace(' ', '_')}{copy}{suffix}"
            if way == "link to nowhere":
                path.symlink_to(folder / "gone" / path.name)
            else:
                path.write_bytes(content(100 * number + copy))
            names.append(path.name)
    return names


def write_sounds(folder: Path, count: int) -> list[str]:
    """Clips of 0.1 to 0.3 s, of several formats, rates and channel counts; their names."""
    names = []
    for i in range(count):
        name = f"good{i:03}{('.wav', '.flac', '.ogg', '.wav')[i % 4]}"
        write_sound(folder / name, 0.1 + 0.05 * (i % 5), (8000, 16000)[i // 4 % 2], 1 + i // 8 % 2, seed=i)
        names.append(name)
    return names
