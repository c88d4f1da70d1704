"""The header of an `.ecdc` file: whose codes, how many, and in which of the two forms."""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeczoo.base import Variant
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.encodec import EncodecConfig, segments_of_clip

HEADER = struct.Struct(">4sBI")  # "ECDC", version, length of the JSON text
MAGIC, VERSION = b"ECDC", 0
MODELS = {"encodec_24khz": "encodec_24k", "encodec_48khz": "encodec_48k"}  # upstream's name → ours
MAX_HEADER_BYTES = 1 << 16  # bytes


@dataclass(frozen=True)
class EcdcHeader:
    """What a file says of its codes.

    Attributes:
        published: upstream's name of the codec; samples: of the clip; num_codebooks: of its codes.
        entropy_coded: whether the codes went through the language model.
    """

    published: str
    samples: int
    num_codebooks: int
    entropy_coded: bool = False

    @functools.cached_property
    def variant(self) -> Variant:
        return find_variant(MODELS[self.published])

    @functools.cached_property
    def config(self) -> EncodecConfig:
        return EncodecConfig(**self.variant.network)

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.strides)

    @property
    def segment_frames(self) -> list[int]:
        """The frames of each segment."""
        if not self.config.segment:
            return [-(-self.samples // self.hop_length)]
        return [segment.frames for segment in segments_of_clip(self.config, 0, self.samples)]

    def to_bytes(self) -> bytes:
        settings = {"m": self.published, "al": self.samples, "nc": self.num_codebooks, "lm": self.entropy_coded}
        text = json.dumps(settings).encode()
        return HEADER.pack(MAGIC, VERSION, len(text)) + text

    @classmethod
    def from_bytes(cls, data: bytes, name: str = ".ecdc data") -> tuple[EcdcHeader, int]:
        """The header at the start of a file, and its bytes.

        Raises:
            ValueError: not such a file, of an unknown model or version, cut short, or with impossible numbers.
        """
        if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
            raise ValueError(f"{name}: not an .ecdc file (it does not begin with {MAGIC!r})")
        _, version, length = HEADER.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"{name}: version {version} of the form is not known, only {VERSION}")
        if length > MAX_HEADER_BYTES or HEADER.size + length > len(data):
            raise ValueError(f"{name}: cut short or broken: a header of {length} bytes, {len(data)} bytes in all")
        return _checked(data[HEADER.size : HEADER.size + length], name), HEADER.size + length

    @classmethod
    def read(cls, path: str | Path) -> EcdcHeader:
        """The header of the file at `path`. Raises what `from_bytes` raises, and FileNotFoundError."""
        with Path(path).open("rb") as file:
            return cls.from_bytes(file.read(HEADER.size + MAX_HEADER_BYTES), str(path))[0]


def _checked(text: bytes, name: str) -> EcdcHeader:
    """The JSON text of a header."""
    try:
        settings: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: broken: its header is not JSON ({error})") from error
    if not isinstance(settings, Mapping) or not {"m", "al", "nc"} <= set(settings):
        raise ValueError(f"{name}: broken: its header must tell m, al and nc; it says {settings!r}")
    published, samples, count = settings["m"], settings["al"], settings["nc"]
    if not isinstance(published, str) or published not in MODELS:
        raise ValueError(f"{name}: its model {published!r} is not known, only {', '.join(MODELS)}")
    coded = settings.get("lm", False)
    if type(coded) is not bool:
        raise ValueError(f"{name}: broken: lm must be true or false; it is {coded!r}")
    if type(samples) is not int or samples < 1:
        raise ValueError(f"{name}: broken: {samples!r} samples")
    header = EcdcHeader(published, samples, count, coded)
    most = header.config.num_codebooks
    if type(count) is not int or not 1 <= count <= most:
        raise ValueError(f"{name}: broken: {count!r} codebooks; {header.variant.name} has 1 to {most}")
    return header
