"""The benchmark's pipeline beside a plain loop, one clip at a time, on the same clips, in one run; and its memory.

    python -m perf.pipeline                                  # a classical codec and a neural one
    python -m perf.pipeline --codecs encodec_24k --clips 60 --seconds 0.5 3
    python -m perf.pipeline --codec-superb path/to/checkout  # Codec-SUPERB's own metrics in the loop
    python -m perf.pipeline --flat 10000                     # memory of the driver over many short clips
    python -m perf.pipeline --flat 10000 --engine ray        # the same of a cluster's driver

Run it from the repository's root: the clips are cut from the recordings under tests/golden/metrics. Weights are random.

The loop is what Codec-SUPERB's script does: read a clip, encode it, decode it, compute each metric, go on to the next;
torch uses all cores in it. The pipeline is `run_benchmark`. Both compute Codec-SUPERB's six metrics (it calls one of
them twice, and so does the loop) on each clip. With --codec-superb the loop computes them with that project's own code
(it needs its packages: descript-audiotools, librosa, pesq, pyworld ...), which is what users have today; without, with
ours.

  clips/s   clips through everything, by the wall clock, models loaded before
  ratio     pipeline / loop
  profile   seconds of the main process: encoding, decoding, measuring on the device, waiting for slow metrics
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from codeczoo import Audio, load_codec
from codeczoo.benchmark.run import run_benchmark
from codeczoo.benchmark.settings import Settings
from codeczoo.executor.engine import ENGINES
from codeczoo.metrics import metric_names

RECORDINGS = Path(__file__).parents[1] / "tests" / "golden" / "metrics" / "audio"
METRICS = tuple(metric_names("superb/*"))


def make_clips(folder: Path, count: int, shortest: float, longest: float) -> float:
    """`count` clips cut from the recordings, of random length and mixed rate; returns their seconds in all."""
    r = np.random.default_rng(0)
    recordings = [sf.read(path, dtype="float32") for path in sorted(RECORDINGS.glob("*.flac")) if "__" not in path.name]
    recordings = [(samples, rate) for samples, rate in recordings if samples.ndim == 1]
    total = 0.0
    for i in range(count):
        samples, rate = recordings[i % len(recordings)]
        length = min(int(r.uniform(shortest, longest) * rate), len(samples))
        start = int(r.integers(0, len(samples) - length + 1))
        sf.write(folder / f"{i:05d}.flac", samples[start : start + length], rate)
        total += length / rate
    return total


# -- the loop -------------------------------------------------------------------------------------


def their_metrics(checkout: str) -> Callable[[np.ndarray, np.ndarray, int], object]:
    """Codec-SUPERB's own `get_metrics`, from a checkout."""
    sys.path.insert(0, checkout)
    from audiotools import AudioSignal
    from SoundCodec.metrics import get_metrics

    return lambda x, y, rate: get_metrics(AudioSignal(x, rate), AudioSignal(y, rate))


def our_metrics(x: np.ndarray, y: np.ndarray, rate: int) -> object:
    """The same six by ours, one clip at a time, and the one that is called twice."""
    from codeczoo.metrics import evaluate

    evaluate(x, y, rate, metrics="superb/pesq", num_workers=1)
    return evaluate(x, y, rate, metrics=METRICS, num_workers=1)


def loop(name: str, folder: Path, measure: Callable[[np.ndarray, np.ndarray, int], object]) -> float:
    """Seconds for all clips, one at a time."""
    codec = load_codec(name, **weights_of(name))
    files = sorted(folder.glob("*.flac"))
    codec.reconstruct(Audio.load(files[0]))  # warm
    began = time.perf_counter()
    for path in files:
        samples, rate = sf.read(path, dtype="float32")
        measure(samples, codec.reconstruct(samples, rate).numpy(), rate)
    return time.perf_counter() - began


