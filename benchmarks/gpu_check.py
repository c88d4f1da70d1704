"""What only a GPU can show, in one run of at most ten minutes: is everything there what it is here, and how fast?

    python -m benchmarks.gpu_check --out gpu.json                 # on CUDA: every golden case, then the table
    python -m benchmarks.gpu_check --codecs mimi encodec_24k
    python -m benchmarks.gpu_check --device cpu --quick --codecs encodec_24k      # does the script itself run?

Run it from the repository's root; weights and truth are the golden cases under tests/golden, so nothing is downloaded.
For each codec, while it is loaded:

  golden     stable codes that differ from the published implementation's (0 is right), share of all codes that agree,
             and the largest error of the decoded audio, relative to its peak
  ragged     each clip of a ragged batch against itself alone: codes that differ, largest error of the audio
  passes     a clip in passes against the whole, where the codec promises that they are equal
  stream     chunk by chunk against the whole, where the codec is causal
  graph      the step of a running stream captured as a CUDA graph: codes and samples that differ from the uncaptured
             step's, and milliseconds a step of both (without CUDA the step runs uncaptured)
  speed      seconds of audio a second in float32, TF32 and under bfloat16 autocast, and the share of codes and the
             signal-to-difference ratio that the faster ones keep

Then the metrics: of the golden pairs, on the device against the CPU, and against the packages that define them. What no
longer fits into `--minutes` is listed as left out. The JSON is written after every codec. The exit code is 1 if a
promise was broken: golden, ragged, passes, stream and graph are promises, speed is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.compare import agreement, environment, peak_error, quiet_codecs, synchronize, timed
from codeczoo import Audio, BaseCodec, Codes, load_codec, metrics
from codeczoo.base.device import choose_device, matmul_precision
from tests import golden_weights
from tests.helpers import GOLDEN, golden_case, golden_state_dict
from tests.metrics.cases import golden_pairs, recording

# Golden folders that are not called as their codec is, and those left to the others of their network.
NAMES = {"bigcodec_16k": "bigcodec_1k", "speechtokenizer_16k": "speech_tokenizer_16k"}
LAST = ("xcodec2_16k", "s3tokenizer_v3_25hz")  # the largest ones
TOLERANCE = 1e-4  # of the peak

# For each metric the golden value that defines it: package, entry, and its sign there.
TRUTH = {
    "mel": ("audiotools", "mel_default.f32", 1),
    "mel_dac": ("audiotools", "mel_dac.f32", 1),
    "stft": ("audiotools", "stft_default.f32", 1),
    "waveform": ("audiotools", "l1.f32", 1),
    "si_sdr": ("torchmetrics", "si_sdr.zero_mean.f64", 1),
    "snr": ("torchmetrics", "snr.f64", 1),
    "stoi": ("pystoi", "stoi", 1),
    "estoi": ("pystoi", "estoi", 1),
}

Row = dict[str, Any]


class Check:
    """One codec on its device, with a golden case of it."""

    def __init__(self, codec: BaseCodec, case: Mapping[str, Tensor], quick: bool) -> None:
        self.codec, self.case, self.quick = codec, case, quick
        self.name, self.device, self.hop = codec.name, codec.device, codec.hop_length or 1

    @classmethod
    def of(cls, folder: str, device: torch.device, quick: bool) -> Check:
        codec = load_codec(NAMES.get(folder, folder), weights=golden_state_dict(folder), device=device)
        return cls(codec, golden_case(folder)[0], quick)

    def run(self) -> Iterator[Row]:
        for section in (self.golden, self.ragged, self.passes, self.stream, self.graph, self.speed):
            for row in section():
                yield {"codec": self.name, "section": section.__name__, **row}

    # -- promises -------------------------------------------------------------------------------

    def golden(self) -> Iterator[Row]:
        codec, case = self.codec, self.case
        codes = codec.encode(case["audio"], codec.sample_rate, num_codebooks=self._count())
        if "codes" in case:
            pairs = [(codes.codes, case["codes"], case["codes_stable"])]
        else:  # codebooks of rates of their own
            pairs = [
                (torch.stack(codes.level(k)), case[f"codes_{k}"], case[f"codes_stable_{k}"])
                for k in range(codes.num_codebooks)
            ]
        differ = sum(int(((ours.cpu() != truth) & stable).sum()) for ours, truth, stable in pairs)
        same = sum(int((ours.cpu() == truth).sum()) for ours, truth, _ in pairs)
        row: Row = {"differ": differ, "codes": same / sum(truth.numel() for _, truth, _ in pairs)}
        if codec.supports_decode and "reconstruction" in case:
            given = codes
            if "codes" in case:
                side = {"scale": case["scale"]} if "scale" in case else {}
                given = codec.wrap(case["codes"], side=side)
            row["error"] = peak_error(codec.decode(given).waveform.cpu(), _cut(case["reconstruction"], codec))
        yield {**row, "kept": differ == 0 and row.get("error", 0.0) <= TOLERANCE}

    def ragged(self) -> Iterator[Row]:
        clip = self._clips(1, 0.7 if self.quick else 3.0)[0]
        total = clip.shape[-1]
        clips = [clip[..., :n] for n in (total, total // 3, self.hop + 1, total - self.hop // 2 - 1)]
        batch = self.codec.encode(clips, self.codec.sample_rate)
        decoded = self.codec.decode(batch).split() if self.codec.supports_decode else []
        differ, error = 0, 0.0
        for i, part in enumerate(clips):
            alone = self.codec.encode(part, self.codec.sample_rate)
            differ += int((batch[i].codes != alone.codes).sum())
            if decoded:
                error = max(error, peak_error(decoded[i], self.codec.decode(alone).waveform[0]))
        total = int(batch.counts.sum())
        yield {"differ": differ, "of": total, "error": error, "kept": not differ and error <= TOLERANCE}

    def passes(self) -> Iterator[Row]:
        codec = self.codec
        clip = self._clips(1, 2.0 if self.quick else 20.0)
        codes, found = self._passes(lambda: codec.encode(clip, codec.sample_rate))
        row: Row = {}
        if "encode" not in codec.inexact_passes:
            row = {"differ": int((codes.codes != found.codes).sum()), "of": codes.codes.numel()}
        if codec.supports_decode and "decode" not in codec.inexact_passes:
            row["error"] = peak_error(*(a.waveform for a in self._passes(lambda: codec.decode(codes))))
        if row:
            yield {**row, "kept": not row.get("differ") and row.get("error", 0.0) <= TOLERANCE}

    def _passes(self, call: Callable[[], Any]) -> tuple[Any, Any]:
        """In one piece, and in passes."""
        out = []
        for seconds in (1e6, 0.7 if self.quick else 3.0):
            self.codec.max_seconds_per_pass = seconds
            out.append(call())
        self.codec.max_seconds_per_pass = None
        return out[0], out[1]

    def stream(self) -> Iterator[Row]:
        codec, hop = self.codec, self.hop
        if not codec.causal:
            return
        clip = self._clips(2, 1.0 if self.quick else 12.0)
        clip = clip[..., : clip.shape[-1] // hop * hop]
        whole = codec.encode(clip, codec.sample_rate)
        stream, chunk = codec.stream(2), 2 * hop
        pieces = [stream.encode(part) for part in clip.split(chunk, dim=-1)]
        codes = torch.cat([p.codes[..., : int(p.lengths[0])] for p in [*pieces, stream.flush()]], dim=-1)
        audio = [stream.decode(part) for part in whole.codes.split(2, dim=-1)]
        waveform = torch.cat([a.waveform[..., : int(a.lengths[0])] for a in [*audio, stream.drain()]], dim=-1)
        error = peak_error(waveform, codec.decode(codec.wrap(whole.codes)).waveform)
        differ = int((codes != whole.codes).sum())
        yield {"differ": differ, "of": codes.numel(), "error": error, "kept": not differ and error <= TOLERANCE}

    def graph(self) -> Iterator[Row]:
        """One hop a step, of a stream that runs."""
        codec, hop = self.codec, self.hop
        if not codec.causal:
            return
        steps, count = (6 if self.quick else 200), codec.num_codebooks
        clip = self._clips(1, (steps + 20) * hop / codec.sample_rate)
        chunks = list(clip.split(hop, dim=-1))[: steps + 20]
        stream = codec.stream(1)
        while not (codec._stream_encode_runs(stream.encoder_state) and codec._stream_decode_runs(stream.decoder_state)):
            stream.encode(chunks.pop(0))
            stream.decode(torch.zeros(1, count, 1, dtype=torch.int64, device=self.device))
        chunks = chunks[:steps]
        encode = lambda x, state: codec._stream_encode_run(x, state, count)  # noqa: E731
        codes = torch.randint(0, min(codec.codebook_sizes), (1, count, 1), generator=torch.Generator().manual_seed(0))
        sides: tuple[tuple[str, Step, Any, list[Tensor]], ...] = (
            ("encode", encode, stream.encoder_state, chunks),
            ("decode", codec._stream_decode_run, stream.decoder_state, [codes.to(self.device)] * steps),
        )
        with torch.no_grad(), matmul_precision("exact"):
            for op, step, state, given in sides:
                plain, captured = Loop(step, given[0], state, False), Loop(step, given[0], state, True)
                wanted, slow = _fed(plain, given, self.device)
                found, fast = _fed(captured, given, self.device)
                differ = sum(int((a != b).sum()) for a, b in zip(wanted, found, strict=True))
                row = {"op": op, "differ": differ, "captured": captured.graph is not None, "step_ms": slow}
                yield {**row, "graph_ms": fast, "hop_ms": 1e3 * hop / codec.sample_rate, "kept": differ == 0}

    # -- speed ----------------------------------------------------------------------------------

    def speed(self) -> Iterator[Row]:
        codec = self.codec
        batch, seconds, repeats = (1, 0.5, 1) if self.quick else (8, 10.0, 3)
        clip = self._clips(batch, seconds)
        codes: dict[str, Codes] = {}
        audio: dict[str, Audio] = {}
        for mode, precision, context in (
            ("exact", "exact", nullcontext()),
            ("tf32", "fast", nullcontext()),
            ("bf16", "exact", torch.autocast(self.device.type, torch.bfloat16)),
        ):
            encode = lambda mode=mode: codes.update({mode: codec.encode(clip, codec.sample_rate)})  # noqa: E731
            decode = lambda mode=mode: audio.update({mode: codec.decode(codes["exact"])})  # noqa: E731
            row: Row = {"mode": mode, "batch": batch, "seconds": seconds}
            codec.precision = precision
            try:
                with context:
                    row["encode"] = self._rate(encode, row, repeats)
                    if codec.supports_decode:
                        row["decode"] = self._rate(decode, row, repeats)
                if mode != "exact":
                    row["codes"] = agreement(codes[mode].codes, codes["exact"].codes)
                if mode != "exact" and codec.supports_decode:
                    row["audio_db"] = _ratio(audio["exact"].waveform, audio[mode].waveform)
            except RuntimeError as error:  # what does not run under autocast is worth knowing, and ends nothing else
                row["failed"] = str(error).splitlines()[0][:120]
            finally:
                codec.precision = "exact"
            if self.device.type == "cuda":
                row["peak_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)
            yield row

    def _rate(self, call: Callable[[], object], row: Row, repeats: int) -> float:
        """Seconds of audio a second, of the fastest run; one more goes before, for what only the first call costs."""
        runs = [timed(call, self.device)["wall"] for _ in range(repeats + 1)]
        return row["batch"] * row["seconds"] / min(runs[1:])

    # -- small parts ----------------------------------------------------------------------------

    def _count(self) -> int | None:
        return self.case["codes"].shape[1] if "codes" in self.case else None

    def _clips(self, batch: int, seconds: float) -> Tensor:
        """[B, C, T], speech-like."""
        samples = max(int(seconds * self.codec.sample_rate), 4 * self.hop)
        made = golden_weights.audio(f"gpu/{self.name}", batch, self.codec.channels[-1], samples, self.codec.sample_rate)
        return torch.from_numpy(made).to(self.device)


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Loop:
    """A step (input, state) → (output, state) that keeps its own state: with `capture`, on CUDA, as a graph."""

    def __init__(self, step: Step, example: Tensor, state: Any, capture: bool) -> None:
        self.step, self.input, self.state = step, example.clone(), tree_map(torch.clone, state)
        self.graph = torch.cuda.CUDAGraph() if capture and example.is_cuda else None
        self.output = example
        if self.graph is None:
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries choose their kernels and take their memory before the capture
            for _ in range(3):
                step(self.input, self.state)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self.graph):
            self.output, after = step(self.input, self.state)
            _copy(self.state, after)
        _copy(self.state, state)  # the trial steps may have written into it

    def __call__(self, x: Tensor) -> Tensor:
        if self.graph is None:
            output, self.state = self.step(x, self.state)
            return output
        self.input.copy_(x)
        self.graph.replay()
        return self.output.clone()


def _copy(to: Any, source: Any) -> None:
    for ours, theirs in zip(tree_leaves(to), tree_leaves(source), strict=True):
        if ours is not theirs:
            ours.copy_(theirs)


def _fed(loop: Loop, given: Sequence[Tensor], device: torch.device) -> tuple[list[Tensor], float]:
    """Outputs, and the median of milliseconds a step, each waited for."""
    out, times = [], []
    for x in given:
        synchronize(device)
        began = time.perf_counter()
        out.append(loop(x))
        synchronize(device)
        times.append(time.perf_counter() - began)
    return out, 1e3 * statistics.median(times)


def _cut(waveform: Tensor, codec: BaseCodec) -> Tensor:
    return waveform if waveform.ndim == 3 else waveform.view(1, codec.channels[-1], -1)


def _ratio(truth: Tensor, other: Tensor) -> float:
    """Signal to difference, in dB."""
    signal, difference = truth.double().square().sum(), (truth.double() - other.double()).square().sum()
    return float(10 * torch.log10(signal / difference.clamp(min=1e-30 * signal)))  # 300: they are equal


# -- metrics ------------------------------------------------------------------------------------


def check_metrics(device: torch.device, quick: bool) -> Iterator[Row]:
    """Of the golden pairs, in batches of one rate and channel count."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for pair in golden_pairs()[:: 8 if quick else 1]:
        groups.setdefault((pair["sample_rate"], pair["channels"]), []).append(pair)
    names = [name for name, metric in metrics.METRICS.items() if metric.where == "device"]
    apart, off = dict.fromkeys(names, 0.0), dict.fromkeys(TRUTH, 0.0)
    seconds = {"there": 0.0, "here": 0.0}
    for (rate, _), pairs in groups.items():
        sides = [[recording(p[key]).float() for p in pairs] for key in ("reference_file", "degraded_file")]
        far = [[clip.to(device) for clip in side] for side in sides]
        kept: dict[str, metrics.Scores] = {}
        for place, clips in (("there", far), ("here", sides)):
            call = lambda place=place, clips=clips, rate=rate, kept=kept: kept.update(  # noqa: E731
                {place: metrics.evaluate(*clips, rate, names)}
            )
            seconds[place] += timed(call, device)["wall"]
        for name in names:
            apart[name] = max(apart[name], _apart(kept["there"][name], kept["here"][name]))
        for name, (package, entry, sign) in TRUTH.items():
            truth = [float(p["values"].get(package, {}).get(entry, "nan")) for p in pairs]
            off[name] = max(off[name], _apart(kept["there"][name], sign * torch.tensor(truth, dtype=torch.float64)))
    for name in names:
        yield {"codec": name, "section": "metric", "apart": apart[name], "off": off.get(name), **seconds}


