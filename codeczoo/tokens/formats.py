"""The formats of a shard of tokens: a safetensors file, a Parquet file, a WebDataset tar, or a `.czt` file.

Each holds for each clip its id, its category (or none), its codes [K, N], its number of samples, and its side
information. Equal tokens give equal bytes.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from codeczoo.base.codes import PAD, Codes
from codeczoo.base.codes_czt import clips_of, fields_of
from codeczoo.base.codes_join import narrowest
from codeczoo.base.errors import first_line
from codeczoo.czt import CztError, CztHeader, read_czt, write_czt

SHARD_FORMAT = "codeczoo.tokens/1"


class Tokens(NamedTuple):
    """The tokens of one clip: `codes` is a batch of one."""

    id: str
    category: str | None
    codes: Codes


LEFT_OUT = ("weights", "side_sizes")  # of a shard's facts where there are none


@dataclass(frozen=True)
class Facts:
    """Facts that all clips of a shard share."""

    codec: str
    sample_rate: int
    frame_rate: float | None
    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    weights: str | None = None  # see `Codes`; a shard says nothing of weights that are not known
    side_sizes: Mapping[str, int] = field(default_factory=dict)  # see `Codes`; left out of a shard if empty

    @classmethod
    def of(cls, codes: Codes) -> Facts:
        common = (codes.codec, codes.sample_rate, codes.frame_rate, codes.codebook_sizes, codes.strides)
        return cls(*common, codes.weights, codes.side_sizes)

    def to_json(self) -> str:
        facts = {name: value for name, value in vars(self).items() if name not in LEFT_OUT or value}
        return json.dumps({"format": SHARD_FORMAT, **facts}, sort_keys=True)

    @classmethod
    def from_json(cls, path: Path, text: str | bytes | None) -> Facts:
        table = json.loads(text) if text else {}
        if table.pop("format", None) != SHARD_FORMAT:
            raise ValueError(f"{path}: not a shard of tokens (its format is not {SHARD_FORMAT!r})")
        unknown = sorted(table.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(
                f"{path}: broken, or of a newer version: it says {', '.join(map(repr, unknown))} of its clips"
            )
        return cls(**{**table, "codebook_sizes": tuple(table["codebook_sizes"]), "strides": tuple(table["strides"])})

    def codes(self, codes: Tensor, num_samples: int, side_info: Mapping[str, Tensor]) -> Codes:
        """One clip's [K, N] as a batch of one."""
        return Codes(
            codes=codes[None].long(),
            lengths=torch.tensor([codes.shape[-1]]),
            num_samples=torch.tensor([num_samples]),
            side_info={name: value[None] for name, value in side_info.items()},
            **vars(self),
        )

    @property
    def dtype(self) -> torch.dtype:
        return narrowest(self.codebook_sizes)


# -- safetensors: codes end to end, for memory-mapped training ------------------------------------


def _write_safetensors(path: Path, facts: Facts, clips: Sequence[Tokens]) -> None:
    """`codes` [K, sum of N], `offsets` [clips + 1], `num_samples` [clips], and side information end to end."""
    counts = [clip.codes.codes.shape[-1] for clip in clips]
    tensors = {
        "codes": torch.cat([clip.codes.codes[0] for clip in clips], dim=-1).to(facts.dtype),
        "offsets": torch.tensor([0, *np.cumsum(counts).tolist()]),
        "num_samples": torch.cat([clip.codes.num_samples for clip in clips]),
    }
    for name in clips[0].codes.side_info:
        values = [clip.codes.side_info[name][0] for clip in clips]
        tensors[f"side.{name}"] = torch.cat([value.reshape(-1) for value in values])
        tensors[f"side_shapes.{name}"] = torch.tensor([list(value.shape) for value in values], dtype=torch.int64)
    names = {"ids": [clip.id for clip in clips], "categories": [clip.category for clip in clips]}
    # A single entry: safetensors writes several in random order, and equal tokens must give equal bytes.
    metadata = {"tokens": json.dumps({"facts": facts.to_json(), **names}, ensure_ascii=False)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def _read_safetensors(path: Path) -> Iterator[Tokens]:
    try:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get("tokens", "{}"))
            facts = Facts.from_json(path, names.get("facts"))
            offsets = file.get_tensor("offsets").tolist()
            samples = file.get_tensor("num_samples").tolist()
            sides = {key.removeprefix("side."): file.get_tensor(key) for key in file.keys() if key.startswith("side.")}  # noqa: SIM118
            shapes = {name: file.get_tensor(f"side_shapes.{name}").tolist() for name in sides}
            codes = file.get_slice("codes")
            at = dict.fromkeys(sides, 0)
            for i, (id, category) in enumerate(zip(names["ids"], names["categories"], strict=True)):
                side = {}
                for name, values in sides.items():
                    size = int(np.prod(shapes[name][i], dtype=np.int64))
                    side[name] = values[at[name] : at[name] + size].reshape(shapes[name][i])
                    at[name] += size
                yield Tokens(id, category, facts.codes(codes[:, offsets[i] : offsets[i + 1]], samples[i], side))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


# -- Parquet: a row a clip --------------------------------------------------------------------------


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("tokens in Parquet need pyarrow: pip install 'codeczoo[hf]'") from error
    return pyarrow


def _write_parquet(path: Path, facts: Facts, clips: Sequence[Tokens]) -> None:
    """Columns id, category, codes (list of K lists), num_samples, seconds, and side (side information, in JSON)."""
    pa = _pyarrow()
    number = {torch.int16: pa.int16(), torch.int32: pa.int32()}.get(facts.dtype, pa.int64())
    rows = {
        "id": pa.array([clip.id for clip in clips], pa.string()),
        "category": pa.array([clip.category for clip in clips], pa.string()),
        "codes": pa.array([clip.codes.codes[0].tolist() for clip in clips], pa.list_(pa.list_(number))),
        "num_samples": pa.array([int(clip.codes.num_samples) for clip in clips], pa.int64()),
        "seconds": pa.array([int(clip.codes.num_samples) / facts.sample_rate for clip in clips], pa.float64()),
        "side": pa.array([_side_to_json(clip.codes.side_info) for clip in clips], pa.string()),
    }
    table = pa.table(rows).replace_schema_metadata({"tokens": facts.to_json()})
    pa.parquet.write_table(table, path, compression="zstd")


def _read_parquet(path: Path) -> Iterator[Tokens]:
    pa = _pyarrow()
    try:
        file = pa.parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error})") from error
    with file:
        facts = Facts.from_json(path, (file.schema_arrow.metadata or {}).get(b"tokens"))
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                codes = torch.tensor(row["codes"], dtype=torch.int64)
                side = _side_from_json(row["side"])
                yield Tokens(row["id"], row["category"], facts.codes(codes, row["num_samples"], side))


def _side_to_json(side_info: Mapping[str, Tensor]) -> str:
    return json.dumps({name: [str(v.dtype).removeprefix("torch."), v[0].tolist()] for name, v in side_info.items()})


def _side_from_json(text: str) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=getattr(torch, kind)) for name, (kind, value) in json.loads(text).items()}


# -- WebDataset: two files a clip -------------------------------------------------------------------


def _write_webdataset(path: Path, facts: Facts, clips: Sequence[Tokens]) -> None:
    """For each clip KEY.npy, its codes [K, N], and KEY.json, the rest; KEY is the clip's number in the shard."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, clip in enumerate(clips):
            array = io.BytesIO()
            np.save(array, clip.codes.codes[0].to(facts.dtype).numpy(), allow_pickle=False)
            about = {
                "id": clip.id,
                "category": clip.category,
                "num_samples": int(clip.codes.num_samples),
                "side": json.loads(_side_to_json(clip.codes.side_info)),
                "tokens": json.loads(facts.to_json()),
            }
            for suffix, content in (
                ("npy", array.getvalue()),
                ("json", json.dumps(about, ensure_ascii=False).encode()),
            ):
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _read_webdataset(path: Path) -> Iterator[Tokens]:
    try:
        with tarfile.open(path) as tar:
            array: np.ndarray | None = None
            for member in tar:
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                if member.name.endswith(".npy"):
                    array = np.load(io.BytesIO(content), allow_pickle=False)
                    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "iu":
                        raise ValueError(f"{path}: broken: {member.name} is no array of codes [K, N]")
                elif array is not None:
                    about = json.loads(content)
                    facts = Facts.from_json(path, json.dumps(about["tokens"]))
                    codes = torch.from_numpy(array.astype(np.int64))
                    side = _side_from_json(json.dumps(about["side"]))
                    yield Tokens(about["id"], about["category"], facts.codes(codes, about["num_samples"], side))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path}: not a whole tar file ({error})") from error


# -- .czt: as few bytes as the codes take ------------------------------------------------------------


def _write_czt(path: Path, facts: Facts, clips: Sequence[Tokens]) -> None:
    """A `.czt` file (docs/czt.md), entropy-coded where that is smaller and `constriction` is installed."""
    parts = [part for clip in clips for part in clips_of(clip.codes, [clip.id], clip.category)]
    with path.open("wb") as file:
        write_czt(file, CztHeader(**vars(facts)), parts)


def _read_czt(path: Path) -> Iterator[Tokens]:
    try:
        with path.open("rb") as file:
            for header, clip in read_czt(file):
                yield Tokens(clip.id, clip.category, Codes(**fields_of(header, [clip])))
    except CztError as error:
        raise ValueError(f"{path}: not a whole .czt file ({error})") from error


# -- the table ---------------------------------------------------------------------------------------


class ShardFormat(NamedTuple):
    """How a shard is written and read."""

    suffix: str
    write: Callable[[Path, Facts, Sequence[Tokens]], None]
    read: Callable[[Path], Iterator[Tokens]]


FORMS: Mapping[str, ShardFormat] = {
    "safetensors": ShardFormat(".safetensors", _write_safetensors, _read_safetensors),
    "parquet": ShardFormat(".parquet", _write_parquet, _read_parquet),
    "webdataset": ShardFormat(".tar", _write_webdataset, _read_webdataset),
    "czt": ShardFormat(".czt", _write_czt, _read_czt),
}


def read_shard(path: str | Path) -> Iterator[Tokens]:
    """The clips of a shard, in order, whichever of `FORMS` it has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is of another kind, truncated or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no shard of tokens at {str(path)!r}")
    for form in FORMS.values():
        if path.name.endswith(form.suffix):
            return _naming(path, form.read(path))
    raise ValueError(f"{path}: a shard of tokens is one of {', '.join(form.suffix for form in FORMS.values())}")


# What the libraries below, and a table that is not as it should be, raise of a broken file.
BROKEN = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError, EOFError, OSError,
    NotImplementedError, SyntaxError, TokenError, tarfile.TarError, struct.error, zlib.error,
)  # fmt: skip


def _naming(path: Path, clips: Iterator[Tokens]) -> Iterator[Tokens]:
    """The clips; whatever goes wrong in reading them is a ValueError that names the file."""
    try:
        yield from clips
    except ImportError:
        raise
    except BROKEN as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's or the system's, not the file's
        raise ValueError(f"{path}: broken: {first_line(error)}") from error


__all__ = ["FORMS", "PAD", "Facts", "ShardFormat", "Tokens", "read_shard"]
