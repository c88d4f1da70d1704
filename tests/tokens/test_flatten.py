"""Codes as rows of tokens, and back: exact for every shape, in the orders that published models have."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codeczoo import Codes
from codeczoo.base.codes import PAD
from codeczoo.tokens import TokenLayout
from tests.support.command_line import ROOT, run, write_sound
from tests.support.small import codec_of
from tests.support.sound import chirp


def random_codes(frames: Sequence[int], sizes: Sequence[int], strides: Sequence[int] = (), seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    strides = strides or (1,) * len(sizes)
    codes = torch.full((len(frames), len(sizes), max(frames, default=0)), PAD)
    for b, length in enumerate(frames):
        for k, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
            count = -(-length // stride)
            codes[b, k, :count] = torch.randint(0, size, (count,), generator=generator)
    lengths = torch.tensor(list(frames), dtype=torch.int64)
    return Codes(codes, lengths, (lengths * 10 - 3).clamp(min=0), 1000, "made_up", tuple(sizes), 100.0, tuple(strides))


def row_by_loops(codes: Codes, b: int, delays: Sequence[int]) -> list[tuple[int, int, int]]:
    """(codebook, frame, code) in the order of the steps, by the definition."""
    length, out = int(codes.lengths[b]), []
    for step in range(length + max(delays)):
        for k, (stride, delay) in enumerate(zip(codes.strides, delays, strict=True)):
            n = step - delay
            if 0 <= n < length and n % stride == 0:
                out.append((k, n, int(codes.codes[b, k, n // stride])))
    return out


def shapes(count: int) -> list[tuple[int, dict[str, Any]]]:
    """Seeded layouts and ragged batches of all kinds."""
    out = []
    for seed in range(count):
        dice = random.Random(seed)
        codebooks = dice.randint(1, 6)
        strides = (
            [dice.choice([1, 1, 2, 3, 4, 8]) for _ in range(codebooks)] if dice.random() < 0.6 else [1] * codebooks
        )
        strides[dice.randrange(codebooks)] = 1
        sizes = [dice.choice([1, 2, 7, 256, 1024, 4096, 70000]) for _ in range(codebooks)]
        delays = [dice.randint(0, 9) for _ in range(codebooks)] if dice.random() < 0.5 else []
        around = dice.choice(
            [{}, {"begin": 3}, {"end": 4}, {"begin": 3, "end": 4}, {"begin": 3, "end": 4, "padding": 5}]
        )
        frames = [dice.choice([0, 1, 2, 5, dice.randint(1, 40)]) for _ in range(dice.randint(1, 4))]
        shape = {"frames": frames, "sizes": sizes, "strides": strides, "delays": delays, "around": around}
        shape |= {"offsets": dice.choice(["codebook", "slot", "none"]), "first_id": dice.choice([6, 100, 128266])}
        out.append((seed, shape))
    return out


@pytest.mark.parametrize(("seed", "shape"), shapes(150), ids=lambda value: f"{value}" if isinstance(value, int) else "")
def test_every_layout_is_exact_both_ways(seed: int, shape: dict[str, Any]) -> None:
    codes = random_codes(shape["frames"], shape["sizes"], shape["strides"], seed)
    layout = TokenLayout.of(
        codes, delays=shape["delays"], offsets=shape["offsets"], first_id=shape["first_id"], **shape["around"]
    )
    rows = layout.flatten(codes)
    assert layout.unflatten(rows, codes.num_samples) == codes
    bare = [row.tolist()[(layout.begin is not None) : len(row) - (layout.end is not None)] for row in rows]
    for b, row in enumerate(bare):
        order = row_by_loops(codes, b, shape["delays"] or [0] * codes.num_codebooks)
        assert len(row) == layout.row_length(shape["frames"][b]) == len(order)
        assert all(layout.first_id <= token <= layout._last for token in row)
        assert [layout.code_of(token)[1] for token in row] == [code for *_, code in order]
        if shape["offsets"] != "none":
            assert [layout.code_of(token)[0] for token in row] == [k for k, *_ in order]
    assert layout.unflatten(bare, codes.num_samples) == codes, "without the tokens around"
    if layout.padding is not None or layout.end is not None:
        ids, mask = layout.pad(rows)
        assert layout.unflatten(ids, codes.num_samples) == codes
        assert mask.sum(1).tolist() == [len(row) for row in rows]


@pytest.mark.parametrize("frames", [[8], [4, 0, 12], [1, 2, 3, 5, 7]])
def test_the_seven_of_orpheus(frames: list[int]) -> None:
    """Its own formula, backwards: of each 7 tokens, which level and which offset."""
    codes = random_codes(frames, (4096,) * 3, (4, 2, 1))
    layout = TokenLayout.of(codes, offsets="slot", first_id=128266)
    assert layout.slots == (0, 1, 2, 2, 1, 2, 2) and layout.vocabulary_size == 7 * 4096
    for b, row in enumerate(layout.flatten(codes)):
        levels: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for place, token in enumerate(row.tolist()):
            slot = place % 7
            level = {0: 0, 1: 1, 4: 1}.get(slot, 2)
            levels[level].append(token - 128266 - 4096 * slot)
        assert [codes.codebook(k)[b].tolist() for k in range(3)] == list(levels.values())


def test_the_delays_of_musicgen() -> None:
    codes = random_codes([5, 3], (2048,) * 4)
    layout = TokenLayout.of(codes, delays=range(4))
    grid, steps = layout.to_grid(codes)
    assert grid.shape == (2, 4, 8) and steps.tolist() == [8, 6]
    for b, length in enumerate((5, 3)):
        for k in range(4):
            own = codes.codes[b, k, :length].tolist()
            assert grid[b, k].tolist() == [2048] * k + own + [2048] * (8 - k - length)
    assert layout.from_grid(grid, steps, codes.num_samples) == codes
    assert layout.from_grid(grid[:1], num_samples=codes.num_samples[:1]) == codes[:1], "full items need no lengths"


@pytest.mark.parametrize("delays", [(0, 1, 1, 1), (0, 8, 9, 10), (3, 0, 2, 1), ()])
def test_grids_are_exact_both_ways(delays: tuple[int, ...]) -> None:
    codes = random_codes([9, 1, 4], (100, 200, 300, 40))
    layout = TokenLayout.of(codes, delays=delays)
    for empty in (None, 300, 5000, -1):
        grid, steps = layout.to_grid(codes, empty)
        assert layout.from_grid(grid, steps, codes.num_samples, empty=empty) == codes


@pytest.mark.parametrize("name", ["snac_24khz", "snac_32khz", "mimi", "encodec_24k", "bicodec"])
def test_what_a_codec_encodes_decodes_the_same_from_its_rows(name: str) -> None:
    codec = codec_of(name, "small", torch.float64)
    codes = codec.encode([chirp(n, codec.sample_rate).double() for n in (31000, 12345)], codec.sample_rate)
    layout = TokenLayout.of(codes, first_id=1000, begin=1, end=2)
    again = layout.unflatten(layout.pad(layout.flatten(codes))[0], codes.num_samples, codes.side_info)
    assert again == codes
    assert codec.decode(again) == codec.decode(codes)


@pytest.mark.parametrize("left", range(7))
def test_a_model_that_stops_within_a_frame(left: int) -> None:
    codec = codec_of("snac_24khz", "small", torch.float64)
    codes = codec.encode(chirp(24000, 24000).double(), 24000)
    layout = TokenLayout.of(codes, first_id=10)
    row = layout.flatten(codes)[0][: 7 * 5 + left]
    dropped = layout.unflatten([row], incomplete="drop")
    assert torch.equal(dropped.tensor, codes.frames(0, 20).tensor) and int(dropped.num_samples) == -1
    frames = {0: 20, 3: 21, 4: 22, 6: 23}.get(left)  # 0 1 2, 2, 1 2, 2
    if frames is None:
        with pytest.raises(ValueError, match=rf"row 0 stops within a frame: {len(row)} tokens are .*incomplete='drop'"):
            layout.unflatten([row])
    else:
        cut = layout.unflatten([row])
        assert int(cut.lengths) == frames
        assert all(
            torch.equal(cut.codebook(k)[0], codes.codebook(k)[0][:n]) for k, n in enumerate(cut.counts[0].tolist())
        )
        assert codec.decode(cut).lengths.tolist() == [frames * (codec.hop_length or 0)]


CODES = random_codes([6, 2], (16, 16, 8))
TREE = random_codes([4], (9, 9), (2, 1))


def rows_with(layout: TokenLayout, row: int, place: int, token: int) -> list[Tensor]:
    rows = layout.flatten(CODES)
    rows[row][place] = token
    return rows


PLAIN = TokenLayout.of(CODES, first_id=100)
WRONG: dict[str, tuple[Any, str]] = {
    "a token of text": (lambda: PLAIN.unflatten(rows_with(PLAIN, 1, 2, 99)),
                        "token 99 at place 2 of row 1 is of no code: these are 100 to 139"),
    "a token beyond": (lambda: PLAIN.unflatten(rows_with(PLAIN, 0, 0, 140)), "token 140 .* these are 100 to 139"),
    "another codebook's": (lambda: PLAIN.unflatten(rows_with(PLAIN, 0, 4, 135)),
                           "token 135 at place 4 of row 0 is code 3 of codebook 2; it is the turn of codebook 1"),
    "a token lost": (lambda: PLAIN.unflatten([PLAIN.flatten(CODES)[0][1:]]), "stops within a frame|turn of codebook 0"),
    "two tokens more": (lambda: PLAIN.unflatten([[100, 116, 132, 100, 116]]), "5 tokens are 1 frames and 2 tokens"),
    "a code too large": (lambda: TokenLayout.of(CODES, offsets="none").unflatten([[0, 0, 8]]),
                         "token 8 at place 2 of row 0 stands for code 8, .* the turn of codebook 2"),
    "a delayed row that was cut": (lambda: TokenLayout.of(CODES, delays=(0, 1, 2)).unflatten([[0]], incomplete="drop"),
                                   "a delayed row must be whole"),
    "no rows": (lambda: PLAIN.unflatten([]), "no rows"),
    "a row of floats": (lambda: PLAIN.unflatten([[0.5]]), r"row 0 must be whole numbers \[L\]; it is torch.float32"),
    "a row as a batch": (lambda: PLAIN.unflatten(torch.zeros(3, dtype=torch.int64)), r"row 0 must be .* \[\]"),
    "another codec": (lambda: PLAIN.flatten(random_codes([3], (16, 16))), "codebook_sizes"),
    "another order": (lambda: PLAIN.flatten(random_codes([4], (16, 16, 8), (2, 1, 1))), "strides"),
    "too few delays": (lambda: TokenLayout.of(CODES, delays=(0, 1)), "3 numbers of steps"),
    "a negative delay": (lambda: TokenLayout.of(CODES, delays=(0, 1, -1)), "numbers of steps"),
    "unknown offsets": (lambda: TokenLayout.of(CODES, offsets="level"), "'codebook', 'slot' or 'none'"),  # type: ignore[arg-type]
    "begin among codes": (lambda: TokenLayout.of(CODES, begin=3), "begin=3 is a token of codes, 0 to 39"),
    "begin as end": (lambda: TokenLayout.of(CODES, first_id=5, begin=3, end=3), "begin and end are the same token, 3"),
    "a negative first": (lambda: TokenLayout.of(CODES, first_id=-1), "first_id must be at least 0"),
    "no fast codebook": (lambda: TokenLayout.of(random_codes([4], (16, 16), (4, 2))), "a code for every frame"),
    "nothing to fill with": (lambda: PLAIN.pad(PLAIN.flatten(CODES)), "the layout has no padding"),
    "incomplete how": (lambda: PLAIN.unflatten([[0]], incomplete="keep"), "'error' or 'drop'"),  # type: ignore[arg-type]
    "code of text": (lambda: PLAIN.code_of(3), "token 3 is of no code"),
    "a grid of scales": (lambda: TokenLayout.of(TREE).to_grid(TREE), r"these have strides \(2, 1\)"),
    "a grid whose empty is a code": (lambda: PLAIN.to_grid(CODES, 15), "empty=15 is a code; choose 16 or more"),
    "a grid of two axes": (lambda: PLAIN.from_grid(torch.zeros(3, 5)), r"a grid is \[B, 3, S\]"),
    "a grid too short": (lambda: TokenLayout.of(CODES, delays=(0, 1, 2)).from_grid(torch.zeros(1, 3, 1)),
                         r"delays up to 2 .* \[1\]"),
    "a hole in a grid": (lambda: PLAIN.from_grid(torch.full((1, 3, 2), 16)),
                         "item 0 has the empty token 16 in codebook 0, step 0, where frame 0 needs a code of 0 to 15"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case: str) -> None:
    call, says = WRONG[case]
    with pytest.raises(ValueError, match=says):
        call()


def test_the_code_of_the_docs_runs(tmp_path: Path) -> None:
    """With seeded weights, on a set of tokens that is made here."""
    write_sound(tmp_path / "in" / "a.wav", seconds=0.5, rate=8000)
    write_sound(tmp_path / "speech.wav", seconds=0.5, rate=24000)
    assert (
        run("tokenize", tmp_path / "in", "--codec", "g711_ulaw", "--device", "cpu", "--out", tmp_path / "tokens") == 0
    )
    text = (ROOT / "docs" / "tokens.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    code = "\n".join(blocks).replace('"snac_24khz"', '"snac_24khz", weights="random"')
    code = code.replace('"tokens/"', repr(str(tmp_path / "tokens"))).replace(
        '"speech.wav"', repr(str(tmp_path / "speech.wav"))
    )
    exec(compile(code, "docs/tokens.md", "exec"), {})
