"""NIST SPHERE, in which speech corpora of the 1990s are kept: its header, a text, tells the number of samples."""

from __future__ import annotations

import re

from codeczoo.base.audio_files.parts import File, Part

HEAD = 1024  # bytes
SAMPLES = re.compile(rb"\nsample_count -i (\d+)")


def parts(file: File) -> list[Part]:
    """The file, with the number of samples that it must have."""
    told = SAMPLES.search(file.at(0, HEAD))
    return [Part(file.handle, samples=int(told[1]) if told else None)]
