"""The codecs by Codec-SUPERB's names; `codeczoo.superb.codec.NAME.Codec` is the class of each."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

from codeczoo.base.catalogue import find_variant
from codeczoo.base.codec import BaseCodec
from codeczoo.superb.zoo import Codec, class_of

NAMES = (
    "academicodec_hifi_16k_320d",
    "academicodec_hifi_16k_320d_large_uni",
    "academicodec_hifi_24k_320d",
    "audiodec_24k_320d",
    "auv",
    "bigcodec_1k",
    "dac_16k",
    "dac_24k",
    "dac_44k",
    "encodec_24k_12bps",
    "encodec_24k_1_5bps",
    "encodec_24k_24bps",
    "encodec_24k_3bps",
    "encodec_24k_6bps",
    "funcodec_en_libritts_16k_gr1nq32ds320",
    "funcodec_en_libritts_16k_gr8nq32ds320",
    "funcodec_en_libritts_16k_nq32ds320",
    "funcodec_en_libritts_16k_nq32ds640",
    "funcodec_zh_en_16k_nq32ds320",
    "funcodec_zh_en_16k_nq32ds640",
    "llmcodec",
    "llmcodec_abl_ftp",
    "llmcodec_abl_k1",
    "llmcodec_abl_k10",
    "llmcodec_abl_k3",
    "llmcodec_abl_sa",
    "s3tokenizer_v1",
    "s3tokenizer_v1_25hz",
    "s3tokenizer_v2_25hz",
    "s3tokenizer_v3_25hz",
    "speech_tokenizer_16k",
    "sqcodec_16k_0k75bps",
    "sqcodec_16k_12kbps",
    "sqcodec_16k_1k5bps",
    "sqcodec_16k_3kbps",
    "sqcodec_16k_6kbps",
    "sqcodec_24k_12kbps",
    "sqcodec_24k_24kbps",
    "unicodec_24k",
    "wavtokenizer_24k_large_600_4096",
    "wavtokenizer_24k_large_speech_75token",
    "wavtokenizer_24k_medium_600_4096",
    "wavtokenizer_24k_small_600_4096",
)


def load_codec(codec_name: str, **options: Any) -> Codec:
    """A codec, ready to use: one of `list_codec()`, or any other that `codeczoo.load_codec` knows.

    Args:
        options: beyond upstream's one argument, all of `codeczoo.load_codec`: weights, device, precision ...

    Raises:
        KeyError: no such codec; and what `codeczoo.load_codec` raises.
    """
    return _class(codec_name)(**options)


def wrap(model: BaseCodec) -> Codec:
    """A codec that is loaded already, with Codec-SUPERB's interface."""
    return _class(model.name)(model)


def list_codec(ignore_list: Collection[str] = ()) -> list[str]:
    """Codec-SUPERB's names, sorted; without those of `ignore_list`, which are names of files there ("dac_16k.py")."""
    return sorted(name for name in NAMES if f"{name}.py" not in ignore_list)


def codec_supports_decode(codec_name: str) -> bool:
    """Whether a codec can make audio of its codes. Nothing is loaded."""
    return find_variant(codec_name).codec_type().supports_decode


@functools.cache
def _class(codec_name: str) -> type[Codec]:
    return class_of(find_variant(codec_name))


class _Module(ModuleType):
    """A module of one codec: upstream has 43 files of this kind, each with one class of the same name."""

    def __getattr__(self, name: str) -> Any:
        if name != "Codec":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _class(self.__name__.rpartition(".")[2])


# `from codeczoo.superb.codec.dac_16k import Codec` finds a module here before it looks for a file.
sys.modules.update({f"{__name__}.{name}": _Module(f"{__name__}.{name}") for name in NAMES})