def pipeline(name: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds for all clips in the pipeline, and where they went."""
    with tempfile.TemporaryDirectory() as out:
        weights = {name: "random"} if weights_of(name) else {}
        began = time.perf_counter()
        load_codec(name, **weights_of(name))
        loading = time.perf_counter() - began
        began = time.perf_counter()
        run_benchmark(
            Settings(
                codecs=(name,), dataset=str(folder), protocol="superb-2026-05", weights=weights, out=out, progress=False
            )
        )
        seconds = time.perf_counter() - began - loading  # the loop's model is loaded before its clock runs
        return seconds, json.loads((Path(out) / "timing.json").read_text())


def weights_of(name: str) -> dict[str, str]:
    classical = name.startswith(("opus", "mp3", "vorbis", "g711"))
    return {} if classical else {"weights": "random"}


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    measure = their_metrics(args.codec_superb) if args.codec_superb else our_metrics
    rows = []
    for name in args.codecs:
        with tempfile.TemporaryDirectory() as temporary:
            audio = make_clips(Path(temporary), args.clips, *args.seconds)
            loops, pipelines = [], []
            for round_ in range(args.repeats):
                for side in ("loop", "pipeline") if round_ % 2 == 0 else ("pipeline", "loop"):
                    if side == "loop":
                        loops.append(loop(name, Path(temporary), measure))
                    else:
                        pipelines.append(pipeline(name, Path(temporary)))
        best, timing = min(pipelines, key=lambda item: item[0])
        spent = timing["codecs"][name]
        row = {
            "codec": name,
            "clips": args.clips,
            "audio_seconds": audio,
            "loop_metrics": "Codec-SUPERB's" if args.codec_superb else "ours",
            "loop_clips_per_second": args.clips / min(loops),
            "pipeline_clips_per_second": args.clips / best,
            "ratio": min(loops) / best,
            "profile": {key: spent[key] for key in ("encode", "decode", "metrics", "waiting")},
            "device_busy": timing["device_busy"],
            "runs": {"loop": loops, "pipeline": [seconds for seconds, _ in pipelines]},
        }
        rows.append(row)
        profile = ", ".join(f"{key} {value:.1f}" for key, value in row["profile"].items())
        print(
            f"{name}: loop {row['loop_clips_per_second']:.2f} clips/s, pipeline "
            f"{row['pipeline_clips_per_second']:.2f} clips/s, ratio {row['ratio']:.2f}; of {best:.1f} s: {profile}; "
            f"device busy {100 * row['device_busy']:.0f}%",
            flush=True,
        )
    return rows


# -- memory -----------------------------------------------------------------------------------------


def flat(count: int, engine: str) -> dict[str, Any]:
    """Resident memory of the driver while `count` short clips go through."""
    samples: list[tuple[int, int]] = []  # lines on the disk, bytes
    with tempfile.TemporaryDirectory() as temporary:
        clips, out = Path(temporary) / "clips", Path(temporary) / "out"
        clips.mkdir()
        make_clips(clips, count, 0.15, 0.3)
        stop = threading.Event()

        def watch() -> None:
            page = os.sysconf("SC_PAGESIZE")
            while not stop.wait(0.2):
                lines = (out / "clips.jsonl").read_bytes().count(b"\n") if (out / "clips.jsonl").exists() else 0
                samples.append((lines, int(Path("/proc/self/statm").read_text().split()[1]) * page))

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        run_benchmark(
            Settings(
                codecs=("g711_ulaw",),
                dataset=str(clips),
                metrics=("waveform", "mel"),
                out=str(out),
                engine=engine,
                progress=False,
            )
        )
        seconds = time.perf_counter() - began
        stop.set()
        watcher.join()
    marks = {}
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        reached = [size for lines, size in samples if lines >= share * count * 0.99]
        marks[f"{share:.0%}"] = (reached or [samples[-1][1]])[0] / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} clips in {seconds:.0f} s; MiB of the driver at: {marks}; peak {peak:.0f}")
    return {"clips": count, "engine": engine, "seconds": seconds, "resident_mib": marks, "peak_mib": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=["opus_12k", "encodec_24k"], metavar="NAME")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.5, 4.0), metavar=("MIN", "MAX"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--codec-superb", metavar="DIR", help="a checkout of Codec-SUPERB, for its metrics in the loop")
    parser.add_argument("--flat", type=int, metavar="N", help="only: memory over N short clips")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="of --flat (local)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of all figures")
    args = parser.parse_args()
    result: dict[str, Any] = {"cores": os.cpu_count(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if args.flat:
        result["memory"] = flat(args.flat, args.engine)
    else:
        result["rows"] = compare(args)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
