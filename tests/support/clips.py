"""Small clips, and data sets made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from torch import Tensor

from codeczoo.data.batching import Batch
from codeczoo.data.open import Entry, Source
from codeczoo.data.read import read_batch

AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def samples(seed: int, channels: int = 1, seconds: float = 0.5, rate: int = 16000) -> np.ndarray:
    """[T, C] float32: noise that 16 bits hold exactly."""
    noise = np.random.default_rng(seed).integers(-3000, 3000, (int(seconds * rate), channels))
    return (noise / 32768).astype(np.float32)


def wav(seed: int, channels: int = 1, seconds: float = 0.5, rate: int = 16000) -> bytes:
    """The same as a file."""
    file = io.BytesIO()
    sf.write(file, samples(seed, channels, seconds, rate), rate, "PCM_16", format="WAV")
    return file.getvalue()


def table(columns: Mapping[str, Sequence[Any]], *, audio: str = "audio", noted: bool = True) -> pa.Table:
    """A table with a column of encoded clips, `noted` as the datasets library notes it down."""
    arrays = {n: pa.array(v, AUDIO if n == audio else None) for n, v in columns.items()}
    made = pa.table(arrays)
    if noted:
        features = {
            n: {"_type": "Audio"} if n == audio else {"dtype": str(a.type), "_type": "Value"} for n, a in arrays.items()
        }
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return made


def parquet(made: pa.Table, rows_in_group: int = 2) -> bytes:
    """A table as a Parquet file."""
    file = io.BytesIO()
    pq.write_table(made, file, row_group_size=rows_in_group)
    return file.getvalue()


def clips(split: str, count: int, first: int = 0, **more: Sequence[Any]) -> pa.Table:
    """`count` rows with the ids `split-0`, `split-1` ... and other noise in each."""
    ids = [f"{split}-{i}" for i in range(count)]
    audio = [{"bytes": wav(first + i), "path": f"{i}.wav"} for i in range(count)]
    return table({"id": ids, "audio": audio, **more})


class Read(NamedTuple):
    """One clip as a reader gives it."""

    entry: Entry
    waveform: Tensor | None  # [C, T]
    sample_rate: int
    failure: str | None


def read_entry(source: Source, entry: Entry) -> Read:
    """One clip, through what reads whole batches."""
    batch = read_batch(source, Batch(0, (entry,), 0.0))
    if batch.failures:
        return Read(entry, None, 0, batch.failures[entry.id])
    (group,) = batch.groups
    return Read(entry, group.audio.waveform[0], group.audio.sample_rate, None)


def read_all(source: Source) -> list[Read]:
    """Every clip of a source, read and decoded."""
    return [read_entry(source, entry) for entry in source.entries()]
