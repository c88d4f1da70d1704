"""Former public names: each works as before, and its first use in a process gives a `DeprecationWarning`.

======================================= ===================================
former name                             name
======================================= ===================================
`BaseCodec.wrap`                        `BaseCodec.codes_from_tensor`
`BaseCodec.restore`                     `BaseCodec.match_input`
`BaseCodec.accepts_codes_of`            `BaseCodec.is_compatible_with`
`BaseCodec.max_seconds_per_pass`        `BaseCodec.max_chunk_seconds`
`load_codec(max_seconds_per_pass=)`     `load_codec(max_chunk_seconds=)`
`BaseCodec.refusal_of(name)`            `Variant.decode_unsupported_reason`
`codec.encode_latent(waveform)`         `codec.latents(audio)`
`codec.decode_latent(latent)`           `codec.synthesize(latents)`
`Audio.like`                            `Audio.matched_to`
`Codes.side`, `Codes(side=)`            `Codes.side_info`, `Codes(side_info=)`
`Codes.level`                           `Codes.codebook`
======================================= ===================================

(`Stream.drain` is `Stream.flush_decoder`, and does not warn.)
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def _warn(old: str, new: str) -> None:
    """Once a process for each former name, at the line that used it."""
    warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=3)


class Renamed:
    """An attribute or method under its former name: `level = Renamed("codebook")` in the class body."""

    def __init__(self, new: str) -> None:
        self.old, self.new = "", new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = f"{owner.__name__}.{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        _warn(self.old, self.new)
        return getattr(instance, self.new)

    def __set__(self, instance: Any, value: Any) -> None:
        _warn(self.old, self.new)
        setattr(instance, self.new, value)


def refusal_of(codec_class: Any, name: str) -> str | None:
    """`BaseCodec.refusal_of`: why the codec of that name cannot decode, as a sentence; None if it can."""
    _warn("BaseCodec.refusal_of", "codec.variant.decode_unsupported_reason")
    supported: bool = codec_class.supports_decode
    return None if supported else f"{name} cannot decode: {codec_class.decode_unsupported_reason}"


def encode_latent(codec: Any, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
    """`codec.encode_latent`: [B, C, T] at the codec's rate → what is quantised, [B, D, N]."""
    _warn("codec.encode_latent", "codec.latents")
    full = [waveform.shape[-1]] * len(waveform) if lengths is None else lengths.tolist()
    clips = [clip[:, :n] for clip, n in zip(waveform, full, strict=True)]
    values: Tensor = codec.latents(clips, codec.sample_rate).values
    return values


def decode_latent(codec: Any, latent: Tensor, lengths: Tensor | None = None) -> Tensor:
    """`codec.decode_latent`: [B, D, N] → [B, C, T]."""
    _warn("codec.decode_latent", "codec.synthesize")
    waveform: Tensor = codec.synthesize(codec.latents_from_tensor(latent, lengths)).waveform
    return waveform


class HidesFormerNames:
    """A class whose former names are not offered by `dir()` and tab completion."""

    def __dir__(self) -> Iterable[str]:
        kind = type(self)
        return [name for name in super().__dir__() if not isinstance(inspect.getattr_static(kind, name, None), Renamed)]


def renamed_keyword(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that takes the keyword `old` as `new` (and in its place, if both are given)."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                _warn(f"{function.__qualname__.removesuffix('.__init__')}({old}=)", f"{new}=")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate
