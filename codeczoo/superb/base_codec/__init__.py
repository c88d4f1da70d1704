"""What is common to all of Codec-SUPERB's codecs."""

from codeczoo.superb.base_codec.general import BaseCodec, BatchExtractedUnit, ExtractedUnit

__all__ = ["BaseCodec", "BatchExtractedUnit", "ExtractedUnit"]
