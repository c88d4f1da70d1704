"""`.czt` files: what is written is read, by our readers and by the one in the docs; damage is found."""

from __future__ import annotations

import io
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeczoo.czt import CztClip, CztError, CztHeader, CztIndex, CztWriter, Model, read_czt, write_czt
from codeczoo.czt.chunks import DATA, ChunkReader, varint

ROOT = Path(__file__).parent.parent.parent
SHAPES = [  # codebook sizes, strides
    ((1024,) * 8, ()),
    ((4375,), ()),
    ((65536, 1, 2, 3), ()),
    ((4096,) * 4, (8, 4, 2, 1)),
    ((1,), (1,)),
    ((2**31 + 5, 256), (3, 2)),
]


def make(seed: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[CztHeader, list[CztClip]]:
    """Clips of many lengths, with codes that are unequally likely."""
    rng = np.random.default_rng(seed)
    header = CztHeader("some", 24000, sizes, 12.5, strides, "random, seed 0", {"voice": 4096})
    clips = []
    for i, frames in enumerate([0, 1, 7, 1023, 1024, 1025, int(rng.integers(1, 5000))]):
        rows = [
            np.minimum(rng.geometric(min(8 / size, 0.9), size=n) - 1, size - 1)
            for size, n in zip(sizes, header.counts(frames), strict=True)
        ]
        side = (
            {"scale": rng.random(i, np.float32), "voice": rng.integers(0, 4096, (2, 3)).astype(np.int16)} if i else {}
        )
        samples = int(rng.integers(-1, 10**12))
        clips.append(CztClip(rows, frames, samples, f"clip/ü {i}", "speech" if i % 2 else None, side))
    return header, clips


def write(header: CztHeader, clips: list[CztClip], entropy: bool | None = None) -> bytes:
    file = io.BytesIO()
    write_czt(file, header, clips, entropy)
    return file.getvalue()


def as_plain(clip: CztClip) -> tuple[Any, ...]:
    side = {name: (value.dtype.name, value.shape, value.tolist()) for name, value in clip.side_info.items()}
    return clip.id, clip.category, clip.frames, clip.num_samples, [row.tolist() for row in clip.rows], side


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 7))


@pytest.mark.parametrize("entropy", [False, True, None])
@pytest.mark.parametrize(("sizes", "strides"), SHAPES)
def test_what_is_written_is_read(sizes: tuple[int, ...], strides: tuple[int, ...], entropy: bool | None) -> None:
    header, clips = make(len(sizes), sizes, strides)
    if entropy and max(sizes) > 2**20:
        with pytest.raises(ValueError, match="1048576 entries are the most"):
            write(header, clips, entropy)
        return
    content = write(header, clips, entropy)
    for source in (io.BytesIO(content), Pipe(content)):
        read = list(read_czt(source))
        assert all(found == header for found, _ in read)
        assert [as_plain(clip) for _, clip in read] == [as_plain(clip) for clip in clips]
    assert write(header, clips, entropy) == content, "equal codes give equal bytes"


