"""Which strategy is fastest on this machine, by codec, batch size and clip length: measured, and kept in a table."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm import tqdm

from codeczoo.base.audio import Audio
from codeczoo.base.catalogue import codec_info, find_variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.device import choose_device, is_out_of_memory, seconds_now, torch_threads
from codeczoo.base.side_by_side import can_run_beside
from codeczoo.base.strategy import Strategy, by_rule, fitted, fixed_strategy
from codeczoo.base.tuning import FORMAT, KEYS, VARIABLE, read_tables, this_machine, tuning_file
from codeczoo.data.embedded import embedded_clips
from codeczoo.executor.record import write_atomically
from codeczoo.registry import load_codec

SMALL_SECONDS = 4.0  # of a group that is tried because it may stay in the caches
ROUNDS = 3  # of each strategy that is still in the race
BEHIND = 1.3  # one that took so many times the best's time in a round is left out of the next
WORTH = 1.03  # what a strategy must gain over the rule to take its place
SAME = 1e-4  # of the peak: the largest difference of decoded audio


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """What is measured.

    Attributes:
        codecs: their names. weights: by codec: file, folder or "random"; without one random ones: speed does not
            depend on them.
        batches: batch sizes. seconds: clip lengths. operations: of "encode" and "decode".
        precisions: those that are measured, each for itself: none takes the place of another.
        threads: of the CPU; None = PyTorch's present number.
        minutes: that all of it may take, about; what is not reached by then is left out and named.
    """

    codecs: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    batches: tuple[int, ...] = (1, 8, 32)
    seconds: tuple[float, ...] = (1.0, 5.0, 10.0)
    operations: tuple[str, ...] = ("encode", "decode")
    precisions: tuple[str, ...] = ("exact",)
    threads: int | None = None
    minutes: float = 10.0
    device: str | None = None
    progress: bool = True


def tune(settings: TuneSettings) -> dict[str, Any]:
    """Measure, without writing: {"machine", "entries", "left_out"}, whose entries `remember` takes.

    An entry is {"codec", "operation", "precision", "threads", "batch", "seconds", "strategy", "took", "rule_took"};
    times are the least of some rounds, in seconds, and "strategy" is None where nothing was faster than the rule by
    3 %. A strategy that changed a code, or audio by more than 1e-4 of its peak, is out of the race.

    Raises:
        KeyError: an unknown codec; ValueError: none of the codecs has a network; a device that is not there.
    """
    names = tuple(dict.fromkeys(find_variant(name).name for name in settings.codecs))
    if without := [name for name in names if not codec_info(name).parameters]:
        raise ValueError(
            f"{', '.join(without)}: there is no network to tune, a library or a rule codes; leave them out"
        )
    numbers = (*settings.batches, *settings.seconds, settings.minutes, settings.threads or 1)
    if not settings.batches or not settings.seconds or min(numbers) <= 0:
        raise ValueError("batches, seconds, threads and minutes must be greater than zero")
    device = choose_device(settings.device)
    entries: list[dict[str, Any]] = []
    left_out: list[str] = []
    deadline = time.monotonic() + 60 * settings.minutes
    works = len(names) * len(settings.precisions)
    points = sorted(((b, s) for b in settings.batches for s in settings.seconds), key=lambda one: one[0] * one[1])
    with (
        torch_threads(settings.threads),
        tqdm(total=works * len(points) * len(settings.operations), unit="point", disable=not settings.progress) as bar,
    ):
        for work, (name, precision) in enumerate((n, p) for n in names for p in settings.precisions):
            share = time.monotonic() + (deadline - time.monotonic()) / (works - work)
            codec = load_codec(name, settings.weights.get(name, "random"), device=device, precision=precision)
            for found in _of_codec(codec, settings, points, share, bar):
                if isinstance(found, str):
                    left_out.append(found)
                else:
                    entries.append(found)
    return {"machine": this_machine(device), "entries": entries, "left_out": left_out}


def _of_codec(
    codec: BaseCodec, settings: TuneSettings, points: Sequence[tuple[int, float]], end: float, bar: tqdm
) -> Iterator[dict[str, Any] | str]:
    """An entry for each point, or a line that says why there is none."""
    operations = [one for one in settings.operations if one == "encode" or codec.supports_decode]
    for number, (batch, seconds) in enumerate(points):
        audio = _speech(codec, batch, seconds)
        left = len(points) - number
        slice_end = time.monotonic() + (end - time.monotonic()) / left
        for i, operation in enumerate(operations):
            bar.set_description(f"{codec.name} {operation} {batch} x {seconds:g} s")
            told = f"{codec.name} {operation}, {batch} of {seconds:g} s"
            now = time.monotonic()
            if now >= end:
                yield f"{told}: no time was left"
            else:
                try:
                    entry = _of_point(codec, operation, audio, batch, seconds, now + (slice_end - now) / (2 - i))
                    yield entry or f"{told}: no time was left"
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    yield f"{told}: out of memory"
            bar.update()


def _of_point(
    codec: BaseCodec, operation: str, audio: Audio, batch: int, seconds: float, end: float
) -> dict[str, Any] | None:
    """The race at one batch size and length; None where there was no time for more than one strategy."""
    given: Audio | Codes = audio if operation == "encode" else codec.encode(audio)
    rule, *others = _candidates(codec, batch, seconds)

    def run(strategy: Strategy) -> tuple[float, Audio | Codes]:
        with fixed_strategy(strategy):
            began = seconds_now(codec.device)
            result = codec.encode(given) if isinstance(given, Audio) else codec.decode(given)
            return seconds_now(codec.device) - began, result

    _, truth = run(rule)  # the first run of a shape takes longer than others
    times: dict[Strategy, float] = {}
    for _ in range(ROUNDS):
        for strategy in (rule, *others):
            if strategy != rule and time.monotonic() > end:
                break
            took, result = run(strategy)
            times[strategy] = min(took, times.get(strategy, took)) if _equal(result, truth) else math.inf
        best = min(times, key=times.__getitem__)
        others = [one for one in others if times.get(one, 0.0) < BEHIND * times[best]]
        if time.monotonic() > end:
            break
    if others and len(times) == 1:
        return None
    won = times[rule] >= WORTH * times[best]
    return {
        "codec": codec.variant.root or codec.name,
        "operation": operation,
        "precision": codec.precision,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "seconds": seconds,
        "strategy": {name: value for name, value in asdict(best).items() if name != "source"} if won else None,
        "took": round(times[best] if won else times[rule], 6),
        "rule_took": round(times[rule], 6),
    }


def _candidates(codec: BaseCodec, batch: int, seconds: float) -> list[Strategy]:
    """The rule's strategy, and what may be faster; each differs from the others at this batch size and length."""
    most, threads = codec._chunk_seconds(), 1
    if codec.device.type == "cpu" and can_run_beside():
        threads = torch.get_num_threads()
    rule = by_rule(batch, seconds, most, threads, codec._recurrent)
    small = min(max(SMALL_SECONDS, seconds), most)
    found = [rule, Strategy(most), Strategy(small)]
    if threads > 1:
        found += [Strategy(most, 1, 1), Strategy(most / threads, threads, 1)]
        found += [Strategy(min(small, most / threads), threads, 1)]
        found += [Strategy(most / n, n, threads // n) for n in (2, threads // 4, threads // 2) if 1 < n < threads]
    if codec.device.type == "cpu":
        found += [replace(rule, tiles=tiles) for tiles in (0.5, 2.0)]
    out: dict[Strategy, Strategy] = {}
    for one in found:
        same = fitted(one, batch, seconds, most, threads)
        if same.seconds >= batch * seconds:  # all in one group, however large it might be
            same = replace(same, seconds=max(most, batch * seconds))
        out.setdefault(same, one)
    return list(out.values())


def _equal(one: Audio | Codes, other: Audio | Codes) -> bool:
    if isinstance(one, Codes) and isinstance(other, Codes):
        return torch.equal(one.codes, other.codes)
    assert isinstance(one, Audio) and isinstance(other, Audio)
    if one.waveform.shape != other.waveform.shape:
        return False
    return float((one.waveform - other.waveform).abs().max()) <= SAME * float(
        other.waveform.abs().max().clamp(min=1e-9)
    )


def _speech(codec: BaseCodec, batch: int, seconds: float) -> Audio:
    """`batch` stretches of the embedded speech, as the codec takes it."""
    whole = torch.cat([codec.prepare(path).waveform[0] for path in embedded_clips()], dim=-1)
    size = max(int(seconds * codec.sample_rate), 1)
    starts = [i * whole.shape[-1] // batch for i in range(batch)]
    index = (torch.tensor(starts)[:, None] + torch.arange(size)) % whole.shape[-1]
    waveform = whole[:, index.to(whole.device)].transpose(0, 1)
    return Audio(waveform, torch.full((batch,), size, device=whole.device), codec.sample_rate)


# -- the file ---------------------------------------------------------------------------------------------------------


def the_file() -> Path:
    """Where the table is.

    Raises:
        ValueError: CODECZOO_TUNING=off.
    """
    path = tuning_file()
    if path is None:
        raise ValueError(f"{VARIABLE}=off: no table is read or written; unset it, or name a file")
    return path


def remember(result: Mapping[str, Any], path: Path) -> None:
    """Add the entries of `tune` to the table of this machine; those of the same points are replaced, and a table of the
    same machine with another PyTorch goes.

    Raises:
        ValueError: there is a file that is no such table.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        tables = _tables(path)
        machine = result["machine"]
        own = [entry for table in tables if table["machine"] == machine for entry in table["entries"]]
        new = {tuple(entry[key] for key in KEYS): entry for entry in [*own, *result["entries"]]}
        others = [table for table in tables if not _is_of(table["machine"], machine)]
        tables = [*others, {"machine": machine, "entries": list(new.values())}]
        write_atomically(path, {"format": FORMAT, "tables": tables})


def forget(names: Sequence[str], path: Path) -> int:
    """Take the entries of these codecs out of all tables, or with no names remove the file; returns how many went."""
    if not path.exists():
        return 0
    with FileLock(f"{path}.lock"):
        if not names:
            try:
                count = sum(len(table["entries"]) for table in read_tables(path))
            except ValueError:  # damaged: it goes all the same
                count = 0
            path.unlink()
            return count
        roots = {variant.root or variant.name for variant in map(find_variant, names)}
        tables, count = read_tables(path), 0
        for table in tables:
            kept = [entry for entry in table["entries"] if entry["codec"] not in roots]
            count += len(table["entries"]) - len(kept)
            table["entries"] = kept
        write_atomically(path, {"format": FORMAT, "tables": [table for table in tables if table["entries"]]})
        return count


def _tables(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return read_tables(path)
    except ValueError as error:
        raise ValueError(f"{error}. `codeczoo tune --forget` removes it") from error


def _is_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same machine, whatever PyTorch it had."""
    return {**one, "torch": None} == {**other, "torch": None}
