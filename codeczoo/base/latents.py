"""`Latents`: what lies inside a codec: before its quantiser, or behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from codeczoo.base.ragged import batch_index, cat_ragged, check_lengths, padded
from codeczoo.base.sample_rate import check_rate


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of a batch of clips, each of its own length. `codec.latents` and `codec.vectors` make them.

        latents = codec.latents(["a.wav", "b.flac"])
        latents.values                            # [B, D, N]
        codes = codec.quantize(latents)           # those of codec.encode
        codec.synthesize(codec.vectors(codes))    # the audio of codec.decode

    Attributes:
        values: [B, D, N] floating point, zeros behind an item's own frames. ([B, K, dim, N] of
            `vectors(codes, per_codebook=True)`.)
        lengths: [B] int64, each item's number of frames, at most N.
        num_samples: [B] int64, each clip's number of samples at `sample_rate`; -1 where it is not known.
        sample_rate: of the audio that was encoded, in Hz.
        codec: the variant's name.
        frame_rate: frames a second.
        side_info: values beside the frames, each [B, ...], without which the audio cannot come back (see `Codes`). Here
            they are not quantised. NaN pads items that have fewer.
        weights: see `Codes.weights`.
    """

    values: Tensor
    lengths: Tensor
    num_samples: Tensor
    sample_rate: int
    codec: str
    frame_rate: float | None = None
    side_info: Mapping[str, Tensor] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        values = self.values
        if not isinstance(values, Tensor) or not values.is_floating_point():
            raise TypeError("Latents.values must be a floating point tensor [B, D, N]")
        if values.ndim not in (3, 4):
            raise ValueError(f"Latents.values must be [B, D, N]; their shape is {tuple(values.shape)}")
        batch = len(values)
        num_samples = torch.as_tensor(self.num_samples, device=values.device)
        if num_samples.is_floating_point() or bool((num_samples < -1).any()):
            raise ValueError(
                f"num_samples must be whole numbers of at least 0, or -1 = not known; they are {num_samples.tolist()}"
            )
        for name, value in self.side_info.items():
            if not isinstance(value, Tensor) or value.shape[:1] != (batch,):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"side value {name!r} must be a tensor [{batch}, ...]; it is {shape}")
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen: set once, here)
        put("lengths", check_lengths(self.lengths, batch, values.shape[-1], "frames").to(values.device))
        put("num_samples", num_samples.long().expand(batch))
        put("sample_rate", check_rate(self.sample_rate))

    # -- looking --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the values lie."""
        return self.values.device

    @property
    def mask(self) -> Tensor:
        """[B, N] bool: True where a frame belongs to its item."""
        return torch.arange(self.values.shape[-1], device=self.device) < self.lengths[:, None]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Latents:
        """Item(s) of the batch, still `Latents`, cut to the longest that remains."""
        index = batch_index(index, len(self))
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        return replace(
            self,
            values=self.values[index][..., :longest],
            lengths=lengths,
            num_samples=self.num_samples[index],
            side_info={name: value[index] for name, value in self.side_info.items()},
        )

    def __iter__(self) -> Iterator[Latents]:
        return (self[i] for i in range(len(self)))

    def split(self) -> list[Tensor]:
        """The values without padding: a list of B tensors [D, N_b]."""
        return [row[..., :n] for row, n in zip(self.values, self.lengths.tolist(), strict=True)]

    def __repr__(self) -> str:
        batch, *dims, _ = self.values.shape
        low, high = (int(self.lengths.min()), int(self.lengths.max())) if batch else (0, 0)
        frames = f"{low}" if low == high else f"{low} to {high}"
        rate = f"{self.frame_rate:g} Hz" if self.frame_rate else "no fixed rate"
        side = f", side values {', '.join(self.side_info)}" if self.side_info else ""
        size = " x ".join(map(str, (batch, *dims, f"{frames} frames")))
        return f"Latents({self.codec}: {size}, {rate}{side}, {self.values.dtype}, {self.device})"

    # -- changing -------------------------------------------------------------------------------

    def with_values(self, values: Tensor) -> Latents:
        """The same clips with other values of the same batch and frames: those of an optimiser, or of another model."""
        if values.shape[:1] != self.values.shape[:1] or values.shape[-1] != self.values.shape[-1]:
            batch, frames = len(self.values), self.values.shape[-1]
            raise ValueError(f"values must be [{batch}, D, {frames}]; their shape is {tuple(values.shape)}")
        return replace(self, values=values)

    def to(self, device: torch.device | str | torch.dtype) -> Latents:
        """On another device, or with another floating point type."""
        if isinstance(device, torch.dtype):
            side = {name: x.to(device) if x.is_floating_point() else x for name, x in self.side_info.items()}
            return replace(self, values=self.values.to(device), side_info=side)
        return replace(
            self,
            values=self.values.to(device),
            lengths=self.lengths.to(device),
            num_samples=self.num_samples.to(device),
            side_info={name: value.to(device) for name, value in self.side_info.items()},
        )

    def cpu(self) -> Latents:
        """On the CPU."""
        return self.to("cpu")

    @staticmethod
    def cat(parts: Sequence[Latents]) -> Latents:
        """Several `Latents` of one codec and its weights as one batch.

        Raises:
            ValueError: no parts, or parts of different codecs, weights, shapes or side values.
        """
        if not parts:
            raise ValueError("no latents were given")

        def kind(part: Latents) -> Any:
            shape = part.values.shape[1:-1]
            return part.codec, part.weights, shape, part.sample_rate, part.values.dtype, part.side_info.keys()

        head = parts[0]
        for part in parts:
            if kind(part) != kind(head):
                raise ValueError(
                    f"latents of different codecs, weights, shapes or side values do not join: {head!r} and {part!r}"
                )
        rows = [row for part in parts for row in part.values]
        return replace(
            head,
            values=padded(rows),
            lengths=torch.cat([part.lengths for part in parts]),
            num_samples=torch.cat([part.num_samples for part in parts]),
            side_info={name: cat_ragged([part.side_info[name] for part in parts]) for name in head.side_info},
        )
