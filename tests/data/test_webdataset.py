"""Tars in WebDataset's form."""

from __future__ import annotations

import io
import json
import logging
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from codeczoo.data.batching import plan_batches
from codeczoo.data.open import open_source
from tests.support.clips import read_all, read_entry, samples, wav


def tar(members: Sequence[tuple[str, bytes]], compression: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def shard(name: str, count: int, channels: int = 1) -> list[tuple[str, bytes]]:
    """`count` samples of a clip, its metadata and a text."""
    out: list[tuple[str, bytes]] = []
    for i in range(count):
        note = json.dumps({"id": f"{name}-{i}", "category": "ab"[i % 2], "text": "hello"}).encode()
        out += [(f"{name}{i}.json", note), (f"{name}{i}.wav", wav(i, channels)), (f"{name}{i}.txt", b"hello")]
    return out


def test_samples_are_read_by_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard("s", 3, channels=2)))
    source = open_source(tmp_path / "a.tar")
    assert source.count == 3
    entries = list(source.entries())
    assert [(e.id, e.category, e.origin) for e in entries] == [
        ("s-0", "a", "a.tar: s0"),
        ("s-1", "b", "a.tar: s1"),
        ("s-2", "a", "a.tar: s2"),
    ]
    copy = pickle.loads(pickle.dumps(source))
    for i in (2, 0, 1):  # in any order
        read = read_entry(copy, entries[i])
        assert read.waveform is not None, read.failure
        np.testing.assert_array_equal(read.waveform.numpy(), samples(i, 2).T)


@pytest.mark.parametrize(
    ("suffix", "compression"), [(".tar.gz", "gz"), (".tgz", "gz"), (".tar.xz", "xz"), (".tar", "")]
)
def test_compressed_tars_give_the_same(tmp_path: Path, suffix: str, compression: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(tar(shard("s", 4), compression))
    source = open_source(tmp_path)
    reads = read_all(pickle.loads(pickle.dumps(source)))
    assert [(r.entry.id, r.entry.category) for r in reads] == [(f"s-{i}", "ab"[i % 2]) for i in range(4)]
    for i, read in enumerate(reads):
        assert read.waveform is not None, read.failure
        np.testing.assert_array_equal(read.waveform.numpy(), samples(i).T)
    chosen = [e.id for e in open_source(tmp_path, limit=2, shuffle=True, seed=1).entries()]
    assert chosen == [e.id for e in open_source(tmp_path, limit=2, shuffle=True, seed=1).entries()]
    assert len(set(chosen)) == 2
    (batch,) = plan_batches(source, 10, 10.0)
    assert len(batch.entries) == 4


def test_shards_of_a_folder_a_glob_or_braces(tmp_path: Path) -> None:
    for i in range(11):
        (tmp_path / f"shard-{i:03d}.tar").write_bytes(tar([(f"clip{i}.wav", wav(i))]))
    folder = [e.id for e in open_source(tmp_path).entries()]
    assert folder == [f"clip{i}" for i in range(11)]
    assert [e.id for e in open_source(f"{tmp_path}/shard-00*.tar").entries()] == folder[:10]
    assert [e.id for e in open_source(f"{tmp_path}/shard-{{009..010}}.tar").entries()] == ["clip9", "clip10"]
    assert [e.id for e in open_source(f"{tmp_path}/shard-{{010,000}}.tar").entries()] == ["clip10", "clip0"]
    with pytest.raises(FileNotFoundError, match=r"there is no .*shard-011\.tar"):
        open_source(f"{tmp_path}/shard-{{000..012}}.tar")


def test_names_that_recur_are_told_apart_by_their_shard(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.tar").write_bytes(tar([("x/1.wav", wav(1)), ("x/2.wav", wav(2))]))
    assert [e.id for e in open_source(tmp_path).entries()] == ["a/x/1", "a/x/2", "b/x/1", "b/x/2"]
    twice = [("1.wav", wav(1)), ("2.wav", wav(2)), ("1.wav", wav(3))]
    (tmp_path / "a.tar").write_bytes(tar(twice))
    with pytest.raises(ValueError, match="two clips have the id 'a/1'"):
        open_source(tmp_path / "a.tar")


def test_categories_by_class_and_unicode_names(tmp_path: Path) -> None:
    members = [("dir/ölçü 1.wav", wav(1)), ("dir/ölçü 1.cls", b"7\n"), (".hidden.wav", wav(2)), ("LICENCE", b"")]
    (tmp_path / "a.tar").write_bytes(tar(members))
    (read,) = read_all(open_source(tmp_path / "a.tar"))
    assert (read.entry.id, read.entry.category, read.failure) == ("dir/ölçü 1", "7", None)


def test_a_sample_without_audio_and_one_with_a_broken_file_fail_alone(tmp_path: Path) -> None:
    members = [("1.wav", wav(1)), ("2.txt", b"no clip"), ("3.wav", b"no audio"), ("4.wav", wav(1)[:-100])]
    (tmp_path / "a.tar").write_bytes(tar(members))
    one, two, three, four = (read.failure for read in read_all(open_source(tmp_path / "a.tar")))
    assert one is None
    assert "a.tar: 2: there is no audio in it" in str(two)
    assert "not readable as audio" in str(three)
    assert "truncated" in str(four)


def test_several_members_of_audio_are_an_error_that_can_be_settled(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("1.left.wav", wav(1)), ("1.right.wav", wav(2))]))
    with pytest.raises(ValueError, match=r"1: several members hold audio \(left\.wav, right\.wav\); --audio-column"):
        open_source(tmp_path / "a.tar")
    (read,) = read_all(open_source(tmp_path / "a.tar", audio_column="right.wav"))
    assert read.waveform is not None
    np.testing.assert_array_equal(read.waveform.numpy(), samples(2).T)
    with pytest.raises(ValueError, match=r"no member of the tars is \.middle; there are left\.wav, right\.wav"):
        open_source(tmp_path / "a.tar", audio_column="middle")


