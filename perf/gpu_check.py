"""What only a GPU can show, in one run of at most ten minutes: is everything there what it is here, and how fast?

    python -m perf.gpu_check --out gpu.json                 # on CUDA: every golden case, then the table
    python -m perf.gpu_check --codecs mimi encodec_24k
    python -m perf.gpu_check --device cpu --quick --codecs encodec_24k      # does the script itself run?

Run it from the repository's root; weights and truth are the golden cases under tests/golden, so nothing is downloaded.
For each codec, while it is loaded:

  golden     stable codes that differ from the published implementation's (0 is right), share of all codes that agree,
             and the largest error of the decoded audio, relative to its peak
  ragged     each clip of a ragged batch against itself alone: codes that differ, largest error of the audio
  passes     a clip in passes against the whole, where the codec promises that they are equal
  stream     chunk by chunk against the whole, where the codec is causal
  graph      a stream with `cuda_graph=True` beside one without, one hop a step: codes and samples that differ, and
             milliseconds a step of both (without CUDA neither is captured)
  speed      seconds of audio a second in float32, TF32 and under bfloat16 autocast (and compiled, with TF32), and the
             share of codes and the signal-to-difference ratio that the faster ones keep

And of the metrics, by the golden pairs:

  metric     largest difference between the device and the CPU, and from the packages that define them

What no longer fits into `--minutes` is listed as left out. The JSON is written after every codec. The exit code is 1 if
a promise was broken: golden, ragged, passes, stream and graph are promises, the others are not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codeczoo import Audio, BaseCodec, Codes, load_codec, metrics
from codeczoo.base.device import choose_device
from codeczoo.codecs.snac import SNAC
from perf.compare import agreement, environment, peak_error, quiet_codecs, synchronize, timed
from tests.support import golden_weights
from tests.support.golden import GOLDEN, golden_case, golden_state_dict
from tests.support.metric_cases import golden_pairs, recording

# Golden folders that are not called as their codec is.
NAMES = {"bigcodec_16k": "bigcodec_1k", "speechtokenizer_16k": "speech_tokenizer_16k"}
FIRST = ("mimi", "dac_44k", "encodec_24k", "encodec_48k", "wavtokenizer_40", "audiodec_24k")
LAST = ("xcodec2_16k", "s3tokenizer_v3_25hz")  # the largest ones
TOLERANCE = 1e-4  # of the peak
SECTIONS = ("golden", "ragged", "passes", "stream", "graph", "speed")  # of each codec
EVERYTHING = (*SECTIONS, "metric")

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

    def __init__(self, codec: BaseCodec, case: Mapping[str, Tensor], quick: bool, compiled: bool = False) -> None:
        self.codec, self.case, self.quick, self.compiled = codec, case, quick, compiled
        self.name, self.device, self.hop = codec.name, codec.device, codec.hop_length or 1

    @classmethod
    def of(cls, folder: str, weights: Path, device: torch.device, quick: bool, compiled: bool) -> Check:
        codec = load_codec(NAMES.get(folder, folder), weights=load_file(weights), device=device)
        return cls(codec, golden_case(folder)[0], quick, compiled)

    def run(self, sections: Sequence[str] = SECTIONS) -> Iterator[Row]:
        for section in SECTIONS:
            for row in getattr(self, section)() if section in sections else ():
                yield {"codec": self.name, "section": section, **row}

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
                given = codec.codes_from_tensor(case["codes"], side_info=side)
            with without_noise(codec):
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
        if "encode" not in codec.approximate_when_long:
            row = {"differ": int((codes.codes != found.codes).sum()), "of": codes.codes.numel()}
        if codec.supports_decode and "decode" not in codec.approximate_when_long:
            row["error"] = peak_error(*(a.waveform for a in self._passes(lambda: codec.decode(codes))))
        if row:
            yield {**row, "kept": not row.get("differ") and row.get("error", 0.0) <= TOLERANCE}

    def _passes(self, call: Callable[[], Any]) -> tuple[Any, Any]:
        """Whole, and in chunks."""
        out = []
        for seconds in (1e6, 0.7 if self.quick else 3.0):
            self.codec.max_chunk_seconds = seconds
            out.append(call())
        self.codec.max_chunk_seconds = None
        return out[0], out[1]

    def stream(self) -> Iterator[Row]:
        codec, hop = self.codec, self.hop
        if not codec.causal:
            return
        clip = self._clips(2, 1.0 if self.quick else 12.0)
        clip = clip[..., : clip.shape[-1] // hop * hop]
        whole = codec.encode(clip, codec.sample_rate)
        audio = codec.decode(codec.codes_from_tensor(whole.codes)).waveform
        for cuda_graph in (False, True):
            stream = codec.stream(2, cuda_graph=cuda_graph)
            chunks = [stream.encode(part) for part in clip.split(2 * hop, dim=-1)]
            codes = torch.cat([p.codes[..., : int(p.lengths[0])] for p in [*chunks, stream.flush()]], dim=-1)
            heard = [stream.decode(part) for part in whole.codes.split(2, dim=-1)]
            waveform = torch.cat([a.waveform[..., : int(a.lengths[0])] for a in [*heard, stream.drain()]], dim=-1)
            differ, error = int((codes != whole.codes).sum()), peak_error(waveform, audio)
            row = {"graph": cuda_graph, "differ": differ, "of": codes.numel(), "error": error}
            yield {**row, "kept": not differ and error <= TOLERANCE}

    def graph(self) -> Iterator[Row]:
        """One hop a step, as a user calls a stream."""
        codec, hop = self.codec, self.hop
        if not codec.causal:
            return
        steps, count = (6 if self.quick else 200), codec.num_codebooks
        codes = torch.randint(0, min(codec.codebook_sizes), (1, count, 1), generator=torch.Generator().manual_seed(0))
        plain, captured = codec.stream(1), codec.stream(1, cuda_graph=True)
        for op, given in (
            ("encode", self._clips(1, steps * hop / codec.sample_rate).split(hop, dim=-1)),
            ("decode", [codes.to(self.device)] * steps),
        ):
            wanted, slow = _fed(getattr(plain, op), given, self.device)
            found, fast = _fed(getattr(captured, op), given, self.device)
            differ = sum(int((a != b).sum()) for a, b in zip(wanted, found, strict=True))
            row = {"op": op, "differ": differ, "step_ms": slow, "graph_ms": fast}
            yield {**row, "hop_ms": 1e3 * hop / codec.sample_rate, "kept": differ == 0}

    # -- speed ----------------------------------------------------------------------------------

    def speed(self) -> Iterator[Row]:
        codec = self.codec
        batch, seconds = (1, 0.5) if self.quick else (8, 10.0)
        clip = self._clips(batch, seconds)
        exact_codes, exact_audio = codec.encode(clip, codec.sample_rate), None
        if codec.supports_decode:
            exact_audio = codec.decode(exact_codes)
        bf16 = torch.autocast(self.device.type, torch.bfloat16)
        modes = [("exact", "exact", nullcontext()), ("tf32", "fast", nullcontext()), ("bf16", "fast", bf16)]
        for mode, precision, context in modes + [("compiled", "fast", nullcontext())] * self.compiled:
            found: dict[str, Any] = {}
            encode = lambda found=found: found.update(codes=codec.encode(clip, codec.sample_rate))  # noqa: E731
            decode = lambda found=found: found.update(audio=codec.decode(exact_codes))  # noqa: E731
            row: Row = {"mode": mode, "batch": batch, "seconds": seconds}
            codec.precision = precision
            try:
                with context, compiled_hooks(codec) if mode == "compiled" else nullcontext():
                    row["encode"] = self._rate(encode, row)
                    if exact_audio is not None:
                        row["decode"] = self._rate(decode, row)
                row["codes"] = agreement(found["codes"].codes, exact_codes.codes)
                if exact_audio is not None:
                    row["audio_db"] = _ratio(exact_audio.waveform, found["audio"].waveform)
            except RuntimeError as error:  # what does not run under autocast is worth knowing, and ends nothing else
                row["failed"] = str(error).splitlines()[0][:120]
            finally:
                codec.precision = "exact"
            if self.device.type == "cuda":
                row["peak_mib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20)
            yield row

    def _rate(self, call: Callable[[], object], row: Row) -> float:
        """Seconds of audio a second, of the fastest run; one more goes before, for what only the first call costs."""
        runs = [timed(call, self.device)["wall"] for _ in range(2 if self.quick else 5)]
        return row["batch"] * row["seconds"] / min(runs[1:])

    # -- small parts ----------------------------------------------------------------------------

    def _count(self) -> int | None:
        return self.case["codes"].shape[1] if "codes" in self.case else None

    def _clips(self, batch: int, seconds: float) -> Tensor:
        """[B, C, T], speech-like."""
        samples = max(int(seconds * self.codec.sample_rate), 4 * self.hop)
        made = golden_weights.audio(f"gpu/{self.name}", batch, self.codec.channels[-1], samples, self.codec.sample_rate)
        return torch.from_numpy(made).to(self.device)


def _fed(
    step: Callable[[Tensor], Codes | Audio], given: Sequence[Tensor], device: torch.device
) -> tuple[list[Tensor], float]:
    """Outputs, and the median of milliseconds a step, each waited for."""
    out, times = [], []
    for x in given:
        synchronize(device)
        began = time.perf_counter()
        found = step(x)
        synchronize(device)
        times.append(time.perf_counter() - began)
        out.append(found.codes if isinstance(found, Codes) else found.waveform)
    return out, 1e3 * statistics.median(times)


def _cut(waveform: Tensor, codec: BaseCodec) -> Tensor:
    return waveform if waveform.ndim == 3 else waveform.view(1, codec.channels[-1], -1)


def _ratio(truth: Tensor, other: Tensor) -> float:
    """Signal to difference, in dB."""
    signal, difference = truth.double().square().sum(), (truth.double() - other.double()).square().sum()
    return float(10 * torch.log10(signal / difference.clamp(min=1e-30 * signal)))  # 300: they are equal


@contextmanager
def without_noise(codec: BaseCodec) -> Iterator[None]:
    """As the golden cases of SNAC are decoded."""
    if not isinstance(codec, SNAC):
        yield
        return
    seed, codec.noise_seed = codec.noise_seed, None
    try:
        yield
    finally:
        codec.noise_seed = seed


@contextmanager
def compiled_hooks(codec: BaseCodec) -> Iterator[None]:
    """The family's two hooks through `torch.compile`, as a user could do it."""
    codec._encode, codec._decode = torch.compile(codec._encode), torch.compile(codec._decode)
    try:
        yield
    finally:
        del codec._encode, codec._decode


