"""codeczoo: every neural audio codec, native, exact, and used in one way.

from codeczoo import load_codec

codec = load_codec("mimi")                  # CUDA > MPS > CPU
codes = codec.encode(["a.wav", "b.flac"])   # ragged batch, any rate, any channel count
audio = codec.decode(codes)                 # each clip its own length again
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codeczoo.version import __version__

if TYPE_CHECKING:
    from codeczoo.base.audio import Audio, AudioLike
    from codeczoo.base.catalogue import codec_info, list_codecs, register_codec
    from codeczoo.base.codec import BaseCodec
    from codeczoo.base.codes import Codes
    from codeczoo.base.collate_rows import collate_rows
    from codeczoo.base.info import CodecInfo
    from codeczoo.base.latents import Latents
    from codeczoo.base.stream import Stream
    from codeczoo.registry import load_codec
    from codeczoo.separation.registry import list_separators, load_separator
    from codeczoo.separation.separator import Separator

__all__ = [
    "Audio",
    "AudioLike",
    "BaseCodec",
    "CodecInfo",
    "Codes",
    "Latents",
    "Separator",
    "Stream",
    "__version__",
    "codec_info",
    "collate_rows",
    "list_codecs",
    "list_separators",
    "load_codec",
    "load_separator",
    "register_codec",
]

# Imported when first asked for: torch takes seconds, and `codeczoo --help` has no use for it.
_HOMES = {
    "Audio": "base.audio",
    "AudioLike": "base.audio",
    "BaseCodec": "base.codec",
    "CodecInfo": "base.info",
    "Codes": "base.codes",
    "Latents": "base.latents",
    "Separator": "separation.separator",
    "Stream": "base.stream",
    "codec_info": "base.catalogue",
    "collate_rows": "base.collate_rows",
    "list_codecs": "base.catalogue",
    "list_separators": "separation.registry",
    "load_codec": "registry",
    "load_separator": "separation.registry",
    "register_codec": "base.catalogue",
}
_ROOMS = ("data", "metrics", "tokens")  # modules that are for users


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"codeczoo.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"codeczoo.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
