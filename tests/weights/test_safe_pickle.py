"""No code from a checkpoint ever runs, and everything that is not code is read as torch reads it."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codeczoo.weights.safe_pickle import (
    LEGACY_MAGIC,
    LEGACY_PROTOCOL,
    Opaque,
    UnsafeCheckpointError,
    read_pickle,
    tensors_of,
)

# -- making files ---------------------------------------------------------------------------------


class Calling:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __call__(self) -> None:
        """Only callables can stand for what is called."""

    def __reduce__(self) -> tuple:
        return self.what


def in_zip(program: bytes, path: Path) -> Path:
    """A torch zip file around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", sys.byteorder)
        archive.writestr("archive/version", "3\n")
    return path


def in_legacy(program: bytes, path: Path) -> Path:
    """A file of torch's form before zip around a pickle."""
    machine = {"protocol_version": LEGACY_PROTOCOL, "little_endian": sys.byteorder == "little", "type_sizes": {}}
    head = b"".join(pickle.dumps(part, protocol=2) for part in (LEGACY_MAGIC, LEGACY_PROTOCOL, machine))
    path.write_bytes(head + program + pickle.dumps([], protocol=2))
    return path


def in_tar(program: bytes, path: Path) -> Path:
    """A file of torch's first form: a tar archive."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            ("storages", pickle.dumps(0, protocol=2) + pickle.dumps([], protocol=2)),
            ("tensors", pickle.dumps(0, protocol=2)),
            ("pickle", program),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def bare(program: bytes, path: Path) -> Path:
    path.write_bytes(program)
    return path


FORMS = [in_zip, in_legacy, in_tar, bare]


def text(value: str) -> bytes:
    """The instruction that pushes a string."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def calling(module: str, name: str, *arguments: str, stack: bool = False) -> bytes:
    """A pickle that calls a name, dots and all, with strings; by GLOBAL or by STACK_GLOBAL."""
    mention = text(module) + text(name) + b"\x93" if stack else f"c{module}\n{name}\n".encode()
    return b"\x80\x04" + mention + b"(" + b"".join(text(a) for a in arguments) + b"tR."


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists only once some code has run."""
    return tmp_path / "code-has-run"


# -- attacks --------------------------------------------------------------------------------------

# Each does run when it is unpickled in the ordinary way; the second value is what the error must name.
RUNNING: dict[str, tuple[Callable[[str], Any], str]] = {
    "os.system": (lambda m: Calling(os.system, f"touch {m}"), "system"),
    "eval": (lambda m: Calling(eval, f"open({m!r}, 'w').close()"), "eval"),
    "exec": (lambda m: Calling(exec, f"open({m!r}, 'w').close()"), "exec"),
    "subprocess": (lambda m: Calling(subprocess.check_call, ["touch", m]), "refused: it names "),
    "open": (lambda m: Calling(open, m, "w"), "open"),
    "getattr": (
        lambda m: Calling(Calling(getattr, Calling(__import__, "os"), "system"), f"touch {m}"),
        "getattr",
    ),
    "torch.hub": (
        lambda m: Calling(partial(torch.hub.load, str(Path(m).parent), "model", source="local")),
        "torch.hub.load",
    ),
    "as a factory": (lambda m: collections.defaultdict(list, {0: Calling(os.system, f"touch {m}")}), "system"),
    "deep inside": (lambda m: {"state_dict": {"weight": [1, (2, Calling(os.system, f"touch {m}"))]}}, "system"),
    "as an attribute": (
        lambda m: Calling(
            torch._utils._rebuild_parameter_with_state,
            torch.zeros(1),
            False,
            {},
            {"a": Calling(os.system, f"touch {m}")},
        ),
        "",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", RUNNING)
def test_nothing_that_a_pickle_names_is_run(
    attack: str, protocol: int, form: Callable, tmp_path: Path, marker: Path
) -> None:
    (tmp_path / "hubconf.py").write_text(f"def model(): open({str(marker)!r}, 'w').close()\n")
    make, named = RUNNING[attack]
    program = pickle.dumps(make(str(marker)), protocol=protocol)
    path = form(program, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt") as caught:
        read_pickle(path)
    assert not marker.exists()
    if form is not in_tar and named:
        assert isinstance(caught.value, UnsafeCheckpointError)
        assert named in str(caught.value), "the error says what was refused"


@pytest.mark.parametrize("attack", RUNNING)
def test_the_attacks_are_real(attack: str, tmp_path: Path, marker: Path) -> None:
    """What the test above refuses does run in the ordinary way."""
    (tmp_path / "hubconf.py").write_text(f"def model(): open({str(marker)!r}, 'w').close()\n")
    pickle.loads(pickle.dumps(RUNNING[attack][0](str(marker))))
    assert marker.exists()


@pytest.mark.parametrize("form", [in_zip, in_legacy])
@pytest.mark.parametrize("stack", [False, True], ids=["GLOBAL", "STACK_GLOBAL"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("nt", "system"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("torch", "load"),
        ("torch", "os.system"),
        ("torch", "_dynamo"),  # torch imports some of its parts when they are asked for
        ("torch.hub", "load"),
        ("torch.jit", "load"),
        ("torch._utils", "_import_dotted_name"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "os.system"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.storage", "UntypedStorage.from_file"),
        ("torch", "FloatStorage.from_file"),
        ("torch", "float32.__class__"),
        ("torch", "serialization.EvilStorage"),
        ("torch", "EvilStorage"),
        ("torch.serialization", "_get_layout.__globals__"),
        ("collections", "OrderedDict.__init__"),
        ("collections", "namedtuple"),
        ("builtins", "dict.fromkeys"),
        ("functools", "reduce"),
        ("operator", "attrgetter"),
        ("codeczoo.weights.safe_pickle", "read_pickle"),
        ("numpytest", "run"),
        ("typing_extensions.evil", "run"),
    ],
)
def test_other_names_are_refused(module: str, name: str, stack: bool, form: Callable, tmp_path: Path) -> None:
    path = form(calling(module, name, "x", stack=stack), tmp_path / "checkpoint.pt")
    with pytest.raises(UnsafeCheckpointError, match="refused") as caught:
        read_pickle(path)
    assert f"{module}.{name}" in str(caught.value)


def test_settings_are_marks_and_their_modules_stay_unimported(tmp_path: Path, marker: Path) -> None:
    """Names of frameworks that checkpoints mention are let pass, because they are only names here."""
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra" / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        for module, name in (
            ("hydra._internal", "instantiate"),
            ("numpy.testing._private.utils", "runstring"),
            ("pathlib", "Path.touch"),
        ):
            got = read_pickle(in_zip(calling(module, name, str(marker)), tmp_path / "checkpoint.pt"))
            assert got == Opaque(f"{module}.{name}")
    finally:
        sys.path.remove(str(tmp_path))
    assert not marker.exists()
    assert "hydra" not in sys.modules


def test_attributes_are_never_set(tmp_path: Path) -> None:
    """BUILD writes into an object's attributes: on a function or a class it would change torch for all."""
    before = dict(vars(torch._utils._rebuild_tensor_v2)), torch._utils._rebuild_tensor_v2.__defaults__
    for target in ("ctorch._utils\n_rebuild_tensor_v2\n", "ctorch\nFloatStorage\n", "ctorch\nSize\n"):
        state = b"N}" + text("__defaults__") + b"Ns\x86"  # (None, {"__defaults__": None}): set as slots
        with pytest.raises(ValueError, match="attributes for Name"):
            read_pickle(in_zip(b"\x80\x02" + target.encode() + state + b"b.", tmp_path / "checkpoint.pt"))
    assert (dict(vars(torch._utils._rebuild_tensor_v2)), torch._utils._rebuild_tensor_v2.__defaults__) == before

    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "an attribute"  # type: ignore[attr-defined]
    torch.save({"w": parameter}, tmp_path / "attributes.pt")
    read = read_pickle(tmp_path / "attributes.pt")["w"]
    assert torch.equal(read, torch.ones(2))
    assert not hasattr(read, "note")


