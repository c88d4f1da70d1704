"""Manifests as they are written in the wild: each row is a clip or a failure with its line; segments are read alone."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from codeczoo.data.batching import plan_batches
from codeczoo.data.open import Entry, Source, open_source
from codeczoo.data.source import Segment
from tests.support.clips import read_all, samples, wav

SECONDS, RATE = 0.5, 16000  # of every clip here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four clips of different noise."""
    for i, name in enumerate("abcd"):
        (tmp_path / f"{name}.wav").write_bytes(wav(i, seconds=SECONDS, rate=RATE))
    return tmp_path


def opened(folder: Path, name: str, content: str | bytes, **options: Any) -> Source:
    """The data set of a manifest that is written first."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return open_source(folder / name, **options)


def entries(*arguments: Any, **options: Any) -> list[Entry]:
    return list(opened(*arguments, **options).entries())


def keys(*arguments: Any, **options: Any) -> list[tuple[str, str | None]]:
    """Of each clip its id, and the name of its file; None if the row is a failure."""
    return [(e.id, None if e.failure else Path(e.key).name) for e in entries(*arguments, **options)]


def held(source: Source) -> list[np.ndarray | str]:
    """Of each clip its samples [T], or why it cannot be read."""
    return [read.failure or read.waveform[0].numpy() for read in read_all(source)]  # type: ignore[index]


# -- text ---------------------------------------------------------------------------------------


def test_a_tsv_has_no_quotes_as_common_voice_writes_it(folder: Path) -> None:
    rows = ["client_id\tpath\tsentence", 'x\ta.wav\t"never closed', "x\tb.wav\tplain", 'x\tc.wav\ta "word" quoted',
            'x\td.wav\t""']  # fmt: skip
    assert [key for _, key in keys(folder, "train.tsv", "\n".join(rows))] == ["a.wav", "b.wav", "c.wav", "d.wav"]


def test_clips_of_common_voice_lie_in_a_folder_of_that_name(folder: Path) -> None:
    (folder / "clips").mkdir()
    (folder / "a.wav").rename(folder / "clips" / "a.wav")
    found = entries(folder, "train.tsv", "client_id\tpath\tsentence\nx\ta.wav\thello\n")
    assert [entry.key for entry in found] == [folder / "clips" / "a.wav"]


def test_a_tsv_with_quotes_is_read_with_them(folder: Path) -> None:
    """As R writes them, all of it quoted, and pandas, where a cell holds a line end."""
    quoted = '"path"\t"text"\n"a.wav"\t"he said ""hi"""\n"b.wav"\t"x"\n'
    assert keys(folder, "r.tsv", quoted) == [("a.wav", "a.wav"), ("b.wav", "b.wav")]
    two_lines = 'path\ttext\na.wav\t"two\nlines"\nb.wav\tone\n'
    assert keys(folder, "pandas.tsv", two_lines) == [("a.wav", "a.wav"), ("b.wav", "b.wav")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_spreadsheets(folder: Path, delimiter: str, end: str) -> None:
    lines = ["ID,Path,Text", 'x,a.wav,"one, two"', "", 'y,b.wav,"a\u2028b\x85c\x0cd"', ",,", "z,c.wav,"]
    text = end.join(line.replace(",", delimiter) for line in lines)
    assert keys(folder, "m.csv", text) == [("x", "a.wav"), ("y", "b.wav"), ("z", "c.wav")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt", "scp"])
def test_encodings_that_say_what_they_are(folder: Path, suffix: str, encoding: str) -> None:
    (folder / "a.wav").rename(folder / "é.wav")
    text = {"csv": "path\né.wav\n", "tsv": "path\né.wav\n", "jsonl": '{"path": "é.wav"}\n', "txt": "é.wav\n",
            "scp": "é.wav é.wav\n"}[suffix]  # fmt: skip
    assert keys(folder, f"m.{suffix}", text.encode(encoding)) == [("é.wav", "é.wav")]


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.jsonl", "m.json", "m.txt", "m.scp"])
def test_encodings_that_do_not_are_errors_with_the_line_and_the_way_out(folder: Path, name: str) -> None:
    first = '{"path": "a.wav"}' if "json" in name else "path"
    with pytest.raises(ValueError, match=rf"{name}, line 3: the byte 0xE9 is not UTF-8: .*iconv -f LATIN1"):
        opened(folder, name, f"{first}\nx\né.wav".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name}, line 1: it holds NUL bytes.*iconv -f UTF-16LE"):
        opened(folder, name, first.encode("utf-16-le"))


def test_json_lines_may_hold_line_separators(folder: Path) -> None:
    rows = [{"path": "a.wav", "text": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"}, {"path": "b.wav"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert keys(folder, "m.jsonl", text) == [("a.wav", "a.wav"), ("b.wav", "b.wav")]


def test_json_of_one_piece(folder: Path) -> None:
    rows = [{"path": "a.wav", "id": "x"}, {"path": "b.wav"}]
    assert keys(folder, "m.json", json.dumps(rows, indent=2)) == [("x", "a.wav"), ("b.wav", "b.wav")]
    by_id = {"x": {"wav": "a.wav", "length": 1}, "y": {"wav": "b.wav"}}  # as SpeechBrain writes them
    assert keys(folder, "m.json", json.dumps(by_id)) == [("x", "a.wav"), ("y", "b.wav")]
    lines = "\n".join(map(json.dumps, rows))  # as NeMo writes them
    assert keys(folder, "m.json", lines) == [("x", "a.wav"), ("b.wav", "b.wav")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "path,text\na.wav,one, two\n", "m.csv, line 2: 3 cells, and the head has 2: quote a cell"),
        ("m.tsv", "path\ttext\na.wav\tb\nb.wav\tone\ttwo\n", "m.tsv, line 3: 3 cells, and the head has 2"),
        ("m.csv", 'path,text\na.wav,"open\nb.wav,x\n', "m.csv, line 2: unexpected end of data"),
        ("m.csv", 'path,text\na.wav,"open\nb.wav,say "hi"\n', "m.csv, line 2: .*a quoted cell ends with a quote"),
        ("m.csv", 'path,text\na.wav,"open\nb.wav,x"\n', "line 2: a quoted cell runs to line 3, and line 3 looks like"),
        ("m.csv", "path,text,text\na.wav,x,y\n", "the column 'text' is there twice"),
        ("m.csv", "id,path\n", "m.csv: there are no rows in it"),
        ("m.jsonl", "\n", "m.jsonl: there are no rows in it"),
        ("m.txt", "", "m.txt: there are no rows in it"),
        ("m.csv", "id;title\n1;x\n", "no column of paths; its columns: 'id', 'title'; those that are known: path, "),
        ("m.jsonl", '{"sound": "a.wav"}\n', "no column of paths; its columns: 'sound'; those that are known: path, "),
        ("m.jsonl", '{"path": "a.wav", "path": "b.wav"}\n', "line 1: not JSON .the key 'path' is there twice"),
        ("m.jsonl", '{"path": "a.wav"}\n' + "[" * 100_000, "line 2: not JSON"),
        ("m.json", '[{"path": "a.wav"},\n oops]', "m.json, line 2: not JSON"),
        ("m.json", '["a.wav"]', "m.json, row 1: a row is a JSON object; this is str"),
        ("m.jsonl", '{"path": "a.wav", "n": ' + "1" * 5000 + "}\n", "line 1: not JSON"),
        ("m.csv", "path,start,stop\na.wav,0,16000\n", "columns start and stop hold samples in some manifests"),
        ("m.csv", "path\na.wav\na.wav\n", "the id 'a.wav': line 2 and line 3; --id-column names another column, and"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error_with_its_line(folder: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(folder, name, content)


def test_a_text_of_several_lines_is_one_cell(folder: Path) -> None:
    text = 'path,text\na.wav,"one,\ntwo, three\n\nfour, five"\nb.wav,x\n'
    assert keys(folder, "m.csv", text) == [("a.wav", "a.wav"), ("b.wav", "b.wav")]


# -- rows ---------------------------------------------------------------------------------------


def test_ids_are_kept_as_they_are(folder: Path) -> None:
    rows = [{"id": 0, "path": "a.wav"}, {"id": 1, "path": "b.wav"}, {"id": "", "path": "c.wav"}, {"path": "d.wav"}]
    assert keys(folder, "m.jsonl", "\n".join(map(json.dumps, rows))) == [
        ("0", "a.wav"), ("1", "b.wav"), ("c.wav", "c.wav"), ("d.wav", "d.wav"),
    ]  # fmt: skip


def test_a_row_without_a_path_is_one_failure_with_its_line(folder: Path) -> None:
    for name, text in (
        ("m.csv", "id,path\nx,a.wav\ny,\nz,c.wav\n"),
        ("m.tsv", "id\tpath\nx\ta.wav\ny\nz\tc.wav\n"),
        ("m.jsonl", '{"id": "x", "path": "a.wav"}\n{"id": "y", "path": null}\n{"id": "z", "path": "c.wav"}\n'),
    ):
        line = 2 if name == "m.jsonl" else 3
        source = opened(folder, name, text)
        assert [entry.id for entry in source.entries()] == ["x", "y", "z"]
        found = held(source)
        assert found[1] == f"{name}, line {line}: no path in the column path"
        assert not isinstance(found[0], str) and not isinstance(found[2], str)
    assert keys(folder, "m.jsonl", '{"path": "a.wav"}\n{"path": 7}\n') == [("a.wav", "a.wav"), ("m.jsonl:2", None)]


def test_audio_of_json_may_be_an_object(folder: Path) -> None:
    rows = [
        {"id": "path", "audio": {"path": "a.wav"}},
        {"id": "samples", "audio": {"array": [0.5, -0.25], "sampling_rate": 8000}},
        {"id": "nothing", "audio": {"url": "x"}},
    ]
    found = held(opened(folder, "m.jsonl", "\n".join(map(json.dumps, rows))))
    np.testing.assert_array_equal(found[0], samples(0, seconds=SECONDS, rate=RATE)[:, 0])
    np.testing.assert_array_equal(found[1], [0.5, -0.25])
    assert found[2] == "m.jsonl, line 3: the column 'audio' holds no path but {'url': 'x'}"


def test_columns_by_name(folder: Path) -> None:
    text = "id,sound,row_name\n1,a.wav,x\n1,b.wav,y\n"
    assert keys(folder, "m.csv", text, audio_column="sound", id_column="row_name") == [("x", "a.wav"), ("y", "b.wav")]
    assert keys(folder, "m.csv", text, audio_column="sound", id_column="row") == [("m/0", "a.wav"), ("m/1", "b.wav")]
    with pytest.raises(ValueError, match="no column 'no', which --audio-column names; its columns: 'id', 'sound', "):
        opened(folder, "m.csv", text, audio_column="no")
    with pytest.raises(ValueError, match="no column 'no', which --id-column names; its columns: 'id', 'sound', "):
        opened(folder, "m.csv", text, audio_column="sound", id_column="no")
    assert keys(folder, "m.txt", "a.wav\na.wav\n", id_column="row") == [("m/0", "a.wav"), ("m/1", "a.wav")]
    with pytest.raises(ValueError, match="--audio-column does not go with this form of manifest"):
        opened(folder, "m.txt", "a.wav\n", audio_column="x")
    with pytest.raises(ValueError, match="--id-column does not go with this form of data set: files have no columns"):
        open_source(folder, id_column="row")


@pytest.mark.parametrize("name", ["Path", "FILE_NAME", "file name", "audio_filepath", "wav"])
def test_columns_of_paths_that_are_known(folder: Path, name: str) -> None:
    assert keys(folder, "m.csv", f"{name},text\na.wav,x\n") == [("a.wav", "a.wav")]


def test_paths_as_people_write_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "e.wav").write_bytes(wav(0))
    (folder / "back\\slash.wav").write_bytes(wav(0))
    monkeypatch.setenv("HOME", str(folder))
    lines = ["deep/e.wav", "deep\\e.wav", " a.wav", "~/b.wav", str(folder / "c.wav"), "back\\slash.wav", "gone\\x.wav"]
    found = [entry.key for entry in entries(folder, "m.csv", "\n".join(["path", *lines]), id_column="row")]
    there = ("deep/e.wav", "deep/e.wav", "a.wav", "b.wav", "c.wav", "back\\slash.wav", "gone\\x.wav")
    assert found == [folder / name for name in there]
    (web,) = entries(folder, "m.csv", "path\nhttps://example.org/a.wav\n")
    assert (web.key, web.origin) == ("https://example.org/a.wav", "a.wav")
    rows = [{"path": f"file://{folder}/a.wav"}, {"path": f"file://{folder}/a.wav", "offset": 0.1, "duration": 0.2}]
    whole, segment = held(opened(folder, "m.jsonl", "\n".join(map(json.dumps, rows))))
    np.testing.assert_array_equal(whole, stretch(0, SECONDS))
    np.testing.assert_array_equal(segment, stretch(0.1, 0.3))


def test_what_utf8_cannot_write_is_escaped_in_ids(folder: Path) -> None:
    """So that results and reports of them can be written; the file itself is found."""
    (entry,) = entries(folder, "m.jsonl", '{"id": "\\ud800é", "path": "a.wav", "label": "\\udce9"}')
    assert (entry.id, entry.category) == ("\\ud800é", "\\udce9")
    bytes_name = os.fsencode(folder / "a.wav").replace(b"a.wav", b"\xe9.wav")
    os.rename(folder / "a.wav", bytes_name)
    found = [entry for entry in open_source(folder).entries() if entry.id == "\\udce9.wav"]
    assert [os.fsencode(entry.key) for entry in found] == [bytes_name]


# -- segments -----------------------------------------------------------------------------------


def stretch(begin: float, end: float, clip: int = 0) -> np.ndarray:
    return samples(clip, seconds=SECONDS, rate=RATE)[round(begin * RATE) : round(end * RATE), 0]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"offset": 0.1, "duration": 0.2}, (0.1, 0.3)),
        ({"offset": "0.1", "duration": "0.2"}, (0.1, 0.3)),
        ({"offset": 0, "duration": 0.2}, (0, 0.2)),
        ({"offset": 0.3}, (0.3, 0.5)),
        ({"start": 0.1, "end": 0.2}, (0.1, 0.2)),
        ({"Start Time": 0.1, "End Time": 0.2}, (0.1, 0.2)),
        ({"begin": 0.1, "duration": 0.2}, (0.1, 0.3)),
        ({"end": 0.2}, None),
        ({"duration": 0.2}, (0, 0.2)),  # NeMo's loader reads so
        ({"offset": None, "duration": None}, None),
        ({"start": 0.2}, None),
    ],
)
def test_segments_are_read_alone(folder: Path, columns: dict[str, Any], expected: tuple[float, float] | None) -> None:
    source = opened(folder, "m.jsonl", json.dumps({"audio_filepath": "a.wav", **columns}))
    (entry,) = source.entries()
    assert isinstance(entry.key, Segment) == (expected is not None)
    np.testing.assert_array_equal(held(source)[0], stretch(*(expected or (0, SECONDS))))
    (batch,) = plan_batches(source, 10, 100)
    assert batch.seconds == pytest.approx(-np.subtract(*(expected or (0, SECONDS))))


def test_a_duration_alone_describes_the_file_outside_of_nemo(folder: Path) -> None:
    assert keys(folder, "m.csv", "path,duration\na.wav,0.2\n") == [("a.wav", "a.wav")]


def test_segments_of_one_file_have_ids_of_their_own(folder: Path) -> None:
    rows = ["path,offset,duration", "a.wav,0,0.25", "a.wav,0.25,0.125", "b.wav,0.3,", "a.wav,,"]
    expected = ["a.wav@0-0.25", "a.wav@0.25-0.375", "b.wav@0.3-", "a.wav"]
    assert [entry.id for entry in entries(folder, "m.csv", "\n".join(rows))] == expected
    assert [entry.id for entry in entries(folder, "m.csv", "\n".join([rows[0], *rows[:0:-1]]))] == expected[::-1]


@pytest.mark.parametrize(
    ("offset", "duration", "reason"),
    [
        ("x", "1", "m.csv, line 2: the column 'offset' holds no seconds but 'x'"),
        ("nan", "1", "m.csv, line 2: the column 'offset' holds no seconds but 'nan'"),
        ("-1", "1", "m.csv, line 2: no segment: it begins at -1.0 s and is 1.0 s long"),
        ("0", "0", "m.csv, line 2: no segment: it begins at 0.0 s and is 0.0 s long"),
        ("0.1", "1", "the stretch from 0.1 s ends at 1.1 s; the file has 0.500 s"),
        ("7", "", "the stretch begins at 7.0 s; the file has 0.500 s"),
    ],
)
def test_segments_that_are_none_are_failures(folder: Path, offset: str, duration: str, reason: str) -> None:
    text = f"path,offset,duration\na.wav,{offset},{duration}\nb.wav,,\n"
    failure, other = held(opened(folder, "m.csv", text))
    assert failure == reason
    assert not isinstance(other, str)


# -- lists and Kaldi ----------------------------------------------------------------------------


def test_a_list_of_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "with space.wav").write_bytes(wav(0))
    (folder / "lists").mkdir()
    assert keys(folder, "m.txt", "a.wav\n\nwith space.wav\r\n") == [("a.wav", "a.wav"), ("with space.wav",) * 2]
    assert len(held(opened(folder, "m.lst", f"{folder}/a.wav\n"))) == 1
    monkeypatch.chdir(folder)  # a list that `find . > lists/m.txt` made names its files from here
    assert not isinstance(held(opened(folder / "lists", "m.txt", "./a.wav\n"))[0], str)


