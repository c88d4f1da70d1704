"""Data sets of the hub, through the real clients in processes of their own, from a local server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.test_webdataset import shard, tar
from tests.support.clips import clips, parquet, samples, wav
from tests.support.hub_server import Fault, HubServer
from tests.support.read_sources import Reader, fingerprint

CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: Speech
    path: data/Speech-*
  - split: Music
    path: data/Music-*
---
"""
SPEECH, MUSIC = "data/Speech-00000-of-00001.parquet", "data/Music-00000-of-00001.parquet"
FILES = {"README.md": CARD, SPEECH: parquet(clips("s", 3)), MUSIC: parquet(clips("ö", 2, first=10))}
OTHER = {**FILES, SPEECH: parquet(clips("t", 1))}
LARGE = hashlib.sha256(FILES[SPEECH]).hexdigest()  # where the file of Speech is fetched
IN_TURN = ["Speech/s-0", "Music/ö-0", "Speech/s-1", "Music/ö-1", "Speech/s-2"]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def reader(hub: HubServer, home: Path) -> Iterator[Reader]:
    with Reader(hub, home) as process:
        yield process


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a data set of the test's own, so that no other test has put it into the cache."""
    return f"someone/{request.node.name.removeprefix('test_')}"[:90]


def ids(found: dict[str, Any]) -> list[str]:
    assert "clips" in found, found
    return [clip["id"] for clip in found["clips"]]


def heard(seed: int, channels: int = 1) -> str:
    return fingerprint(torch.from_numpy(np.ascontiguousarray(samples(seed, channels).T)))


def assert_unavailable(found: dict[str, Any], name: str, *said: str) -> None:
    """An error that the command line shows as one line, that names the data set and a way out."""
    assert "FileNotFoundError" in found.get("error", []), found
    assert found["message"].startswith(f"{name}: ")
    assert "\n" not in found["message"]
    for part in said:
        assert part in found["message"]


# -- reading --------------------------------------------------------------------------------------


def test_splits_take_turns_and_streaming_equals_local(hub: HubServer, reader: Reader, name: str) -> None:
    commit = hub.add(name, FILES, kind="datasets")
    streamed, local = reader.ask(name, streaming=True), reader.ask(name)
    assert ids(local) == IN_TURN
    assert [c["category"] for c in local["clips"]] == ["Speech", "Music", "Speech", "Music", "Speech"]
    assert [c["hash"] for c in local["clips"]] == [heard(seed) for seed in (0, 10, 1, 11, 2)]
    assert local["count"] == 5
    assert local["facts"]["revision"] == commit
    assert (local["facts"]["repository"], local["facts"]["config"]) == (name, "default")
    assert local["facts"]["splits"] == ["Speech", "Music"]
    assert streamed["clips"] == local["clips"]
    assert streamed["count"] is None, "only reading tells"
    assert streamed["facts"]["revision"] == commit
    assert ids(reader.ask(name, streaming=True, limit=2)) == IN_TURN[:2], "one clip of each"
    one = reader.ask(f"{name}@{commit}:default", split="Music")
    assert [(c["id"], c["category"]) for c in one["clips"]] == [("ö-0", None), ("ö-1", None)]
    for streaming in (False, True):
        shuffled = [reader.ask(name, shuffle=True, seed=seed, streaming=streaming) for seed in (3, 3, 4)]
        assert ids(shuffled[0]) == ids(shuffled[1])
        assert len({tuple(ids(found)) for found in (local, *shuffled)}) == 3
        for found in shuffled:
            assert sorted(ids(found)) == sorted(IN_TURN)
            assert [c["category"] for c in found["clips"]] == [c["category"] for c in local["clips"]]


def test_columns_of_ids_and_categories(hub: HubServer, reader: Reader, name: str) -> None:
    made = clips("s", 3, category=["x", None, "y"])
    hub.add(name, {"data/test-0.parquet": parquet(made)}, kind="datasets")
    plain = reader.ask(name)
    assert [(c["id"], c["category"]) for c in plain["clips"]] == [("s-0", "x"), ("s-1", None), ("s-2", "y")]
    assert ids(reader.ask(name, id_column="row")) == ["test/0", "test/1", "test/2"]
    for streaming in (False, True):
        found = reader.ask(name, id_column="category", streaming=streaming)["clips"]
        assert [c["id"] for c in found] == ["x", "test/1", "y"]
        assert [c["failure"] is None for c in found] == [True, False, True]
        assert "test, row 1: the column 'category' is empty; --id-column names another" in found[1]["failure"]