def _apart(ours: Tensor, truth: Tensor) -> float:
    """Largest difference where both are finite."""
    both = ours.isfinite() & truth.isfinite()
    return float((ours - truth)[both].abs().max()) if bool(both.any()) else 0.0


# -- what is told -------------------------------------------------------------------------------

COLUMNS = {
    "golden": ("differ", "codes", "error"),
    "ragged": ("differ", "of", "error"),
    "passes": ("differ", "of", "error"),
    "stream": ("differ", "of", "error"),
    "graph": ("op", "captured", "differ", "step_ms", "graph_ms", "hop_ms"),
    "speed": ("mode", "encode", "decode", "codes", "audio_db", "peak_mib", "failed"),
    "metric": ("apart", "off"),
}


def tables(rows: Sequence[Row]) -> str:
    """One Markdown table a section."""
    out = []
    for section, columns in COLUMNS.items():
        own = [row for row in rows if row["section"] == section]
        if own:
            out += [f"### {section}", "", f"| codec | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            out += [f"| {row['codec']} | {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in own]
            out.append("")
    return "\n".join(out)


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def folders() -> list[str]:
    """Golden cases of codecs, the largest at the end."""
    found = [path.parent.name for path in sorted(GOLDEN.glob("*/public.safetensors"))]
    return [name for name in found if name not in LAST] + [name for name in LAST if name in found]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="cuda, cpu, ... (CUDA > MPS > CPU)")
    parser.add_argument("--codecs", nargs="+", choices=folders(), metavar="C", help=f"of {', '.join(folders())}")
    parser.add_argument("--quick", action="store_true", help="short clips and few repeats: does the script run?")
    parser.add_argument("--minutes", type=float, default=9.5, help="no codec is begun after so many (9.5)")
    parser.add_argument("--out", type=Path, help="JSON of all that was found; the tables beside it as .md")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with quiet_codecs():
        return check_all(args, choose_device(args.device))


def check_all(args: argparse.Namespace, device: torch.device) -> int:
    began = time.monotonic()
    record: dict[str, Any] = {"environment": environment(device), "quick": args.quick, "rows": [], "left_out": []}
    rows: list[Row] = record["rows"]

    def keep(found: Mapping[str, Any]) -> None:
        rows.append(dict(found))
        print(json.dumps(found), file=sys.stderr, flush=True)

    for row in check_metrics(device, args.quick):
        keep(row)
    for folder in args.codecs or folders():
        if time.monotonic() - began > 60 * args.minutes:
            record["left_out"].append(folder)
            continue
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        for row in Check.of(folder, device, args.quick).run():
            keep(row)
        golden_state_dict.cache_clear()
        record["seconds"] = round(time.monotonic() - began, 1)
        if args.out:
            args.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
            args.out.with_suffix(".md").write_text(tables(rows), "utf-8")
    print(json.dumps(record["environment"]))
    print(tables(rows))
    broken = [f"{row['codec']} {row['section']}" for row in rows if row.get("kept") is False]
    print(f"promises broken: {', '.join(broken) or 'none'}; left out: {', '.join(record['left_out']) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
