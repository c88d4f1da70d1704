"""What the pages of all reports share: assets, data for their scripts, and the marks of their plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

# The marks of plotly.js as SVG paths of about its size, for the legend.
SHAPES = {
    "circle": "M5,0A5,5 0 1 1 -5,0A5,5 0 1 1 5,0Z",
    "square": "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "triangle-up": "M0,-6L5.5,4H-5.5Z",
    "cross": "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "x": "M0,2.8L3,5.8L5.8,3L2.8,0L5.8,-3L3,-5.8L0,-2.8L-3,-5.8L-5.8,-3L-2.8,0L-5.8,3L-3,5.8Z",
    "star": "M0,-6.5L1.6,-2.2L6.2,-2L2.6,0.8L3.8,5.3L0,2.7L-3.8,5.3L-2.6,0.8L-6.2,-2L-1.6,-2.2Z",
}


def write_assets(out: Path, names: Sequence[str]) -> None:
    """Scripts and style of the page, and plotly.js, into a new folder `assets`."""
    (out / "assets").mkdir()
    for name in names:
        text = (resources.files(__package__) / "assets" / name).read_text("utf-8")
        (out / "assets" / name).write_text(text, "utf-8", newline="\n")
    (out / "assets" / "plotly.min.js").write_text(get_plotlyjs(), "utf-8", newline="\n")


def save(path: Path, text: str) -> None:
    """Write a text file."""
    # A file name that is no Unicode may be part of an id.
    path.write_text(text, "utf-8", errors="backslashreplace", newline="\n")


def script_data(content: Any) -> Markup:
    """JSON that is safe inside a script element."""
    text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
