"""The notebooks of examples/ as pages, with the outputs that are stored in them.

mkdocs-jupyter does this too, with style sheets of its own (light ones) and MathJax from a CDN.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ORDER = ("hear_and_see_codecs", "tokens_to_training", "evaluate_your_codec", "latents_and_gradients")


def pages(root: Path) -> dict[str, str]:
    """Path → Markdown, in the order that they are read in; further ones behind these."""
    found = {path.stem: path for path in sorted((root / "examples").glob("*.ipynb"))}
    names = [*ORDER, *(name for name in found if name not in ORDER)]
    return {f"notebooks/{name}.md": "\n\n".join(_parts(found[name])) + "\n" for name in names}


def _parts(path: Path) -> Iterator[str]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    for i, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
            if not i:
                yield f"*Made from the notebook `examples/{path.name}`, with the outputs that it has there.*"
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield _shown(output)


def _shown(output: Mapping[str, Any]) -> str:
    """What a cell printed, showed or played."""
    if output["output_type"] == "stream":
        return _text("".join(output["text"]))
    data = output.get("data", {})
    if "text/html" in data:  # in one line: a blank one would end it
        inner = " ".join("".join(data["text/html"]).split("\n"))
        return f'<div class="output">{inner}</div>'
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            said = "".join(data.get("text/plain", ""))
            coded = "".join(data[kind]).replace("\n", "")
            return f'<p class="output"><img alt="{html.escape(said)}" src="data:{kind};base64,{coded}"></p>'
    return _text("".join(data["text/plain"]))


def _text(text: str) -> str:
    return f'<pre class="output">{html.escape(text.rstrip()).replace(chr(10), "&#10;")}</pre>'
