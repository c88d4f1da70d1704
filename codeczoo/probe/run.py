"""Probe codecs: encode a data set, count, and say what the counts show."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from codeczoo.base.catalogue import codec_info, find_variant
from codeczoo.data.batching import plan_batches
from codeczoo.data.source import Source
from codeczoo.executor.engine import check_engine, engine_device, start_executor
from codeczoo.executor.job import BatchTask
from codeczoo.executor.rank import Rank
from codeczoo.executor.record import jsonable
from codeczoo.executor.settings import batch_seconds
from codeczoo.metrics.codes import CodeStatistics
from codeczoo.probe.agreement import Agreement
from codeczoo.probe.information import miller_madow, mutual_information
from codeczoo.probe.job import ProbedClip, ProbeJob
from codeczoo.probe.ngram import WittenBell
from codeczoo.probe.sample import HELD_OUT, ClipSample
from codeczoo.probe.settings import ProbeSettings

PROBE_FORMAT = "codeczoo-probe-1"

log = logging.getLogger(__name__)


def probe(settings: ProbeSettings, source: Source | None = None) -> dict[str, Any]:
    """Statistics of the codes of a data set, codec by codec; plain values, for `results.write_probe` and for JSON.

    Memory does not grow with the data set: codes are counted as they come, and kept of a sample of clips alone.

    Args:
        source: a data set of your own; None = that of the settings.

    A codec whose weights cannot be had is named in `unavailable`, with the reason, and the others go on.

    Raises:
        KeyError: an unknown codec; ValueError: one whose codes have no frames; FileNotFoundError: no such data set, or
            no codec's weights can be had.
    """
    settings = replace(settings, codecs=tuple(dict.fromkeys(find_variant(name).name for name in settings.codecs)))
    check_settings(settings)
    rank = Rank()
    check_engine(settings, rank)
    with engine_device(settings, rank) as device:
        seconds = batch_seconds(settings.max_batch_seconds, device)
        settings = replace(settings, device=str(device), max_batch_seconds=seconds)
        source = source or settings.open_source()
        results, unavailable = each_codec(
            settings.codecs, lambda name: _probe_codec(replace(settings, codecs=(name,)), source)
        )
    runs = [{key: result.pop(key) for key in ("versions", "environment")} for result in results]
    return jsonable(
        {
            "format": PROBE_FORMAT,
            "dataset": {"name": source.name, **source.facts()},
            "settings": {key: value for key, value in settings.of_record().items() if key not in ("codecs", "shard")},
            "changes": settings.changes(),
            **runs[0],
            "unavailable": unavailable,
            "codecs": results,
        }
    )


def each_codec(
    names: Sequence[str], work: Callable[[str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The results of the codecs whose weights are there, and by name why those of others are not.

    Raises:
        FileNotFoundError: none are.
    """
    results, unavailable = [], {}
    for name in names:
        try:
            results.append(work(name))
        except FileNotFoundError as error:
            log.warning("%s", error)
            unavailable[name] = str(error)
    if not results:
        raise FileNotFoundError("; ".join(unavailable.values()))
    return results, unavailable


def check_settings(settings: ProbeSettings) -> None:
    """Raises a ValueError for what cannot be probed."""
    without = [name for name in settings.codecs if codec_info(name).frame_rate is None]
    if without:
        raise ValueError(
            f"{', '.join(without)}: their codes are the bytes of a compressed file, which are no frames and have "
            "nothing to probe; leave them out"
        )
    for name in ("snr", "gain"):
        if not math.isfinite(value := getattr(settings, name)):
            raise ValueError(f"{name} must be a finite number of dB; it is {value}")
    check_codebooks(settings.codecs, settings.num_codebooks)
    for name, least in (("order", 1), ("shift", 1), ("repeats", 0), ("shuffles", 1), ("sample_frames", HELD_OUT)):
        if (value := getattr(settings, name)) < least:
            raise ValueError(f"{name} must be at least {least}; it is {value}")


