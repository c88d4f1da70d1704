"""`tune`: a table of what was measured, which changes time alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codeczoo import load_codec, register_codec
from codeczoo.base import warn_once
from codeczoo.base.tuning import FORMAT, this_machine, tuning_file
from codeczoo.executor.tune import TuneSettings, forget, remember, tune
from tests.support.known_codecs import SINFUL, SINS, Sinful
from tests.support.registering import registered_for_a_while

CPU = torch.device("cpu")
BESIDE = {"seconds": 2.0, "beside": 2, "threads": 1, "tiles": 0.5}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "folder" / "tuning.json"
    monkeypatch.setenv("CODECZOO_TUNING", str(path))
    monkeypatch.setattr(warn_once, "_given", set())
    return path


def entry(**changes: Any) -> dict[str, Any]:
    own = {"codec": "zoo_16k", "operation": "encode", "precision": "exact", "threads": 2, "batch": 8, "seconds": 1.0}
    return {**own, "strategy": BESIDE, "took": 0.1, "rule_took": 0.2, **changes}


def result(*entries: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {"machine": {**this_machine(CPU), **machine}, "entries": list(entries), "left_out": []}


def test_what_is_measured_is_used_by_codecs_that_are_loaded(table: Path) -> None:
    settings = TuneSettings(
        codecs=("zoo_16k",), batches=(2,), seconds=(0.1,), threads=1, minutes=2, device="cpu", progress=False
    )
    found = tune(settings)
    assert torch.get_num_threads() == 2 and not found["left_out"]
    assert [(one["operation"], one["batch"], one["threads"]) for one in found["entries"]] == [
        ("encode", 2, 1),
        ("decode", 2, 1),
    ]
    assert all(0 < one["took"] <= one["rule_took"] for one in found["entries"])
    remember(found, table)
    remember(result(entry()), table)  # beside what is there
    assert len(json.loads(table.read_text())["tables"][0]["entries"]) == 3
    codec = load_codec("zoo_16k", device="cpu")
    chosen = codec.strategy(8, 1.0)
    assert (chosen.source, chosen.beside, chosen.tiles) == ("tuned", 2, 0.5)
    assert codec.strategy(13, 0.6).source == "tuned" and codec.strategy(17, 1.0).source == "rule"
    assert codec.strategy(8, 1.0, "decode").source == "rule"
    clips = [0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    tuned = codec.encode(clips, 16000)
    forget(["zoo_16k"], table)
    assert codec.strategy(8, 1.0).source == "rule"  # the file is read again
    assert torch.equal(codec.encode(clips, 16000).codes, tuned.codes)


def test_a_bound_of_the_caller_goes_before_the_table(table: Path) -> None:
    remember(result(entry(batch=4, seconds=2.0, strategy={**BESIDE, "seconds": 8.0})), table)
    codec = load_codec("zoo_16k", device="cpu", max_chunk_seconds=4.0)
    assert (codec.strategy(4, 2.0).seconds, codec.strategy(4, 2.0).beside) == (2.0, 2)
    torch.set_num_threads(1)
    assert codec.strategy(4, 2.0).source == "rule"  # it was measured with two threads


class Weighty(Sinful):
    """It tells how it was called, and has a weight."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weight = nn.Parameter(torch.zeros(()), requires_grad=False)


def test_what_changes_codes_is_never_chosen() -> None:
    assert {"batch size", "threads"} <= set(SINS)
    with registered_for_a_while():
        register_codec(SINFUL.replace("Sinful", "Weighty"), Weighty)
        settings = TuneSettings(
            codecs=("sinful",), batches=(4,), seconds=(1.0,), operations=("encode",), device="cpu", progress=False
        )
        (found,) = tune(settings)["entries"]
        # Groups of another size or on other threads give other codes here: only tiles may differ from the rule's way.
        assert found["strategy"] is None or found["strategy"]["beside"] == 2


def test_a_table_of_another_machine_or_torch_is_left_alone_and_said_once(table: Path) -> None:
    remember(result(entry(), torch="1.0"), table)
    codec = load_codec("zoo_16k", device="cpu")
    with pytest.warns(UserWarning, match=r"another machine or with another PyTorch .*PyTorch 1\.0.*`codeczoo tune`"):
        assert codec.strategy(8, 1.0).source == "rule"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.strategy(8, 1.0, "decode").source == "rule"
    remember(result(entry(), name="another CPU"), table)
    remember(result(entry()), table)
    assert codec.strategy(8, 1.0).source == "tuned"
    machines = [one["machine"] for one in json.loads(table.read_text())["tables"]]
    assert machines == [{**this_machine(CPU), "name": "another CPU"}, this_machine(CPU)]  # that of torch 1.0 went


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "it is not JSON"),
        ("[]", "its format is None"),
        (json.dumps({"format": FORMAT}), "damaged: 'tables' is missing"),
        (json.dumps({"format": FORMAT, "tables": 3}), "damaged: "),
        (json.dumps({"format": FORMAT, "tables": [result(entry(batch=-1))]}), "damaged: batch is -1"),
        (json.dumps({"format": FORMAT, "tables": [result(entry(codec=7))]}), "damaged: codec is 7"),
        (
            json.dumps({"format": FORMAT, "tables": [result(entry(strategy={"seconds": 1}))]}),
            "a strategy has 'seconds'",
        ),
        (
            json.dumps({"format": FORMAT, "tables": [result(entry(strategy={**BESIDE, "beside": "2"}))]}),
            "beside of a strategy is '2'",
        ),
        (
            json.dumps({"format": FORMAT, "tables": [result(entry(strategy={**BESIDE, "threads": None}))]}),
            "need threads=",
        ),
    ],
)
def test_a_damaged_table_is_said_and_not_used(table: Path, content: str, said: str) -> None:
    table.parent.mkdir()
    table.write_text(content)
    codec = load_codec("zoo_16k", device="cpu")
    with pytest.warns(UserWarning, match=said) as told:
        assert codec.strategy(8, 1.0).source == "rule"
    assert str(table) in str(told[0].message) and "built-in rule" in str(told[0].message)
    with pytest.raises(ValueError, match="`codeczoo tune --forget` removes it"):
        remember(result(entry()), table)
    forget([], table)
    assert not table.exists()


def test_where_the_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECZOO_TUNING", "off")
    assert tuning_file() is None
    monkeypatch.delenv("CODECZOO_TUNING")
    path = tuning_file()
    assert path is not None and path.parts[-2:] == ("codeczoo", "tuning.json")


def test_what_cannot_be_tuned_is_named() -> None:
    with pytest.raises(ValueError, match="opus_12k: there is no network to tune"):
        tune(TuneSettings(codecs=("opus_12k",)))
    with pytest.raises(ValueError, match="greater than zero"):
        tune(TuneSettings(codecs=("zoo_16k",), seconds=(0.0,)))
    with pytest.raises(KeyError, match="nothing"):
        tune(TuneSettings(codecs=("nothing",)))