def test_kaldi_recordings(folder: Path) -> None:
    lines = ["x a.wav", "y\tb.wav", "z sox a.flac -t wav - |", "u raw.ark:123", "v", "w d e.wav"]
    (folder / "d e.wav").write_bytes(wav(0))
    source = opened(folder, "wav.scp", "\n".join(lines))
    found = list(source.entries())
    assert [entry.id for entry in found] == list("xyzuvw")
    assert [entry.key for entry in found] == [folder / "a.wav", folder / "b.wav", *[None] * 3, folder / "d e.wav"]
    reasons = [entry.failure or "" for entry in found]
    assert reasons[2].startswith("wav.scp, line 3: a command, which is not run")
    assert reasons[3].startswith("wav.scp, line 4: an archive of Kaldi, which is not read")
    assert reasons[4] == "wav.scp, line 5: no path behind the id"


def test_kaldi_segments(folder: Path) -> None:
    kaldi = folder / "kaldi"
    kaldi.mkdir()
    (kaldi / "wav.scp").write_text(f"a {folder}/a.wav\nb {folder}/b.wav\nc touch {kaldi}/ran |\n")
    lines = ["a-1 a 0.1 0.3", "a-2 a 0.25 -1", "b-1 b 0.00 0.125", "c-1 c 0 1", "d-1 d 0 1", "a-3 a 0.3 0.1"]
    source = opened(kaldi, "segments", "\n".join(lines))
    assert [entry.id for entry in source.entries()] == [line.split()[0] for line in lines]
    found = held(source)
    for clip, expected in zip(found[:3], (stretch(0.1, 0.3), stretch(0.25, 0.5), stretch(0, 0.125, 1)), strict=True):
        np.testing.assert_array_equal(clip, expected)
    assert found[3].startswith("segments, line 4: wav.scp, line 3: a command, which is not run")  # type: ignore[union-attr]
    assert found[4] == "segments, line 5: wav.scp has no recording 'd'"
    assert str(found[5]).startswith("segments, line 6: no segment: it begins at 0.3 s")
    assert not (kaldi / "ran").exists()
    assert list(open_source(kaldi).entries()) == list(source.entries())  # the folder by itself
    (kaldi / "segments").write_text("a-1 a 0.1\n")
    with pytest.raises(ValueError, match="segments, line 1: 3 words: a line holds an id, a recording, and the seconds"):
        open_source(kaldi)
    (kaldi / "segments").unlink()
    assert [entry.id for entry in open_source(kaldi).entries()] == ["a", "b", "c"]


def test_kaldi_files_beside_audio_are_left_out_with_a_word(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "wav.scp").write_text("x a.wav\n")
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source(folder).entries())) == 4
    assert "it holds audio files; the wav.scp beside them is left out" in caplog.text


def test_fairseq_lists_a_folder_and_paths_in_it(folder: Path) -> None:
    text = f"{folder}\na.wav\t8000\nb.wav\t8000\n"
    assert keys(folder, "train.tsv", text) == [("a.wav", "a.wav"), ("b.wav", "b.wav")]


def test_what_macos_keeps_beside_files_is_no_clip(folder: Path) -> None:
    (folder / "._a.wav").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    (folder / "._real.wav").write_bytes(wav(0))
    names = ["._real.wav", "a.wav", "b.wav", "c.wav", "d.wav"]
    assert [entry.id for entry in open_source(folder).entries()] == names
    assert "._a.wav" not in [entry.id for entry in open_source(f"{folder}/*").entries()]


# -- no row disappears --------------------------------------------------------------------------

Row = dict[str, Any]


def as_csv(rows: list[Row], delimiter: str = ",") -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["id", "path", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def as_tsv(rows: list[Row]) -> str:
    """Without quotes, so no cell holds a tab or a line end."""
    lines = ["\t".join(" ".join(str(cell or "").split()) for cell in row.values()) for row in rows]
    return "\n".join(["id\tpath\ttext", *lines])


WRITERS: dict[str, Callable[[list[Row]], str]] = {
    "m.csv": as_csv,
    "semicolons.csv": lambda rows: as_csv(rows, ";"),
    "m.tsv": as_tsv,
    "quoted.tsv": lambda rows: as_csv(rows, "\t"),
    "m.jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
    "m.json": lambda rows: json.dumps(rows, indent=1),
}
PIECES = ["word", '"', '""', "'", ",", ";", "\u2028", "\x85", "\x0b", "\x1e", "é", "“", "\\", "#", "|", "a.wav", " "]


@pytest.mark.parametrize("name", list(WRITERS))
def test_rows_are_clips_or_failures_and_none_disappears(folder: Path, name: str) -> None:
    r = random.Random(name)
    for _ in range(40):
        rows: list[Row] = []
        for i in range(r.randint(1, 12)):
            pieces = [*PIECES, *(["\t", "\n", "\r\n"] if name != "m.tsv" else [])]
            path = r.choice(["a.wav", "b.wav", "missing.wav", "", " ", "c\\d.wav", "~", "x" * 300])
            text = "".join(r.choices(pieces, k=r.randint(0, 8)))
            rows.append({"id": str(i), "path": path, "text": text})
        if not any(row["path"].strip() for row in rows):
            continue
        source = opened(folder, name, WRITERS[name](rows))
        read = {one.entry.id: one for one in read_all(source)}
        assert list(read) == [row["id"] for row in rows]
        for row in rows:
            failed = read[row["id"]].failure
            assert (failed is None) == (row["path"] in ("a.wav", "b.wav")), (row, failed)


def test_the_unclosed_quote_of_a_csv_swallows_no_row(folder: Path) -> None:
    """A quote too many anywhere is the same rows, or an error with a line; never fewer clips."""
    rows = [{"id": str(i), "path": f"{'abcd'[i]}.wav", "text": "some words"} for i in range(4)]
    text = as_csv(rows)
    for place in range(len(text)):
        damaged = f'{text[:place]}"{text[place:]}'
        with contextlib.suppress(ValueError):
            assert len(keys(folder, "m.csv", damaged)) == 4


def test_files_are_found_as_soundfile_reads_them(folder: Path) -> None:
    (clip,) = held(opened(folder, "m.txt", "c.wav"))
    np.testing.assert_array_equal(clip, sf.read(folder / "c.wav", dtype="float32")[0])