def storage_of(kind: str, key: str, size: int, dtype: str = "FloatStorage") -> bytes:
    """The instructions that push a tensor [size] of a storage."""
    saved = (
        b"("
        + text(kind)
        + f"ctorch\n{dtype}\n".encode()
        + text(key)
        + text("cpu")
        + b"J"
        + struct.pack("<i", size)
        + b"tQ"
    )
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + saved
        + b"K\x00J"
        + struct.pack("<i", size)
        + b"\x85K\x01\x85\x89}tR."
    )


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (storage_of("storage", "0", 1000), "storage 0 should have 1000 values"),
        (storage_of("storage", "0", -5), "not a whole torch checkpoint"),
        (storage_of("storage", "../../outside", 1), "outside"),
        (storage_of("module", "0", 4), "a reference to 'module'"),
        (storage_of("storage", "0", 4, "EvilStorage"), "torch.EvilStorage"),
        (storage_of("storage", "0", 4).replace(b"K\x00J", b"K\x03J"), "out of bounds"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.", "a tensor of int"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x01\x89}tR.", "a parameter of int"),
        (b"\x80\x02K\x01)R.", "a call of int"),
        (b"\x80\x02]K\x01a", "cut short|exhausted|no end"),
        (b"\x80\x02t.", "not a whole torch checkpoint"),
        (b"\x80\x02.", "not a whole torch checkpoint"),
        (b"\x80\x02\x82\x01.", "EXT1"),
    ],
)
def test_made_up_programs_are_refused(program: bytes, match: str, tmp_path: Path) -> None:
    path = in_zip(program, tmp_path / "checkpoint.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
    with pytest.raises(ValueError, match=match):
        read_pickle(path)


def test_torchscript_and_packages_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather export
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)), tmp_path / "script.pt")
    with pytest.raises(UnsafeCheckpointError, match=r"script\.pt.*TorchScript"):
        read_pickle(tmp_path / "script.pt")
    from torch.package import PackageExporter

    with PackageExporter(str(tmp_path / "package.pt")) as exporter:
        exporter.save_pickle("model", "model.pkl", {"w": 1})
    with pytest.raises(UnsafeCheckpointError, match=r"package\.pt.*torch\.package"):
        read_pickle(tmp_path / "package.pt")


