"""`.nemo` archives: what is taken out of them, and what damaged or hostile ones are refused for."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codeczoo.codecs.formats.nemo_archive import read_nemo
from codeczoo.weights.safe_pickle import UnsafeCheckpointError
from tests.support.published import write_tar

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


def pickled(tree: object) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.tensor([1, 2], dtype=torch.int32)}
MEMBERS = {CONFIG: b"sample_rate: 22050\nparts: {a: [1, 2]}\n", WEIGHTS: pickled(TENSORS)}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the reader may write."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_settings_and_tensors(prefix: str, mode: str, tmp_path: Path, temporary: Path) -> None:
    others = {f"{prefix}vocabulary.txt": b"a b c", f"{prefix}parts/model_weights.ckpt": b"of another model"}
    archive = write_tar(tmp_path / "a.nemo", {**others, **{prefix + k: v for k, v in MEMBERS.items()}}, mode)
    tree = read_nemo(archive)
    assert tree["model_config"] == {"sample_rate": 22050, "parts": {"a": [1, 2]}}
    assert tree["model_weights"].keys() == TENSORS.keys()
    assert all(torch.equal(tree["model_weights"][key], value) for key, value in TENSORS.items())
    assert list(temporary.iterdir()) == []


def with_member(change: Callable[[tarfile.TarInfo], None], content: bytes = b"") -> Callable[[Path], None]:
    """An archive with one more member, whose header `change` has made."""

    def write(path: Path) -> None:
        write_tar(path, MEMBERS)
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("more")
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content) if content else None)

    return write


def link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.name = tarfile.SYMTYPE, "/etc/passwd", f"./{CONFIG}"


def hard_link_alone(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(CONFIG)
        info.type, info.linkname = tarfile.LNKTYPE, WEIGHTS
        archive.addfile(info)


def named(name: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.name = name

    return change


def members(**changed: bytes | None) -> Callable[[Path], object]:
    names = {"config": CONFIG, "weights": WEIGHTS}
    own = {**MEMBERS, **{names[key]: value for key, value in changed.items()}}
    return lambda path: write_tar(path, {name: value for name, value in own.items() if value is not None})


def said_size(size: int, name: str = WEIGHTS) -> Callable[[Path], None]:
    """A header that speaks of more (or fewer) bytes than there are."""

    def write(path: Path) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        header = info.tobuf(tarfile.GNU_FORMAT)
        config = tarfile.TarInfo(CONFIG)
        config.size = 3
        path.write_bytes(config.tobuf() + b"a: 1".ljust(512, b"\0") + header + bytes(2048))

    return write


def bomb(path: Path) -> None:
    write_tar(path, {**MEMBERS, "zeros": bytes(1 << 26)}, "w:gz")


REFUSED = {
    "above it": (with_member(named("../evil.txt"), b"x"), r"'\.\./evil\.txt' leads out of it"),
    "hidden above it": (with_member(named("a/../../evil.txt"), b"x"), "leads out of it"),
    "absolute": (with_member(named("/etc/evil.txt"), b"x"), "leads out of it"),
    "twice": (with_member(named(f"./{WEIGHTS}"), b"x"), f"there are two {WEIGHTS}"),
    "a link beside": (with_member(link), f"there are two {CONFIG}"),
    "a hard link": (hard_link_alone, f"its {CONFIG} is no plain file"),
    "no settings": (members(config=None), f"there is no {CONFIG} in it"),
    "no weights": (members(weights=None), f"there is no {WEIGHTS} in it"),
    "long settings": (members(config=b"a: " + b"x" * (1 << 18)), r"settings have \d+ at most"),
    "settings that are no table": (members(config=b"- 1\n- 2"), f"{CONFIG} holds list"),
    "settings that are no YAML": (members(config=b"a: [1"), "while parsing"),
    "settings that name code": (members(config=b"a: !!python/object/apply:os.getcwd []"), "python/object/apply"),
    "settings without end": (members(config=b"[" * 100000), f"{CONFIG} is nested more than 32 deep"),
    "settings by aliases": (members(config=b"a: &a [1]\nb: [*a, *a]"), "refers to itself by aliases"),
    "more said than there": (said_size(1 << 40), "the archive ends before|unexpected end"),
    "less than nothing": (said_size(-1024), "-1024 bytes|truncated|bad checksum|invalid"),
    "a bomb": (bomb, r"unpacked it has more than \d+ bytes"),
    "empty": (lambda path: path.write_bytes(b""), "empty|truncated"),
    "another form": (lambda path: path.write_bytes(MEMBERS[WEIGHTS]), ""),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str, tmp_path: Path, temporary: Path) -> None:
    write, said = REFUSED[kind]
    write(tmp_path / "a.nemo")
    with pytest.raises(ValueError, match=rf"a\.nemo: not a whole NeMo archive \(.*({said})"):
        read_nemo(tmp_path / "a.nemo")
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nemo", "temporary"]


class Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit",))


def test_a_pickle_that_names_code_is_refused(tmp_path: Path, temporary: Path) -> None:
    write_tar(tmp_path / "a.nemo", {**MEMBERS, WEIGHTS: pickled({"a": Evil()})})
    with pytest.raises(UnsafeCheckpointError, match=rf"a\.nemo, {WEIGHTS}: refused: it names \w+\.exec"):
        read_nemo(tmp_path / "a.nemo")
    assert list(temporary.iterdir()) == []
    write_tar(tmp_path / "b.nemo", {**MEMBERS, WEIGHTS: pickle.dumps({"a": 1})})
    with pytest.raises(ValueError, match=rf"b\.nemo, {WEIGHTS}: not a whole torch checkpoint"):
        read_nemo(tmp_path / "b.nemo")


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_a_file_cut_anywhere_or_with_bytes_changed_is_an_error_or_what_it_was(mode: str, tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.nemo", MEMBERS, mode).read_bytes()
    r, broken = random.Random(0), tmp_path / "b.nemo"
    for i in range(150):
        damaged = bytearray(whole)
        if i < 50:
            del damaged[r.randrange(len(whole)) :]
        else:
            for _ in range(r.randrange(1, 4)):
                damaged[r.randrange(len(whole))] = r.randrange(256)
        broken.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            assert set(read_nemo(broken)) == {"model_config", "model_weights"}
