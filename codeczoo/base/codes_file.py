"""Files of codes: `Codes.save` and `Codes.load`, and the header alone.

A file is safetensors: `codes` [B, K, N] in the narrowest integer type, `lengths`, `num_samples`, `side.NAME` for each
side value, and all else as metadata, in JSON where it is not text. Under a name that ends in `.czt` it is bit-packed or
entropy-coded instead (docs/czt.md).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file

from codeczoo.base.audio_files.not_audio import what_is
from codeczoo.base.codes_czt import read_czt_file, read_czt_head, write_czt_file
from codeczoo.base.codes_join import narrowest
from codeczoo.base.sample_rate import check_rate
from codeczoo.czt import MAGIC

if TYPE_CHECKING:
    from codeczoo.base.codes import Codes

CODES_FORMAT = "codeczoo.codes/1"
HEAD_BYTES = 512  # that show what a file is
CZT_SUFFIX = ".czt"
# Suffixes of other formats: a file of codes under such a name is read by nothing.
OTHER_SUFFIXES = frozenset(
    [
        ".npy",
        ".npz",
        ".pt",
        ".pth",
        ".pkl",
        ".json",
        ".jsonl",
        ".csv",
        ".txt",
        ".parquet",
        ".tar",
        ".ecdc",
        ".dac",
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".opus",
        ".gguf",
    ]
)


def write_codes(codes: Codes, target: str | os.PathLike[str] | BinaryIO) -> None:
    """See `Codes.save`."""
    meta = {
        "format": CODES_FORMAT,
        "codec": codes.codec,
        "sample_rate": str(codes.sample_rate),
        "frame_rate": json.dumps(codes.frame_rate),
        "codebook_sizes": json.dumps(codes.codebook_sizes),
        "strides": json.dumps(codes.strides),
        **({"side_sizes": json.dumps(codes.side_sizes)} if codes.side_sizes else {}),
        **({} if codes.weights is None else {"weights": codes.weights}),
    }
    tensors = {"codes": codes.codes.to(narrowest(codes.codebook_sizes)), "lengths": codes.lengths}
    tensors["num_samples"] = codes.num_samples
    for name, value in codes.side_info.items():
        tensors[f"side.{name}"] = value.to(narrowest([size])) if (size := codes.side_sizes.get(name)) else value
    # Copies, because safetensors refuses tensors that share memory.
    apart = {name: value.cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    if not isinstance(target, str | os.PathLike):
        target.write(save(apart, metadata=meta))
        return
    path = Path(target).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{target}: this is a folder; codes are saved into a file")
    if (suffix := path.suffix.lower()) == CZT_SUFFIX:
        content = io.BytesIO()
        write_czt_file(codes, content)
        path.write_bytes(content.getbuffer())
        return
    if suffix in OTHER_SUFFIXES:
        also = ". Bare integers: numpy.save(path, codes.numpy(0))" if suffix in (".npy", ".npz") else ""
        raise ValueError(f"{target}: codes are saved as safetensors; a name that ends in {suffix!r} hides that{also}")
    save_file(apart, path, metadata=meta)


def _not_whole(name: str, head: bytes, error: Exception) -> ValueError:
    """The error for what is no safetensors: in words where its beginning tells what it is instead."""
    what = what_is(head, len(head)) if head.strip(b"\0") else None
    return ValueError(f"{name}: not a whole safetensors file ({what or error})")


def read_codes(source: str | os.PathLike[str] | bytes | BinaryIO) -> dict[str, Any]:
    """The fields of the `Codes` in a file; see `Codes.load`."""
    name = str(source) if isinstance(source, str | os.PathLike) else "<bytes>"
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no codes at {name!r}")
        source = path.read_bytes()
    content = source if isinstance(source, bytes) else source.read()
    if content[:6] == b"\x93NUMPY":
        raise ValueError(f"{name}: a NumPy array, not a file of codes: codec.codes_from_tensor(numpy.load(path))")
    if content[: len(MAGIC)] == MAGIC:
        with _named(name):
            return read_czt_file(io.BytesIO(content))
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # the library names no unknown type otherwise
        raise _not_whole(name, content[:HEAD_BYTES], error) from error
    meta = _checked(name, _metadata(content))
    missing = [key for key in ("codes", "lengths", "num_samples") if key not in tensors]
    if missing:
        raise ValueError(f"{name}: broken: it has no {' and no '.join(missing)}")
    return {
        "codes": tensors["codes"],
        "lengths": tensors["lengths"],
        "num_samples": tensors["num_samples"],
        "side_info": {key.removeprefix("side."): value for key, value in tensors.items() if key.startswith("side.")},
        **_facts(name, meta),
    }


class CodesFile(NamedTuple):
    """The header of a file of codes, read without the codes."""

    codec: str
    codebook_sizes: tuple[int, ...]
    clips: int
    seconds: float | None  # of the longest clip; None where neither samples nor a frame rate are known
    weights: str | None = None  # see `Codes`

    @classmethod
    def of(cls, codes: Codes) -> CodesFile:
        """The header that `codes` have in a file."""
        longest = int(codes.num_samples.max()) if len(codes) else -1
        seconds = _seconds(longest, codes.codes.shape[-1], codes.sample_rate, codes.frame_rate)
        return cls(codes.codec, codes.codebook_sizes, len(codes), seconds, codes.weights)

    @classmethod
    def read(cls, path: str | Path) -> CodesFile:
        """The header of the file at `path`. Raises what `Codes.load` raises."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no codes at {str(path)!r}")
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                with _named(str(path)):
                    header, clips, samples, frames = read_czt_head(file)
                seconds = _seconds(samples, frames, header.sample_rate, header.frame_rate)
                return cls(header.codec, header.codebook_sizes, clips, seconds, header.weights)
        try:
            with safe_open(path, "pt") as file:
                facts = _facts(str(path), _checked(str(path), file.metadata()))
                shape = file.get_slice("codes").get_shape()
                samples = file.get_tensor("num_samples")
        except (SafetensorError, KeyError, TypeError) as error:
            with Path(path).open("rb") as file:
                raise _not_whole(str(path), file.read(HEAD_BYTES), error) from error
        if len(shape) != 3 or list(samples.shape) != list(shape[:1]):
            raise ValueError(f"{path}: broken: its codes are {shape}, its num_samples {list(samples.shape)}")
        longest = int(samples.max()) if shape[0] else -1
        seconds = _seconds(longest, shape[2], facts["sample_rate"], facts["frame_rate"])
        return cls(facts["codec"], facts["codebook_sizes"], shape[0], seconds, facts["weights"])


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of what is read say which file it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: not a whole .czt file ({error})") from error


