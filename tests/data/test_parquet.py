"""Parquet files with a column of audio."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeczoo.data.batching import plan_batches
from codeczoo.data.open import open_source
from tests.support.clips import clips, parquet, read_all, samples, table, wav


def test_rows_of_a_file_in_order_with_ids_and_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(clips("s", 5, category=["x", "y", "x", None, "y"])))
    source = open_source(path)
    assert source.count == 5
    reads = read_all(source)
    assert [(r.entry.id, r.entry.category) for r in reads] == list(
        zip([f"s-{i}" for i in range(5)], ["x", "y", "x", None, "y"], strict=True)
    )
    assert reads[3].entry.origin == "a.parquet, row 3"
    for i, read in enumerate(reads):
        assert read.sample_rate == 16000
        assert read.waveform is not None
        np.testing.assert_array_equal(read.waveform.numpy(), samples(i).T)


def test_a_copy_of_the_source_reads_what_was_planned(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(clips("s", 5)))
    source = open_source(tmp_path)
    copy = pickle.loads(pickle.dumps(source))
    batches = list(plan_batches(source, 2, 10.0))
    assert [len(batch.entries) for batch in batches] == [2, 2, 1]
    assert all(len(copy.read(entry)) == len(wav(0)) for batch in batches for entry in batch.entries)


@pytest.mark.parametrize(
    ("audio", "more"),
    [
        (pa.array([wav(0, 2), wav(1, 2)], pa.binary()), {}),
        (pa.array([wav(0, 2), wav(1, 2)], pa.large_binary()), {}),
        (pa.array([{"bytes": wav(0, 2)}, {"bytes": wav(1, 2)}]), {}),
        (
            pa.array([samples(0, 2).T.tolist(), samples(1, 2).T.tolist()], pa.list_(pa.list_(pa.float32()))),
            {"r": 16000},
        ),
        (
            pa.array([{"array": samples(i, 2).T.tolist(), "sampling_rate": 16000, "path": None} for i in (0, 1)]),
            {},
        ),
    ],
    ids=["binary", "large binary", "struct", "samples beside a rate", "samples with a rate"],
)
def test_every_form_of_audio_with_both_channels(tmp_path: Path, audio: pa.Array, more: dict) -> None:
    rate = {"sampling_rate": [16000, 16000]} if more else {}
    pq.write_table(pa.table({"title": ["a", "b"], "clip": audio, **rate}), tmp_path / "a.parquet")
    for i, read in enumerate(read_all(open_source(tmp_path / "a.parquet"))):
        assert read.waveform is not None, read.failure
        assert (read.entry.id, read.sample_rate) == (f"a/{i}", 16000)
        np.testing.assert_array_equal(read.waveform.numpy(), samples(i, 2).T)


def test_splits_take_turns_and_are_counted_on_over_their_files(tmp_path: Path) -> None:
    for name, rows in (("Speech-00000-of-00002", 2), ("Speech-00001-of-00002", 1), ("Music-00000-of-00001", 2)):
        made = clips(name[:2], rows).drop_columns(["id"])
        (tmp_path / f"{name}.parquet").write_bytes(parquet(made))
    entries = list(open_source(tmp_path).entries())
    assert [e.id for e in entries] == ["Music/0", "Speech/0", "Music/1", "Speech/1", "Speech/2"]
    assert [e.category for e in entries] == ["Music", "Speech", "Music", "Speech", "Speech"]
    assert [e.id for e in open_source(tmp_path, limit=2).entries()] == ["Music/0", "Speech/0"]
    one = list(open_source(tmp_path, split="Speech").entries())
    assert [(e.id, e.category) for e in one] == [("Speech/0", None), ("Speech/1", None), ("Speech/2", None)]
    with pytest.raises(ValueError, match=r"no split 'Noise'; the files are of Music, Speech"):
        open_source(tmp_path, split="Noise")


def test_a_random_choice_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(clips("s", 20)))
    chosen = [e.id for e in open_source(tmp_path, limit=5, shuffle=True, seed=1).entries()]
    assert chosen == [e.id for e in open_source(tmp_path, limit=5, shuffle=True, seed=1).entries()]
    assert chosen == sorted(chosen, key=lambda id_: int(id_[2:])) != [f"s-{i}" for i in range(5)]
    assert chosen != [e.id for e in open_source(tmp_path, limit=5, shuffle=True, seed=2).entries()]


def test_class_numbers_become_names(tmp_path: Path) -> None:
    made = clips("s", 3, label=[1, 0, 1])
    note = made.schema.metadata[b"huggingface"].replace(
        b'"label": {"dtype": "int64", "_type": "Value"}', b'"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}'
    )
    made = made.replace_schema_metadata({"huggingface": note})
    (tmp_path / "a.parquet").write_bytes(parquet(made))
    assert [e.category for e in open_source(tmp_path).entries()] == ["dog", "cat", "dog"]


def test_what_the_audio_is_must_be_clear(tmp_path: Path) -> None:
    audio = [{"bytes": wav(0), "path": "0.wav"}]
    made = table({"id": ["a"], "left": audio, "right": audio}, audio="left", noted=False)
    (tmp_path / "two.parquet").write_bytes(parquet(made.set_column(2, "right", made["left"])))
    with pytest.raises(ValueError, match=r"several columns hold audio \(left, right\); --audio-column .*id \(string\)"):
        open_source(tmp_path / "two.parquet")
    (read,) = read_all(open_source(tmp_path / "two.parquet", audio_column="right"))
    assert read.waveform is not None
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"no column holds audio; --audio-column .*: id \(string\), text \(string\)"):
        open_source(tmp_path / "none.parquet")
    with pytest.raises(
        ValueError, match=r"no column 'sound', which --audio-column names; its columns: id .*, left .*, right"
    ):
        open_source(tmp_path / "two.parquet", audio_column="sound")


def test_equal_ids_are_an_error_with_a_way_out(tmp_path: Path) -> None:
    made = clips("s", 2)
    made = made.set_column(0, "id", pa.array(["same", "same"]))
    (tmp_path / "a.parquet").write_bytes(parquet(made))
    with pytest.raises(ValueError, match=r"the id 'same': a.parquet, row 0 and a.parquet, row 1.*--id-column"):
        open_source(tmp_path / "a.parquet")
    assert [e.id for e in open_source(tmp_path / "a.parquet", id_column="row").entries()] == ["a/0", "a/1"]


def test_a_row_without_audio_fails_alone(tmp_path: Path) -> None:
    audio = [{"bytes": wav(0), "path": None}, None, {"bytes": b"no audio", "path": "x"}, {"bytes": None, "path": None}]
    (tmp_path / "a.parquet").write_bytes(parquet(table({"audio": audio}), rows_in_group=4))
    failures = [read.failure for read in read_all(open_source(tmp_path / "a.parquet"))]
    assert failures[0] is None
    assert failures[1] == "the row holds no audio"
    assert "not readable as audio" in str(failures[2])
    assert failures[3] == "the row holds no audio: neither bytes nor a path"


def test_a_broken_row_group_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(clips("s", 4)))
    page = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff" * 16)
    failures = [read.failure for read in read_all(open_source(path))]
    assert "a.parquet: row group 0 cannot be read" in str(failures[0])
    assert [failure is None for failure in failures] == [False, False, True, True]


def test_rows_are_numbered_in_their_file_and_files_told_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.parquet").write_bytes(parquet(clips("s", 2).drop_columns(["id"])))
    assert [e.id for e in open_source(tmp_path).entries()] == ["x/part/0", "x/part/1", "y/part/0", "y/part/1"]


def test_files_that_are_no_parquet_or_unlike_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(clips("a", 1)))
    (tmp_path / "b.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(ValueError, match=r"b\.parquet: broken, or not Parquet"):
        open_source(f"{tmp_path}/*.parquet")
    (tmp_path / "b.parquet").write_bytes(parquet(clips("b", 1).drop_columns(["id"])))
    with pytest.raises(ValueError, match=r"b\.parquet: no column id, which .*a\.parquet has"):
        open_source(f"{tmp_path}/{{a,b}}.parquet")
    with pytest.raises(FileNotFoundError, match=r"there is no .*c\.parquet"):
        open_source(f"{tmp_path}/{{a,c}}.parquet")
    with pytest.raises(ValueError, match="--streaming does not go with this form"):
        open_source(tmp_path / "a.parquet", streaming=True)


def test_a_row_without_an_id_is_one_failure(tmp_path: Path) -> None:
    made = clips("s", 4)
    made = made.set_column(0, "id", [["a", None, "", "b"]])
    (tmp_path / "t.parquet").write_bytes(parquet(made))
    read = read_all(open_source(tmp_path / "t.parquet"))
    assert [one.entry.id for one in read] == ["a", "t/1", "t/2", "b"]
    for number in (1, 2):
        reason = f"t.parquet, row {number}: the column 'id' is empty; --id-column names another column"
        assert (read[number].failure or "").startswith(reason)
    assert read[0].failure is read[3].failure is None


def test_segments_of_recordings_that_a_table_names(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(0))
    path = str(tmp_path / "a.wav")
    made = pa.table({"path": [path] * 3, "offset": [0.1, None, 0.4], "duration": [0.2, None, 9.0]})
    (tmp_path / "t.parquet").write_bytes(parquet(made))
    first, whole, outside = read_all(open_source(tmp_path / "t.parquet", audio_column="path"))
    np.testing.assert_array_equal(whole.waveform, samples(0).T)
    np.testing.assert_array_equal(first.waveform, samples(0).T[:, 1600:4800])
    assert "the file has 0.500 s" in (outside.failure or "")


@pytest.mark.parametrize(
    ("column", "times", "expected"),
    [
        ("path", {"offset": [0.3]}, (4800, 8000)),
        ("path", {"start": [0.1], "end": [0.2]}, (1600, 3200)),
        ("path", {"start_time": ["0.1"], "duration": ["0.1"]}, (1600, 3200)),
        ("path", {"duration": [0.2]}, (0, 8000)),
        ("audio_filepath", {"duration": [0.2]}, (0, 3200)),  # as NeMo reads it
        ("struct", {"offset": [0.1], "duration": [0.2]}, (1600, 4800)),
        ("bytes", {"offset": [0.1], "duration": [0.2]}, (0, 8000)),  # the row has the clip itself
    ],
)  # fmt: skip
def test_segments_go_by_the_columns_of_manifests(
    column: str, times: dict[str, list[float | str]], expected: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(0))
    path = str(tmp_path / "a.wav")
    audio = {"struct": {"bytes": None, "path": path}, "bytes": {"bytes": wav(0), "path": path}}.get(column, path)
    (tmp_path / "t.parquet").write_bytes(parquet(pa.table({column: [audio], **times})))
    (found,) = read_all(open_source(tmp_path / "t.parquet", audio_column=column))
    np.testing.assert_array_equal(found.waveform, samples(0).T[:, slice(*expected)], found.failure or "")