def test_two_clips_with_one_id_are_an_error_that_says_which(hub: HubServer, reader: Reader, name: str) -> None:
    made = clips("s", 3)
    made = made.set_column(0, "id", [["a", "b", "a"]])
    hub.add(name, {"data/test-0.parquet": parquet(made)}, kind="datasets")
    assert "two clips of test have the id 'a': rows 0 and 2; --id-column" in reader.ask(name)["message"]
    message = reader.ask(name, streaming=True)["message"]
    assert "two clips of test have the id 'a', the second one is row 2; --id-column" in message
    assert len(ids(reader.ask(name, id_column="row"))) == 3


def test_folders_of_audio_and_tars_need_no_torchcodec(hub: HubServer, reader: Reader) -> None:
    """Repositories that the datasets library by itself reads only where torchcodec is installed."""
    with pytest.raises(ModuleNotFoundError):
        import torchcodec  # noqa: F401
    folder = {"train/cat/0.wav": wav(0, 2), "train/dog/1.wav": wav(1, 2), "test/cat/2.wav": wav(2, 2)}
    hub.add("someone/folder", folder, kind="datasets")
    tars = {"data/train-0.tar": tar(shard("a", 2)), "data/train-1.tar": tar(shard("b", 1))}
    hub.add("someone/tars", tars, kind="datasets")
    noted = {"metadata.csv": b"file_name,id,category\nx.wav,one,A\ny.wav,two,B\n", "x.wav": wav(1), "y.wav": wav(2)}
    hub.add("someone/noted", noted, kind="datasets")
    found = {}
    for name in ("folder", "tars", "noted"):
        local, streamed = (reader.ask(f"someone/{name}", streaming=streaming) for streaming in (False, True))
        assert local.get("clips") == streamed.get("clips") is not None, (local, streamed)
        assert not any(clip["failure"] for clip in local["clips"])
        found[name] = local["clips"]
    assert [(c["id"], c["category"], c["shape"], c["hash"]) for c in found["folder"]] == [
        ("train/0", "cat", [2, 8000], heard(0, 2)),
        ("test/0", "cat", [2, 8000], heard(2, 2)),
        ("train/1", "dog", [2, 8000], heard(1, 2)),
    ]
    assert [c["id"] for c in found["tars"]] == ["a0", "a1", "b0"]
    in_csv = [("one", "A", heard(1)), ("two", "B", heard(2))]
    assert [(c["id"], c["category"], c["hash"]) for c in found["noted"]] == in_csv


def test_clips_that_cannot_be_read_fail_alone(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, {"a.wav": wav(0), "b.wav": wav(1), "c.wav": b"no audio", "d.wav": wav(3)}, kind="datasets")
    with hub.failing(f"{name}/resolve/{commit_of(hub, name)}/b.wav", Fault(status=404)):
        found = reader.ask(name, streaming=True)
    one, gone, broken, last = (clip["failure"] for clip in found["clips"])
    assert (one, last) == (None, None)
    assert "404" in gone and "b.wav" in gone
    assert "not readable as audio" in broken
    failures = [clip["failure"] for clip in reader.ask(name)["clips"]]
    assert [failure is None for failure in failures] == [True, True, False, True]


def commit_of(hub: HubServer, name: str) -> str:
    return hub.repositories["datasets", name].branches["main"]


