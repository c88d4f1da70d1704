"""Damaged files of codes and tokens: each is read, or refused with an error that names it. Never a crash, a hang or a
memory that runs full. (A damage among the codes themselves is read as other codes: the index's sha256 tells it.)"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from codeczoo import Codes
from codeczoo.base.arrays import read_npy
from codeczoo.base.codes_file import CodesFile
from codeczoo.codecs.formats.dac import DACFile
from codeczoo.codecs.formats.ecdc import read_ecdc, to_ecdc
from codeczoo.codecs.formats.encodec_lm import EncodecLM
from codeczoo.tokens.formats import FORMS, Facts, Tokens, read_shard
from tests.base.test_codes import multiscale, voiced
from tests.support.fuzz import outcomes
from tests.support.language_model import language_model
from tests.support.small import codec_of
from tests.support.sound import chirp


def of_encodec(name: str, samples: int = 20000) -> Codes:
    codec = codec_of(name, "small", torch.float32)
    return codec.encode(chirp(samples, codec.sample_rate), codec.sample_rate, codec.codebook_choices[0])


@functools.cache
def tiny_language_model() -> EncodecLM:
    return language_model("encodec_24k", num_codebooks=4, dim=16, layers=1, heads=2, hidden=32, past=5)


def written(codes: Codes, folder: Path) -> bytes:
    codes.save(folder / "whole.safetensors")
    return (folder / "whole.safetensors").read_bytes()


def shard(form: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        path = folder / f"whole{FORMS[form].suffix}"
        codes = voiced()
        FORMS[form].write(path, Facts.of(codes), [Tokens(f"clip {i}", None, item) for i, item in enumerate(codes)])
        return path.read_bytes()

    return make


def dac(folder: Path) -> bytes:
    codes = torch.arange(2 * 3 * 20).reshape(2, 3, 20)
    DACFile(codes, 20, 10000, torch.tensor([-20.0]), 2, 44100, True).save(folder / "whole.dac")
    return (folder / "whole.dac").read_bytes()


def array(folder: Path) -> bytes:
    np.save(folder / "whole.npy", chirp(500, 8000).numpy())
    return (folder / "whole.npy").read_bytes()


FILES: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], object]]] = {
    "codes": ("a.safetensors", lambda folder: written(multiscale(), folder), Codes.load),
    "codes with indices beside": ("a.safetensors", lambda folder: written(voiced(), folder), Codes.load),
    "the header of codes": ("a.safetensors", lambda folder: written(multiscale(), folder), CodesFile.read),
    "ecdc": ("a.ecdc", lambda folder: to_ecdc(of_encodec("encodec_24k")), read_ecdc),
    "ecdc of 48 kHz": ("a.ecdc", lambda folder: to_ecdc(of_encodec("encodec_48k")), read_ecdc),
    "ecdc, entropy-coded": (
        "a.ecdc",
        lambda folder: to_ecdc(of_encodec("encodec_24k", 3000), tiny_language_model()),
        lambda path: read_ecdc(path, tiny_language_model()),
    ),
    "an array of samples": ("a.npy", array, lambda path: np.array(read_npy(path))),
    "dac": ("a.dac", dac, DACFile.load),
    **{
        f"a shard of tokens, {form}": (f"a{FORMS[form].suffix}", shard(form), lambda path: list(read_shard(path)))
        for form in FORMS
    },
}


def check(kind: str, count: int, folder: Path, first_seed: int = 0) -> None:
    name, make, read = FILES[kind]
    found = outcomes(make(folder), count, folder, name, read, first_seed)
    assert found.get("ValueError", 0) > 0.1 * count, f"the damages do no harm: {found}"
    print(f"{kind}: {found}")  # noqa: T201


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    check(kind, 300, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_thousands_of_damaged_files(kind: str, tmp_path: Path) -> None:
    check(kind, 3000, tmp_path, first_seed=300)
