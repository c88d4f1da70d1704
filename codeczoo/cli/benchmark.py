"""`codeczoo benchmark`, which is also `python benchmarking.py`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from codeczoo.base.errors import printable
from codeczoo.benchmark.protocols import PROTOCOLS
from codeczoo.benchmark.run import DEFAULT_CODECS, run_benchmark
from codeczoo.benchmark.settings import Settings
from codeczoo.benchmark.summary import table
from codeczoo.cli.arguments import (
    DATASET,
    Parser,
    add_device_arguments,
    add_machine_arguments,
    add_reader_arguments,
    add_source_arguments,
    add_weights,
    source_arguments,
    weights_for,
    work_arguments,
)
from codeczoo.metrics import RUN_METRICS, metric_names
from codeczoo.metrics.networks.recogniser import HUBERT, WHISPER
from codeczoo.metrics.speaker_embedding import SPEAKER_NETWORKS
from codeczoo.report.export import EXPORTS
from codeczoo.report.presets import PRESETS, with_columns
from codeczoo.report.results import read_report

SHOWN_METRICS = ("mel", "stft", "si_sdr", "pesq_wb", "stoi", "estoi", "f0_corr", "vuv_error", "lsd")

EPILOG = """
examples:
  %(prog)s
      zoo_16k and the classical codecs on the embedded clips: no download, about a minute
  %(prog)s --dataset recordings/ --codecs mimi dac_44k opus_12k --batch 200 --out results/
      every audio file below a folder
  %(prog)s --dataset test.csv --codecs encodec_24k_6kbps --metrics mel stoi pesq_wb
      a manifest with a column path (columns id and category are optional)
  %(prog)s --dataset voidful/codec-superb-tiny --codecs mimi dac_44k --batch 200 --out tiny/
      a data set of the hub, all splits; see --split, --limit and --streaming
  %(prog)s --dataset Codec-SUPERB/some_synth --protocol superb-2026-05
      reconstructions that the data set holds (a split original, and one a codec): metrics only
  %(prog)s --dataset LibriSpeech/test-clean --codecs mimi dac_16k --protocol paper-speech
      the numbers that papers report of speech; results/table.tex, .md and .csv are the table
  torchrun --nproc-per-node 8 benchmarking.py ... or srun python benchmarking.py ...
      each process takes its share of the batches, on its own GPU; all write to the same --out
  %(prog)s ... --engine ray --address auto
      the same on a Ray cluster

A run that was stopped goes on where it stopped, when it is started again with the same settings. Codecs can be added
to --out later; a codec that is there already must have the same weights as before.

exit code: 0 all clips are measured; 1 wrong usage, or something is missing; 3 some clips failed
(summary.json names them); 5 no clip failed, but a metric has no values because its network or package is not there
(weights that are not in the cache and cannot be downloaded, a package that is not installed: the log says which); 4
neither, but a metric is undefined on a clip (silence has no pitch).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Encode, decode and measure a data set with one or more codecs."
    parser.epilog = EPILOG
    parser.add_argument(
        "--dataset",
        metavar="D",
        help=f"{DATASET}; default: embedded clips",
    )
    parser.add_argument(
        "--codecs",
        nargs="+",
        metavar="NAME",
        default=[],
        help="names; `codeczoo list` shows them (default: those without a download, " + " ".join(DEFAULT_CODECS) + ")",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="M",
        default=[],
        help=f"of: {', '.join([*metric_names(), *RUN_METRICS])} (default: those of the protocol)",
    )
    parser.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default="zoo",
        help="how clips are coded and compared, and by which metrics (default zoo); superb-2026-05 repeats "
        "Codec-SUPERB's choices; paper-speech: what papers report of speech, with the table as LaTeX, Markdown and "
        "CSV; codec-superb-full: Codec-SUPERB's metrics and its applications, as far as public models carry them",
    )
    parser.add_argument(
        "-o", "--out", default="results", metavar="DIR", help="folder of the results (default: results)"
    )
    add_weights(parser)
    parser.add_argument(
        "--metric-workers", type=int, metavar="N", help="processes for PESQ and pitch (default: by cores)"
    )
    parser.add_argument(
        "--asr",
        metavar="MODEL[@REVISION]",
        help="recogniser of wer, cer, dwer, dcer: a Whisper or a CTC network of the hub, or a folder (default: "
        f"{WHISPER}; papers with LibriSpeech take {HUBERT})",
    )
    parser.add_argument("--asr-language", metavar="CODE", help="language of what is said, for Whisper (default: en)")
    parser.add_argument(
        "--save-audio",
        type=int,
        nargs="?",
        const=-1,
        default=0,
        metavar="N",
        help="write originals and reconstructions of the first N clips as FLAC (no number: of all)",
    )
    parser.add_argument(
        "--trials",
        metavar="FILE",
        help="trial list of speaker verification (VoxCeleb's veri_test2.txt, or Kaldi's form), for codec-superb-full: "
        "keeps the audio of all clips",
    )
    parser.add_argument(
        "--speaker-network",
        choices=SPEAKER_NETWORKS,
        default=SPEAKER_NETWORKS[0],
        help=f"that judges the trials (default {SPEAKER_NETWORKS[0]}; the weights of resemblyzer lie in its package)",
    )
    parser.add_argument("--overwrite", action="store_true", help="discard results that are there, and start again")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    add_source_arguments(parser)
    add_device_arguments(parser)
    add_reader_arguments(parser)
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    try:
        settings = Settings(
            codecs=tuple(dict.fromkeys(args.codecs)),
            dataset=args.dataset,
            protocol=args.protocol,
            metrics=tuple(dict.fromkeys(args.metrics)),
            out=args.out,
            weights=weights_for(args.codecs, args.weights),
            metric_workers=args.metric_workers,
            save_audio=args.save_audio,
            trials=args.trials,
            speaker_network=args.speaker_network,
            asr=args.asr,
            asr_language=args.asr_language,
            overwrite=args.overwrite,
            progress=not args.quiet,
            **source_arguments(args),
            **work_arguments(args),
        )
        summary = run_benchmark(settings)
        tables = [] if summary is None else write_tables(settings.out, args.protocol)
    except (KeyError, ValueError, OSError, ImportError, NotImplementedError) as error:
        sys.stderr.write(f"error: {error.args[0] if isinstance(error, KeyError) and error.args else error}\n")
        return 1
    if summary is None:
        if not args.quiet:
            sys.stdout.write(f"this process's share is done; others are still at work in {settings.out}\n")
        return 0
    if not args.quiet:
        sys.stdout.write(f"\n{table(summary, shown_metrics(args, summary))}\n\n{failures_text(summary)}")
        sys.stdout.write(f"{applications_text(summary)}{missing_text(summary)}results in {settings.out}\n")
        sys.stdout.write("".join(f"table in {path}\n" for path in tables))
    return exit_code(summary)


