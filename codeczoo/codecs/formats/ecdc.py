"""EnCodec's `.ecdc` files: the codes of one clip, 10 bits each, and for 48 kHz the scale of each segment.

The form is that of facebookresearch/encodec: a header of "ECDC", a version byte, the length of a JSON text, and the
text; then, segment by segment, the scale (48 kHz) and the codes, frame by frame and codebook by codebook, filled from
the low bit of each byte upward, to whole bytes at the end of a segment. How many frames a segment has is not stored: it
follows from the number of samples. (Upstream 0.1.1 computes it in floating point and may be one too high.)

Files whose codes went through upstream's language model are refused. To read them takes that model's probabilities to
the last bit, and these differ from machine to machine.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codeczoo.base import Codes, Variant
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.encodec import EncodecConfig, segments_of_clip

HEADER = struct.Struct(">4sBI")  # "ECDC", version, length of the JSON text
SCALE = struct.Struct(">f")
MAGIC, VERSION = b"ECDC", 0
BITS_PER_CODE = 10
MODELS = {"encodec_24khz": "encodec_24k", "encodec_48khz": "encodec_48k"}  # upstream's name → ours
MAX_HEADER_BYTES = 1 << 16  # bytes


@dataclass(frozen=True)
class _Model:
    """What a file needs to know of the model that made it."""

    published: str
    variant: Variant
    config: EncodecConfig

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.strides)

    def segment_frames(self, samples: int) -> list[int]:
        if not self.config.segment:
            return [-(-samples // self.hop_length)]
        return [segment.frames for segment in segments_of_clip(self.config, 0, samples)]


def write_ecdc(codes: Codes, path: str | Path) -> None:
    """Write the codes of one clip as a `.ecdc` file; see `to_ecdc`."""
    Path(path).write_bytes(to_ecdc(codes))


def read_ecdc(path: str | Path) -> Codes:
    """Read a `.ecdc` file; see `from_ecdc`."""
    return from_ecdc(Path(path).read_bytes(), str(path))


def to_ecdc(codes: Codes) -> bytes:
    """The codes of one clip, made by `encodec_24k` or `encodec_48k` (at any rate), in the published form.

    Raises:
        ValueError: codes of another codec, of more than one clip, out of range, or of an unknown number of samples.
    """
    variant = find_variant(codes.codec)
    names = {ours: published for published, ours in MODELS.items()}
    if variant.root not in names:
        raise ValueError(f"an .ecdc file holds codes of {' or '.join(names)}; these were made by {codes.codec}")
    if len(codes) != 1:
        raise ValueError(f"an .ecdc file holds one clip; these are codes of {len(codes)} (split them first)")
    model = _model(names[variant.root])
    samples = int(codes.num_samples[0])
    if samples < 1:
        raise ValueError(
            "an .ecdc file needs the number of samples; these codes do not know theirs (num_samples is -1)"
        )
    frames = model.segment_frames(samples)
    if sum(frames) != int(codes.lengths[0]):
        raise ValueError(f"{samples} samples make {sum(frames)} frames; these codes have {int(codes.lengths[0])}")
    values = codes.codes[0, :, : sum(frames)].T.cpu().numpy()  # [N, K]
    if values.min() < 0 or values.max() >= 1 << BITS_PER_CODE:
        raise ValueError(f"a code of an .ecdc file lies in 0 to {(1 << BITS_PER_CODE) - 1}; these reach {values.max()}")
    scales: list[float] = []
    if model.config.segment:
        if "scale" not in codes.side_info:
            raise ValueError(f"codes of {variant.root} need their side information 'scale' to be written")
        scales = codes.side_info["scale"][0, : len(frames)].tolist()
        if len(scales) != len(frames) or not all(map(math.isfinite, scales)):
            raise ValueError(f"{len(frames)} segments need as many finite scales; these are {scales}")
    text = json.dumps({"m": model.published, "al": samples, "nc": codes.num_codebooks, "lm": False}).encode()
    parts = [HEADER.pack(MAGIC, VERSION, len(text)), text]
    start = 0
    for i, count in enumerate(frames):
        if scales:
            parts.append(SCALE.pack(scales[i]))
        bits = values[start : start + count].reshape(-1, 1) >> np.arange(BITS_PER_CODE) & 1
        parts.append(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes())
        start += count
    return b"".join(parts)


def from_ecdc(data: bytes, name: str = ".ecdc data") -> Codes:
    """The codes that a `.ecdc` file holds; `Codes.codec` names the codec that decodes them.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        ValueError: not such a file, of an unknown model or version, cut short, too long, or with impossible numbers.
        NotImplementedError: its codes went through the language model.
    """
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{name}: not an .ecdc file (it does not begin with {MAGIC!r})")
    _, version, length = HEADER.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"{name}: version {version} of the form is not known, only {VERSION}")
    if length > MAX_HEADER_BYTES or HEADER.size + length > len(data):
        raise ValueError(f"{name}: cut short or broken: a header of {length} bytes, {len(data)} bytes in all")
    model, samples, count = _settings(data[HEADER.size : HEADER.size + length], name)
    position, rows, scales = HEADER.size + length, [], []
    frames_of = model.segment_frames(samples) if _plausible(model, samples, count, data) else []
    needed = sum(
        -(-frames * count * BITS_PER_CODE // 8) + SCALE.size * bool(model.config.segment) for frames in frames_of
    )
    if not frames_of or len(data) - position != needed:
        wanted = f"take {needed} bytes" if frames_of else "do not fit in it"
        raise ValueError(
            f"{name}: cut short or broken: {samples} samples in {count} codebooks {wanted}; "
            f"{len(data) - position} follow the header"
        )
    for frames in frames_of:
        if model.config.segment:
            scales.append(SCALE.unpack_from(data, position)[0])
            position += SCALE.size
        size = -(-frames * count * BITS_PER_CODE // 8)
        packed = np.frombuffer(data, np.uint8, size, position)
        bits = np.unpackbits(packed, bitorder="little")[: frames * count * BITS_PER_CODE].reshape(
            frames, count, BITS_PER_CODE
        )
        rows.append(bits.astype(np.int64) @ (1 << np.arange(BITS_PER_CODE)))
        position += size
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"{name}: broken: a scale is not a positive number ({scales})")
    codes = torch.from_numpy(np.concatenate(rows).T.copy())[None]
    return Codes(
        codes=codes,
        lengths=torch.tensor([codes.shape[-1]]),
        num_samples=torch.tensor([samples]),
        sample_rate=model.config.sample_rate,
        codec=model.variant.name,
        codebook_sizes=(model.config.codebook_size,) * count,
        frame_rate=model.config.sample_rate / model.hop_length,
        side_info={"scale": torch.tensor([scales])} if scales else {},
    )


def _model(published: str) -> _Model:
    variant = find_variant(MODELS[published])
    return _Model(published, variant, EncodecConfig(**variant.network))


def _settings(text: bytes, name: str) -> tuple[_Model, int, int]:
    """Model, number of samples and number of codebooks, from the JSON text of a header."""
    try:
        settings: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: broken: its header is not JSON ({error})") from error
    if not isinstance(settings, Mapping) or not {"m", "al", "nc"} <= set(settings):
        raise ValueError(f"{name}: broken: its header must tell m, al and nc; it says {settings!r}")
    if settings.get("lm"):
        raise NotImplementedError(
            f"{name}: its codes went through EnCodec's language model, which codeczoo does not have: decode it with "
            "the published package, or compress the audio again without --lm"
        )
    published, samples, count = settings["m"], settings["al"], settings["nc"]
    if not isinstance(published, str) or published not in MODELS:
        raise ValueError(f"{name}: its model {published!r} is not known, only {', '.join(MODELS)}")
    model = _model(published)
    most = model.config.num_codebooks
    if type(samples) is not int or samples < 1:
        raise ValueError(f"{name}: broken: {samples!r} samples")
    if type(count) is not int or not 1 <= count <= most:
        raise ValueError(f"{name}: broken: {count!r} codebooks; {model.variant.name} has 1 to {most}")
    return model, samples, count


def _plausible(model: _Model, samples: int, count: int, data: bytes) -> bool:
    """Whether the file is long enough for `samples`: asked before lists of that length are made."""
    return samples // model.hop_length * count * BITS_PER_CODE <= 8 * len(data)
