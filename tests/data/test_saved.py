"""Copies of data sets on this machine: saved by the datasets library, or laid out as on the hub."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from codeczoo.base.inputs import read_clips
from codeczoo.data.open import open_source
from tests.support.clips import AUDIO, clips, parquet, read_all, samples, wav
from tests.support.hub_server import HubServer
from tests.support.read_sources import Reader, fingerprint


def heard(seed: int, channels: int = 1) -> str:
    return fingerprint(torch.from_numpy(np.ascontiguousarray(samples(seed, channels).T)))


def dataset(made: pa.Table) -> datasets.Dataset:
    return datasets.Dataset(made)


# -- save_to_disk ---------------------------------------------------------------------------------


def test_a_saved_split_and_a_saved_set_of_splits(tmp_path: Path) -> None:
    dataset(clips("s", 3)).save_to_disk(str(tmp_path / "one"))
    source = open_source(tmp_path / "one")
    assert [(r.entry.id, r.failure) for r in read_all(source)] == [(f"s-{i}", None) for i in range(3)]
    assert source.count == 3
    parts = {"test": dataset(clips("s", 1)), "train": dataset(clips("s", 2))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "two"))
    entries = list(open_source(tmp_path / "two").entries())
    assert [e.id for e in entries] == ["test/s-0", "train/s-0", "train/s-1"], "the split tells equal ids apart"
    assert [e.category for e in entries] == ["test", "train", "train"]
    facts = open_source(tmp_path / "two", split=["train"]).facts()
    assert facts["splits"] == ["train"] == list(facts["fingerprints"])
    with pytest.raises(ValueError, match="no split 'dev'; it has test, train"):
        open_source(tmp_path / "two", split="dev")


def test_clips_are_mapped_and_not_held(tmp_path: Path) -> None:
    """A source that travels to the readers is small, whatever it reads."""
    dataset(clips("s", 30)).save_to_disk(str(tmp_path / "one"))
    source = open_source(tmp_path / "one")
    list(source.entries())
    assert len(pickle.dumps(source)) < len(wav(0)) < 30 * len(wav(0))


def test_the_dict_of_older_versions(tmp_path: Path) -> None:
    """{"array", "sampling_rate", "path"}, as rows of `datasets` before 4 were decoded, stored as such."""
    rows = [{"array": samples(i, 2).T.tolist(), "sampling_rate": 16000, "path": None} for i in range(2)]
    kind = pa.struct({"array": pa.list_(pa.list_(pa.float32())), "sampling_rate": pa.int64(), "path": pa.string()})
    made = pa.table({"id": ["a", "b"], "audio": pa.array(rows, kind)})
    dataset(made).save_to_disk(str(tmp_path / "one"))
    for i, read in enumerate(read_all(open_source(tmp_path / "one"))):
        assert read.waveform is not None, read.failure
        assert (read.sample_rate, fingerprint(read.waveform)) == (16000, heard(i, 2))


def test_a_feature_with_the_fields_of_older_versions(tmp_path: Path) -> None:
    """Audio(mono=True), which today's version no longer has; both channels are read all the same."""
    audio = pa.array([{"bytes": wav(0, 2), "path": None}], AUDIO)
    dataset(pa.table({"id": ["a"], "audio": audio})).cast_column("audio", datasets.Audio()).save_to_disk(str(tmp_path))
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info["features"]["audio"] = {"sampling_rate": 8000, "mono": True, "decode": True, "id": None, "_type": "Audio"}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (read,) = read_all(open_source(tmp_path))
    assert read.waveform is not None, read.failure
    assert (read.sample_rate, fingerprint(read.waveform)) == (16000, heard(0, 2))


def test_rows_of_paths_and_rows_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(5))
    rows = [{"bytes": None, "path": str(tmp_path / "a.wav")}, {"bytes": None, "path": str(tmp_path / "b.wav")}, None]
    dataset(pa.table({"audio": pa.array(rows, AUDIO)})).save_to_disk(str(tmp_path / "one"))
    there, missing, none = read_all(open_source(tmp_path / "one", id_column="row"))
    assert there.waveform is not None and fingerprint(there.waveform) == heard(5)
    assert "no audio file at" in str(missing.failure) and "b.wav" in str(missing.failure)
    assert none.failure == "the row holds no audio"


def test_a_copy_that_is_broken_is_named(tmp_path: Path) -> None:
    dataset(clips("s", 3)).save_to_disk(str(tmp_path))
    (arrow,) = tmp_path.glob("*.arrow")
    whole = arrow.read_bytes()
    arrow.write_bytes(whole[:40])
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: "):
        open_source(tmp_path)
    arrow.unlink()
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: FileNotFoundError"):
        open_source(tmp_path)


# -- reconstructions beside the clips -------------------------------------------------------------


@pytest.fixture
def synthesised(tmp_path: Path) -> Path:
    """Codec-SUPERB's form: a split of originals and one of each codec, in other orders, one row short."""
    columns = {"original": [0, 1, 2], "dac": [2, 0, 1], "mimi": [2, 0]}
    made = {}
    for i, (split, rows) in enumerate(columns.items()):
        table = pa.concat_tables([clips("s", 3, first=10 * i).slice(row, 1) for row in rows])
        made[split] = dataset(table)
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "synth"))
    return tmp_path / "synth"


def test_reconstructions_are_found_by_id_and_missing_ones_named(synthesised: Path) -> None:
    source = open_source(synthesised)
    assert source.estimates == ("dac", "mimi")
    entries = list(source.entries())
    assert [(e.id, e.category) for e in entries] == [("s-0", None), ("s-1", None), ("s-2", None)]
    copy = pickle.loads(pickle.dumps(source))
    for i, entry in enumerate(entries):
        (clip,) = read_clips(copy.read_estimate(entry, "dac"))
        assert fingerprint(clip.waveform) == heard(10 + i)
    (clip,) = read_clips(copy.read_estimate(entries[2], "mimi"))
    assert fingerprint(clip.waveform) == heard(22)
    with pytest.raises(ValueError, match="mimi has no row with the id 's-1'"):
        copy.read_estimate(entries[1], "mimi")


def test_a_split_that_is_asked_for_is_an_ordinary_one(synthesised: Path) -> None:
    source = open_source(synthesised, split="dac")
    assert source.estimates == ()
    assert [e.id for e in source.entries()] == ["s-2", "s-0", "s-1"]
    both = open_source(synthesised, split=["original", "dac"])
    assert (both.estimates, both.count) == ((), 6)


def test_without_ids_rows_belong_together_by_number_if_there_are_as_many(synthesised: Path) -> None:
    source = open_source(synthesised, id_column="row")
    entry = next(iter(source.entries()))
    (clip,) = read_clips(source.read_estimate(entry, "dac"))
    assert fingerprint(clip.waveform) == heard(12)
    with pytest.raises(ValueError, match="mimi has 2 rows and original 3, and there is no column of ids"):
        source.read_estimate(entry, "mimi")


# -- folders as on the hub ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with HubServer() as hub, Reader(hub, tmp_path_factory.mktemp("home"), HF_HUB_OFFLINE="1") as process:
        yield process
        assert hub.requests == []


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_that_say_how_they_are_read(tmp_path: Path, reader: Reader, streaming: bool) -> None:
    layout = tmp_path / "layout"
    (layout / "p").mkdir(parents=True)
    card = "---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files:\n"
    card += "  - split: one\n    path: p/x.parquet\n  - split: two\n    path: p/y.parquet\n---\n"
    (layout / "README.md").write_text(card)
    (layout / "p" / "x.parquet").write_bytes(parquet(clips("x", 2)))
    (layout / "p" / "y.parquet").write_bytes(parquet(clips("y", 1, first=4)))
    found = reader.ask(layout, streaming=streaming)
    assert [c["id"] for c in found["clips"]] == ["one/x-0", "two/y-0", "one/x-1"]
    assert [c["hash"] for c in found["clips"]] == [heard(0), heard(4), heard(1)]
    assert [c["id"] for c in reader.ask(f"{layout}:a", split="two", streaming=streaming)["clips"]] == ["y-0"]
    message = reader.ask(f"{layout}:b", streaming=streaming)["message"]
    assert message == f"{layout}:b: BuilderConfig 'b' not found. Available: ['a'] Choose one as NAME:CONFIG"

    noted = tmp_path / "noted"
    noted.mkdir()
    (noted / "metadata.jsonl").write_text('{"file_name": "a.wav", "id": "the first", "label": "x"}\n')
    (noted / "a.wav").write_bytes(wav(7, 2))
    (clip,) = reader.ask(noted, streaming=streaming)["clips"]
    assert (clip["id"], clip["category"], clip["hash"]) == ("the first", "x", heard(7, 2))


def test_a_folder_of_audio_or_of_tables_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Clips\n")
    (tmp_path / "metadata.csv").write_text("LJ001|Some text|Some text\n")
    (tmp_path / "a.wav").write_bytes(wav(0))
    assert [e.id for e in open_source(tmp_path).entries()] == ["a.wav"]
    (tmp_path / "a.wav").unlink()
    (tmp_path / "a.parquet").write_bytes(parquet(clips("s", 1)))
    assert [e.id for e in open_source(tmp_path).entries()] == ["s-0"]


def test_what_lies_here_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "tiny").mkdir(parents=True)
    (tmp_path / "someone" / "tiny" / "a.wav").write_bytes(wav(0))
    monkeypatch.chdir(tmp_path)
    assert [e.id for e in open_source("someone/tiny").entries()] == ["a.wav"]
    for name in ("someone/tiny.wav", "someone/a/b", "no such thing", "someone/x-{0..1}.tar"):
        with pytest.raises(FileNotFoundError, match=r"there is no such folder or file here.*owner/name|there is no "):
            open_source(name)


def test_options_that_say_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(0))
    for option in ({"split": "test"}, {"streaming": True}, {"audio_column": "a"}, {"id_column": "a"}):
        (flag,) = option
        for where in (tmp_path, None):
            with pytest.raises(ValueError, match=f"--{flag.replace('_', '-')} does not go with"):
                open_source(where, **option)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(clips("s", 1)).save_to_disk(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("codeczoo.data.hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in (str(tmp_path), "someone/tiny"):
        with pytest.raises(ImportError, match=r"reading it takes the datasets library: pip install 'codeczoo\[hf\]'"):
            open_source(name)
