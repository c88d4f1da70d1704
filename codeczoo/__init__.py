"""codeczoo: every neural audio codec, native, exact, and used in one way.

from codeczoo import load_codec

codec = load_codec("mimi")                  # CUDA > MPS > CPU
codes = codec.encode(["a.wav", "b.flac"])   # ragged batch, any rate, any channel count
audio = codec.decode(codes)                 # each clip its own length again
"""

from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec, CodecInfo
from codeczoo.base.codes import Codes
from codeczoo.base.registry import codec_info, list_codecs, load_codec
from codeczoo.base.stream import Stream
from codeczoo.version import __version__

__all__ = [
    "Audio",
    "BaseCodec",
    "CodecInfo",
    "Codes",
    "Stream",
    "__version__",
    "codec_info",
    "list_codecs",
    "load_codec",
]