def test_of_one_split_only_its_files_are_fetched(hub: HubServer, reader: Reader, name: str) -> None:
    unwanted = b"not even Parquet"
    commit = hub.add(name, {**FILES, SPEECH: unwanted}, kind="datasets")
    hub.requests.clear()
    for _ in range(2):
        found = reader.ask(name, split="Music")
        assert [(c["id"], c["hash"]) for c in found["clips"]] == [("ö-0", heard(10)), ("ö-1", heard(11))]
        assert found["facts"]["revision"] == commit
    fetched = [path for _, path in hub.requests if path.endswith((SPEECH, hashlib.sha256(unwanted).hexdigest()))]
    assert fetched == []
    with hub.failing("", Fault(status=503)):
        assert reader.ask(name, split="Music") == found, "from the cache"
        assert "error" in reader.ask(name, split="Speech")


def test_a_split_of_one_config_is_not_that_of_another(hub: HubServer, reader: Reader, name: str) -> None:
    card = b"---\nconfigs:\n"
    for config in (b"b", b"a\n  default: true"):
        paths = b"".join(b"  - split: %s\n    path: %s/%s.parquet\n" % (s, config[:1], s) for s in (b"one", b"two"))
        card += b"- config_name: " + config + b"\n  data_files:\n" + paths
    files = {f"{config}/{s}.parquet": parquet(clips(config + s, 1)) for config in "ab" for s in ("one", "two")}
    hub.add(name, {"README.md": card + b"---\n", **files}, kind="datasets")
    for _ in range(2):
        for asked, config in ((f"{name}:b", "b"), (name, "a"), (f"{name}:a", "a")):
            found = reader.ask(asked, split="two")
            assert (ids(found), found["facts"]["config"]) == ([f"{config}two-0"], config)


# -- revisions, and without a network -------------------------------------------------------------


def test_what_was_read_once_is_read_offline(hub: HubServer, home: Path, reader: Reader, name: str) -> None:
    commit = hub.add(name, FILES, kind="datasets", branch="v1")
    hub.add(name, OTHER, kind="datasets")
    before = reader.ask(f"{name}@v1")
    assert ids(before) == IN_TURN
    hub.requests.clear()
    with Reader(hub, home, HF_HUB_OFFLINE="1") as offline:
        for same in (offline.ask(f"{name}@v1"), offline.ask(f"{name}@{commit}"), offline.ask(name, streaming=True)):
            assert same.get("clips") == before["clips"], same
            assert same["facts"]["revision"] == commit
        found = offline.ask(f"{name}@{'0' * 40}")
        assert_unavailable(found, f"{name}@{'0' * 40}", f"the cache holds {commit} of it", "read it once online")
        found = offline.ask("someone/else")
        assert_unavailable(found, "someone/else", "not in the cache, and the network is off: read it once online")
    with Reader(hub, home, HF_DATASETS_OFFLINE="1") as offline:
        assert offline.ask(f"{name}@v1")["clips"] == before["clips"]
    assert hub.requests == []


