"""The rates of one core: decoding, resampling, what a process does for each clip, tokens by form, listing, resuming.

Each figure is the least processor time of some rounds, in which the sides take turns; one thread.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from codeczoo import Audio, Codes, codec_info
from codeczoo.base import pickling
from codeczoo.base.processor import cpu_name
from codeczoo.data.batching import plan_batches
from codeczoo.data.embedded import embedded_clips
from codeczoo.data.open import open_source
from codeczoo.data.read import decoded
from codeczoo.data.reader_pool import read_ahead
from codeczoo.data.source import Entry
from codeczoo.tokens.formats import FORMS, Facts, Tokens, read_shard
from codeczoo.tokens.job import EncodedBatch
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.shards import CODEC_FACTS, ShardInProgress, ShardPlan, is_written, write_index, write_shard

CLIP_SECONDS, SHARD_CLIPS = 10.0, 1000
FILES = {  # audio → rate, channels, libsndfile's format and subtype
    "wav 24 kHz mono": (24000, 1, "WAV", "PCM_16"),
    "flac 24 kHz mono": (24000, 1, "FLAC", "PCM_16"),
    "mp3 24 kHz mono": (24000, 1, "MP3", "MPEG_LAYER_III"),
    "opus 24 kHz mono": (24000, 1, "OGG", "OPUS"),
    "vorbis 24 kHz mono": (24000, 1, "OGG", "VORBIS"),
    "wav 44.1 kHz stereo": (44100, 2, "WAV", "PCM_16"),
    "flac 44.1 kHz stereo": (44100, 2, "FLAC", "PCM_16"),
    "mp3 44.1 kHz stereo": (44100, 2, "MP3", "MPEG_LAYER_III"),
    "opus 48 kHz stereo": (48000, 2, "OGG", "OPUS"),
}
RESAMPLED = ((16000, 24000), (24000, 16000), (44100, 24000), (44100, 16000), (48000, 24000), (48000, 44100))
CODECS = {  # → codebooks; None = all of its default rate
    "mimi": 8, "encodec_24k": 8, "dac_44k": 9, "wavtokenizer_large_40": 1, "snac_24khz": None, "bigcodec_1k": 1,
    "s3tokenizer_v2_25hz": 1, "speech_tokenizer_16k": 8, "zoo_16k": None,
}  # fmt: skip


def least(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor seconds of each of `work`, taking turns."""
    found = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, run in work.items():
            began = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - began)
    return found


def speech(rate: int, channels: int, seconds: float) -> torch.Tensor:
    """[C, T]: the embedded clips end to end, at `rate`; of two channels the second is a little behind the first."""
    whole = torch.cat([Audio.load(path).resample(rate).waveform[0, :1] for path in embedded_clips()], dim=-1)
    whole = whole[:, : round(seconds * rate)]
    return torch.cat([whole, 0.7 * whole.roll(rate // 1000, -1)])[:channels]


def measure_decoding(rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, (rate, channels, form, subtype) in FILES.items():
            paths[name] = Path(folder) / f"{len(paths)}.{'ogg' if form == 'OGG' else form.lower()}"
            sf.write(paths[name], speech(rate, channels, CLIP_SECONDS).T.numpy(), rate, format=form, subtype=subtype)
        times = least(
            {name: lambda path=path: [decoded(path) for _ in range(4)] for name, path in paths.items()}, rounds
        )
        return [
            {
                "audio": name,
                "core_rate": 4 * CLIP_SECONDS / times[name],
                "bytes_per_second": path.stat().st_size / CLIP_SECONDS,
            }
            for name, path in paths.items()
        ]


def measure_resampling(rounds: int) -> list[dict[str, Any]]:
    audio = {pair: Audio.of(speech(pair[0], 1, CLIP_SECONDS), pair[0]) for pair in RESAMPLED}
    times = least({str(pair): lambda pair=pair: audio[pair].resample(pair[1]) for pair in RESAMPLED}, rounds)
    return [{"from": a, "to": b, "core_rate": CLIP_SECONDS / times[str((a, b))]} for a, b in RESAMPLED]


def tokens_of(codec: str, clips: int, seconds: float = CLIP_SECONDS) -> list[Tokens]:
    """Codes of a codec's form, each as likely as any other: no network runs, and none can be packed better."""
    info = codec_info(codec)
    sizes = tuple(info.codebook_sizes)[: CODECS.get(codec) or info.num_codebooks]
    assert info.frame_rate is not None
    frames = round(seconds * info.frame_rate)
    strides = tuple(getattr(info, "strides", ()) or (1,) * len(sizes))[: len(sizes)]
    r = np.random.default_rng(0)
    out = []
    for i in range(clips):
        codes = np.full((len(sizes), frames), -1)
        for k, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
            codes[k, : -(-frames // stride)] = r.integers(0, size, -(-frames // stride))
        samples = torch.tensor([round(seconds * info.sample_rate)])
        out.append(Tokens(f"speaker{i % 97:04d}/chapter{i % 13:02d}/{i:08d}.flac", None, Codes(
            torch.from_numpy(codes)[None], torch.tensor([frames]), samples, info.sample_rate, codec, sizes,
            info.frame_rate, strides)))  # fmt: skip
    return out


def measure_tokens() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            clips = tokens_of(codec, SHARD_CLIPS)
            facts, seconds = Facts.of(clips[0].codes), SHARD_CLIPS * CLIP_SECONDS
            sizes = {"npy, one file a clip": sum(_npy_bytes(clip, facts) for clip in clips) / seconds}
            for form, shard in FORMS.items():
                path = Path(folder) / f"a{shard.suffix}"
                shard.write(path, facts, clips)
                sizes[form] = path.stat().st_size / seconds
            bits = sum(float(clip.codes.num_bits[0]) for clip in clips) / 8 / seconds
            rows.append(
                {
                    "codec": codec,
                    "codebooks": clips[0].codes.num_codebooks,
                    "bytes_per_second": sizes,
                    "codes_alone": bits,
                }
            )
    return rows


def _npy_bytes(clip: Tokens, facts: Facts) -> int:
    file = io.BytesIO()
    np.save(file, clip.codes.codes[0].to(facts.dtype).numpy(), allow_pickle=False)
    return len(file.getvalue())


def measure_host(rounds: int) -> dict[str, Any]:
    """What the main process of a GPU, or the driver of a Ray cluster, does for a clip, in microseconds of a core."""
    count = 240
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for seconds in (1.0, CLIP_SECONDS):
            below = Path(folder) / f"{seconds:g}"
            below.mkdir()
            for i in range(count):
                sf.write(below / f"{i:04d}.wav", speech(24000, 1, seconds)[0].numpy(), 24000)
            sources[seconds] = open_source(below)

        def planned(seconds: float) -> list[Any]:
            return list(plan_batches(sources[seconds], 200, 1200.0))

        def taken_over(seconds: float) -> None:
            for _ in read_ahead(sources[seconds], iter(batches[seconds]), 1):
                pass

        batches = {seconds: planned(seconds) for seconds in sources}
        takes = {f"take {seconds:g}": lambda seconds=seconds: taken_over(seconds) for seconds in sources}
        times = least({"plan": lambda: planned(CLIP_SECONDS), **takes}, rounds)
        nothing = least({"": lambda: [None for _ in read_ahead(sources[1.0], iter(batches[1.0][:0]), 1)]}, 1)[""]
        short, long = (times[f"take {seconds:g}"] - nothing for seconds in sources)
        clips = tokens_of("mimi", SHARD_CLIPS)
        encoded = EncodedBatch(0, dict(enumerate(clips[:120])))
        packed = pickling.dumps(encoded)
        writes = {form: lambda form=form: _write(Path(folder) / "out", form, clips) for form in FORMS}
        written = least(writes, max(1, rounds // 2))
        result = least({"": lambda: pickle.loads(packed)}, rounds)[""]
        shards = {form: next((Path(folder) / "out").glob(f"tokens-*{FORMS[form].suffix}")) for form in FORMS}
        readings = {form: lambda path=path: list(read_shard(path)) for form, path in shards.items()}
        reads = least(readings, max(1, rounds // 2))
    per_second = max(0.0, (long - short) / count / (CLIP_SECONDS - 1.0))
    return {
        "header_us": times["plan"] / count * 1e6,
        "take_over_us": max(0.0, short / count - per_second) * 1e6,
        "take_over_us_per_second": per_second * 1e6,
        "result_us": result / 120 * 1e6,
        "write_us": {form: seconds / SHARD_CLIPS * 1e6 for form, seconds in written.items()},
        "read_us": {form: seconds / SHARD_CLIPS * 1e6 for form, seconds in reads.items()},
    }


def _write(out: Path, form: str, clips: Sequence[Tokens]) -> None:
    out.mkdir(exist_ok=True)
    plan = ShardPlan(0, tuple(Entry(clip.id, None, position=i) for i, clip in enumerate(clips)))
    settings = TokenSettings(codec="mimi", out=str(out), form=form)
    write_shard(settings, ShardInProgress(plan, 0, dict(enumerate(clips))))


def measure_resume(rounds: int, shards: int = 2000) -> dict[str, Any]:
    """What a process does before its first new shard: start, and look at each of its shards that is there."""
    start = min(_seconds_to_start() for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        settings = TokenSettings(codec="g711_ulaw", out=folder)
        clips = tokens_of("mimi", 1)
        plans = [ShardPlan(i, (Entry(clips[0].id, None, position=0),)) for i in range(shards)]
        for plan in plans:
            write_shard(settings, ShardInProgress(plan, 0, {0: clips[0]}))
        run = {"codec": dict.fromkeys(CODEC_FACTS), "dataset": {}}
        Path(folder, "run.json").write_text(json.dumps(run))
        times = least({
            "look": lambda: [is_written(settings, plan) for plan in plans],
            "all but one": lambda: write_index(settings, [1] * (shards + 1)),
            "index": lambda: write_index(settings, [1] * shards),
        }, rounds)  # fmt: skip
    return {
        "start_seconds": start,
        "shards": shards,
        "us_per_shard": times["look"] / shards * 1e6,
        "not_the_last_us_per_shard": times["all but one"] / shards * 1e6,
        "index_us_per_shard": times["index"] / shards * 1e6,
    }


def _seconds_to_start() -> float:
    """Processor seconds of a process that imports what a tokenisation takes and makes Mimi with random weights."""
    code = ("import resource; from codeczoo.tokens.tokenize import tokenize; from codeczoo import load_codec; "
            "load_codec('mimi', 'random', device='cpu'); u = resource.getrusage(resource.RUSAGE_SELF); "
            "print(u.ru_utime + u.ru_stime)")  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def measure_listing(clips: int = 20_000) -> list[dict[str, Any]]:
    """Listing by form of data set, each in a process of its own: microseconds and bytes of memory a clip."""
    from perf.scale.files import FORMS_OF_FILES, list_form, write_forms

    with tempfile.TemporaryDirectory() as folder:
        places = write_forms(Path(folder), clips)
        return [{"form": form, **list_form(places[form], clips)} for form in FORMS_OF_FILES]


def measure(rounds: int, only: Iterable[str] | None) -> dict[str, Any]:
    """All parts, or those named."""
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Any]] = {
        "decode": lambda: measure_decoding(rounds),
        "resample": lambda: measure_resampling(rounds),
        "host": lambda: measure_host(rounds),
        "tokens": measure_tokens,
        "listing": measure_listing,
        "resume": lambda: measure_resume(rounds),
    }
    unknown = set(only or ()) - set(parts)
    if unknown:
        raise ValueError(f"--only takes {', '.join(parts)}; not {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {"environment": environment()}
    for name in only or parts:
        found[name] = parts[name]()
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    return found


def environment() -> dict[str, Any]:
    return {"date": date.today().isoformat(), "cpu": cpu_name(), "cores": os.cpu_count(), "torch": torch.__version__,
            "python": platform.python_version()}  # fmt: skip
