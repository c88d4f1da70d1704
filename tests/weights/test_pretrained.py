"""A codec as a folder and as a repository of the hub: there and back, with a card that says what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants, errors

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import find_variant, variants
from codeczoo.codecs.mimi import Mimi
from codeczoo.codecs.snac import SNAC
from codeczoo.weights.export import export_safetensors
from codeczoo.weights.load import load_weights
from tests.support.hub_server import HubServer
from tests.support.small import ROOTS, codec_of, small_variant
from tests.support.sound import chirp


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, with the client in this process turned to it, and an empty cache."""
    with HubServer() as server:
        home = tmp_path / "home"
        for name, value in server.environment(home).items():
            monkeypatch.setenv(name, value)
        # The client reads its environment when it is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def snac() -> BaseCodec:
    """A small SNAC: its config.json has to say its numbers, which are not the published ones."""
    codec = small_variant("snac_24khz").build()
    load_weights(codec, "random", seed=5)
    return codec.eval()


def assert_same(again: BaseCodec, codec: BaseCodec) -> None:
    assert type(again) is type(codec) and again.name == codec.name and again.config == codec.config
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in codec.state_dict().items())
    clip = chirp(8000, codec.sample_rate)
    assert torch.equal(again.encode(clip, codec.sample_rate).codes, codec.encode(clip, codec.sample_rate).codes)


def test_a_folder_there_and_back(snac: BaseCodec, tmp_path: Path) -> None:
    snac.save_pretrained(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert_same(BaseCodec.from_pretrained(tmp_path / "mine", device="cpu"), snac)
    again = SNAC.from_pretrained(str(tmp_path / "mine"), device="cpu", num_codebooks=2, max_chunk_seconds=3.0)
    assert (again.num_codebooks, again.max_chunk_seconds) == (2, 3.0)
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").exists()


def test_the_hub_there_and_back(snac: BaseCodec, hub: HubServer, tmp_path: Path) -> None:
    address = snac.push_to_hub("someone/my-snac", token="hf_local")
    assert re.fullmatch(rf"{hub.url}/someone/my-snac/commit/[0-9a-f]{{40}}", address)
    again = BaseCodec.from_pretrained("someone/my-snac", device="cpu")
    assert_same(again, snac)
    again.push_to_hub("someone/my-snac", token="hf_local", commit_message="again")
    first = address.rpartition("/")[2]
    assert_same(BaseCodec.from_pretrained("someone/my-snac", revision=first, device="cpu"), snac)
    asked = len(hub.requests)
    BaseCodec.from_pretrained("someone/my-snac", device="cpu", local_files_only=True)
    assert len(hub.requests) == asked


def test_pushing_without_a_token_or_weights(snac: BaseCodec, hub: HubServer) -> None:
    with pytest.raises(errors.HfHubHTTPError, match="401"):
        snac.push_to_hub("someone/my-snac")
    with pytest.raises(ValueError, match="g711_ulaw has no weights: there is nothing to save"):
        load_codec("g711_ulaw", device="cpu").push_to_hub("someone/g711", token="hf_local")
    assert not hub.repositories


FAMILIES = {find_variant(name).family: name for name in ROOTS if find_variant(name).weights is not None}


@pytest.mark.parametrize("name", FAMILIES.values())
def test_every_family_is_exported_as_safetensors(name: str, tmp_path: Path) -> None:
    codec, again = codec_of(name, "small", torch.float32), small_variant(name).build()
    export_safetensors(codec, tmp_path / "own.safetensors")
    load_weights(again, tmp_path / "own.safetensors")
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in codec.state_dict().items())


@pytest.mark.parametrize("name", [name for name, variant in variants().items() if variant.weights is not None][::6])
def test_the_card_is_made_of_the_toml(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = find_variant(name)
    codec = small_variant(name).build()
    load_weights(codec, "random")
    codec.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["library_name"] == "codeczoo" and variant.family in facts["tags"]
    assert facts.get("license_name", facts["license"]).lower().replace(
        "-", " "
    ) == variant.weights_licence.lower().replace("-", " ")
    for part in (
        f"# {name}",
        variant.description,
        variant.paper,
        f"Licence: {variant.weights_licence}.",
        "random, seed 0",
    ):
        assert part in body
    assert "| codebook sizes | " in body and ("codec.decode" in body) == codec.supports_decode
    assert ("howpublished = {arXiv:" in body) == ("arxiv.org" in variant.paper)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["codec"], config["family"], config["weights_sha256"]) == (variant.root or name, variant.family, None)


def test_the_authors_repository_is_their_codec(hub: HubServer) -> None:
    with pytest.raises(FileNotFoundError, match=r"mimi: model\.safetensors of kyutai/mimi"):
        BaseCodec.from_pretrained("kyutai/mimi", device="cpu")
    with pytest.raises(TypeError, match=r"kyutai/mimi: it holds a Mimi \(mimi\), not a SNAC"):
        SNAC.from_pretrained("kyutai/mimi", device="cpu")


def test_what_is_no_saved_codec_is_named(snac: BaseCodec, hub: HubServer, tmp_path: Path) -> None:
    snac.save_pretrained(tmp_path / "mine")
    with pytest.raises(TypeError, match=r"it holds a SNAC \(snac_24khz\), not a Mimi"):
        Mimi.from_pretrained(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"'nowhere at all' is neither a folder that exists nor a repository"):
        BaseCodec.from_pretrained("nowhere at all")
    with pytest.raises(FileNotFoundError, match=r"someone/else: config\.json of someone/else was refused"):
        BaseCodec.from_pretrained("someone/else")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"empty: config\.json and model\.safetensors of save_pretrained are not"
    ):
        BaseCodec.from_pretrained(tmp_path / "empty")
    config = tmp_path / "mine" / "config.json"
    for change, said in (
        ({"codec": "snac_99khz"}, "no codec"),
        ({"codec": 3}, "names no codec of codeczoo"),
        ({"family": "dac"}, "of the family 'dac' there and 'snac' here"),
        ({"network": {"sample_rate": "fast"}}, "network.sample_rate must be int"),
    ):
        changed = {**json.loads(config.read_text()), **change}
        place = tmp_path / str(len(str(change)))
        snac.save_pretrained(place)
        (place / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=said):
            BaseCodec.from_pretrained(place)
