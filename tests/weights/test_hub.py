"""Published weights through the real client of the hub, from a local server that speaks its protocol."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, file_download, snapshot_download
from safetensors.torch import save

from codeczoo import load_codec, register_codec
from codeczoo.base.catalogue import WeightsSource
from codeczoo.weights.download import WeightsUnavailableError
from codeczoo.weights.load import load_weights
from tests.support.hub_server import Fault, HubServer
from tests.support.registering import registered_for_a_while
from tests.support.tiny_codec import VARIANT, TinyCodec, published, tiny

REPO, FILE = "someone/tiny", "model.safetensors"
CONTENT = save({key: value.contiguous() for key, value in published("transformers").items()})
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, with the client in this process turned to it, and an empty cache."""
    with HubServer() as server:
        home = tmp_path / "home"
        for name, value in server.environment(home).items():
            monkeypatch.setenv(name, value)
        # The client reads its environment when it is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def codec_of(**source: object) -> TinyCodec:
    return tiny(weights=replace(WeightsSource(repo=REPO, file=FILE), **source))  # type: ignore[arg-type]


def assert_refused(codec: TinyCodec, *said: str, **options: object) -> str:
    """Loading ends in an error that names the codec, the source, a way out, and `said`."""
    with pytest.raises(WeightsUnavailableError) as caught:
        load_weights(codec, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    source = codec.variant.weights
    assert source is not None
    for part in ("tiny: ", source.url or REPO, "pass weights=path", *said):
        assert part in message
    assert codec.weights_hash is None
    return message


# -- the hub --------------------------------------------------------------------------------------


def test_a_pinned_file_is_fetched_once(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    commit = hub.add(REPO, {FILE: CONTENT, "README.md": b"#"})
    hub.add(REPO, {FILE: b"newer, and broken"})
    codec = codec_of(revision=commit, sha256=SHA256)
    with caplog.at_level(logging.INFO):
        load_weights(codec)
    assert (codec.weights_source, codec.weights_hash) == (f"{REPO}@{commit}/{FILE}", SHA256)
    assert ("GET", f"/large/{SHA256}") in hub.requests, "the redirect to where large files lie was followed"
    assert f"sha256 {SHA256}" in caplog.text
    hub.requests.clear()
    again = codec_of(revision=commit, sha256=SHA256)
    load_weights(again)
    assert again.weights_hash == SHA256
    assert hub.requests == [], "what is pinned and cached needs no network"


def test_the_id_of_a_copy_fetches_that_copy(hub: HubServer) -> None:
    """Another repository, another naming; the codec, its name and its weights are the same."""
    commit = hub.add("other/tiny-hf", {"hf.safetensors": CONTENT})
    hub.add(REPO, {FILE: save({key: value.contiguous() for key, value in published("authors").items()})})
    copy = WeightsSource(repo="other/tiny-hf", file="hf.safetensors", revision=commit, sha256=SHA256)
    with registered_for_a_while():
        register_codec(replace(VARIANT, copies=(copy,)), TinyCodec)
        asked = load_codec("Other/Tiny-HF", device="cpu")
        assert not any(REPO in path for _, path in hub.requests), "nothing else is fetched"
        usual = load_codec("tiny", device="cpu")
    assert (asked.name, usual.name) == ("tiny", "tiny")
    assert (asked.weights_source, asked.weights_hash) == (f"other/tiny-hf@{commit}/hf.safetensors", SHA256)
    assert usual.weights_source == f"{REPO}/{FILE}"
    torch.testing.assert_close(asked.state_dict(), usual.state_dict())


def test_a_branch_is_asked_for_its_head(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    load_weights(codec_of())
    hub.requests.clear()
    load_weights(codec_of())
    assert {method for method, _ in hub.requests} == {"HEAD"}
    other = save({key: (value + 1).contiguous() for key, value in published("transformers").items()})
    hub.add(REPO, {FILE: other})
    moved = codec_of()
    load_weights(moved)
    assert moved.weights_hash == hashlib.sha256(other).hexdigest()


def test_another_revision_is_not_held_against_the_pinned_hash(hub: HubServer) -> None:
    other = save({key: (value + 1).contiguous() for key, value in published("transformers").items()})
    commit = hub.add(REPO, {FILE: CONTENT})
    hub.add(REPO, {FILE: other}, branch="experiment")
    codec = codec_of(revision=commit, sha256=SHA256)
    load_weights(codec, revision="experiment")
    assert codec.weights_hash == hashlib.sha256(other).hexdigest()
    assert codec.weights_source == f"{REPO}@experiment/{FILE}"


def test_what_is_cached_loads_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, {FILE: CONTENT})
    load_weights(codec_of())
    hub.requests.clear()
    load_weights(codec_of(), local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_weights(codec_of())
    assert hub.requests == []


def test_what_is_not_cached_says_so_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, {FILE: CONTENT})
    said = ("not in the cache", "the network is off", "load tiny once online")
    assert_refused(codec_of(), *said, local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_refused(codec_of(), *said)
    assert hub.requests == []


def test_a_cache_folder_of_ones_own(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, {FILE: CONTENT})
    load_weights(codec_of(), cache_dir=tmp_path / "own")
    hub.requests.clear()
    load_weights(codec_of(), cache_dir=tmp_path / "own", local_files_only=True)
    assert_refused(codec_of(), local_files_only=True)


def test_a_file_that_was_taken_back(hub: HubServer) -> None:
    hub.add(REPO, {"README.md": b"#"})
    assert_refused(codec_of(), FILE, "is not there (404)")


def test_a_revision_that_was_taken_back(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    assert_refused(codec_of(revision="0" * 40), "at " + "0" * 40, "no such revision")


def test_a_repository_that_is_gone_or_private(hub: HubServer) -> None:
    assert_refused(codec_of(), "not there, or private", "hf auth login")


def test_a_gated_repository(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT}, gated=True)
    assert_refused(codec_of(), "gated", f"{hub.url}/{REPO}", "hf auth login")


def test_a_server_that_does_not_answer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, {FILE: CONTENT})
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.1)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client's pauses between its attempts
    with hub.failing(FILE, Fault(delay=30)):
        assert_refused(codec_of(), "cannot be had: no connection to", "try again")


def test_a_server_that_stalls_in_the_file(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, {FILE: CONTENT})
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with hub.failing(SHA256, Fault(delay=30)):
        assert_refused(codec_of(), "did not arrive", "Timeout", "try again")
    load_weights(codec_of())


def test_a_download_that_breaks_off(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, {FILE: CONTENT})
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with hub.failing(SHA256, Fault(cut=0.5)):
        assert_refused(codec_of(), "did not arrive", "try again")
    load_weights(codec_of())


def test_a_file_shorter_than_was_said(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    with hub.failing(FILE, Fault(size=len(CONTENT) + 100)):
        assert_refused(codec_of(), "did not arrive", f"size {len(CONTENT) + 100}")


def test_a_hub_that_is_down_while_the_file_is_cached(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    load_weights(codec_of())
    with hub.failing(FILE, Fault(status=503)):
        load_weights(codec_of())


def test_another_file_than_the_published_one_is_removed(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add(REPO, {FILE: CONTENT})
    codec = codec_of(revision=commit, sha256="0" * 64)
    with pytest.raises(ValueError, match=f"tiny: what came from {REPO}/{FILE} has sha256 {SHA256}, not 0000") as caught:
        load_weights(codec)
    for way in ("load again", "CODECZOO_CHANGED_WEIGHTS=allow", "revision=", "weights=path", "--weights"):
        assert way in str(caught.value)
    assert not list((tmp_path / "home" / "hub").rglob(SHA256))
    hub.requests.clear()
    load_weights(codec_of(revision=commit, sha256=SHA256[:8]))
    assert ("GET", f"/large/{SHA256}") in hub.requests, "it is fetched anew"


def test_a_changed_file_may_be_insisted_on(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add(REPO, {FILE: CONTENT})
    monkeypatch.setenv("CODECZOO_CHANGED_WEIGHTS", "allow")
    codec = codec_of(sha256="0" * 64)
    load_weights(codec)
    assert codec.weights_hash == SHA256, "the hash is that of the file, not what was expected"
    assert f"has sha256 {SHA256}, not {'0' * 64}; it is taken all the same" in caplog.text


def test_a_size_is_checked_where_no_more_is_known(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    hub.files["/w.safetensors"] = CONTENT
    for place in ({}, {"repo": None, "file": "", "url": f"{hub.url}/w.safetensors"}):
        load_weights(codec_of(**place, size=len(CONTENT)))
        with pytest.raises(ValueError, match=f"has {len(CONTENT):,} bytes, not 1,234,567: it was removed"):
            load_weights(codec_of(**place, size=1234567))


def test_a_file_that_the_cache_holds_damaged_is_noticed_without_a_pin(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, {FILE: CONTENT})
    load_weights(codec_of())
    (blob,) = (tmp_path / "home" / "hub").rglob(SHA256)
    values = bytearray(CONTENT)
    values[-2] ^= 1  # one bit of a weight
    blob.write_bytes(values)
    with pytest.raises(ValueError, match=f"not {SHA256}: it was removed"):
        load_weights(codec_of())
    load_weights(codec_of())


# -- the same file in a second place ----------------------------------------------------------------


MIRROR = {"repo": "mirror/tiny", "file": "w.safetensors"}


def mirrored(hub: HubServer, **source: object) -> TinyCodec:
    own = {"repo": None, "file": "", "url": f"{hub.url}/v0/tiny.safetensors"}
    return codec_of(**{**own, "sha256": SHA256, "mirrors": (MIRROR,), **source})


@pytest.mark.parametrize("fault", [Fault(status=404), Fault(status=503), Fault(cut=0.5), Fault(delay=30)])
def test_a_mirror_is_asked_where_the_first_host_does_not_give_it(
    fault: Fault, hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.files["/v0/tiny.safetensors"] = CONTENT
    hub.add("mirror/tiny", {"w.safetensors": CONTENT})
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    codec = mirrored(hub)
    with hub.failing("tiny.safetensors", fault):
        load_weights(codec)
    assert codec.weights_hash == SHA256
    assert (
        "/v0/tiny.safetensors" in caplog.text
        and "Its mirror mirror/tiny/w.safetensors gave the same file" in caplog.text
    )
    hub.requests.clear()
    caplog.clear()
    for options in ({}, {"local_files_only": True}):
        load_weights(mirrored(hub), **options)
    assert hub.requests == [] and "mirror" not in caplog.text, "what is cached needs neither"


def test_a_mirror_is_left_alone_while_the_first_host_answers(hub: HubServer) -> None:
    hub.files["/v0/tiny.safetensors"] = CONTENT
    load_weights(mirrored(hub))
    assert hub.requests == [("GET", "/v0/tiny.safetensors")]


def test_a_mirror_with_another_file_is_refused(hub: HubServer) -> None:
    hub.add("mirror/tiny", {"w.safetensors": CONTENT[:-1] + b"x"})
    with pytest.raises(ValueError, match=rf"what came from mirror/tiny/w\.safetensors has sha256 .*, not {SHA256}"):
        load_weights(mirrored(hub))


def test_where_no_place_gives_it_all_are_named(hub: HubServer) -> None:
    assert_refused(mirrored(hub), "it is not there (404)", "Its mirror: w.safetensors of mirror/tiny was refused")
    assert_refused(mirrored(hub), "the network is off", "mirror/tiny", local_files_only=True)


def test_another_revision_is_not_asked_of_a_mirror(hub: HubServer) -> None:
    hub.add(REPO, {FILE: CONTENT})
    codec = codec_of(sha256=SHA256, mirrors=(MIRROR,))
    assert_refused(codec, "no such revision", revision="next")
    assert not any("mirror" in path for _, path in hub.requests)


def test_the_published_file_is_known_wherever_it_comes_from(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w.safetensors").write_bytes(CONTENT)
    (tmp_path / "other.safetensors").write_bytes(save({k: v.contiguous() for k, v in published("authors").items()}))
    copy = WeightsSource(url="https://example.org/w.pth", sha256=SHA256[:8])
    for changes, file, known in (
        ({"weights": WeightsSource(repo=REPO, file=FILE, sha256=SHA256)}, "w", True),
        ({"copies": (copy,)}, "w", True),
        ({"copies": (copy,)}, "other", False),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            load_weights(tiny(**changes), tmp_path / f"{file}.safetensors")
        assert ("(the published file)" in caplog.text) == known


def test_further_files_come_from_the_same_repository_or_their_own(hub: HubServer) -> None:
    tensors = published("authors")
    parts = [
        {k: v.contiguous() for k, v in tensors.items() if k.startswith("enc.") == first} for first in (True, False)
    ]
    hub.add(REPO, {"a/enc.safetensors": save(parts[0]), "b/rest.safetensors": save(parts[1])})
    hub.add("another/place", {"rest.safetensors": save(parts[1])})
    load_weights(codec_of(file="a/enc.safetensors", more=({"file": "b/rest.safetensors"},)))
    elsewhere = {"repo": "another/place", "file": "rest.safetensors"}
    load_weights(codec_of(file="a/enc.safetensors", more=(elsewhere,)))
    assert ("HEAD", "/another/place/resolve/main/rest.safetensors") in hub.requests
    hub.add(REPO, {"a/enc.safetensors": save(parts[0])}, branch="next")
    codec = codec_of(file="a/enc.safetensors", more=(elsewhere,))
    load_weights(codec, revision="next")
    assert codec.weights_source == f"{REPO}@next/a/enc.safetensors"


def test_settings_that_are_published_beside_the_weights_are_checked(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(TinyCodec, "check_metadata", lambda self, metadata: seen.append(metadata))
    hub.add(REPO, {FILE: CONTENT, "config.json": b'{"hop": 4}'})
    codec = codec_of(more=({"file": "config.json"},))
    load_weights(codec)
    assert seen == [{"config": {"hop": 4}}]
    assert codec.weights_hash == SHA256


def test_the_environment_is_honoured_from_the_start(hub: HubServer, tmp_path: Path) -> None:
    """A fresh process, as a user starts it: HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE."""
    hub.add(REPO, {FILE: CONTENT})
    program = """
import json
from codeczoo.weights.load import load_weights
from tests.support.tiny_codec import tiny
codec = tiny()
load_weights(codec)
print(json.dumps(codec.weights_hash))
"""

    def run(**more: str) -> str:
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", **hub.environment(tmp_path / "fresh", **more)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        return json.loads(done.stdout)

    assert run() == SHA256
    assert hub.requests != []
    hub.requests.clear()
    assert run(HF_HUB_OFFLINE="1") == SHA256
    assert hub.requests == []


# -- plain URLs -----------------------------------------------------------------------------------


@pytest.fixture
def at_url(hub: HubServer) -> TinyCodec:
    """A codec whose weights lie at a URL, its hash in its name as some authors do."""
    hub.files["/v0/tiny-24khz.safetensors"] = CONTENT
    return codec_of(repo=None, file="", url=f"{hub.url}/v0/tiny-24khz.safetensors", sha256=SHA256[:8])


def cached(tmp_path: Path) -> list[Path]:
    """The files in the cache of plain URLs, locks apart."""
    return [p for p in (tmp_path / "home" / "codeczoo" / "files").rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_a_url_is_fetched_once(hub: HubServer, at_url: TinyCodec, tmp_path: Path) -> None:
    load_weights(at_url)
    assert at_url.weights_hash == SHA256
    assert [path.name for path in cached(tmp_path)] == ["tiny-24khz.safetensors"]
    hub.requests.clear()
    load_weights(tiny(weights=at_url.variant.weights))
    load_weights(tiny(weights=at_url.variant.weights), local_files_only=True)
    assert hub.requests == []


def test_a_wrong_hash_leaves_nothing_behind(hub: HubServer, at_url: TinyCodec, tmp_path: Path) -> None:
    hub.files["/v0/tiny-24khz.safetensors"] = CONTENT[:-1] + b"x"
    with pytest.raises(
        ValueError, match=rf"tiny: what came from {at_url.variant.weights} has sha256 .* not {SHA256[:8]}"
    ):
        load_weights(at_url)
    assert cached(tmp_path) == []


def test_a_cached_file_that_was_changed_is_noticed(hub: HubServer, at_url: TinyCodec, tmp_path: Path) -> None:
    load_weights(at_url)
    (path,) = cached(tmp_path)
    path.write_bytes(CONTENT[:-1] + b"xy")
    with pytest.raises(ValueError, match="it was removed"):
        load_weights(at_url)
    load_weights(at_url)


def test_a_url_that_is_gone_slow_broken_or_offline(
    hub: HubServer, at_url: TinyCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub.failing(".safetensors", Fault(status=404)):
        assert_refused(at_url, "it is not there (404)", str(tmp_path / "home"))
    with hub.failing(".safetensors", Fault(status=403)):
        assert_refused(at_url, "HTTP status 403")
    with hub.failing(".safetensors", Fault(cut=0.5)):
        assert_refused(at_url, "did not arrive", f"of {len(CONTENT)} bytes")
    with monkeypatch.context() as patch, hub.failing(".safetensors", Fault(delay=30)):
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
        assert_refused(at_url, "did not arrive", "timed out")
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        message = assert_refused(at_url, "not in the cache", "the network is off")
    assert_refused(at_url, "not in the cache", local_files_only=True)
    assert cached(tmp_path) == []
    place = Path(message.partition("put it at ")[2].partition(" or pass")[0])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(CONTENT)  # as the message says
    load_weights(at_url, local_files_only=True)


def archive_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
            archive.writestr(f"__MACOSX/{name}", b"of the Finder")
    return file.getvalue()


def test_members_of_an_archive_are_fetched_and_unpacked_once(hub: HubServer, tmp_path: Path) -> None:
    tensors = published("authors")
    parts = [
        save({k: v.contiguous() for k, v in tensors.items() if k.startswith("enc.") == first})
        for first in (True, False)
    ]
    content = archive_of({"exp/enc/w.safetensors": parts[0], "exp/rest/w.safetensors": parts[1], "exp/other": b"x"})
    hub.files["/v0/exp.zip"] = content
    own = {"repo": None, "file": "", "url": f"{hub.url}/v0/exp.zip", "sha256": hashlib.sha256(content).hexdigest()}
    codec = codec_of(**own, member="enc/w.safetensors", more=({"member": "rest/w.safetensors"},))
    load_weights(codec)
    assert codec.weights_source == f"{hub.url}/v0/exp.zip (enc/w.safetensors)"
    unpacked = [path for path in cached(tmp_path) if path.suffix == ".safetensors"]
    assert sorted(path.read_bytes() for path in unpacked) == sorted(parts), "no more than was asked for"
    hub.requests.clear()
    times = [path.stat().st_mtime_ns for path in unpacked]
    load_weights(tiny(weights=codec.variant.weights))
    assert hub.requests == [] and times == [path.stat().st_mtime_ns for path in unpacked]

    own_copy = tmp_path / "mine.zip"
    own_copy.write_bytes(content)
    again = tiny(weights=codec.variant.weights)
    load_weights(again, own_copy)
    assert again.weights_hash == codec.weights_hash
    own_copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"tiny: .*mine\.zip: not a whole zip archive"):
        load_weights(again, own_copy)
    with pytest.raises(ValueError, match=r"tiny: .*exp\.zip: there is no enc/v\.safetensors in this archive"):
        load_weights(codec_of(**own, member="enc/v.safetensors"))


def test_a_revision_of_a_url_is_an_error(at_url: TinyCodec) -> None:
    with pytest.raises(ValueError, match="revision='main' is for hub repositories"):
        load_weights(at_url, revision="main")


def test_loads_at_the_same_time_fetch_once(hub: HubServer, at_url: TinyCodec) -> None:
    with hub.failing(".safetensors", Fault(delay=0.3)):
        codecs = [tiny(weights=at_url.variant.weights) for _ in range(4)]
        threads = [threading.Thread(target=load_weights, args=(codec,)) for codec in codecs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [codec.weights_hash for codec in codecs] == [SHA256] * 4
    assert len(hub.requests) == 1


# -- the server itself ----------------------------------------------------------------------------


def test_the_server_lists_and_serves_data_sets(hub: HubServer, tmp_path: Path) -> None:
    """What the tests of data sets build on: a whole repository through the client."""
    files = {
        "README.md": b"# clips",
        "data/test-0.parquet": b"PAR1" * 50,
        "data/more/a.wav": b"RIFF",
        "top.json": b"{}",
    }
    commit = hub.add("someone/clips", files, kind="datasets")
    folder = Path(snapshot_download("someone/clips", repo_type="dataset", cache_dir=tmp_path / "own"))
    assert folder.name == commit
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    top = [entry.path for entry in api.list_repo_tree("someone/clips", repo_type="dataset")]
    assert sorted(top) == ["README.md", "data", "top.json"]
    below = [entry.path for entry in api.list_repo_tree("someone/clips", "data", repo_type="dataset", recursive=True)]
    assert sorted(below) == ["data/more", "data/more/a.wav", "data/test-0.parquet"]
    (info,) = api.get_paths_info("someone/clips", ["data/test-0.parquet", "nowhere"], repo_type="dataset")
    assert (info.path, info.size) == ("data/test-0.parquet", 200)
