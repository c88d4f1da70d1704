"""Files of codes of every form: `Codes.save`'s, `.czt` and EnCodec's `.ecdc`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import BinaryIO

from codeczoo.base.catalogue import find_variant
from codeczoo.base.codes import Codes
from codeczoo.base.codes_file import CodesFile
from codeczoo.codecs.formats.ecdc import MAGIC, EcdcHeader, from_ecdc, to_ecdc
from codeczoo.codecs.formats.ecdc_header import MODELS
from codeczoo.codecs.formats.encodec_lm import EncodecLM, load_language_model


def read_head(source: Path | bytes) -> CodesFile:
    """The header of a file, without its codes. Raises what `Codes.load` and `EcdcHeader.read` raise."""
    if _is_ecdc(source):
        name = "<bytes>"
        header = EcdcHeader.from_bytes(source, name)[0] if isinstance(source, bytes) else EcdcHeader.read(source)
        sizes = (header.config.codebook_size,) * header.num_codebooks
        return CodesFile(header.variant.name, sizes, 1, header.samples / header.config.sample_rate)
    return CodesFile.of(Codes.load(source)) if isinstance(source, bytes) else CodesFile.read(source)


def read_codes(source: Path | bytes, lm_weights: str | None = None) -> Codes:
    """The codes in a file. Raises what `Codes.load` and `from_ecdc` raise.

    Args:
        lm_weights: the file of the language model of an entropy-coded `.ecdc` file; None = the published one.
    """
    if not _is_ecdc(source):
        return Codes.load(source)
    data, name = (source, "<bytes>") if isinstance(source, bytes) else (source.read_bytes(), str(source))
    header = EcdcHeader.from_bytes(data, name)[0]
    model = language_model(header.variant.name, lm_weights) if header.entropy_coded else None
    return from_ecdc(data, name, model)


def check_ecdc(codec: str) -> None:
    """Raise a ValueError if no `.ecdc` file holds this codec's codes."""
    variant = find_variant(codec)
    if variant.root not in MODELS.values():
        raise ValueError(f"an .ecdc file holds codes of {' or '.join(MODELS.values())}, not of {variant.name}")


def write_ecdc_file(codes: Codes, lm: bool, lm_weights: str | None, file: BinaryIO) -> None:
    """One clip's codes as an `.ecdc` file.

    Args:
        lm: entropy-code them by the language model of `lm_weights`; None = the published one.
    """
    model = language_model(find_variant(codes.codec).root, lm_weights) if lm else None
    file.write(to_ecdc(codes, model))


@functools.lru_cache(maxsize=2)
def language_model(codec: str, weights: str | None) -> EncodecLM:
    """`load_language_model`, once a process."""
    return load_language_model(codec, weights)


def _is_ecdc(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        return source.startswith(MAGIC)
    if not source.is_file():
        return False
    with source.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
