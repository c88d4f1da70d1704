"""The whole way: `benchmarking.py` takes the weights and the data from one hub, and then from the cache."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml

from codeczoo.base.catalogue import find_variant
from tests.support.clips import clips, parquet, table
from tests.support.golden import golden_state_dict, manifest_of
from tests.support.hub_server import HubServer

ROOT = Path(__file__).parents[2]
CODEC = "funcodec_en_libritts_16k_gr1nq32ds320"  # the smallest network
DATA = "someone/tiny"


def benchmark(hub: HubServer, tmp_path: Path, out: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of a run whose results lie in `tmp_path / out`."""
    command = [sys.executable, "benchmarking.py", "--dataset", DATA, "--out", str(tmp_path / out), "--quiet"]
    done = subprocess.run(
        [*command, "--codecs", CODEC, "opus_12k", "--metrics", "si_sdr", "--device", "cpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "0", **hub.environment(tmp_path / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


def test_weights_and_data_from_one_hub_and_then_offline(tmp_path: Path) -> None:
    source = find_variant(CODEC).weights
    assert source is not None and source.repo is not None
    weights = io.BytesIO()
    torch.save(golden_state_dict(CODEC), weights)
    settings = yaml.safe_dump(manifest_of(CODEC)["config"])
    speech = pa.concat_tables([clips("s", 2), table({"id": ["broken"], "audio": [{"bytes": b"none", "path": None}]})])
    with HubServer() as hub:
        commit = hub.add(source.repo, {source.file: weights.getvalue(), "config.yaml": settings.encode()})
        data = {
            "data/Speech-00000-of-00001.parquet": parquet(speech),
            "data/Music-00000-of-00001.parquet": parquet(clips("m", 2, first=5)),
        }
        hub.add(DATA, data, kind="datasets")
        code, said = benchmark(hub, tmp_path, "online")
        assert code == 3, said  # the broken clip
        found = rows(tmp_path / "online")
        wanted = ["Music/m-0", "Music/m-1", "Speech/broken", "Speech/s-0", "Speech/s-1"]
        for codec in (CODEC, "opus_12k"):
            assert sorted(row["id"] for row in found if row["codec"] == codec) == wanted
        assert {(row["id"], row["status"]) for row in found if row["status"] != "ok"} == {("Speech/broken", "failed")}
        assert {row["category"] for row in found} == {"Speech", "Music"}
        kinds = {path.split("/")[1] == "datasets" for _, path in hub.requests if "/resolve/" in path}
        assert kinds == {True, False}, "both came from the hub"
        assert any(commit in path or source.file in path for _, path in hub.requests)

        hub.requests.clear()
        code, said = benchmark(hub, tmp_path, "offline", HF_HUB_OFFLINE="1")
        assert code == 3, said
        assert hub.requests == []
        assert sorted(map(str, rows(tmp_path / "offline"))) == sorted(map(str, found))


def test_what_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add(DATA, {"data/test-0.parquet": parquet(clips("s", 1))}, kind="datasets", gated=True)
        code, said = benchmark(hub, tmp_path, "out")
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"{DATA}: it is gated" in line