def test_files_end_to_end_are_one_file() -> None:
    first, second = make(1, *SHAPES[0]), make(2, *SHAPES[3])
    content = write(*first, entropy=True) + write(*second)
    read = list(read_czt(io.BytesIO(content)))
    assert [header for header, _ in read] == [first[0]] * len(first[1]) + [second[0]] * len(second[1])
    assert [as_plain(clip) for _, clip in read] == [as_plain(clip) for clip in first[1] + second[1]]
    assert len(CztIndex(io.BytesIO(content))) == len(read)


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize(("sizes", "strides"), SHAPES[:4])
def test_a_stretch_is_read_alone(sizes: tuple[int, ...], strides: tuple[int, ...], entropy: bool) -> None:
    header, clips = make(3, sizes, strides)
    index = CztIndex(io.BytesIO(write(header, clips, entropy)))
    step, rng = math.lcm(*header.strides), np.random.default_rng(0)
    assert [clip.frames for clip in index.clips] == [clip.frames for clip in clips]
    for number, clip in enumerate(clips):
        assert as_plain(index.read(number)) == as_plain(clip)
        for _ in range(5):
            start = int(rng.integers(0, clip.frames // step + 1)) * step
            stop = int(rng.integers(start, clip.frames + 1))
            part = index.read(number, start, stop)
            for row, whole, stride in zip(part.rows, clip.rows, header.strides, strict=True):
                assert row.tolist() == whole[start // stride : -(-stop // stride) if stop > start else 0].tolist()
    with pytest.raises(ValueError, match=r"has the frames 0 to 7.*; 0 to 8 were asked for"):
        index.read(2, 0, 8)
    if step > 1:
        with pytest.raises(ValueError, match=f"in steps of {step}"):
            index.read(3, 1, 8)


def test_only_the_blocks_of_a_stretch_are_read() -> None:
    """Damage elsewhere in the clip does not matter to a stretch."""
    header, clips = make(4, *SHAPES[0])
    content = bytearray(write(header, clips[-2:], False))
    blocks = [part.offset for part in ChunkReader(io.BytesIO(bytes(content))) if part.kind == DATA]
    content[blocks[0] + 100] ^= 1
    index = CztIndex(io.BytesIO(bytes(content)))
    assert index.read(0, 1024).rows[0].tolist() == clips[-2].rows[0][1024:].tolist()
    with pytest.raises(CztError, match="damaged"):
        index.read(0, 1023)


def test_a_clip_comes_frame_by_frame() -> None:
    header, clips = make(5, *SHAPES[3])
    clip, file = clips[-1], io.BytesIO()
    with CztWriter(file, header) as writer:
        writer.start(CztClip((), -1, id="live"))
        for start in range(0, clip.frames, 8):
            stop = min(start + 8, clip.frames)
            writer.append(
                [row[start // s : -(-stop // s)] for row, s in zip(clip.rows, header.strides, strict=True)],
                stop - start,
            )
        writer.end(num_samples=123)
    (_, read), *none = read_czt(io.BytesIO(file.getvalue()))
    assert not none and read.num_samples == 123 and read.id == "live"
    assert [row.tolist() for row in read.rows] == [row.tolist() for row in clip.rows]
    assert CztIndex(io.BytesIO(file.getvalue())).read(0).rows[3].tolist() == clip.rows[3].tolist()


@pytest.mark.parametrize(("sizes", "strides"), SHAPES[:4])
def test_the_reader_in_the_docs_reads_them(tmp_path: Path, sizes: tuple[int, ...], strides: tuple[int, ...]) -> None:
    text = (ROOT / "docs" / "czt.md").read_text("utf-8")
    (code,) = re.findall(r'^```python title="read_czt.py"\n(.*?)^```', text, flags=re.DOTALL | re.MULTILINE)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 100
    assert set(re.findall(r"^(?:import|from) (.*)", code, flags=re.MULTILINE)) == {"json, math, zlib", "numpy as np"}
    names: dict[str, Any] = {}
    exec(code, names)
    header, clips = make(6, sizes, strides)
    for entropy in (False, True):
        path = tmp_path / f"{entropy}.czt"
        path.write_bytes(write(header, clips, entropy) + write(header, clips[:3], None))
        read = list(names["read_czt"](path))
        for (facts, id, rows, samples, side), clip in zip(read, clips + clips[:3], strict=True):
            assert facts["codec"] == "some" and (id, samples) == (clip.id, clip.num_samples)
            assert [row.tolist() for row in rows] == [row.tolist() for row in clip.rows]
            assert {k: v.tolist() for k, v in side.items()} == {k: v.tolist() for k, v in clip.side_info.items()}
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        path.write_bytes(bytes(damaged))
        with pytest.raises(AssertionError, match="damaged"):
            list(names["read_czt"](path))


@pytest.mark.parametrize(("size", "rate"), [(1024, 75), (1024, 50), (2048, 12.5), (16384, 40), (64, 86)])
def test_entropy_coded_blocks_are_near_the_bound(size: int, rate: float) -> None:
    """10 s, by a model that was fitted elsewhere: 2% above the codes' information, and two bytes for the last word."""
    rng = np.random.default_rng(size)
    draw = lambda n: np.minimum(rng.geometric(20 / size, size=n) - 1, size - 1)  # noqa: E731
    model = Model.fit([draw(200_000)] * 4, (size,) * 4)
    rows = [draw(int(10 * rate)) for _ in range(4)]
    assert len(model.encode(rows)) <= 1.02 * model.bits(rows) / 8 + 2
    assert [row.tolist() for row in model.decode(model.encode(rows), [len(r) for r in rows])] == [
        r.tolist() for r in rows
    ]


def test_a_model_is_kept_only_where_it_pays() -> None:
    rng = np.random.default_rng(0)
    header = CztHeader("some", 16000, (1024,))
    likely = [CztClip([np.minimum(rng.geometric(0.1, size=9000), 1023)], 9000)]
    even = [CztClip([rng.integers(0, 1024, 9000)], 9000)]
    assert len(write(header, likely)) == len(write(header, likely, True)) < 0.6 * len(write(header, likely, False))
    assert write(header, even) == write(header, even, False)


def test_bad_codes_are_refused_by_the_writer() -> None:
    header = CztHeader("some", 16000, (10, 20), strides=(2, 1))
    writer = CztWriter(io.BytesIO(), header)
    with pytest.raises(ValueError, match="a codebook of 10 entries has no code 3 or 10"):
        writer.write(CztClip([np.array([3, 10]), np.arange(4)], 4))
    with pytest.raises(ValueError, match=r"4 frames have \[2, 4\] codes; there are \[2, 3\]"):
        writer.write(CztClip([np.array([3, 4]), np.arange(3)], 4))
    with pytest.raises(TypeError, match="'gain' is of type complex128"):
        writer.write(CztClip([np.zeros(0, int)] * 2, 0, side_info={"gain": np.zeros(1, complex)}))
    with pytest.raises(ValueError, match="a model of codebooks"):
        CztWriter(io.BytesIO(), header, Model.fit([np.arange(3)], (5,)))


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """The content with one damage: cut, a bit turned, bytes replaced, taken out, doubled, or two chunks exchanged."""
    kind, data = int(rng.integers(6)), bytearray(content)
    first, last = sorted(int(i) for i in rng.integers(0, len(data), 2))
    if kind == 0:
        return bytes(data[:first])
    if kind == 1:
        data[first] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data[first : first + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 3:
        del data[first : last + 1]
    elif kind == 4:
        data[last:last] = data[first : last + 1]
    else:
        ends = [part.offset for part in ChunkReader(io.BytesIO(content))] + [len(content)]
        a, b = sorted(int(i) for i in rng.integers(0, len(ends) - 1, 2))
        pieces = [content[i:j] for i, j in pairwise(ends)]
        pieces[a], pieces[b] = pieces[b], pieces[a]
        return b"".join(pieces)
    return bytes(data)


def check_damages(seed: int, count: int) -> None:
    """Every damaged file gives its own codes or an error that says what is wrong. A whole section that is cut out, or
    doubled, leaves a whole file."""
    rng = np.random.default_rng(seed)
    header, clips = make(seed, *SHAPES[seed % 4])
    clips = [clip for clip in clips if clip.frames < 1100]
    wholes = [write(header, clips, False), write(header, clips[:4], True) + write(header, clips[:2], False)]
    plain = [[as_plain(clip) for _, clip in read_czt(io.BytesIO(whole))] for whole in wholes]
    errors = 0
    for i in range(count):
        content = damaged(rng, wholes[i % 2])
        for read in (lambda file: [clip for _, clip in read_czt(file)], _all_of_index):
            try:
                found = [as_plain(clip) for clip in read(io.BytesIO(content))]
            except CztError:
                errors += 1
            else:
                assert found in (plain[i % 2], plain[i % 2][:4], plain[i % 2][-2:]), "wrong codes without a word"
    assert errors > 1.6 * count


def _all_of_index(file: io.BytesIO) -> list[CztClip]:
    index = CztIndex(file)
    return [index.read(i) for i in range(len(index))]


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_found(seed: int) -> None:
    check_damages(seed, 150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 30))
def test_damage_is_found_100_000_times(seed: int) -> None:
    check_damages(seed, 5000)


def test_a_crafted_file_takes_no_memory() -> None:
    """Lengths that a chunk announces are believed no further than its bytes."""
    head = b"CZT1" + varint(1 << 50) + b"{}"
    with pytest.raises(CztError, match="cut short"):
        list(read_czt(io.BytesIO(head)))
    for garbage, message in ((b"", "empty file"), (b"RIFF....", "no chunk begins"), (b"CZT1", "cut short")):
        with pytest.raises(CztError, match=message):
            list(read_czt(io.BytesIO(garbage)))
        with pytest.raises(CztError, match=message):
            CztIndex(io.BytesIO(garbage))