def failures_text(summary: dict) -> str:
    """Every clip that failed, with stage and reason, a line each; "" where none did."""
    lines = [
        printable(f"{codec}: {failure['id']}: {failure['stage']}: {failure['reason']}\n")
        for codec, entry in summary["codecs"].items()
        for failure in entry["failed"]
    ]
    return "failed:\n" + "".join(f"  {line}" for line in lines) + "\n" if lines else ""


def shown_metrics(args: argparse.Namespace, summary: dict) -> list[str]:
    """Of the table: those that were asked for, by name or by a protocol; of all the default ones the most telling."""
    chosen = SHOWN_METRICS if not args.metrics and args.protocol == "zoo" else ()
    return [name for name in chosen if name in summary["metrics"]] or list(summary["metrics"])


def write_tables(out: str, protocol: str) -> list[Path]:
    """The table of a protocol that has one (`report.presets`), beside its results: LaTeX, Markdown, CSV."""
    if protocol not in PRESETS:
        return []
    report = with_columns(read_report([out]), protocol)
    found = []
    for name in ("tex", "md", "csv"):
        path = Path(out) / f"table.{name}"
        path.write_text(EXPORTS[name](report), "utf-8", newline="")
        found.append(path)
    return found


def applications_text(summary: dict) -> str:
    """One line an application and codec, or why it was not done."""
    lines = []
    for step in summary.get("applications", ()):
        if not step["done"]:
            lines.append(f"{step['name']}: not done: {step['reason']}")
        for codec, found in (step.get("codecs") or {}).items() if step["done"] else ():
            numbers = [
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items() if v not in ({}, None)
            ]
            lines.append(f"{step['name']}: {codec}: {', '.join(numbers)}")
    return "applications:\n" + "".join(printable(f"  {line}\n") for line in lines) + "\n" if lines else ""


def missing_text(summary: dict) -> str:
    missing = summary.get("missing", {})
    told = ", ".join(f"{name} ({reason.replace('_', ' ')})" for name, reason in missing.items())
    return f"no values, the log says why: {told}\n" if told else ""


def exit_code(summary: dict) -> int:
    """3 where a clip failed, 4 where a metric is undefined, else 0."""
    if any(entry["failed"] for entry in summary["codecs"].values()):
        return 3
    if summary.get("missing"):
        return 5
    measured = [metric for entry in summary["codecs"].values() for metric in entry["overall"].values()]
    undefined = [one["undefined"] for metric in measured for one in (metric, metric.get("against_original", metric))]
    return 4 if any(undefined) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command by itself; returns the exit code."""
    parser = Parser(prog="benchmarking.py")
    add_arguments(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return run(args)


__all__ = ["add_arguments", "main", "run"]
