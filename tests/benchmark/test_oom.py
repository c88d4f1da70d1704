"""A codec for which the device has not enough memory: halves, and all is scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codeczoo import register_codec
from codeczoo.base.network import Encoded
from codeczoo.cli.benchmark import main
from codeczoo.codecs.g711 import G711
from tests.support.registering import registered_for_a_while
from tests.support.runs import rows_of, write_manifest

TOML = """
[family]
class = "Hungry"
network = { law = "mu" }

[variants.hungry]
"""
ROOM = 3  # clips


class Hungry(G711):
    """G.711 on a small device."""

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        if len(waveform) > ROOM:
            raise torch.OutOfMemoryError(f"no room for {len(waveform)} clips")
        return super()._encode(waveform, lengths, num_codebooks)


@pytest.fixture(autouse=True)
def hungry() -> Iterator[None]:
    """A codec "hungry", as its author registers it."""
    with registered_for_a_while():
        register_codec(TOML, Hungry)
        yield


def test_a_full_device_halves_the_batch_and_all_is_scored(tmp_path: Path) -> None:
    manifest, out = write_manifest(tmp_path / "m.csv", 20), tmp_path / "out"
    common = ["--dataset", str(manifest), "--metrics", "mel", "--batch", "10", "--out", str(out), "--quiet"]
    assert main([*common, "--codecs", "hungry", "g711_ulaw"]) in (0, 4)
    rows = {(row["codec"], row["id"]): row for row in rows_of(out)}
    assert len(rows) == 40
    assert all(row["status"] == "ok" for row in rows.values())
    for (codec, id), row in rows.items():
        if codec == "hungry":
            same = rows["g711_ulaw", id]
            assert row["bits"] == same["bits"]
            assert row["metrics"]["mel"] == pytest.approx(same["metrics"]["mel"], rel=1e-6)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert events
    for event in events:
        assert (event["event"], event["codec"]) == ("halved: out of memory", "hungry")
        assert event["clips"] > ROOM
        assert f"no room for {event['clips']} clips" in event["reason"]
    assert json.loads((out / "timing.json").read_text())["events"] == events
    codecs = json.loads((out / "summary.json").read_text())["codecs"]
    assert codecs["hungry"]["codes"] == codecs["g711_ulaw"]["codes"]
