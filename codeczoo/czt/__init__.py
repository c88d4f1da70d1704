"""`.czt` files: the codes of clips, bit-packed or entropy-coded, in blocks that can be streamed, searched and joined.

Here codes are NumPy arrays. `Codes.save("x.czt")`, `Codes.load` and the command line write and read these files.
docs/czt.md describes the format and has a reader of NumPy alone.
"""

from codeczoo.czt.chunks import MAGIC, CztError
from codeczoo.czt.coding import Model
from codeczoo.czt.content import CztClip, CztHeader
from codeczoo.czt.index import CztIndex, IndexedClip
from codeczoo.czt.reader import read_czt
from codeczoo.czt.writer import CztWriter, write_czt

__all__ = [
    "MAGIC",
    "CztClip",
    "CztError",
    "CztHeader",
    "CztIndex",
    "CztWriter",
    "IndexedClip",
    "Model",
    "read_czt",
    "write_czt",
]
