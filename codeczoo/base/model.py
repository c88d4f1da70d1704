"""`Model`: what every network of the zoo is, a codec or not: built from a `Variant`, filled with its published weights,
at home on one device, fed with audio of any form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from codeczoo.base.audio import Audio, AudioLike
from codeczoo.base.inputs import collate, read_clips
from codeczoo.base.warn_once import warn_once
from codeczoo.base.weight_copies import drop_copies

if TYPE_CHECKING:
    from codeczoo.base.key_map import KeyMap
    from codeczoo.base.variant import Variant
    from codeczoo.weights.gguf_layout import GGUFLayout


CALLS = ("forward", "step", "first_chunk", "encode", "decode")  # how a part of a network is called


def _in_float32(model: Model, part: nn.Module, method: str, *args: Any, **options: Any) -> Any:
    """`part.method(...)`, as its class has it."""
    call = getattr(type(part), method)
    if model.precision != "fast" or not torch.is_autocast_enabled(model.device.type):
        return call(part, *args, **options)
    args, options = tree_map(lambda x: x.float() if _is_half(x) else x, (args, options))
    with torch.autocast(model.device.type, enabled=False):
        return call(part, *args, **options)


def _is_half(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype in (torch.bfloat16, torch.float16)


class Model(nn.Module):
    """What `weights.load` fills, and what audio goes into.

    A family sets the class attributes below, and `sample_rate` (and `channels`) in `__init__`.
    """

    Config: ClassVar[Callable[..., Any]]  # dataclass of the network's numbers; the TOML's [network] fills it
    key_maps: ClassVar[tuple[KeyMap, ...]] = ()
    readers: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = {}  # of more checkpoint formats, by suffix
    gguf: ClassVar[GGUFLayout | None] = None  # how codec.cpp lays it out, where it knows the class; not inherited
    settings_files: ClassVar[tuple[str, ...]] = ("config.json",)  # read where they lie beside a checkpoint

    sample_rate: int
    channels: tuple[int, ...] = (1,)  # the channel counts that the network takes

    def __init__(self, config: Any, variant: Variant) -> None:
        super().__init__()
        self.config = config
        self.variant = variant
        self._precision = "exact"
        self.weights_source: str | None = None  # where the weights came from; None = unknown, or none needed
        self.weights_hash: str | None = None  # sha256 of that file, in hex; of several files, of their hashes
        self._anchor: Tensor
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # has the model's device and dtype

    # -- hooks of `weights.load` ----------------------------------------------------------------

    def configure(self, metadata: Mapping[str, Any]) -> None:
        """Adapt the network to the plain values beside a checkpoint's tensors (those of config.json under "config").
        Called first; for families whose published settings change the network."""

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Raise a ValueError if the values that `configure` saw are of another model."""

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise a ValueError if a checkpoint's tensors, by published key, are clearly of another model."""

    # -- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that it was asked for by: of the variant, or a second name of it."""
        return self.variant.name

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of its weights and arithmetic."""
        return self._anchor.dtype

    @property
    def audio_dtype(self) -> torch.dtype:
        """Of the audio that goes in."""
        return self.dtype

    # -- arithmetic -----------------------------------------------------------------------------

    @property
    def precision(self) -> str:
        """ "exact", "fast" or "fastest"; to go back to "exact" frees the copies of weights in bfloat16."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = precision
        if precision == "exact":
            drop_copies(self)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        drop_copies(self)  # of weights that move or change their type
        return super()._apply(fn, recurse)

    def _in_own_type(self, x: Tensor) -> Tensor:
        """What bfloat16 arithmetic gave, in the network's own type: no value changes."""
        return x.to(self.dtype) if _is_half(x) and not _is_half(self._anchor) else x

    def keep_parts_in_float32(self) -> None:
        """Make `float32_parts` of the variant leave bfloat16 when they are called, under precision "fast"."""
        for name in self.variant.float32_parts or ():
            part = self.get_submodule(name)
            for method in CALLS:
                if hasattr(type(part), method):
                    setattr(part, method, functools.partial(_in_float32, self, part, method))

    # -- audio ----------------------------------------------------------------------------------

    def prepare(self, audio: AudioLike, sample_rate: int | None = None) -> Audio:
        """Audio of any form as the network takes it: one batch, on the device, at its rate and channels."""
        clips = [
            clip._replace(waveform=clip.waveform.to(self.device, self.audio_dtype))
            for clip in read_clips(audio, sample_rate)
        ]
        counts = {len(clip.waveform) for clip in clips}
        channels = max(count if count in self.channels else min(self.channels) for count in counts)
        if (most := max(counts)) > max(2, *self.channels):
            warn_once(
                f"channels of {self.name}",
                f"a clip has {most} channels, and {self.name} takes {' or '.join(map(str, self.channels))}: they are "
                f"mixed. If they are {most} clips, pass [{most}, 1, T], x[:, None], or a list",
            )
        if channels > 1:
            clips = [
                clip._replace(waveform=self._with_fewer_channels(clip.waveform, channels))
                if len(clip.waveform) not in (1, channels)
                else clip
                for clip in clips
            ]
        return collate(clips, sample_rate=self.sample_rate, channels=channels)

    def _with_fewer_channels(self, waveform: Tensor, channels: int) -> Tensor:
        """More channels [C, T] than the network takes → `channels` of them, or one that will stand in each: their
        mix."""
        return waveform.mean(0, keepdim=True)
