"""Clips of constant frames, and the codecs whose codes of them are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from codeczoo import register_codec
from tests.support.known_codecs import HOP, KNOWN, SINFUL, UNEVEN, Known, Sinful, Uneven
from tests.support.registering import registered_for_a_while

FRAMES = 400
QUIET, LOUD = 2, 40  # levels of 128


@pytest.fixture(autouse=True)
def known_codecs() -> Iterator[None]:
    with registered_for_a_while():
        register_codec(KNOWN, Known)
        register_codec(SINFUL, Sinful)
        register_codec(UNEVEN, Uneven)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips of 4 s: three quiet ones, three loud ones, each of one level throughout."""
    out = tmp_path / "clips"
    out.mkdir()
    for i in range(6):
        level = (QUIET, LOUD)[i % 2] / 128
        sf.write(out / f"{i}.wav", np.full(FRAMES * HOP, level), 16000, subtype="PCM_16")
    return out
