"""`Codes`: what a codec encodes audio to, and all that decoding it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.codes_file import read_codes, write_codes
from codeczoo.base.codes_join import PAD, batch_of, describe_weights, frames_of, in_time, indexed, same_values
from codeczoo.base.deprecated import HidesFormerNames, Renamed, renamed_keyword
from codeczoo.base.ragged import batch_index, check_lengths
from codeczoo.base.sample_rate import check_rate

__all__ = ["PAD", "Codes", "describe_weights"]


@dataclass(frozen=True, eq=False)
class Codes(HidesFormerNames):
    """The codes of a batch of clips, with what decoding them takes. `codec.encode` makes them.

        codes = codec.encode(["a.wav", "b.flac"])
        codes[0].tensor                       # [1, K, N] int64
        codes[0].numpy(0)                     # [K, N] as an array
        codes[:, :4]                          # the first 4 codebooks; codes[..., 10:20]: 10 frames
        codes.save("codes.safetensors")       # and Codes.load(...)

    Two are equal (`==`) if all their fields are, wherever they lie and whatever fills them behind their lengths.

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
    def tensor(self) -> Tensor:
        """[B, K, N] int64: `codes`, under a name that reads well (`clip.codes.tensor`)."""
        return self.codes

    @property
    def num_codebooks(self) -> int:
        """K, how many codebooks there are."""
        return self.codes.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the codes lie."""
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

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor | EllipsisType | tuple[Any, ...]) -> Codes:
        """Item(s) of the batch, still `Codes`, cut to the longest that remains.

        A tuple with a slice or `...` in it is an index of the axes [B, K, N]: `codes[:, :4]` is `codes.first(4)`, and
        `codes[0, :, 10:20]` and `codes[..., 10:20]` are `frames(10, 20)` of one item and of all.

        Raises:
            IndexError: no such item; codebooks that do not begin with the first.
            ValueError: as `frames`.
        """
        if index is Ellipsis or (
            isinstance(index, tuple) and any(p is Ellipsis or isinstance(p, slice) for p in index)
        ):
            return indexed(self, index if isinstance(index, tuple) else (index,))
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

    def numpy(self, index: int | None = None) -> np.ndarray:
        """One item's codes without padding, int64 [K, N]; None = of all, [B, K, N] with PAD (-1) behind each."""
        rows = self.codes if index is None else self[index].codes[0]
        return rows.detach().cpu().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(
            "Codes are a batch with lengths, not an array: .numpy(index) gives one clip's [K, N], .numpy() all of "
            "them, padded with -1, and .tensor the same as a tensor"
        )

    def equal(self, other: Codes) -> bool:
        """Whether both hold the same, as `==`. Weights that are not known differ from those that are."""
        return self == other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        facts = ("codec", "sample_rate", "codebook_sizes", "frame_rate", "strides", "side_sizes", "weights")
        if any(getattr(self, name) != getattr(other, name) for name in facts) or len(self) != len(other):
            return False
        if self.side_info.keys() != other.side_info.keys():
            return False
        other = other.to(self.device)
        if not (torch.equal(self.lengths, other.lengths) and torch.equal(self.num_samples, other.num_samples)):
            return False
        longest = int(self.lengths.max()) if len(self) else 0
        mine, theirs = self.codes[..., :longest], other.codes[..., :longest]
        if not bool((mine.eq(theirs) | ~self.mask[..., :longest]).all()):
            return False
        return all(same_values(value, other.side_info[name]) for name, value in self.side_info.items())

    def __hash__(self) -> int:
        # Of what cannot be changed in place, and equals where all else does.
        return hash((self.codec, self.sample_rate, self.codebook_sizes, len(self)))

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

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Codes:
        """On another device.

        Raises:
            TypeError: a type: codes are int64 (`save` narrows them).
        """
        if isinstance(device, torch.dtype):
            raise TypeError(f"codes stay int64: codes.tensor.to({device}) is the bare tensor in another type")
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def cpu(self) -> Codes:
        """On the CPU."""
        return self.to("cpu")

    def pin_memory(self) -> Codes:
        """In memory that a GPU copies from asynchronously; a `DataLoader` with pin_memory=True calls it."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Codes:
        return replace(
            self,
            codes=change(self.codes),
            lengths=change(self.lengths),
            num_samples=change(self.num_samples),
            side_info={name: change(value) for name, value in self.side_info.items()},
        )

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

    def frames(self, start: int | None = None, stop: int | None = None) -> Codes:
        """Frames `start` to `stop` of each clip, with the samples that belong to them; as Python's slices, so that a
        negative number counts from each clip's own end.

            prompt = codes.frames(0, round(3 * codes.frame_rate))   # the first 3 seconds

        Decoded, a stretch differs at its edges from the same stretch of the decoded clip: the network does not see
        what was beside it.

        Raises:
            ValueError: frames without a fixed duration (a file's bytes); side values that follow time (EnCodec 48 kHz);
                in a multi-scale codec, an edge within a frame of the slowest codebook.
        """
        return frames_of(self, start, stop)

    @staticmethod
    def cat(parts: Sequence[Codes]) -> Codes:
        """Several `Codes` of one codec as one batch. (`concat` joins in time.)

        Its weights are known only if those of all parts are.

        Raises:
            ValueError: no parts, or parts of different codecs, weights, rates or side values.
        """
        return batch_of(parts)

    @staticmethod
    def concat(parts: Sequence[Codes], num_samples: Tensor | int | None = None) -> Codes:
        """Several `Codes` of as many clips end to end in time, clip by clip: the chunks that a stream gives, or
        stretches (`frames`).

            codes = Codes.concat([stream.encode(chunk) for chunk in chunks] + [stream.flush(rest)])

        A part before another one counts with all samples of its frames. What decodes to audio in one piece is not the
        audio of the parts end to end: the network sees across the joints.

        Args:
            num_samples: [B], how long the clips are; None = what the parts say (of a stream's chunks, that of `flush`).

        Raises:
            ValueError: as `cat`; parts of different numbers of clips; codes whose frames have no fixed duration; side
                values that follow time or differ; a part that ends within a frame of the slowest codebook.
        """
        return in_time(parts, num_samples)

    # -- keeping --------------------------------------------------------------------------------

    def save(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write one safetensors file, or into an open one: the tensors by name, all else as metadata. Under a name that
        ends in `.czt`, a file of as few bytes as the codes take (docs/czt.md).

        Raises:
            FileNotFoundError: the folder is not there.
            ValueError: the name's suffix is another format's (.npy, .pt, .ecdc, ...).
        """
        write_codes(self, target)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes | BinaryIO, device: torch.device | str = "cpu") -> Codes:
        """Read what `save` wrote: a file, its bytes, or an open one.

        Raises:
            ValueError: another kind of file, or one that is cut short or broken.
        """
        fields = read_codes(source)
        try:
            return cls(**fields).to(device)
        except (TypeError, ValueError, RuntimeError) as error:
            name = source if isinstance(source, str | os.PathLike) else "<bytes>"
            raise ValueError(f"{name}: broken: {error}") from error


Codes.__init__ = renamed_keyword("side", "side_info")(Codes.__init__)  # type: ignore[method-assign]


def _holds_integers(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
