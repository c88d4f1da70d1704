"""A drop-in for Codec-SUPERB's Python package: its call shapes on this package's codecs. See docs/superb.md.

    from codeczoo import superb as SoundCodec           # instead of: import SoundCodec
    from codeczoo.superb import codec                   # instead of: from SoundCodec import codec
    from codeczoo.superb.codec import load_codec        # instead of: from SoundCodec.codec import load_codec

Upstream: github.com/voidful/Codec-SUPERB (MIT), SoundCodec/codec and SoundCodec/base_codec/general.py at cfccafc.
"""

from codeczoo.superb import base_codec, codec
from codeczoo.superb.base_codec.general import BatchExtractedUnit, ExtractedUnit
from codeczoo.superb.codec import codec_supports_decode, list_codec, load_codec

__all__ = [
    "BatchExtractedUnit",
    "ExtractedUnit",
    "base_codec",
    "codec",
    "codec_supports_decode",
    "list_codec",
    "load_codec",
]
