"""The benchmark: read, encode, decode, measure, write; whatever fails is named, and the rest goes on."""

from __future__ import annotations

import logging
import math
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from codeczoo.base.audio import Audio, stack
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import choose_device
from codeczoo.base.registry import load_codec
from codeczoo.base.variant import find_variant
from codeczoo.bench.plan import Batch, plan_batches
from codeczoo.bench.reading import Read, read_ahead
from codeczoo.bench.results import FORMAT, Results, audio_name, write_atomically
from codeczoo.bench.sources import Source, open_source
from codeczoo.bench.summary import summarise
from codeczoo.metrics import DEFAULT_METRICS, evaluate, metric_names
from codeczoo.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers of a run depend on, and where it is written."""

    codecs: tuple[str, ...]
    dataset: str | None = None
    metrics: tuple[str, ...] = tuple(DEFAULT_METRICS)
    batch: int = 200
    max_batch_seconds: float | None = None  # of audio with padding; None = by device
    out: str = "results"
    device: str | None = None
    precision: str = "exact"
    weights: Mapping[str, str] = field(default_factory=dict)  # codec → file, folder or "random"
    limit: int | None = None
    shuffle: bool = False
    seed: int = 0
    workers: int = 2
    metric_workers: int | None = None
    save_audio: bool = False
    overwrite: bool = False
    progress: bool = True

    def of_record(self) -> dict[str, Any]:
        """What must be equal for a run to go on where it stopped: all that numbers depend on."""
        free = ("codecs", "out", "workers", "metric_workers", "save_audio", "overwrite", "progress")
        return {key: value for key, value in jsonable(asdict(self)).items() if key not in free}


def run_benchmark(settings: Settings) -> dict[str, Any]:
    """Run (or go on with) a benchmark; returns its summary, which also lies in `settings.out`.

    Raises:
        KeyError: an unknown codec or metric, before anything runs.
        FileNotFoundError, ValueError: a data set or settings that cannot be used.
    """
    for name in settings.codecs:
        find_variant(name)
    unknown = sorted(set(settings.metrics) - set(metric_names()))
    if unknown:
        raise KeyError(f"unknown metrics: {', '.join(unknown)}; known: {', '.join(metric_names())}")
    source = open_source(settings.dataset, limit=settings.limit, shuffle=settings.shuffle, seed=settings.seed)
    device = choose_device(settings.device)
    seconds = settings.max_batch_seconds or {"cuda": 1200.0}.get(device.type, 120.0)
    batches = list(plan_batches(source, settings.batch, seconds))
    clips = sum(len(batch.entries) for batch in batches)
    with Results(settings.out) as results:
        results.settle(settings.of_record(), settings.overwrite)
        codecs = [
            load_codec(name, settings.weights.get(name), device=device, precision=settings.precision)
            for name in settings.codecs
        ]
        results.write_run(
            {
                "format": FORMAT,
                "protocol": "zoo",
                "settings": settings.of_record(),
                "codecs": {codec.name: describe(codec) for codec in codecs},
                "clips": clips,
                "versions": versions(),
                "environment": environment(device),
            }
        )
        run = _Run(settings, results, codecs, source, clips)
        run.over(batches)
        summary = summarise(results, [codec.name for codec in codecs], settings.metrics, clips)
        write_atomically(results.folder / "timing.json", jsonable(run.timing()))
        return summary


class _Run:
    """One pass over the batches."""

    def __init__(
        self, settings: Settings, results: Results, codecs: Sequence[BaseCodec], source: Source, clips: int
    ) -> None:
        self.settings, self.results, self.codecs, self.source = settings, results, codecs, source
        self.seconds = {codec.name: {"audio": 0.0, "encode": 0.0, "decode": 0.0, "metrics": 0.0} for codec in codecs}
        self.clips = clips
        self.started = time.perf_counter()

    def over(self, batches: Sequence[Batch]) -> None:
        todo = [batch for batch in batches if any(self._missing(batch, codec) for codec in self.codecs)]
        total = self.clips * len(self.codecs)
        have = sum((codec.name, e.id) in self.results.done for b in batches for e in b.entries for codec in self.codecs)
        bar = tqdm(total=total, initial=have, unit="clip", disable=not self.settings.progress, smoothing=0.1)
        with bar:
            for batch, reads in read_ahead(self.source, todo, self.settings.workers):
                for codec in self.codecs:
                    if self._missing(batch, codec):
                        bar.set_description(codec.name)
                        rows = list(self._batch(batch, reads, codec))
                        fresh = sum((codec.name, row["id"]) not in self.results.done for row in rows)
                        self.results.add(rows)
                        bar.update(fresh)

    def _missing(self, batch: Batch, codec: BaseCodec) -> bool:
        return any((codec.name, entry.id) not in self.results.done for entry in batch.entries)

    def _batch(self, batch: Batch, reads: Sequence[Read], codec: BaseCodec) -> Iterable[dict[str, Any]]:
        """All clips of a batch through one codec: rows in the batch's order."""
        failed = {read.entry.id: ("read", read.failure) for read in reads if read.failure is not None}
        good = [read for read in reads if read.failure is None]
        rows: dict[str, dict[str, Any]] = {}
        counts: list[dict[int, int]] = []
        # A file may differ from its header, so what was read decides who can share a tensor.
        for group in _alike(good):
            for part, codes, audio, failures in self._code(codec, group):
                failed |= failures
                if codes is None:
                    continue
                rows |= self._measure(codec, part, codes, audio)
                _count(counts, codes)
        self.results.write_statistics(codec.name, batch.index, counts)
        for read in reads:
            base = {
                "codec": codec.name,
                "id": read.entry.id,
                "path": read.entry.origin,
                "category": read.entry.category,
            }
            if read.entry.id in failed:
                stage, reason = failed[read.entry.id]
                yield {**base, "status": "failed", "stage": stage, "reason": reason}
            else:
                yield {**base, "status": "ok", **rows[read.entry.id]}

    def _code(
        self, codec: BaseCodec, reads: list[Read]
    ) -> Iterable[tuple[list[Read], Codes | None, Audio | None, dict[str, tuple[str, str]]]]:
        """Encode and decode together; when that fails, in halves down to the clip whose fault it is."""
        stage = "encode"
        original = stack([read.waveform for read in reads if read.waveform is not None], reads[0].sample_rate)
        try:
            audio = None
            began = _clock(codec.device)
            codes = codec.encode(original)
            encoded = _clock(codec.device)
            stage = "decode"
            if codec.supports_decode:
                audio = codec.restore(codec.decode(codes), original)
            decoded = _clock(codec.device)
        except (RuntimeError, ValueError, ArithmeticError, LookupError, OSError) as error:
            if codec.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(reads) > 1:
                log.info("%s: %s on %d clips; going on in halves", codec.name, type(error).__name__, len(reads))
                for half in (reads[: len(reads) // 2], reads[len(reads) // 2 :]):
                    yield from self._code(codec, half)
            else:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
                yield reads, None, None, {reads[0].entry.id: (stage, reason)}
            return
        spent = self.seconds[codec.name]
        spent["audio"] += float(original.seconds.sum())
        spent["encode"] += encoded - began
        spent["decode"] += decoded - encoded
        yield reads, codes, audio, {}

    def _measure(
        self, codec: BaseCodec, reads: Sequence[Read], codes: Codes, audio: Audio | None
    ) -> dict[str, dict[str, Any]]:
        original = stack([read.waveform for read in reads if read.waveform is not None], reads[0].sample_rate)
        began = time.perf_counter()
        values: dict[str, Tensor] = {}
        reasons: Mapping[str, Sequence[str | None]] = {}
        if audio is not None:
            scores = evaluate(
                original.to(codec.device),
                audio.to(torch.float32),
                metrics=list(self.settings.metrics),
                num_workers=self.settings.metric_workers,
            )
            values, reasons = {name: scores[name] for name in self.settings.metrics}, scores.reasons
        self.seconds[codec.name]["metrics"] += time.perf_counter() - began
        seconds, bits, tokens = original.seconds, codes.num_bits, codes.counts.sum(1)
        out = {}
        for i, read in enumerate(reads):
            if audio is not None and self.settings.save_audio:
                folder = self.results.folder / "audio" / codec.name
                folder.mkdir(parents=True, exist_ok=True)
                audio[i].save(folder / audio_name(read.entry.id))
            measured = {name: float(values[name][i]) for name in values}
            out[read.entry.id] = {
                "seconds": float(seconds[i]),
                "sample_rate": read.sample_rate,
                "channels": original.channels,
                "bits": float(bits[i]),
                "bitrate": float(bits[i] / seconds[i]),
                "tokens": int(tokens[i]),
                "metrics": {name: number(value) for name, value in measured.items()},
                "undefined": {name: reasons[name][i] for name in values if math.isnan(measured[name])},
            }
        return out

    def timing(self) -> dict[str, Any]:
        """All that depends on the clock: of this sitting alone, when a run was continued."""
        out: dict[str, Any] = {"seconds": time.perf_counter() - self.started, "codecs": {}}
        for name, spent in self.seconds.items():
            audio = spent["audio"]
            out["codecs"][name] = {
                **spent,
                "encode_rtf": spent["encode"] / audio if audio else None,
                "decode_rtf": spent["decode"] / audio if audio else None,
            }
        out["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        if torch.cuda.is_available():
            out["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
        return out


def _alike(reads: Sequence[Read]) -> Iterable[list[Read]]:
    """Groups of one rate and channel count, in order."""
    groups: dict[tuple[int, int], list[Read]] = {}
    for read in reads:
        assert read.waveform is not None
        groups.setdefault((read.sample_rate, len(read.waveform)), []).append(read)
    return groups.values()


def _count(counts: list[dict[int, int]], codes: Codes) -> None:
    """Add how often each code of each codebook occurs."""
    mask = codes.mask
    for k in range(codes.num_codebooks):
        if k == len(counts):
            counts.append({})
        values, times = codes.codes[:, k][mask[:, k]].unique(return_counts=True)
        for value, n in zip(values.tolist(), times.tolist(), strict=True):
            counts[k][value] = counts[k].get(value, 0) + n


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def number(value: float) -> float | str | None:
    """A float as JSON has it: NaN is null, infinities are words."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def jsonable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): jsonable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [jsonable(value) for value in tree]
    return str(tree) if isinstance(tree, Path) else tree


def describe(codec: BaseCodec) -> dict[str, Any]:
    """What a reader of the results must know of a codec."""
    info = asdict(codec.info)
    return jsonable(
        {
            **info,
            "weights_hash": codec.weights_hash,
            "weights_source": codec.weights_source,
            "precision": codec.precision,
            "dtype": str(codec.dtype),
        }
    )


def versions() -> dict[str, str]:
    names = ("torch", "numpy", "soundfile", "pesq", "praat-parselmouth", "safetensors", "huggingface_hub")
    out = {"codeczoo": __version__, "python": platform.python_version()}
    for name in names:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def environment(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }
