"""Every form of --dataset, in a fixed order, with clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from codeczoo.data.batching import plan_batches
from codeczoo.data.files import is_clip_name
from codeczoo.data.folders import walk
from codeczoo.data.open import Entry, open_source


def find_clips(dataset: str | Path | None, **options: object) -> list[Entry]:
    return list(open_source(dataset, **options).entries())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name, rate, channels, seconds in (
        ("b.wav", 16000, 1, 0.5),
        ("a.flac", 44100, 2, 1.0),
        ("deep/c.ogg", 16000, 1, 2.0),
        ("deep/d.wav", 16000, 1, 0.25),
    ):
        noise = np.random.default_rng(0).standard_normal((int(rate * seconds), channels)) * 0.1
        sf.write(tmp_path / name, noise, rate)
    (tmp_path / "notes.txt").write_text("not audio, and not taken for it")
    return tmp_path


def test_a_folder_is_searched_to_its_depths_in_sorted_order(folder: Path) -> None:
    assert [entry.id for entry in find_clips(folder)] == ["a.flac", "b.wav", "deep/c.ogg", "deep/d.wav"]


def test_a_glob(folder: Path) -> None:
    assert [entry.id for entry in find_clips(f"{folder}/**/*.wav")] == ["b.wav", "d.wav"]


def test_one_file(folder: Path) -> None:
    assert [entry.key for entry in find_clips(folder / "b.wav")] == [folder / "b.wav"]


def test_manifests_in_their_own_order_with_categories(folder: Path) -> None:
    (folder / "m.csv").write_text("id,path,category\nz,deep/c.ogg,speech\ny,b.wav,music\n")
    entries = find_clips(folder / "m.csv")
    assert [(e.id, e.key, e.category) for e in entries] == [
        ("z", folder / "deep/c.ogg", "speech"),
        ("y", folder / "b.wav", "music"),
    ]
    rows = [{"audio_filepath": "b.wav", "label": "x"}, {"audio_filepath": "a.flac"}]
    (folder / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert [(e.id, e.category) for e in find_clips(folder / "m.jsonl")] == [("b.wav", "x"), ("a.flac", None)]


def test_no_dataset_means_the_embedded_clips() -> None:
    entries = find_clips(None)
    assert len(entries) >= 12
    assert all(entry.key.is_file() and entry.category for entry in entries)


def test_limit_and_seeded_shuffle(folder: Path) -> None:
    assert len(find_clips(folder, limit=2)) == 2
    one, other = (find_clips(folder, shuffle=True, seed=3) for _ in range(2))
    assert one == other
    assert sorted(e.id for e in one) == sorted(e.id for e in find_clips(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "m.csv",
            "id,title\n1,x\n",
            "m.csv: no column of paths; its columns: 'id', 'title'; those that are known: ",
        ),
        ("m.jsonl", '{"path": "b.wav"}\nnot json\n', "line 2: not JSON"),
        ("m.jsonl", "[1, 2]\n", "line 1: a row is a JSON object"),
        ("m.csv", "id,path\n1,b.wav\n1,a.flac\n", "two clips have the id '1'"),
    ],
)
def test_bad_manifests_name_the_row(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        find_clips(folder / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder or file here"):
        find_clips(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no audio files there"):
        find_clips(tmp_path)


def test_batches_are_bounded_alike_and_whole(folder: Path) -> None:
    (folder / "broken.wav").write_text("no audio at all")
    source = open_source(folder)
    entries = list(source.entries())
    batches = list(plan_batches(source, batch_size=2, max_seconds=3.0))
    assert sorted(e.id for batch in batches for e in batch.entries) == sorted(e.id for e in entries)
    assert [len(batch.entries) for batch in batches] == [
        1,
        2,
        1,
        1,
    ]  # unreadable; 16 kHz short; 16 kHz long; 44.1 kHz
    assert batches[0].entries[0].id == "broken.wav"
    assert [e.id for e in batches[1].entries] == ["deep/d.wav", "b.wav"]
    assert list(plan_batches(source, 2, 3.0)) == batches


def test_a_folder_is_walked_as_pathlib_would(tmp_path: Path) -> None:
    names = ("b/c.wav", "b.wav", "b-a/x.WAV", "a/b/c/d.flac", "a/._d.wav", "a/note.txt", ".wav", "b c/e.wav", "B/e.wav")
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "set" / "folder.wav").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.wav").write_bytes(b"x")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "link.wav").symlink_to(tmp_path / "elsewhere" / "f.wav")
    (tmp_path / "set" / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    found = [Path(file.path) for file in sorted(walk(tmp_path / "set", is_clip_name))]
    assert found == sorted(
        path
        for path in (tmp_path / "set").rglob("*")
        if path.suffix.lower() in (".wav", ".flac") and (path.is_file() or path.is_symlink())
    )
    assert [clip.id for clip in find_clips(tmp_path / "set")] == [
        p.relative_to(tmp_path / "set").as_posix() for p in found
    ]
