"""Codec-SUPERB's published table: the same distances on clips of its small data set, with its own choices."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeczoo.base.codec import BaseCodec
from codeczoo.benchmark.run import run_benchmark
from codeczoo.benchmark.settings import Settings
from codeczoo.verify.checks import Check
from codeczoo.verify.expected import Records, known

DATA = "voidful/codec-superb-tiny"  # 6,000 clips of speech, audio and music
PROTOCOL = "superb-2026-05"
CLIPS = 150  # one of each kind in turn
DISTANCES = ("mel", "stft")
TOLERANCE = 0.1  # relative, of a mean over 50 clips against that over 2,000


def published(codec: BaseCodec, records: Records = ()) -> Mapping[str, Mapping[str, float]] | None:
    """Scores by kind of sound, of a name of the same weights at the codec's number of codebooks."""
    own = next((record["superb"] for record in records if "superb" in record), None)
    if own is not None:
        return own
    table = known()["superb"]
    for name in codec.variant.same_weights:
        usual = codec.variant.second_names.get(name, {}).get("num_codebooks", codec.variant.num_codebooks)
        if name in table and usual in (None, codec.num_codebooks):
            return table[name]
    return None


def on_superb(
    codec: BaseCodec, records: Records, data: str | None, weights: str | Path | None, device: str
) -> Iterator[Check]:
    """The mean distances of each kind of sound, against the table."""
    table = published(codec, records)
    if table is None:
        yield Check.skipped("Codec-SUPERB", "this codec is not in its table")
        return
    if data is None:
        yield Check.skipped("Codec-SUPERB", f"--full was not given: {CLIPS} clips of {DATA}")
        return
    with tempfile.TemporaryDirectory(prefix="codeczoo-") as out:
        summary = run_benchmark(
            Settings(
                codecs=(codec.name,),
                dataset=data,
                protocol=PROTOCOL,
                metrics=tuple(f"superb/{name}" for name in DISTANCES),
                limit=CLIPS,
                weights={} if weights is None else {codec.name: str(weights)},
                device=device,
                out=out,
                progress=False,
            )
        )
    assert summary is not None, "of a single process"
    found: dict[str, Any] = summary["codecs"][codec.name]
    yield Check.of("Codec-SUPERB: clips", not found["failed"], f"{found['ok']} of {found['clips']} measured")
    kinds = {kind.lower(): scores for kind, scores in found.get("categories", {}).items()}
    for kind, theirs in table.items():
        if kind.lower() not in kinds:
            continue
        for name in DISTANCES:
            ours = kinds[kind.lower()][f"superb/{name}"]["mean"]
            right = abs(ours / theirs[name] - 1) <= TOLERANCE
            told = f"{ours:.3f} over {kinds[kind.lower()][f'superb/{name}']['count']} clips"
            yield Check.of(f"Codec-SUPERB: {name}, {kind}", right, told, f"{theirs[name]:.3f} within {TOLERANCE:.0%}")
