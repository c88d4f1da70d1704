"""Rows of a data set that hold audio or codes, through a `DataLoader`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from codeczoo import Audio, Codes, collate_rows, load_codec
from codeczoo.tokens import TokenSet
from tests.support.command_line import run, write_sound
from tests.support.sound import chirp

AUDIO = [Audio.of(chirp(n, 8000), 8000) for n in (300, 500, 100)]
CODES = [load_codec("g711_ulaw", device="cpu").encode(audio) for audio in AUDIO]


class Row(NamedTuple):
    id: str
    audio: Audio
    codes: Codes
    text: str | None


ROWS = [
    Row(str(i), audio, codes, None if i else "a") for i, (audio, codes) in enumerate(zip(AUDIO, CODES, strict=True))
]


def batch_of(rows: list[Any]) -> Any:
    (batch,) = DataLoader(rows, batch_size=len(rows), collate_fn=collate_rows)
    return batch


def test_audio_and_codes_become_a_ragged_batch() -> None:
    assert batch_of(AUDIO) == Audio.cat(AUDIO) and batch_of(CODES) == Codes.cat(CODES)
    assert batch_of(AUDIO).lengths.tolist() == [300, 500, 100]


def test_rows_keep_their_form() -> None:
    for rows in (ROWS, [row._asdict() for row in ROWS], [tuple(row) for row in ROWS]):
        batch = batch_of(rows)
        assert type(batch) is type(rows[0])
        ids, audio, codes, texts = batch.values() if isinstance(batch, dict) else batch
        assert (ids, texts) == (["0", "1", "2"], ["a", None, None])
        assert audio == Audio.cat(AUDIO) and codes == Codes.cat(CODES)


def test_numbers_and_tensors_are_as_torch_collates_them() -> None:
    rows = [{"n": i, "x": float(i), "t": torch.ones(2) * i, "a": np.ones(2) * i, "r": torch.ones(i)} for i in range(3)]
    batch = batch_of(rows)
    assert batch["n"].tolist() == [0, 1, 2] and batch["x"].tolist() == [0, 1, 2]
    assert batch["t"].shape == batch["a"].shape == (3, 2)
    assert [len(r) for r in batch["r"]] == [0, 1, 2], "tensors of different shapes stay apart"


def test_what_does_not_join_is_named() -> None:
    with pytest.raises(TypeError, match="Codes and NoneType"):
        collate_rows([{"codes": CODES[0]}, {"codes": None}])
    with pytest.raises(KeyError, match="different keys"):
        collate_rows([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="no rows"):
        collate_rows([])
    with pytest.raises(ValueError, match=r"sample rate \(\[8000, 16000\]\)"):
        collate_rows([AUDIO[0], AUDIO[0].resample(16000)])


def test_a_set_of_tokens_goes_through_a_data_loader(tmp_path: Path) -> None:
    for i in range(3):
        write_sound(tmp_path / "in" / f"{i}.wav", seconds=0.1 * (i + 1))
    assert run("tokenize", tmp_path / "in", "--codec", "g711_ulaw", "--device", "cpu", "--out", tmp_path / "out") == 0
    tokens = TokenSet(tmp_path / "out")
    (batch,) = DataLoader(tokens, batch_size=3, collate_fn=collate_rows)
    assert batch.id == [clip.id for clip in tokens]
    assert batch.codes == Codes.cat([clip.codes for clip in tokens])