def make_weights(folder: str, path: Path) -> Path:
    """The tensors of a golden manifest as a file. To make them takes longer than most checks, so other processes do."""
    save_file(golden_state_dict(folder), path)
    return path


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
    "stream": ("graph", "differ", "of", "error"),
    "graph": ("op", "differ", "step_ms", "graph_ms", "hop_ms"),
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
    """Golden cases of codecs: those most asked for first, the largest at the end."""
    found = [path.parent.name for path in sorted(GOLDEN.glob("*/public.safetensors"))]
    return [*FIRST, *(name for name in found if name not in FIRST + LAST), *LAST]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="cuda, cpu, ... (CUDA > MPS > CPU)")
    parser.add_argument("--codecs", nargs="+", choices=folders(), metavar="C", help=f"of {', '.join(folders())}")
    parser.add_argument("--quick", action="store_true", help="short clips and few repeats: does the script run?")
    parser.add_argument("--sections", nargs="+", choices=EVERYTHING, default=EVERYTHING, metavar="S", help="only these")
    parser.add_argument("--compiled", action="store_true", help="speed under torch.compile too: a minute or so a codec")
    parser.add_argument("--minutes", type=float, default=9.5, help="begin no codec after this many minutes (9.5)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make weights meanwhile (2)")
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

    names = (args.codecs or folders()) if set(args.sections) & set(SECTIONS) else []
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as temporary, ProcessPoolExecutor(args.jobs, spawn) as pool:
        weights = {name: pool.submit(make_weights, name, Path(temporary, name)) for name in names}
        for row in check_metrics(device, args.quick) if "metric" in args.sections else ():
            keep(row)
        for name in names:
            if time.monotonic() - began > 60 * args.minutes:
                record["left_out"].append(name)
                weights[name].cancel()
                continue
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            path = weights[name].result()
            for row in Check.of(name, path, device, args.quick, args.compiled).run(args.sections):
                keep(row)
            path.unlink()
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
