"""How many GPU-hours, cores, bytes and files a data set takes, from measured rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from perf.scale.rates import Rates

MEMORY_FOR_LIST = 8e9  # bytes of a process that may hold the list of its clips


@dataclass(frozen=True)
class Work:
    """What is to be tokenised, and on what.

    Attributes:
        hours: of audio; clip_seconds: of a clip.
        codec, precision: as `rates.encode` takes them.
        gpus: that work side by side; gpus_per_node: of them, on a machine.
        audio: form of the audio, as `rates.audio` takes it.
        shard_clips: clips in a shard of tokens.
        listing: how the data set is named: "folder", "csv", "tar" or "parquet".
        gpu_price, storage_price: of a GPU-hour, and of a TB a month, in the reader's own money.
    """

    hours: float = 1e6
    codec: str = "mimi"
    precision: str = "exact"
    gpus: int = 64
    gpus_per_node: int = 8
    audio: str = "flac 24 kHz mono"
    clip_seconds: float = 10.0
    shard_clips: int = 1000
    listing: str = "tar"
    gpu_price: float | None = None
    storage_price: float | None = None

    def __post_init__(self) -> None:
        for name in ("hours", "gpus", "gpus_per_node", "clip_seconds", "shard_clips"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; it is {getattr(self, name)}")


class Row(NamedTuple):
    """One figure of a plan: `value` in `unit`, and the formula that it came by."""

    name: str
    value: float
    unit: str
    how: str


def plan(work: Work, rates: Rates) -> Iterator[Row]:
    """The figures of a plan.

    Raises:
        KeyError: a rate that was not measured.
    """
    rate, audio, local = rates.encode(work.codec, work.precision), rates.audio(work.audio), rates.local
    seconds = work.hours * 3600
    clips = seconds / work.clip_seconds
    shards = math.ceil(clips / work.shard_clips)
    gpu_hours = work.hours / rate
    yield Row("GPU-hours", gpu_hours, "GPU h", f"{work.hours:,.0f} h / {rate:,.0f}")
    yield Row("time, all GPUs busy", gpu_hours / work.gpus, "h", f"GPU-hours / {work.gpus}")

    core_rate = audio["core_rate"]
    yield Row("decoding", work.hours / core_rate, "core h", f"hours / {core_rate:,.0f} audio-hours a core-hour")
    yield Row("readers a GPU", rate / core_rate, "cores", f"{rate:,.0f} / {core_rate:,.0f}")
    host = _host_seconds(work, rates) * rate / work.clip_seconds
    yield Row("main process of a GPU", host, "cores", "headers, taking clips over, writing tokens: must stay below 1")
    yield Row("audio", seconds * audio["bytes_per_second"] / 1e12, "TB", f"{audio['bytes_per_second']:,.0f} B/s")
    yield Row("reading, a GPU", rate * audio["bytes_per_second"] / 1e6, "MB/s", "rate × bytes a second of audio")
    total = work.gpus * rate * audio["bytes_per_second"] / 1e9
    yield Row("reading, all GPUs", total, "GB/s", f"× {work.gpus}")

    sizes = rates.tokens(work.codec)
    for form, size in sizes.items():
        yield Row(f"tokens as {form}", seconds * size / 1e12, "TB", f"{size:,.1f} B/s")
    yield Row("clips", clips, "clips", f"of {work.clip_seconds:g} s")
    yield Row("shards", shards, "shards", f"of {work.shard_clips} clips; two files each")

    listing = {row["form"]: row for row in local["listing"]}[work.listing]
    held = clips * listing["bytes_per_clip"]
    yield Row(
        f"list of clips ({work.listing})", held / 1e9, "GB", f"{listing['bytes_per_clip']:,.0f} B a clip, each process"
    )
    yield Row(
        "time to list",
        clips * listing["us_per_clip"] / 3.6e9,
        "core h",
        f"{listing['us_per_clip']:.1f} µs a clip, each process",
    )
    yield Row(
        "runs to split it into",
        max(1, math.ceil(held / MEMORY_FOR_LIST)),
        "runs",
        f"a list of {MEMORY_FOR_LIST / 1e9:.0f} GB at most",
    )
    lost = work.shard_clips * work.clip_seconds / rate / 2
    yield Row("lost when a process dies", lost, "GPU s", "half a shard of tokens")
    resume = local["resume"]
    again = resume["start_seconds"] + resume["us_per_shard"] * shards / work.gpus / 1e6
    yield Row(
        "resume, without the list", again, "core s", f"start and {resume['us_per_shard']:.0f} µs for each of its shards"
    )
    driver = 1e6 / _driver_us(rates)
    yield Row(
        "GPUs that one Ray driver feeds",
        driver * work.clip_seconds / rate,
        "GPUs",
        f"{driver:,.0f} clips a core-second",
    )
    if work.gpu_price is not None:
        yield Row("cost of GPUs", gpu_hours * work.gpu_price, "money", "GPU-hours × price")
    if work.storage_price is not None:
        for form, size in sizes.items():
            cost = seconds * size / 1e12 * work.storage_price
            yield Row(f"cost of tokens as {form}", cost, "money a month", "TB × price")


def _host_seconds(work: Work, rates: Rates) -> float:
    """Core-seconds of the main process for a clip: those of a clip, and those of its length."""
    host = rates.local["host"]
    each = host["header_us"] + host["take_over_us"] + host["write_us"]["safetensors"]
    return each / 1e6 + work.clip_seconds * host["take_over_us_per_second"] / 1e6


def _driver_us(rates: Rates) -> float:
    """Core-microseconds of a Ray driver for a clip: its header, its result, its tokens."""
    host = rates.local["host"]
    return host["header_us"] + host["result_us"] + host["write_us"]["safetensors"]


def table(rows: Iterator[Row]) -> str:
    """A plan as a Markdown table."""
    lines = ["| figure | value | unit | how |", "|---|--:|---|---|"]
    lines += [f"| {row.name} | {_short(row.value)} | {row.unit} | {row.how} |" for row in rows]
    return "\n".join(lines)


def _short(value: float) -> str:
    """Three digits, or all in front of the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