def _facts(name: str, meta: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of a file as fields of `Codes`."""
    try:
        facts = {
            "sample_rate": check_rate(int(meta["sample_rate"])),
            "codec": meta["codec"],
            "codebook_sizes": tuple(map(_whole, json.loads(meta["codebook_sizes"]))),
            "frame_rate": json.loads(meta["frame_rate"]),
            "strides": tuple(map(_whole, json.loads(meta["strides"]))),
            "side_sizes": {key: _whole(size) for key, size in json.loads(meta.get("side_sizes", "{}")).items()},
            "weights": meta.get("weights"),
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name}: broken: its metadata cannot be read ({type(error).__name__}: {error})") from error
    rate = facts["frame_rate"]
    if rate is not None and not (type(rate) in (int, float) and math.isfinite(rate) and rate > 0):
        raise ValueError(f"{name}: broken: a frame rate of {rate!r}")
    return facts


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _seconds(samples: int, frames: int, sample_rate: int, frame_rate: float | None) -> float | None:
    return samples / sample_rate if samples >= 0 else frames / frame_rate if frame_rate else None


def _checked(name: str, meta: Mapping[str, str] | None) -> Mapping[str, str]:
    """A file's metadata, if it is one of codes."""
    meta = meta or {}
    if meta.get("format") != CODES_FORMAT:
        raise ValueError(f"{name}: not a file of codes (its format is {meta.get('format')!r}, not {CODES_FORMAT!r})")
    return meta


def _metadata(content: bytes) -> Mapping[str, str] | None:
    """The metadata of a safetensors file: 8 bytes of length, then a JSON head. The library gives it for paths only."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