# -- what is read ---------------------------------------------------------------------------------


def as_training_leaves_it(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A checkpoint with all that frameworks leave in it."""
    omegaconf = types.ModuleType("omegaconf.dictconfig")

    class DictConfig:
        def __init__(self) -> None:
            self._content = {"lr": 1e-3}

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    omegaconf.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", omegaconf)

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimiser.step()
    base = torch.arange(24.0).reshape(2, 3, 4)
    return {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimiser.state_dict()],
        "views": {"whole": base, "part": base[1].t(), "same": base},
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "types": {str(t): torch.ones(2, 3).to(t) for t in (torch.float64, torch.float16, torch.bfloat16, torch.int64,
                  torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64)},
        "empty": torch.zeros(1, 0, 256),
        "scalar": torch.tensor(2.5),
        "hyper_parameters": DictConfig(),
        "namespace": argparse.Namespace(a=1),
        "path": pathlib.PurePosixPath("a/b"),
        "numpy": {"scalar": np.float64(3), "array": np.arange(5), "state": np.random.RandomState(0).get_state()},
        "random": random.getstate(),
        "torch_rng": torch.get_rng_state(),
        "counts": collections.Counter("aab"),
        "default": collections.defaultdict(list, a=[1]),
        "ordered": collections.OrderedDict(z=1, a=2),
        "sets": [{1, 2}, frozenset([3])],
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "bytes": b"abc",
        "plain": {"epoch": 3, "loss": 0.5, "flag": True, "none": None, "text": "é", "big": 1 << 80,
                  "tuple": (1, 2, 3, 4)},
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_reads_what_torch_reads(zipped: bool, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training.ckpt"
    saved = as_training_leaves_it(monkeypatch)
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    truth = torch.load(path, weights_only=False)
    read = read_pickle(path)

    got, expected = tensors_of(read), tensors_of(truth)
    assert list(got) == list(expected)
    for key, tensor in expected.items():
        assert got[key].dtype == tensor.dtype, key
        assert torch.equal(got[key], tensor), key
    assert read["plain"] == truth["plain"]
    assert (read["size"], read["dtype"], read["counts"]) == ((1, 2), torch.float16, {"a": 2, "b": 1})
    assert (list(read["ordered"].items()), read["default"]) == ([("z", 1), ("a", 2)], {"a": [1]})
    for name in ("hyper_parameters", "namespace", "path", "device"):
        assert isinstance(read[name], Opaque)
    assert isinstance(read["numpy"]["array"], Opaque)
    assert type(read["default"]) is dict, "its factory is gone"


def test_tensors_may_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(1000)}, path)
    before = path.read_bytes()
    read = read_pickle(path)["w"]
    read += 1
    assert float(read.sum()) == 1000
    assert path.read_bytes() == before


def test_a_compressed_archive_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(1000.0)}, tmp_path / "stored.pt")
    with zipfile.ZipFile(tmp_path / "stored.pt") as stored, zipfile.ZipFile(tmp_path / "packed.pt", "w") as packed:
        for info in stored.infolist():
            packed.writestr(info.filename, stored.read(info), zipfile.ZIP_DEFLATED)
    assert torch.equal(read_pickle(tmp_path / "packed.pt")["w"], torch.arange(1000.0))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_an_error(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(as_training_leaves_it(monkeypatch), whole, _use_new_zipfile_serialization=zipped)
    data = whole.read_bytes()
    for size in range(0, len(data), len(data) // 100):
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.pt: not a whole torch checkpoint"):
            read_pickle(cut)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of strings that were damaged
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_damaged_files_are_read_or_refused(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred files with a few wrong bytes: never anything but a value or a ValueError."""
    path = tmp_path / "damaged.pt"
    torch.save(as_training_leaves_it(monkeypatch), path, _use_new_zipfile_serialization=zipped)
    data = bytearray(path.read_bytes())
    r = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = data.copy()
        for _ in range(r.randint(1, 4)):
            damaged[r.randrange(min(len(damaged), 6000))] = r.randrange(256)
        path.write_bytes(damaged)
        try:
            read_pickle(path)
        except ValueError:
            refused += 1
    assert refused > 50
