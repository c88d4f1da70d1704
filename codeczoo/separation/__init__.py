"""Source separation: a mix in, its stems out. No codecs, but built on the same base.

from codeczoo import load_separator

separator = load_separator("htdemucs")
stems = separator.separate("song.wav")      # {"drums": Audio, "bass": Audio, "other": Audio, "vocals": Audio}
"""

from codeczoo.separation.registry import find_separator, list_separators, load_separator
from codeczoo.separation.separator import Separator

__all__ = ["Separator", "find_separator", "list_separators", "load_separator"]
