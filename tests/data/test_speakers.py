"""The speaker that a data set names for a clip, in every form of data set."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeczoo.data import embedded_clips
from codeczoo.data.open import open_source

CLIP = Path(embedded_clips()[0])


def speakers(dataset: Path) -> dict[str, str | None]:
    return {entry.id: entry.speaker for entry in open_source(dataset).entries()}


@pytest.mark.parametrize("column", ["speaker", "speaker_id", "client_id"])
def test_of_manifests(tmp_path: Path, column: str) -> None:
    (tmp_path / "m.csv").write_text(f"id,path,{column}\na,{CLIP},s1\nb,{CLIP},\n")
    assert speakers(tmp_path / "m.csv") == {"a": "s1", "b": None}
    # LibriSpeech's are numbers, and 0 is one of them.
    rows = [{"id": "a", "path": str(CLIP), column: 0}, {"id": "b", "path": str(CLIP)}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert speakers(tmp_path / "m.jsonl") == {"a": "0", "b": None}


def test_of_parquet(tmp_path: Path) -> None:
    audio = [{"bytes": CLIP.read_bytes(), "path": None}] * 2
    table = pa.table({"audio": audio, "id": ["a", "b"], "speaker_id": [1089, None]})
    pq.write_table(table, tmp_path / "data.parquet")
    assert speakers(tmp_path / "data.parquet") == {"a": "1089", "b": None}


def test_of_webdataset(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, content in (
            ("a.flac", CLIP.read_bytes()),
            ("a.json", b'{"speaker": "s1"}'),
            ("b.flac", CLIP.read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert set(speakers(tmp_path / "s.tar").values()) == {"s1", None}