@pytest.mark.parametrize("note", [b"not json", b"[1]"])
def test_metadata_that_cannot_be_used_is_named(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("1.wav", wav(1)), ("1.json", note)]))
    with pytest.raises(ValueError, match=r"a\.tar: 1\.json: (not JSON|it is not a JSON object but list)"):
        open_source(tmp_path / "a.tar")


# -- broken shards --------------------------------------------------------------------------------


def test_a_cut_tar_is_an_error_that_names_the_byte(tmp_path: Path) -> None:
    whole = tar(shard("s", 3))
    path = tmp_path / "a.tar"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.tar: broken at byte \d+, behind s1\.wav .*fetch the shard again"):
        open_source(path)
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ValueError, match=r"a\.tar: broken at byte 0, behind nothing"):
        open_source(path)


def test_a_cut_compressed_tar_is_an_error(tmp_path: Path) -> None:
    whole = tar(shard("s", 3), "gz")
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.tar\.gz: broken at byte \d+"):
        open_source(tmp_path)


def test_a_broken_header_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    whole = bytearray(tar([(f"{i}.wav", wav(i)) for i in range(3)]))
    header = whole.index(b"1.wav\0")
    whole[header : header + 512] = b"\xff" * 512
    (tmp_path / "a.tar").write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=rf"a\.tar: broken at byte {header}, behind 0\.wav"):
        open_source(tmp_path)


def test_two_tars_in_one_are_not_read_as_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard("a", 1)) + tar(shard("b", 1)))
    with pytest.raises(ValueError, match=r"a\.tar: broken at byte \d+, behind a0\.txt"):
        open_source(tmp_path)


def test_what_loses_nothing_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [("1.wav", wav(1)), ("2.wav", wav(2))]
    whole = tar(members)
    end = whole.rindex(wav(2)[-500:]) + 500
    (tmp_path / "a.tar").write_bytes(whole[:end])  # without the padding of the last member, and the end's mark
    assert [read.failure for read in read_all(open_source(tmp_path))] == [None, None]
    (tmp_path / "a.tar").write_bytes(whole[: end + -end % 512])
    with caplog.at_level(logging.WARNING):
        assert [read.failure for read in read_all(open_source(tmp_path))] == [None, None]
    assert "a.tar: no mark of its end behind 2.wav" in caplog.text
    (tmp_path / "a.tar").write_bytes(whole[: end - 1])
    with pytest.raises(ValueError, match="clips are lost"):
        open_source(tmp_path)


def test_tars_beside_loose_files_and_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard("a", 1)))
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="1 tars and 1 Parquet files: name one kind"):
        open_source(tmp_path)
    (tmp_path / "c.wav").write_bytes(wav(0))
    with caplog.at_level(logging.WARNING):
        assert [e.id for e in open_source(tmp_path).entries()] == ["c.wav"]
    assert "2 tars or Parquet files beside them are left out" in caplog.text
    with pytest.raises(ValueError, match="--split does not go with this form"):
        open_source(tmp_path / "a.tar", split="test")


def test_ids_by_another_key_or_by_number(tmp_path: Path) -> None:
    members = [("a.json", b'{"id": 0, "name": "x"}'), ("a.wav", wav(0)), ("b.json", b'{"id": 1}'), ("b.wav", wav(1)),
               ("c.json", b'{"id": 0, "name": 0}'), ("c.wav", wav(2))]  # fmt: skip
    (tmp_path / "s.tar").write_bytes(tar(members))
    assert [entry.id for entry in open_source(tmp_path / "s.tar", id_column="row").entries()] == ["s/0", "s/1", "s/2"]
    read = {one.entry.id: one.failure for one in read_all(open_source(tmp_path / "s.tar", id_column="name"))}
    assert list(read) == ["x", "b", "0"]
    assert [failure is None for failure in read.values()] == [True, False, True]
    assert "s.tar: b: its .json has no 'name'; --id-column names another" in (read["b"] or "")
    (tmp_path / "s.tar").write_bytes(tar(members[:4]))
    assert [entry.id for entry in open_source(tmp_path / "s.tar").entries()] == ["0", "1"]


def test_a_sample_is_its_clip_and_its_times_say_where_it_was_cut_from(tmp_path: Path) -> None:
    note = json.dumps({"id": 0, "offset": 0.1, "duration": 0.2, "start": 3, "end": 4}).encode()
    (tmp_path / "a.tar").write_bytes(tar([("s.json", note), ("s.wav", wav(0))]))
    (read,) = read_all(open_source(tmp_path / "a.tar"))
    assert read.entry.id == "0"
    np.testing.assert_array_equal(read.waveform, samples(0).T)