def test_a_branch_that_moved_is_read_anew(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    assert ids(reader.ask(name, limit=1)) == IN_TURN[:1]
    moved = hub.add(name, OTHER, kind="datasets")
    found = reader.ask(name, split="Speech")
    assert ids(found) == ["t-0"]
    with hub.failing("", Fault(status=503)):  # the hub is down
        while_down = reader.ask(name, split="Speech")
    assert while_down == found
    assert found["facts"]["revision"] == moved


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_not_there_or_not_allowed(hub: HubServer, reader: Reader, streaming: bool) -> None:
    hub.add("someone/gated", FILES, kind="datasets", gated=True)
    hub.add("someone/script", {"script.py": b"raise SystemExit('it ran')", "README.md": b"#"}, kind="datasets")
    hub.add("someone/empty", {"README.md": b"#"}, kind="datasets")
    hub.add("someone/tiny", FILES, kind="datasets")
    two = b"---\nconfigs:\n- config_name: a\n  data_files: x.csv\n- config_name: b\n  data_files: y.csv\n---\n"
    hub.add("someone/configs", {"README.md": two, "x.csv": b"a\n1\n", "y.csv": b"a\n1\n"}, kind="datasets")
    hub.add("someone/pattern", {**FILES, "README.md": CARD.replace(b"data/", b"gone/")}, kind="datasets")
    hub.add("someone/cut", {"data/test-0.parquet": FILES[SPEECH][:-20]}, kind="datasets")
    hub.add("someone/text", {"a.jsonl": b'{"text": "x"}\n'}, kind="datasets")
    for name, said in (
        ("someone/nowhere", "no such folder or file here, and someone/nowhere is not a data set of"),
        ("someone/gated", f"it is gated: accept its terms at {hub.url}/datasets/someone/gated and log in"),
        ("someone/script", "it is a script (script.py), and code of a data set is never run"),
        ("someone/empty", "it holds no files that the datasets library reads"),
        ("someone/tiny@v9", "there is no such revision of someone/tiny: name another"),
        ("someone/tiny:nine", "'nine' not found. Available: ['default'] Choose one as NAME:CONFIG"),
        ("someone/configs", "available configs: ['a', 'b'] Choose one as NAME:CONFIG"),
        ("someone/pattern", "or its README names others than there are"),
        ("someone/cut", "Either the file is corrupted or this is not a parquet file"),
        ("someone/text", "no column holds audio; --audio-column names the one to read; its columns: text (string)"),
    ):
        found = reader.ask(name, streaming=streaming)
        assert said in found["message"]
        assert {"FileNotFoundError", "ValueError"} & set(found["error"])
    message = reader.ask("someone/tiny", split="Noise", streaming=streaming)["message"]
    assert message == "someone/tiny: no split 'Noise'; it has Speech, Music"


def test_a_file_that_was_taken_back(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    with hub.failing(SPEECH, Fault(status=404)):
        for streaming in (False, True):
            found = reader.ask(name, streaming=streaming)
            assert_unavailable(found, name, f"{SPEECH} is not there (404)", "@REVISION", "name the folder")
    assert ids(reader.ask(name)) == IN_TURN


def test_a_server_that_fails(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    with hub.failing(SPEECH, Fault(status=500)):
        for streaming in (False, True):
            found = reader.ask(name, streaming=streaming)
            assert_unavailable(found, name, f"{SPEECH} was refused (HTTP status 500)", "try again later")


def test_a_slow_server_is_waited_for(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    with hub.failing(LARGE, Fault(delay=0.5)):
        assert ids(reader.ask(name)) == IN_TURN
        assert ids(reader.ask(name, streaming=True)) == IN_TURN


def test_a_server_that_stalls(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    with hub.failing(LARGE, Fault(delay=30)):
        found = reader.ask(name, timeout=0.2)
    assert_unavailable(found, name, f"{SPEECH} did not arrive from {hub.url}", "Timeout", "try again")
    assert ids(reader.ask(name)) == IN_TURN


def test_a_download_that_breaks_off(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    with hub.failing(LARGE, Fault(cut=0.5)):
        found = reader.ask(name)
        assert_unavailable(found, name, f"{SPEECH} did not arrive from {hub.url}", "try again")
        found = reader.ask(name, streaming=True)
        assert_unavailable(found, name, "did not arrive", "try again")
    assert ids(reader.ask(name)) == IN_TURN


def test_a_file_that_was_changed_on_the_way_is_removed(hub: HubServer, reader: Reader, name: str) -> None:
    hub.add(name, FILES, kind="datasets")
    other = FILES[SPEECH].replace(wav(1)[-4000:], wav(9)[-4000:])
    assert other != FILES[SPEECH] and len(other) == len(FILES[SPEECH])
    hub.files[f"/large/{LARGE}"] = other
    try:
        found = reader.ask(name)
    finally:
        hub.files[f"/large/{LARGE}"] = FILES[SPEECH]
    wrong = hashlib.sha256(other).hexdigest()
    assert_unavailable(found, name, f"what came as {SPEECH} has sha256 {wrong}, not {LARGE}", "try again")
    assert [c["hash"] for c in reader.ask(name)["clips"]] == [heard(seed) for seed in (0, 10, 1, 11, 2)]


def test_no_network_and_nothing_cached(hub: HubServer, home: Path, name: str) -> None:
    with Reader(hub, home, HF_ENDPOINT="http://127.0.0.1:9") as cut_off:
        found = cut_off.ask(name)
    assert_unavailable(found, name, "did not arrive from http://127.0.0.1:9", "try again")
