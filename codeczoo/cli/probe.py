"""`codeczoo probe`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codeczoo.base.errors import printable
from codeczoo.cli.arguments import (
    DATASET,
    add_device_arguments,
    add_names,
    add_reader_arguments,
    add_source_arguments,
    add_weights,
    codec_names,
    count,
    positive_int,
    source_arguments,
    weights_for,
)
from codeczoo.probe.files import PROBE, check_folder, probe_text, write_probe
from codeczoo.probe.run import probe
from codeczoo.probe.settings import ProbeSettings

EPILOG = """
what is found, in --out:
  codebooks.csv           entropy (as counted, and with Miller and Madow's correction), perplexity, dead entries
  mutual_information.csv  of each pair of codebooks, beside what shuffled codes give: `excess` is what is left
  stability.csv           share of equal codes when the audio is shifted by a sample, gets noise at 40 dB SNR or 1 dB of
                          gain, and when codes are decoded and encoded again, --repeats times
  ngrams.csv              bits a code of held-out clips takes after 0, 1 and 2 codes of its codebook (Witten-Bell)
  probe.json              all of it
  index.html              the same as a page with plots; it takes the extra [report]
docs/probe.md says how each is computed, and what it is worth on little data.

examples:
  %(prog)s zoo_16k
      the embedded clips (13, half a minute): to try it; entropies and n-grams need hours of audio
  %(prog)s mimi dac_44k snac_24khz --dataset recordings/ --out probe/
  %(prog)s mimi --num-codebooks 32 --dataset openslr/librispeech_asr --split test.clean --out mimi/
  %(prog)s encodec_24k --weights random --repeats 0
      without a download: random weights, and the results say so

Memory does not grow with the data set: codes are counted as they come; mutual information and n-grams are of a sample
of clips of --sample frames (whole clips, chosen by their ids, the same ones each time).

exit code: 0 all clips are probed; 1 wrong usage, or something is missing; 3 some clips failed (each is named).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "What the codes of a data set are like: entropy, use, dependence, stability, predictability."
    parser.epilog = EPILOG
    add_codings(parser, out="probe")
    group = parser.add_argument_group("what")
    group.add_argument("--shift", type=positive_int, default=1, metavar="N", help="in samples of the codec's rate (1)")
    group.add_argument("--snr", type=float, default=40.0, metavar="DB", help="of the added noise (40)")
    group.add_argument("--gain", type=float, default=1.0, metavar="DB", help="(1)")
    group.add_argument(
        "--repeats", type=count, default=5, metavar="N", help="decode and encode again so often (5; 0: not at all)"
    )
    group.add_argument("--order", type=positive_int, default=3, metavar="N", help="of the n-grams, at most (3)")
    group.add_argument(
        "--sample", type=positive_int, default=1 << 20, metavar="N", help="frames for pairs and n-grams (1,048,576)"
    )
    group.add_argument(
        "--shuffles", type=positive_int, default=20, metavar="N", help="for the baseline of mutual information (20)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    add_source_arguments(parser)
    add_device_arguments(parser)
    add_reader_arguments(parser)


def add_codings(parser: argparse.ArgumentParser, out: str) -> None:
    """Which codecs are looked at, on which clips, and where what is found goes (default: `out`)."""
    add_names(parser)
    parser.add_argument("--dataset", metavar="D", help=f"{DATASET}; default: embedded clips")
    parser.add_argument(
        "-o", "--out", default=out, metavar="DIR", help=f"folder of the results and the page (default: {out})"
    )
    add_weights(parser)
    parser.add_argument("--num-codebooks", type=positive_int, metavar="K", help="how many codebooks (default: own)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    names = codec_names(args.names)
    settings = ProbeSettings(
        codecs=names,
        out=args.out,
        dataset=args.dataset,
        weights=weights_for(names, args.weights),
        num_codebooks=args.num_codebooks,
        snr=args.snr,
        gain=args.gain,
        shift=args.shift,
        repeats=args.repeats,
        order=args.order,
        sample_frames=args.sample,
        shuffles=args.shuffles,
        batch=args.batch,
        max_batch_seconds=args.max_batch_seconds,
        device=args.device,
        precision=args.precision,
        compile=args.compile,
        workers=args.workers,
        progress=not args.quiet,
        **source_arguments(args),
    )
    check_folder(args.out, PROBE, args.overwrite)
    result = probe(settings)
    folder = write_probe(result, args.out)
    failed = [failure for codec in result["codecs"] for failure in codec["failed"]]
    for failure in failed:
        sys.stderr.write(printable(f"failed: {failure['id']}: {failure['stage']}: {failure['reason']}\n"))
    page = write_page(folder)
    if not args.quiet:
        sys.stdout.write(f"{probe_text(result)}\nresults in {page or folder}\n")
    return 1 if result["unavailable"] else 3 if failed else 0


def write_page(folder: Path) -> Path | None:
    """The page of the results in a folder: its index.html; None, and a word of it, where its packages are missing."""
    from codeczoo.cli.report import check_installed

    try:
        check_installed()
    except ImportError as error:
        sys.stderr.write(f"no page: {error}\n")
        return None
    from codeczoo.report.code_pages import write_code_page

    return write_code_page(folder)
