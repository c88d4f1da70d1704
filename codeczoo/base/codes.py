"""`Codes`: what a codec encodes audio to, and all that decoding it takes."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from codeczoo.base.audio import check_rate
from codeczoo.base.deprecated import HidesFormerNames, Renamed, renamed_keyword
from codeczoo.base.ragged import batch_index, cat_ragged, check_lengths, widen

PAD = -1  # fills the frames behind an item's own; no codebook has this index
CODES_FORMAT = "codeczoo.codes/1"


@dataclass(frozen=True, eq=False)
class Codes(HidesFormerNames):
    """The codes of a batch of clips, with what decoding them takes. `codec.encode` makes them.

        codes = codec.encode(["a.wav", "b.flac"])
        codes[0].codes                        # [1, K, N] int64
        codes.save("codes.safetensors")       # and Codes.load(...)

    Attributes:
        codes: [B, K, N] int64; PAD (-1) behind an item's own frames.
        lengths: [B] int64, each item's number of frames, at most N.
        num_samples: [B] int64, each clip's number of samples at `sample_rate`; -1 where it is not known.
        sample_rate: of the audio that they are made of, in Hz; most codecs decode to the same rate.
        codec: the variant's name.
        codebook_sizes: the number of entries of each of the K codebooks.
        frame_rate: frames a second; None where frames have no fixed duration (the bytes of a compressed file).
        strides: codebook k has one code for each strides[k] frames, ceil(length / strides[k]) in all, at the left
            of its row. All ones, except in multi-scale codecs (SNAC).
        side_info: values beside the codes without which the audio cannot come back, each [B, ...] (a scale, a gain).
            They are part of the codes: saved with them, counted in their bits. NaN pads items that have fewer.
        side_sizes: of those side values that are indices into a codebook, by name, its number of entries (BiCodec's
            voice tokens, 4096). They count log2(size) bits each, and PAD pads them.
        weights: what identifies the weights that made the codes: the sha256 of their file, in hex, or
            "random, seed 0"; None where that is not known, or the codec has no weights. `decode` refuses codes whose
            weights differ from the codec's (None is compared with nothing); allow_other_weights=True insists. Another
            file of the same values (another packaging) counts as other weights.
    """

    codes: Tensor
    lengths: Tensor
    num_samples: Tensor
    sample_rate: int
    codec: str
    codebook_sizes: tuple[int, ...]
    frame_rate: float | None = None
    strides: tuple[int, ...] = ()
    side_info: Mapping[str, Tensor] = field(default_factory=dict)
    side_sizes: Mapping[str, int] = field(default_factory=dict)
    weights: str | None = None

    side = Renamed("side_info")
    level = Renamed("codebook")

    def __post_init__(self) -> None:
        codes = self.codes
        if not isinstance(codes, Tensor) or not _holds_integers(codes):
            raise TypeError("Codes.codes must be an integer tensor [B, K, N]")
        if codes.ndim != 3:
            raise ValueError(f"Codes.codes must be [B, K, N]; its shape is {tuple(codes.shape)}")
        batch, codebooks, frames = codes.shape
        if len(self.codebook_sizes) != codebooks:
            raise ValueError(f"{codebooks} codebooks in the codes and {len(self.codebook_sizes)} codebook_sizes")
        if self.strides and len(self.strides) != codebooks:
            raise ValueError(f"{codebooks} codebooks in the codes and {len(self.strides)} strides")
        if min((*self.codebook_sizes, *self.strides), default=1) < 1:
            raise ValueError(
                f"codebook_sizes and strides must be positive; they are {self.codebook_sizes} and {self.strides}"
            )
        num_samples = torch.as_tensor(self.num_samples, device=codes.device)
        if not _holds_integers(num_samples):
            raise TypeError(f"num_samples must be whole numbers; their type is {num_samples.dtype}")
        if bool((num_samples < -1).any()):
            raise ValueError(f"num_samples must be at least 0, or -1 = not known; they are {self.num_samples}")
        for name, value in self.side_info.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"side value {name!r} must be a tensor [{batch}, ...]; it is {type(value).__name__}")
            if value.shape[:1] != (batch,):
                raise ValueError(f"side value {name!r} must be [{batch}, ...]; its shape is {tuple(value.shape)}")
            if name in self.side_sizes and not _holds_integers(value):
                raise TypeError(f"side value {name!r} is of a codebook and must be integers; its type is {value.dtype}")
        if not isinstance(self.weights, str | None):
            raise TypeError(f"weights must be a string or None; they are {type(self.weights).__name__}")
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen: set once, here)
        put("codes", codes.long())
        put("lengths", check_lengths(self.lengths, batch, frames, "frames").to(codes.device))
        put("num_samples", num_samples.long().expand(batch))
        put("sample_rate", check_rate(self.sample_rate))
        put("codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        put("strides", tuple(int(stride) for stride in self.strides) or (1,) * codebooks)
        put("side_sizes", {name: int(size) for name, size in self.side_sizes.items()})
        sized = {name: value.long() for name, value in self.side_info.items() if name in self.side_sizes}
        put("side_info", {**self.side_info, **sized})

    # -- looking --------------------------------------------------------------------------------

    @property
    def num_codebooks(self) -> int:
        return self.codes.shape[1]

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def counts(self) -> Tensor:
        """[B, K] int64: how many codes each item has in each codebook."""
        if max(self.strides, default=1) == 1:
            return self.lengths[:, None].expand(-1, self.num_codebooks)
        strides = torch.tensor(self.strides, device=self.device)
        return -(-self.lengths[:, None] // strides)

    @property
    def mask(self) -> Tensor:
        """[B, K, N] bool: True where a code belongs to its item."""
        return torch.arange(self.codes.shape[-1], device=self.device) < self.counts[..., None]

    @property
    def num_bits(self) -> Tensor:
        """[B] float64: log2(codebook size) for each code and each side value with a size in `side_sizes`; 32 for each
        other side value, or the bits of its integer type."""
        per_code = torch.tensor([math.log2(size) for size in self.codebook_sizes], dtype=torch.float64)
        bits = self.counts.double().cpu() @ per_code
        for name, value in self.side_info.items():
            width: float = 32 if value.is_floating_point() else torch.iinfo(value.dtype).bits
            held = torch.isfinite(value) if value.is_floating_point() else torch.ones_like(value, dtype=torch.bool)
            if name in self.side_sizes:
                width, held = math.log2(self.side_sizes[name]), value != PAD
            bits = bits + width * held.reshape(len(value), -1).sum(1).double().cpu()
        return bits

    @property
    def bitrate(self) -> Tensor:
        """[B] float64 bit/s: `num_bits` over the clip's duration (NaN where the duration is not known)."""
        samples = self.num_samples.double().cpu()
        if self.frame_rate:
            samples = torch.where(
                samples < 0, self.lengths.double().cpu() * self.sample_rate / self.frame_rate, samples
            )
        return torch.where(samples > 0, self.num_bits * self.sample_rate / samples, torch.nan)

    def codebook(self, k: int) -> list[Tensor]:
        """The codes of codebook k: a list of B tensors [N_b]."""
        return [row[k, :n] for row, n in zip(self.codes, self.counts[:, k].tolist(), strict=True)]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Codes:
        """Item(s) of the batch, still `Codes`, cut to the longest that remains."""
        index = batch_index(index, len(self))
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        return replace(
            self,
            codes=self.codes[index][..., :longest],
            lengths=lengths,
            num_samples=self.num_samples[index],
            side_info={name: value[index] for name, value in self.side_info.items()},
        )

    def __iter__(self) -> Iterator[Codes]:
        return (self[i] for i in range(len(self)))

    def split(self) -> list[Codes]:
        """A list of B `Codes` of one item each, without padding."""
        return list(self)

    def __repr__(self) -> str:
        batch, codebooks, _ = self.codes.shape
        low, high = (int(self.lengths.min()), int(self.lengths.max())) if batch else (0, 0)
        frames = f"{low}" if low == high else f"{low} to {high}"
        rate = f"{self.frame_rate:g} Hz" if self.frame_rate else "no fixed rate"
        sizes = sorted(set(self.codebook_sizes))
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        side = f", side values {', '.join(self.side_info)}" if self.side_info else ""
        what = f"{batch} x {codebooks} codebooks of {size} x {frames} frames"
        return f"Codes({self.codec}: {what}, {rate}{side}, {self.device})"

    # -- changing -------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> Codes:
        return replace(
            self,
            codes=self.codes.to(device),
            lengths=self.lengths.to(device),
            num_samples=self.num_samples.to(device),
            side_info={name: value.to(device) for name, value in self.side_info.items()},
        )

    def cpu(self) -> Codes:
        return self.to("cpu")

    def first(self, num_codebooks: int) -> Codes:
        """The first `num_codebooks` codebooks: a lower bitrate of a residual codec."""
        if not 1 <= num_codebooks <= self.num_codebooks:
            raise ValueError(f"these codes have {self.num_codebooks} codebooks; {num_codebooks} were asked for")
        return replace(
            self,
            codes=self.codes[:, :num_codebooks],
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            strides=self.strides[:num_codebooks],
        )

    @staticmethod
    def cat(parts: Sequence[Codes]) -> Codes:
        """Several `Codes` of one codec as one batch.

        Its weights are known only if those of all parts are.

        Raises:
            ValueError: no parts, or parts of different codecs, weights, rates or side values.
        """
        if not parts:
            raise ValueError("no codes were given")
        head = parts[0]
        known = dict.fromkeys(part.weights for part in parts)
        if len(known.keys() - {None}) > 1:
            told = " and ".join(describe_weights(weights) for weights in known if weights)
            raise ValueError(
                f"codes of {head.codec} made with different weights do not join: {told}. To join them all the same, "
                "put one of these (or None) on all: dataclasses.replace(codes, weights=None)"
            )
        for part in parts:
            if (part.codec, part.codebook_sizes, part.sample_rate, part.side_info.keys()) != (
                head.codec,
                head.codebook_sizes,
                head.sample_rate,
                head.side_info.keys(),
            ):
                raise ValueError(f"codes of different codecs, rates or side values do not join: {head!r} and {part!r}")
        longest = max(part.codes.shape[-1] for part in parts)
        return replace(
            head,
            weights=None if None in known else head.weights,
            codes=torch.cat([widen(part.codes, longest, PAD) for part in parts]),
            lengths=torch.cat([part.lengths for part in parts]),
            num_samples=torch.cat([part.num_samples for part in parts]),
            side_info={name: cat_ragged([part.side_info[name] for part in parts]) for name in head.side_info},
        )

    # -- keeping --------------------------------------------------------------------------------

    def save(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write one safetensors file, or into an open one: the tensors by name, all else as metadata.

        Raises:
            FileNotFoundError: the folder is not there.
        """
        meta = {
            "format": CODES_FORMAT,
            "codec": self.codec,
            "sample_rate": str(self.sample_rate),
            "frame_rate": json.dumps(self.frame_rate),
            "codebook_sizes": json.dumps(self.codebook_sizes),
            "strides": json.dumps(self.strides),
            **({"side_sizes": json.dumps(self.side_sizes)} if self.side_sizes else {}),
            **({} if self.weights is None else {"weights": self.weights}),
        }
        tensors = {"codes": self.codes.to(narrowest(self.codebook_sizes)), "lengths": self.lengths}
        tensors["num_samples"] = self.num_samples
        for name, value in self.side_info.items():
            tensors[f"side.{name}"] = value.to(narrowest([size])) if (size := self.side_sizes.get(name)) else value
        # Copies, because safetensors refuses tensors that share memory.
        apart = {name: value.cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        if isinstance(target, str | os.PathLike):
            folder = Path(target).expanduser().parent
            if not folder.is_dir():
                raise FileNotFoundError(f"{target}: there is no folder {str(folder)!r}")
            if Path(target).is_dir():
                raise IsADirectoryError(f"{target}: this is a folder; codes are saved into a file")
            save_file(apart, Path(target).expanduser(), metadata=meta)
        else:
            target.write(save(apart, metadata=meta))

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes | BinaryIO, device: torch.device | str = "cpu") -> Codes:
        """Read what `save` wrote: a file, its bytes, or an open one.

        Raises:
            ValueError: another kind of file, or one cut short.
        """
        name = str(source) if isinstance(source, str | os.PathLike) else "<bytes>"
        if isinstance(source, str | os.PathLike):
            path = Path(source).expanduser()
            if not path.is_file():
                raise FileNotFoundError(f"no codes at {name!r}")
            source = path.read_bytes()
        content = source if isinstance(source, bytes) else source.read()
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise ValueError(f"{name}: not a whole safetensors file ({error})") from error
        meta = _checked(name, _metadata(content))
        codes = cls(
            codes=tensors["codes"].long(),
            lengths=tensors["lengths"],
            num_samples=tensors["num_samples"],
            sample_rate=int(meta["sample_rate"]),
            codec=meta["codec"],
            codebook_sizes=tuple(json.loads(meta["codebook_sizes"])),
            frame_rate=json.loads(meta["frame_rate"]),
            strides=tuple(json.loads(meta["strides"])),
            side_info={key.removeprefix("side."): value for key, value in tensors.items() if key.startswith("side.")},
            side_sizes=json.loads(meta.get("side_sizes", "{}")),
            weights=meta.get("weights"),
        )
        return codes.to(device)


Codes.__init__ = renamed_keyword("side", "side_info")(Codes.__init__)  # type: ignore[method-assign]


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
        try:
            with safe_open(path, "pt") as file:
                meta = _checked(str(path), file.metadata())
                clips, _, frames = file.get_slice("codes").get_shape()
                longest = int(file.get_tensor("num_samples").max()) if clips else -1
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
        seconds = _seconds(longest, frames, int(meta["sample_rate"]), json.loads(meta["frame_rate"]))
        return cls(meta["codec"], tuple(json.loads(meta["codebook_sizes"])), clips, seconds, meta.get("weights"))


def describe_weights(weights: str | None) -> str:
    """`Codes.weights` in a message."""
    return f"sha256 {weights}" if weights and re.fullmatch("[0-9a-f]{64}", weights) else weights or "not known"


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


def _holds_integers(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def narrowest(codebook_sizes: Sequence[int]) -> torch.dtype:
    """The smallest integer type that holds every code and PAD."""
    largest = max(codebook_sizes, default=1)
    return torch.int16 if largest <= 2**15 else torch.int32 if largest <= 2**31 else torch.int64