def check_codebooks(names: Sequence[str], count: int | None) -> None:
    """Raises a ValueError that names the codecs with fewer codebooks."""
    few = {name: info.max_codebooks for name in names if (info := codec_info(name)).max_codebooks < (count or 0)}
    if few:
        told = ", ".join(f"{name} has {most}" for name, most in few.items())
        raise ValueError(f"num_codebooks={count} was asked for, and {told}")


def _probe_codec(settings: ProbeSettings, source: Source) -> dict[str, Any]:
    """One codec over the whole data set."""
    executor = start_executor(ProbeJob(source, settings), settings, Path(settings.out))
    description = executor.describe()
    counted = _Counted(settings, description["codec"])
    assert settings.max_batch_seconds is not None
    tasks: Iterator[BatchTask] = map(BatchTask, plan_batches(source, settings.batch, settings.max_batch_seconds))
    (name,) = settings.codecs
    with tqdm(total=source.count, unit="clip", desc=name, disable=not settings.progress) as bar:
        for batch in executor.run(tasks):
            for clip in batch.clips:
                counted.add(clip)
            counted.failed += batch.failed
            bar.update(len(batch.clips) + sum(failure["stage"] in ("read", "encode") for failure in batch.failed))
    return {**description, **counted.summary()}


class _Counted:
    """What is counted of one codec, clip by clip."""

    def __init__(self, settings: ProbeSettings, codec: dict[str, Any]) -> None:
        self.settings, self.codec = settings, codec
        count = codec["num_codebooks"]
        sizes, strides = tuple(codec["codebook_sizes"][:count]), tuple(codec["strides"])
        self.statistics = CodeStatistics(sizes, codec["frame_rate"], strides)
        self.sample = ClipSample(sizes, strides, settings.sample_frames)
        self.agreements: dict[str, Agreement] = {name: Agreement(count) for name in settings.changes()}
        if codec["supports_decode"]:
            for i in range(1, settings.repeats + 1):
                self.agreements |= {f"{name}-{i}": Agreement(count) for name in ("first", "previous")}
        self.clips, self.seconds = 0, 0.0
        self.failed: list[dict[str, str]] = []

    def add(self, clip: ProbedClip) -> None:
        codes = torch.from_numpy(clip.codes)[None]
        self.statistics.update(codes)
        self.sample.add(clip.id, clip.codes)
        for name, counts in clip.equal.items():
            self.agreements[name].add(clip.id, *counts)
        for name, reason in clip.left_out.items():
            self.agreements[name].leave_out(reason)
        self.clips += 1
        self.seconds += clip.seconds

    def summary(self) -> dict[str, Any]:
        summary = self.statistics.summary()
        codebooks = self._codebooks()
        random = str(self.codec.get("weights_source") or "").startswith("random")
        return {
            "name": self.codec["name"],
            "random_weights": random,
            "clips": self.clips,
            "seconds": self.seconds,
            "frames": summary.frames,
            "failed": self.failed,
            "reason": summary.reason,
            "nominal_bitrate": summary.nominal_bitrate,
            "entropy_bitrate": _number(summary.entropy_bitrate),
            "corrected_bitrate": self._corrected_bitrate(codebooks),
            "codebooks": codebooks,
            "stability": self._stability(),
            "mutual_information": self._mutual_information(),
            "ngram": self._ngram(),
        }

    def _codebooks(self) -> list[dict[str, Any]]:
        rows = []
        levels = self.statistics.summary().levels
        for k, (level, counts) in enumerate(zip(levels, self.statistics.counts, strict=True)):
            total = int(counts.sum())
            share = counts.double() / max(total, 1)
            rows.append(
                {
                    "codebook": k,
                    "codes": total,
                    **{key: _number(value) for key, value in asdict(level).items()},
                    "entropy_bits_miller_madow": _number(
                        min(miller_madow(level.entropy_bits, level.used, total), math.log2(level.size))
                    ),
                    "dead": level.size - level.used,
                    # What as many codes would leave out, were all entries as likely.
                    "dead_if_even": level.size * (1 - 1 / level.size) ** total if level.size > 1 else 0.0,
                    "equal_by_chance": float((share * share).sum()) if total else None,
                }
            )
        return rows

    def _corrected_bitrate(self, codebooks: Sequence[Mapping[str, Any]]) -> float | None:
        """Bit/s, every code at its codebook's corrected entropy."""
        rates = [self.codec["frame_rate"] / stride for stride in self.statistics.strides]
        bits = [row["entropy_bits_miller_madow"] for row in codebooks]
        return None if None in bits else sum(map(operator.mul, rates, bits))

    def _stability(self) -> dict[str, Any]:
        """By name of a change; and of re-encoding, a list with an entry for each repetition."""
        found: dict[str, Any] = {name: self.agreements[name].to_dict() for name in self.settings.changes()}
        if not self.codec["supports_decode"]:
            return {**found, "reencode": [], "reencode_reason": "no_decoder"}
        repetitions = range(1, self.settings.repeats + 1)
        found["reencode"] = [
            {"repetition": i, **{name: self.agreements[f"{name}-{i}"].to_dict() for name in ("first", "previous")}}
            for i in repetitions
        ]
        return {**found, "reencode_reason": None}

    def _mutual_information(self) -> dict[str, Any]:
        sizes = self.sample.sizes
        pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
        rows = []
        hidden = not self.settings.progress or not pairs
        for i, j in tqdm(pairs, desc="mutual information", unit="pair", disable=hidden, leave=False):
            first, second = self.sample.pair(i, j)
            found = mutual_information(first, second, sizes[j], self.settings.shuffles, self.settings.seed)
            rows.append({"first": i, "second": j, **{key: _number(value) for key, value in vars(found).items()}})
        reason = "no_frames" if not self.sample.frames else "one_codebook" if not pairs else None
        return {**self._sampled(), "shuffles": self.settings.shuffles, "pairs": rows, "reason": reason}

    def _ngram(self) -> dict[str, Any]:
        """Bits a code of held-out clips, by order and codebook; of order 0 all entries are as likely."""
        sizes, strides, order = self.sample.sizes, self.sample.strides, self.settings.order
        held_out = len(self.sample.split(0)[1])
        train = len(self.sample) - held_out
        head = {**self._sampled(), "train_clips": train, "test_clips": held_out, "smoothing": "Witten-Bell"}
        if not held_out:
            return {**head, "orders": [], "reason": "too_few_clips" if len(self.sample) else "no_frames"}
        bits = np.empty((order + 1, len(sizes)))
        codes = []
        hidden = not self.settings.progress
        for k in tqdm(range(len(sizes)), desc="n-grams", unit="codebook", disable=hidden, leave=False):
            learnt, tested = self.sample.split(k)
            model = WittenBell(learnt, sizes[k], order)
            bits[:, k] = math.log2(sizes[k]), *-model.log2_probabilities(tested).mean(axis=1)
            codes.append({"train": sum(map(len, learnt)), "test": sum(map(len, tested))})
        per_frame = (bits / np.array(strides)).sum(axis=1)
        rows = [
            {
                "order": n,
                "bits_per_frame": float(per_frame[n]),
                "bits_per_second": float(per_frame[n]) * self.codec["frame_rate"],
                "bits": bits[n].tolist(),
                "perplexity": (2 ** bits[n]).tolist(),
            }
            for n in range(order + 1)
        ]
        return {**head, "codes": codes, "orders": rows, "reason": None}

    def _sampled(self) -> dict[str, Any]:
        sample = self.sample
        return {"clips": len(sample), "frames": sample.frames, "whole": sample.complete and not sample.cut}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
