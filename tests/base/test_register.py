"""Codecs of somebody else, registered in a running process."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codeczoo import codec_info, list_codecs, load_codec, register_codec
from codeczoo.base.catalogue import find_variant, registered
from codeczoo.cli import main
from codeczoo.codecs.g711 import G711
from tests.support.command_line import ENVIRONMENT
from tests.support.registering import registered_for_a_while
from tests.support.runs import rows_of
from tests.support.tiny_codec import VARIANT, TinyCodec

TOML = """
[family]
class = "Telephone"
code_licence = "MIT"
network = { law = "mu" }

[variants.telephone]
aliases = ["someone/telephone"]

[variants.telephone.second_names]
old_telephone = {}
"""


class Telephone(G711):
    """G.711 under another name."""


class Doorbell(G711):
    """Another one."""


@pytest.fixture(autouse=True)
def _afterwards() -> Iterator[None]:
    with registered_for_a_while():
        yield


@pytest.fixture(params=["text", "file", "table"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """The TOML in each form that `register_codec` takes."""
    if request.param == "file":
        (tmp_path / "telephone.toml").write_text(TOML)
        return tmp_path / "telephone.toml"
    return TOML if request.param == "text" else tomllib.loads(TOML)


def test_it_is_known_by_all_its_names(source: object) -> None:
    assert register_codec(source, Telephone) == ["telephone"]  # type: ignore[arg-type]
    assert "telephone" in list_codecs() and list_codecs("old_*") == ["telephone"]
    assert codec_info("someone/telephone").name == "telephone"
    info = codec_info("old_telephone")
    assert (info.name, info.also, info.family, info.code_licence) == (
        "old_telephone",
        ("telephone",),
        "telephone",
        "MIT",
    )
    codec = load_codec("telephone", device="cpu")
    assert type(codec) is Telephone
    audio = torch.linspace(-0.5, 0.5, 800)[None]
    assert torch.equal(codec.encode(audio, 8000).codes, load_codec("g711_ulaw", device="cpu").encode(audio, 8000).codes)


def test_a_variant_may_be_given_with_its_class() -> None:
    assert register_codec(VARIANT, TinyCodec) == ["tiny"]
    info = load_codec("tiny", "random", device="cpu").info
    assert replace(info, arithmetic=None) == codec_info("tiny")
    assert codec_info("tiny").parameters > 0


def test_it_is_benchmarked_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_codec(TOML, Telephone)
    out = tmp_path / "out"
    common = ["benchmark", "--limit", "2", "--metrics", "snr", "--out", str(out), "--quiet"]
    assert main([*common, "--codecs", "old_telephone", "g711_ulaw"]) == 0
    assert {row["codec"] for row in rows_of(out)} == {"old_telephone", "g711_ulaw"}
    assert main(["report", str(out), "--format", "csv"]) == 0
    assert "old_telephone" in capsys.readouterr().out


def test_the_class_is_named_where_there_are_several() -> None:
    two = TOML + '\n[variants.doorbell]\nclass = "Doorbell"\n[variants.other]\nclass = "codeczoo.codecs.g711:G711"'
    assert register_codec(two, [Telephone, Doorbell]) == ["telephone", "doorbell", "other"]
    kinds = [type(load_codec(name, device="cpu")) for name in ("telephone", "doorbell", "other")]
    assert kinds == [Telephone, Doorbell, G711]


@pytest.mark.parametrize(
    ("toml", "kinds", "error", "said"),
    [
        (TOML, [Doorbell], ValueError, "[variants.telephone]: class 'Telephone' is neither given nor module:Class"),
        (TOML, [], ValueError, "class 'Telephone' is neither given nor module:Class"),
        (TOML, [dict], TypeError, "a codec's class is a subclass of codeczoo.BaseCodec; this is <class 'dict'>"),
        (TOML.replace("law", "lore"), [Telephone], ValueError, "network.lore is no number of Telephone.Config"),
        (TOML.replace("class", "clas"), [Telephone], ValueError, "[family]: 'clas' is no key; did you mean 'class'?"),
        (TOML.replace("[family]", "[family"), [Telephone], ValueError, "register_codec: not TOML"),
        (TOML.replace("old_telephone", "mimi"), [Telephone], ValueError,
         "'mimi' is a name of telephone (register_codec) and of mimi (configs/mimi.toml)"),
        (TOML.replace("someone/telephone", "Facebook/Encodec_24khz"), [Telephone], ValueError,
         "is a name of telephone (register_codec) and of encodec_24k (configs/encodec.toml)"),
        (TOML.replace("old_telephone", "speech_tokenizer_16k"), [Telephone], ValueError,
         "'speech_tokenizer_16k' is a name of telephone (register_codec) and of speechtokenizer_16k"),
        (TOML.replace("variants.telephone", "variants.g711_ulaw"), [Telephone], ValueError,
         "'g711_ulaw' is a name of g711_ulaw (register_codec) and of g711_ulaw (configs/g711.toml)"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_told_and_leaves_nothing(
    toml: str, kinds: list[type], error: type[Exception], said: str
) -> None:
    before = list_codecs()
    for overwrite in (False, True):
        with pytest.raises(error, match=re.escape(said)):
            register_codec(toml, kinds, overwrite=overwrite)
    assert list_codecs() == before and not registered()
    with pytest.raises(KeyError):
        find_variant("telephone")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        register_codec(tmp_path / "nowhere.toml", Telephone)


def test_what_was_registered_may_be_replaced() -> None:
    register_codec(TOML, Telephone)
    with pytest.raises(ValueError, match=r"'telephone' is a name of telephone .* overwrite=True replaces it"):
        register_codec(TOML, Telephone)
    register_codec(
        TOML.replace("old_telephone", "new_telephone").replace("Telephone", "Doorbell"), Doorbell, overwrite=True
    )
    assert type(load_codec("new_telephone", device="cpu")) is Doorbell
    with pytest.raises(KeyError):
        load_codec("old_telephone")
    assert [variant.name for variant in registered()] == ["telephone"]


def test_the_processes_of_a_ray_cluster_know_it(tmp_path: Path) -> None:
    """What their driver sends makes it known there; here a fresh process stands for one of them."""
    actors = pytest.importorskip("codeczoo.executor.ray_actor")
    (tmp_path / "bell.py").write_text("from codeczoo.codecs.g711 import G711\n\nclass Bell(G711):\n    pass\n")
    code = f"""
        import pickle, sys
        sys.path.insert(0, {str(tmp_path)!r})
        settings = pickle.loads(sys.stdin.buffer.read())
        settings.apply(threads=1)
        settings.apply(threads=1)
        from codeczoo import load_codec
        print(type(load_codec("old_telephone", device="cpu")).__name__)
    """
    sys.path.insert(0, str(tmp_path))
    try:
        register_codec(TOML.replace('"Telephone"', '"bell:Bell"'))
        sent = pickle.dumps(actors.DriverSettings.here())
    finally:
        sys.path.remove(str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())],
        input=sent,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().split() == ["Bell"], done.stderr.decode()
