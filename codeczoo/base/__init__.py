"""The contract of a codec, and all that an author of one imports: `from codeczoo.base import BaseCodec, Encoded, …`.

Each name is imported from its module when it is first asked for: torch takes seconds, and a command that only reads
the catalogue has no use for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeczoo.base.audio import Audio, AudioLike
    from codeczoo.base.catalogue import Variant, WeightsSource
    from codeczoo.base.codec import BaseCodec
    from codeczoo.base.codes import PAD, Codes
    from codeczoo.base.cuda_graph import State
    from codeczoo.base.device import matmul_precision
    from codeczoo.base.info import CodecInfo
    from codeczoo.base.inputs import collate, read_clips
    from codeczoo.base.key_map import KeyMap, Rule, compare_settings, differing
    from codeczoo.base.latents import Latents
    from codeczoo.base.memory import release_memory_between
    from codeczoo.base.network import (
        CodecNetwork,
        Context,
        Decoded,
        Encoded,
        Frames,
        FrameSource,
        contexts_of,
        values_in_chunks,
    )
    from codeczoo.base.ragged import dense_or_none, join_chunks, pad_stack, valid_mask
    from codeczoo.base.resampling import resample
    from codeczoo.base.stream import Stream

# module -> the names that authors take from it
_HOMES = {
    "audio": ("Audio", "AudioLike"),
    "catalogue": ("Variant", "WeightsSource"),
    "codec": ("BaseCodec",),
    "codes": ("PAD", "Codes"),
    "cuda_graph": ("State",),
    "device": ("matmul_precision",),
    "info": ("CodecInfo",),
    "inputs": ("collate", "read_clips"),
    "key_map": ("KeyMap", "Rule", "compare_settings", "differing"),
    "latents": ("Latents",),
    "memory": ("release_memory_between",),
    "network": (
        "CodecNetwork",
        "Context",
        "Decoded",
        "Encoded",
        "FrameSource",
        "Frames",
        "contexts_of",
        "values_in_chunks",
    ),
    "ragged": ("dense_or_none", "join_chunks", "pad_stack", "valid_mask"),
    "resampling": ("resample",),
    "stream": ("Stream",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "PAD",
    "Audio",
    "AudioLike",
    "BaseCodec",
    "CodecInfo",
    "CodecNetwork",
    "Codes",
    "Context",
    "Decoded",
    "Encoded",
    "FrameSource",
    "Frames",
    "KeyMap",
    "Latents",
    "Rule",
    "State",
    "Stream",
    "Variant",
    "WeightsSource",
    "collate",
    "compare_settings",
    "contexts_of",
    "dense_or_none",
    "differing",
    "join_chunks",
    "matmul_precision",
    "pad_stack",
    "read_clips",
    "release_memory_between",
    "resample",
    "valid_mask",
    "values_in_chunks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
