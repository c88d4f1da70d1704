"""Write the table of docs/onnx.md: which networks go into ONNX, each tried on a small network of its architecture.

python scripts/update_onnx.py [NAME ...]     only these rows; takes 10 to 30 seconds a side
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import torch

from codeczoo.base.codec import BaseCodec
from codeczoo.onnx.check import OnnxFile
from codeczoo.onnx.graphs import SIDES
from tests.support.small import OWN, ROOTS, codec_of

PAGE = Path(__file__).parent.parent / "docs" / "onnx.md"
# One of each class: its other variants differ in numbers.
CLASSES = {OWN[name].codec_type(): name for name in reversed(ROOTS) if OWN[name].weights is not None}
NETWORKS = list(CLASSES.values())[::-1]
HEAD = ["| network | encoder | decoder |", "|---|---|---|"]


def few_codebooks(codec: BaseCodec) -> int:
    """Two where the codec takes two: each further one makes the graph longer in the same way."""
    return next((count for count in codec.codebook_choices if count >= 2), codec.codebook_choices[-1])


def cell(codec: BaseCodec, side: str) -> str:
    """What the table says of one side."""
    if side == "decoder" and not codec.supports_decode:
        return "has none"
    if reason := codec.onnx_unsupported.get(side):
        return f"no: {reason}"
    with tempfile.TemporaryDirectory() as folder:
        found = codec.export_onnx(folder, num_codebooks=few_codebooks(codec), sides=[side], check=True)[side]
        about = OnnxFile(Path(folder) / f"{side}.onnx").metadata
    unit = about["shortest_unit"].removesuffix("s" if about["shortest"] == "1" else "")
    return f"{found}; from {about['shortest']} {unit} on"


def row(name: str) -> str:
    codec = codec_of(name, "small", torch.float32)
    return f"| `{name}` | {cell(codec, SIDES[0])} | {cell(codec, SIDES[1])} |"


def page(text: str, names: list[str]) -> str:
    """`text` with the rows of those networks made anew."""
    rows = dict(re.findall(r"^(?=\| `(\w+)` )(.*)$", text, flags=re.MULTILINE))
    for name in names:
        try:
            rows[name] = row(name)
        except Exception as error:  # noqa: BLE001 one network must not stop the others
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
    table = "\n".join([*HEAD, *(rows[name] for name in NETWORKS if name in rows)])
    pattern = r"(<!-- networks: .*? -->\n).*?(<!-- /networks -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or NETWORKS:
        PAGE.write_text(page(PAGE.read_text("utf-8"), [wanted]), "utf-8")
