"""`codeczoo check`: a filter of clips that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeczoo.cli import main
from codeczoo.data import check_clips, open_source
from tests.support.broken_files import BROKEN, write_broken, write_sounds
from tests.support.clips import clips, parquet
from tests.support.command_line import write_sound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write_sounds(folder, 8)
    write_broken(folder, 1)
    return folder


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_manifest_of_what_can_be_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    out = tmp_path / "readable.jsonl"
    assert main(["check", str(folder), "-o", str(out), "--json", "--workers", workers]) == 3
    said = capsys.readouterr()
    rows = {row["id"]: row for row in map(json.loads, said.out.splitlines())}
    assert len(rows) == 8 + len(BROKEN)
    assert {id.startswith("good") for id, row in rows.items() if row["status"] == "ok"} == {True}
    assert rows["good004.wav"] == {
        "id": "good004.wav",
        "status": "ok",
        "seconds": 0.3,
        "sample_rate": 16000,
        "channels": 1,
    }
    assert said.err.count("failed: ") == len(BROKEN)
    assert said.err.splitlines()[-1] == f"8 clips can be read, {len(BROKEN)} cannot; in {out}"
    assert [entry.id for entry in open_source(out).entries()] == sorted(id for id in rows if id.startswith("good"))
    assert main(["check", str(out), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_segments_and_ids_are_kept(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 0.5, 16000)
    manifest, out = tmp_path / "m.csv", tmp_path / "readable.jsonl"
    manifest.write_text("id,path,offset,duration,label\n0,a.wav,0.1,0.2,x\n1,a.wav,,,\n2,gone.wav,,,\n")
    assert main(["check", str(manifest), "-o", str(out)]) == 3
    before, after = ({e.id: (e.key, e.category) for e in open_source(path).entries()} for path in (manifest, out))
    assert after == {id: before[id] for id in "01"}


def test_clips_inside_of_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.parquet").write_bytes(parquet(clips("s", 3)))
    assert main(["check", str(tmp_path / "t.parquet"), "--json"]) == 0
    assert [json.loads(line)["seconds"] for line in capsys.readouterr().out.splitlines()] == [0.5] * 3
    assert main(["check", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "x.jsonl")]) == 1
    assert "-o lists files, and 's-0' lies inside of t.parquet, row 0" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "x.csv")]) == 1


def test_in_python(folder: Path) -> None:
    checked = list(check_clips(open_source(folder), workers=0))
    assert sum(clip.failure is None for clip in checked) == 8
    assert all(clip.seconds > 0 and clip.sample_rate in (8000, 16000) for clip in checked if clip.failure is None)
    assert {clip.entry.id for clip in checked} == {path.name for path in folder.iterdir()}
