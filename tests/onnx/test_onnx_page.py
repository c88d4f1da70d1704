"""docs/onnx.md: a row for every network, and what it says is so."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.small import codec_of

ROOT = Path(__file__).parent.parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "update_onnx.py"))
ROWS = {
    name: (encoder, decoder)
    for name, encoder, decoder in re.findall(
        r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", (ROOT / "docs" / "onnx.md").read_text("utf-8"), flags=re.MULTILINE
    )
}
SIDES = ("encoder", "decoder")


def test_every_network_has_a_row() -> None:
    assert list(ROWS) == SCRIPT["NETWORKS"], "run: python scripts/update_onnx.py NAME ..."


@pytest.mark.parametrize("name", SCRIPT["NETWORKS"])
def test_what_cannot_be_written_is_said_and_nothing_else(name: str) -> None:
    codec = codec_of(name, "small", torch.float32)
    for side, told in zip(SIDES, ROWS[name], strict=True):
        if side == "decoder" and not codec.supports_decode:
            assert told == "has none"
        elif reason := codec.onnx_unsupported.get(side):
            assert told == f"no: {reason}"
        else:
            assert re.search(r"(codes equal|differ).*; from \d+ (sample|frame)s? on", told)


@pytest.mark.slow
def test_its_code_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "onnx.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 2
    code = "\n".join([*blocks, "assert codes.shape == (1, 4, 50) and audio.shape == waveform.shape"])
    (tmp_path / "page.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SCRIPT["NETWORKS"])
def test_a_small_network_of_each_goes_into_onnx_as_the_page_says(name: str, side: str) -> None:
    """`cell` exports and compares at three lengths, and raises where they disagree."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    digits = re.compile(r"\d+e-\d+ of the peak|\d+\.\d+%")  # they depend on the machine
    told = ROWS[name][SIDES.index(side)]
    assert digits.sub("", SCRIPT["cell"](codec_of(name, "small", torch.float32), side)) == digits.sub("", told)
