"""Checkpoints of a few bytes that would take all time or memory: each is refused, and says why."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from codeczoo.weights.load import load_weights
from codeczoo.weights.safe_pickle import LEGACY_MAGIC, LEGACY_PROTOCOL
from tests.support.damage import bounded
from tests.support.tiny_codec import published, tiny
from tests.weights.test_safe_pickle import in_zip

MEMORY = 1 << 28  # bytes that reading a checkpoint of a few kB may take


def refused(weights: Any) -> str:
    with bounded(seconds=10, memory=MEMORY), pytest.raises(ValueError) as caught:
        load_weights(tiny(), weights)
    return str(caught.value)


def nested(levels: int, leaf: bytes, wrap: bytes) -> bytes:
    """A pickle in which each level holds the one below it twice, by reference."""
    program = b"\x80\x04" + leaf
    for level in range(levels):
        program += b"q" + bytes([level]) + wrap.replace(b"?", bytes([level]))
    return program + b"."


TWICE_IN_A_DICT = b"0}(U\x01ah?U\x01bh?u"  # {"a": it, "b": it}
TWICE_IN_A_TUPLE = b"0h?h?\x86"


def test_a_dict_that_doubles_with_each_level(tmp_path: Path) -> None:
    path = in_zip(nested(60, b"}U\x01wK\x01s", TWICE_IN_A_DICT), tmp_path / "w.pt")
    assert "its entries are nested without end" in refused(path)


def test_a_dict_that_is_in_itself_twice(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"w": torch.ones(2)}
    endless["a"] = endless["b"] = endless
    torch.save(endless, tmp_path / "w.pt")
    assert "w.pt: its entries are nested without end" in refused(tmp_path / "w.pt")
    assert "its entries are nested without end" in refused(endless)


@pytest.mark.parametrize("make", [b"}h\x1eK\x01s", b"}(h\x1eK\x01u", b"(h\x1eK\x01d"])
def test_a_key_that_takes_for_ever_to_hash(make: bytes, tmp_path: Path) -> None:
    program = nested(30, b"K\x01\x85", TWICE_IN_A_TUPLE)[:-1] + b"q\x1e0" + make + b"."
    assert "a dict with a key of type tuple" in refused(in_zip(program, tmp_path / "w.pt"))


def test_pairs_that_take_for_ever_to_hash(tmp_path: Path) -> None:
    program = nested(30, b"K\x01\x85", TWICE_IN_A_TUPLE)[:-1] + b"q\x1e0"
    program += b"ccollections\nOrderedDict\n](h\x1eK\x01\x86e\x85R."
    assert "a dict with a key of type tuple" in refused(in_zip(program, tmp_path / "w.pt"))


def test_a_name_that_is_a_tree(tmp_path: Path) -> None:
    program = nested(30, b"K\x01\x85", TWICE_IN_A_TUPLE)[:-1] + b"U\x01a\x93."
    assert "a name of tuple and str" in refused(in_zip(program, tmp_path / "w.pt"))


def test_copies_of_copies(tmp_path: Path) -> None:
    items = b"](" + b"K\x01" * 20_000 + b"e"
    program = b"\x80\x04" + items + b"q\x00](" + b"c__builtin__\nlist\nh\x00\x85R" * 2000 + b"e."
    assert "its calls copy more than" in refused(in_zip(program, tmp_path / "w.pt"))


def test_a_storage_of_zeros_that_was_packed(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1 << 22)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "w.pt", "w") as packed:
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info), zipfile.ZIP_DEFLATED)
    assert "data/0 would grow from" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_tensor_that_is_one_number_many_times(zipped: bool, tmp_path: Path) -> None:
    tensors = {**published("transformers"), "encoder.layers.1.bias": torch.ones(1).expand(1 << 40)}
    torch.save(tensors, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert "a tensor of 1099511627776 values in a storage of 1" in refused(tmp_path / "w.pt")


def test_storages_that_the_file_does_not_have(tmp_path: Path) -> None:
    """Each would fit into it, all together would not."""
    padding = b"\x00" * (1 << 20)
    program = (
        b"\x80\x02]("
        + b"".join(
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x04\x00\x00\x00%04dU\x03cpuJ%sNtQ"
            % (i, struct.pack("<i", 1 << 18))
            for i in range(4000)
        )
        + b"e."
    )
    head = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}))
    (tmp_path / "w.pt").write_bytes(head + program + padding)
    assert "should have 262144 values; the file has" in refused(tmp_path / "w.pt")


def test_names_without_end(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"w": torch.ones(1)}
    for _ in range(100):
        tree = {"n" * 1000: tree}
    torch.save(tree, tmp_path / "w.pt")
    assert "nested without end (there is a name of" in refused(tmp_path / "w.pt")


def test_a_name_of_dots_alone() -> None:
    assert "does not fit" in refused({f"{i}.{'.' * 4000}w": torch.ones(1) for i in range(300)})


@pytest.mark.parametrize("settings", [[1, 2], "x", 3, {"width": [6]}])
def test_settings_of_another_kind(settings: Any) -> None:
    assert "tiny: a dict of tensors: " in refused({"state_dict": published("authors"), "kwargs": settings})
