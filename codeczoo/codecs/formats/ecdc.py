"""EnCodec's `.ecdc` files: the codes of one clip, 10 bits each or fewer, and for 48 kHz the scale of each segment.

The form is that of facebookresearch/encodec: a header of "ECDC", a version byte, the length of a JSON text, and the
text; then, segment by segment, the scale (48 kHz) and the codes, frame by frame and codebook by codebook, filled from
the low bit of each byte upward, to whole bytes at the end of a segment. How many frames a segment has is not stored: it
follows from the number of samples. (Upstream 0.1.1 computes it in floating point and may be one too high.)

A code takes 10 bits; or, where the header says `lm`, what the arithmetic coder makes of the language model's
probabilities (`encodec_lm`). To read those takes the same probabilities to the last bit, which another processor, build
of PyTorch or number of threads may not give. The format has no checksum, but an encoder ends in one of 2^24 states: a
file that is read with other probabilities, or damaged, does not end there, and is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from codeczoo.base import Codes
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.formats.arithmetic_coding import (
    RANGE_BITS,
    ArithmeticDecoder,
    ArithmeticEncoder,
    ends_of_shares,
    least_bits,
)
from codeczoo.codecs.formats.ecdc_header import MAGIC, MODELS, EcdcHeader
from codeczoo.codecs.formats.encodec_lm import EncodecLM, published_language_model

__all__ = ["MAGIC", "EcdcHeader", "from_ecdc", "read_ecdc", "to_ecdc", "write_ecdc"]

SCALE = struct.Struct(">f")
BITS_PER_CODE = 10

FrameValues = npt.NDArray[np.int64]  # [N, K]
Pack = Callable[[FrameValues], bytes]
Unpack = Callable[[int, int], tuple[FrameValues, int]]  # frames, first byte → codes, the byte behind them


def write_ecdc(codes: Codes, path: str | Path, language_model: EncodecLM | None = None) -> None:
    """Write the codes of one clip as a `.ecdc` file; see `to_ecdc`."""
    Path(path).write_bytes(to_ecdc(codes, language_model))


def read_ecdc(path: str | Path, language_model: EncodecLM | None = None) -> Codes:
    """Read a `.ecdc` file; see `from_ecdc`."""
    return from_ecdc(Path(path).read_bytes(), str(path), language_model)


def to_ecdc(codes: Codes, language_model: EncodecLM | None = None) -> bytes:
    """The codes of one clip, made by `encodec_24k` or `encodec_48k` (at any rate), in the published form.

    Args:
        language_model: entropy-codes them (`load_language_model(codec)`); None = 10 bits a code.

    Raises:
        ValueError: codes of another codec, of more than one clip, out of range, or of an unknown number of samples; a
            language model of another codec's codes.
    """
    variant = find_variant(codes.codec)
    names = {ours: published for published, ours in MODELS.items()}
    if variant.root not in names:
        raise ValueError(f"an .ecdc file holds codes of {' or '.join(names)}; these were made by {codes.codec}")
    if len(codes) != 1:
        raise ValueError(f"an .ecdc file holds one clip; these are codes of {len(codes)} (split them first)")
    samples = int(codes.num_samples[0])
    if samples < 1:
        raise ValueError(
            "an .ecdc file needs the number of samples; these codes do not know theirs (num_samples is -1)"
        )
    header = EcdcHeader(names[variant.root], samples, codes.num_codebooks, language_model is not None)
    frames = header.segment_frames
    if sum(frames) != int(codes.lengths[0]):
        raise ValueError(f"{samples} samples make {sum(frames)} frames; these codes have {int(codes.lengths[0])}")
    values = codes.codes[0, :, : sum(frames)].T.cpu().numpy()
    if values.min() < 0 or values.max() >= 1 << BITS_PER_CODE:
        raise ValueError(f"a code of an .ecdc file lies in 0 to {(1 << BITS_PER_CODE) - 1}; these reach {values.max()}")
    scales = _scales(codes, header, len(frames))
    pack = _pack if language_model is None else _entropy_coder(_checked(language_model, header))
    parts, start = [header.to_bytes()], 0
    for i, count in enumerate(frames):
        if scales:
            parts.append(SCALE.pack(scales[i]))
        parts.append(pack(values[start : start + count]))
        start += count
    return b"".join(parts)


def from_ecdc(data: bytes, name: str = ".ecdc data", language_model: EncodecLM | None = None) -> Codes:
    """The codes that a `.ecdc` file holds; `Codes.codec` names the codec that decodes them.

    Args:
        data: the whole file.
        name: of the file, for errors.
        language_model: of entropy-coded files; None = the published one, loaded when a file needs it.

    Raises:
        ValueError: not such a file, of an unknown model or version, cut short, too long, or with impossible numbers;
            entropy-coded with other probabilities than the language model has here.
        WeightsUnavailableError: the published language model is needed and cannot be had.
    """
    header, position = EcdcHeader.from_bytes(data, name)
    if not header.entropy_coded:
        return _read_segments(data, position, header, name, _plain_reader(data, header.num_codebooks))
    model = _checked(language_model or published_language_model(header.variant.name), header)
    counts = dict.fromkeys((model.threads, torch.get_num_threads()))  # upstream writes with the latter
    for threads in counts:
        try:
            unpack = _entropy_reader(data, header.num_codebooks, model, threads)
            return _read_segments(data, position, header, name, unpack)
        except _OtherProbabilitiesError as error:
            reason = error
    raise ValueError(
        f"{name}: broken, or entropy-coded with other probabilities than the language model has here with "
        f"{' or '.join(map(str, counts))} threads ({reason}). They differ by its weights, PyTorch's build, the "
        "processor and the number of threads: read it where it was written, or write it without the language model"
    )


class _OtherProbabilitiesError(ValueError):
    """Entropy-coded codes that these probabilities do not fit."""


# -- segments ---------------------------------------------------------------------------------------


def _scales(codes: Codes, header: EcdcHeader, segments: int) -> list[float]:
    """Of each segment; none where the codec has no segments."""
    if not header.config.segment:
        return []
    if "scale" not in codes.side_info:
        raise ValueError(f"codes of {header.variant.name} need their side information 'scale' to be written")
    scales: list[float] = codes.side_info["scale"][0, :segments].tolist()
    if len(scales) != segments or not all(map(math.isfinite, scales)):
        raise ValueError(f"{segments} segments need as many finite scales; these are {scales}")
    return scales


def _read_segments(data: bytes, position: int, header: EcdcHeader, name: str, unpack: Unpack) -> Codes:
    count, rows, scales = header.num_codebooks, [], []
    frames_of = header.segment_frames if _plausible(header, data) else []
    if not header.entropy_coded or not frames_of:
        _check_size(data, position, header, frames_of, name)
    for frames in frames_of:
        if header.config.segment:
            if position + SCALE.size > len(data):
                raise _OtherProbabilitiesError("it ends before its last segment")
            scales.append(SCALE.unpack_from(data, position)[0])
            position += SCALE.size
        values, position = unpack(frames, position)
        rows.append(values)
    if position != len(data):
        raise _OtherProbabilitiesError(f"{len(data) - position} bytes stand behind its last code")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"{name}: broken: a scale is not a positive number ({scales})")
    codes = torch.from_numpy(np.concatenate(rows).T.copy())[None]
    return Codes(
        codes=codes,
        lengths=torch.tensor([codes.shape[-1]]),
        num_samples=torch.tensor([header.samples]),
        sample_rate=header.config.sample_rate,
        codec=header.variant.name,
        codebook_sizes=(header.config.codebook_size,) * count,
        frame_rate=header.config.sample_rate / header.hop_length,
        side_info={"scale": torch.tensor([scales])} if scales else {},
    )


def _plausible(header: EcdcHeader, data: bytes) -> bool:
    """Whether the file is long enough for its samples: asked before lists of that length are made."""
    bits = least_bits(header.config.codebook_size) if header.entropy_coded else BITS_PER_CODE
    enough = header.samples // header.hop_length * header.num_codebooks * bits <= 8 * len(data)
    if header.entropy_coded and header.config.segment:  # each needs a scale, and 24 bits for its first code
        enough &= header.samples // header.config.segment_stride * (SCALE.size + RANGE_BITS // 8) <= len(data)
    return enough


def _check_size(data: bytes, position: int, header: EcdcHeader, frames_of: Sequence[int], name: str) -> None:
    """Raise a ValueError if codes of 10 bits do not take what follows the header."""
    scale = SCALE.size * bool(header.config.segment)
    needed = sum(_packed_size(frames, header.num_codebooks) + scale for frames in frames_of)
    if not frames_of or len(data) - position != needed:
        wanted = f"take {needed} bytes" if frames_of else "do not fit in it"
        raise ValueError(
            f"{name}: cut short or broken: {header.samples} samples in {header.num_codebooks} codebooks {wanted}; "
            f"{len(data) - position} follow the header"
        )


# -- the codes of a segment -------------------------------------------------------------------------


def _packed_size(frames: int, count: int) -> int:
    return -(-frames * count * BITS_PER_CODE // 8)


def _pack(values: FrameValues) -> bytes:
    bits = values.reshape(-1, 1) >> np.arange(BITS_PER_CODE) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _plain_reader(data: bytes, count: int) -> Unpack:
    def unpack(frames: int, start: int) -> tuple[FrameValues, int]:
        size = _packed_size(frames, count)
        packed = np.frombuffer(data, np.uint8, size, start)
        bits = np.unpackbits(packed, bitorder="little")[: frames * count * BITS_PER_CODE]
        values = bits.reshape(frames, count, BITS_PER_CODE).astype(np.int64) @ (1 << np.arange(BITS_PER_CODE))
        return values, start + size

    return unpack


def _checked(model: EncodecLM, header: EcdcHeader) -> EncodecLM:
    """The language model, if it knows this codec's codes."""
    if (model.sample_rate, model.config.codebook_size) != (header.config.sample_rate, header.config.codebook_size):
        raise ValueError(f"{model.name} is no language model of the codes of {header.variant.name}")
    if header.num_codebooks > model.config.num_codebooks:
        raise ValueError(f"{model.name} knows {model.config.num_codebooks} codebooks, not {header.num_codebooks}")
    return model


def _entropy_coder(model: EncodecLM) -> Pack:
    def pack(values: FrameValues) -> bytes:
        encoder = ArithmeticEncoder()
        with model.reproducible():
            predictions = model.predictions(values.shape[1])
            for row in values:
                for symbol, ends in zip(row, ends_of_shares(predictions.next()), strict=True):
                    encoder.push(int(symbol), ends)
                predictions.saw(row)
        return encoder.finish()

    return pack


def _entropy_reader(data: bytes, count: int, model: EncodecLM, threads: int) -> Unpack:
    def unpack(frames: int, start: int) -> tuple[FrameValues, int]:
        decoder, rows = ArithmeticDecoder(data, start), []
        try:
            with model.reproducible(threads):
                predictions = model.predictions(count)
                for _ in range(frames):
                    row = np.array([decoder.pull(ends) for ends in ends_of_shares(predictions.next())])
                    predictions.saw(row)
                    rows.append(row)
            return np.stack(rows), decoder.finish()
        except ValueError as error:
            raise _OtherProbabilitiesError(str(error)) from error

    return unpack
