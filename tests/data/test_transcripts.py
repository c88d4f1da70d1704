"""What is said in clips: by columns, by files beside them, and as far as the entries of a data set."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from codeczoo.data.open import open_source
from codeczoo.data.source import TRANSCRIPT_COLUMNS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        sf.write(tmp_path / f"{name}.flac", np.zeros(800), 16000)
    return tmp_path


def said(dataset: Path) -> dict[str, str | None]:
    return {entry.id: entry.transcript for entry in open_source(str(dataset)).entries()}


@pytest.mark.parametrize("column", TRANSCRIPT_COLUMNS)
def test_columns_of_manifests(folder: Path, column: str) -> None:
    (folder / "m.tsv").write_text(f"path\t{column}\na.flac\tHello, you!\nb.flac\t\n")
    assert said(folder / "m.tsv") == {"a.flac": "Hello, you!", "b.flac": ""}


def test_json_rows_may_lack_it(folder: Path) -> None:
    rows = [{"audio_filepath": "a.flac", "text": "né"}, {"audio_filepath": "b.flac"}, {"path": "c.flac", "text": None}]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert said(folder / "m.jsonl") == {"a.flac": "né", "b.flac": None, "c.flac": None}


def test_kaldis_text_lies_beside_its_recordings(folder: Path) -> None:
    (folder / "kaldi").mkdir()
    (folder / "kaldi" / "wav.scp").write_text("".join(f"u{n} {folder / n}.flac\n" for n in "abc"))
    assert set(said(folder / "kaldi" / "wav.scp").values()) == {None}
    (folder / "kaldi" / "text").write_text("ua HELLO  YOU\nub\n")
    assert said(folder / "kaldi" / "wav.scp") == {"ua": "HELLO  YOU", "ub": "", "uc": None}
    (folder / "kaldi" / "text").write_text("ua A\nua B\n")
    with pytest.raises(ValueError, match="text, line 2: the id 'ua' is there twice"):
        said(folder / "kaldi" / "wav.scp")


def test_a_folder_of_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "test-clean" / "1089" / "134686"
    chapter.mkdir(parents=True)
    for name in ("1089-134686-0000", "1089-134686-0001"):
        sf.write(chapter / f"{name}.flac", np.zeros(800), 16000)
    (chapter / "1089-134686.trans.txt").write_text("1089-134686-0000 HE HOPED THERE WOULD BE STEW\n")
    found = said(tmp_path / "test-clean")
    assert found == {
        "1089/134686/1089-134686-0000.flac": "HE HOPED THERE WOULD BE STEW",
        "1089/134686/1089-134686-0001.flac": None,
    }


def test_webdatasets(folder: Path) -> None:
    clip = (folder / "a.flac").read_bytes()
    members = {"x.flac": clip, "x.txt": b"one\n", "y.flac": clip, "y.json": b'{"text": "two"}', "y.txt": b"no"}
    members["z.flac"] = clip
    with tarfile.open(folder / "s.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert said(folder / "s.tar") == {"x": "one", "y": "two", "z": None}


def test_parquet(folder: Path) -> None:
    clips = [(folder / f"{name}.flac").read_bytes() for name in "abc"]
    pq.write_table(pa.table({"id": ["a", "b", "c"], "audio": clips, "text": ["one", "", None]}), folder / "p.parquet")
    assert list(said(folder / "p.parquet").values()) == ["one", "", None]
