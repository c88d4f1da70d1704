"""What the metrics that networks compute cost, each beside the package that computes it elsewhere.

See `python perf/network_metrics.py --help`.
"""

# ruff: noqa: E402 (threads are set before NumPy and torch are imported)

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from codeczoo import metrics
from codeczoo.metrics import crepe_pitch, judged, opinion, speaker
from codeczoo.metrics.networks import models
from codeczoo.metrics.networks.models import networks
from codeczoo.metrics.pool import usable_cores
from codeczoo.weights.load import load_model
from perf.metrics import clips

RATE = 16_000

HELP = """\
Seconds a clip of each metric, for a batch of clips (speech and its Opus version) at 16 kHz, one thread, no process
beside; and of its own package, clip by clip as the package is called, in turn in one process. The least of --repeat
runs counts. Nothing is remembered from run to run. Of networks whose weights cannot be had both sides get random ones.

  dnsmos       speechmos        dnsmos.run
  distillmos   distillmos       ConvTransformerSQAModel
  resemblyzer  Resemblyzer      preprocess_wav, embed_utterance; both sides
  crepe        torchcrepe       predict (tiny, 50 to 550 Hz, Viterbi); both sides
  praat        (for comparison with crepe) the same metrics by Praat, in one worker process
  wavlm        transformers     WavLMForXVector, random weights; both sides
  ecapa        speechbrain      Fbank, ECAPA_TDNN, random weights; both sides

A package that is not installed is left out: pip install librosa resampy torchaudio xls-r-sqa speechbrain brings what
these import. Neither UTMOS nor Whisper has a package of its own to be compared with: SpeechMOS is fetched by torch.hub,
and Whisper runs inside transformers here too.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    reference, estimate = clips(args.clips, args.seconds, RATE)
    wanted = [name for name in PAIRS if not args.only or name in args.only]
    runs: dict[str, Callable[[], object]] = {}
    missing = {}
    with metrics.WorkerPool(1) as pool:
        for name in wanted:
            ours, theirs = PAIRS[name]
            ours(reference[:1], estimate[:1], pool)()  # networks are loaded, and code is compiled, before it counts
            runs[f"{name}, ours"] = ours(reference, estimate, pool)
            try:
                if theirs is not None:
                    theirs(reference[:1, 0], estimate[:1, 0])()
                    runs[f"{name}, package"] = theirs(reference[:, 0], estimate[:, 0])
            except ImportError as error:
                missing[name] = str(error)
        costs = least(runs, args.repeat, args.clips, pool)
    load = f", load {os.getloadavg()[0]:.1f} on {usable_cores()} cores" if hasattr(os, "getloadavg") else ""
    print(f"{args.clips} clips of {args.seconds:g} s at {RATE} Hz, one thread{load}\n")
    print(f"{'CPU seconds a clip':<16}{'ours':>10}{'package':>10}{'ours / package':>16}")
    for name in wanted:
        ours, package = costs[f"{name}, ours"], costs.get(f"{name}, package")
        told = f"{package:>10.4f}{ours / package:>16.2f}" if package else f"{'-':>10}"
        print(f"{name:<16}{ours:>10.4f}{told}")
    for name, why in missing.items():
        print(f"{name}: its package is left out: {why}")
    if args.json:
        args.json.write_text(
            json.dumps({"settings": vars(args) | {"json": str(args.json)}, "cpu_seconds_per_clip": costs}, indent=1)
        )


def least(runs: dict[str, Callable[[], object]], repeat: int, count: int, pool: metrics.WorkerPool) -> dict[str, float]:
    """The least CPU time a clip of each, of this process and its worker; all in turn."""
    from perf.metrics import cpu_seconds

    measured: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            for module in (opinion, speaker, crepe_pitch):
                module._memory = judged.Memory()
            began = cpu_seconds(pool)
            run()
            measured[name].append((cpu_seconds(pool) - began) / count)
    return {name: min(seconds) for name, seconds in measured.items()}


def ours(*names: str) -> Callable[..., Callable[[], object]]:
    def start(reference: torch.Tensor, estimate: torch.Tensor, pool: metrics.WorkerPool) -> Callable[[], object]:
        return lambda: metrics.evaluate(reference, estimate, RATE, names, pool=pool)

    return start


def of_random_weights(name: str, network: str) -> Callable[..., Callable[[], object]]:
    def start(reference: torch.Tensor, estimate: torch.Tensor, pool: metrics.WorkerPool) -> Callable[[], object]:
        loaded = models.Network(load_model(networks()[network], "random", device="cpu"), "random", network)

        def run() -> object:
            before, speaker.network = speaker.network, lambda *_: loaded
            try:
                return metrics.evaluate(reference, estimate, RATE, name, pool=pool)
            finally:
                speaker.network = before

        return run

    return start


def dnsmos(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    from speechmos import dnsmos

    return lambda: [dnsmos.run(clip.clamp(-1, 1).numpy(), sr=RATE) for clip in y]


def distillmos(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    from distillmos import ConvTransformerSQAModel

    model = ConvTransformerSQAModel().eval()

    def run() -> object:
        with torch.no_grad():
            return [model(clip[None]) for clip in y]

    return run


def resemblyzer(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda: [encoder.embed_utterance(preprocess_wav(clip.numpy())) for side in (x, y) for clip in side]


def torchcrepe(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    import torchcrepe

    def one(clip: torch.Tensor) -> Any:
        return torchcrepe.predict(clip[None], RATE, 160, 50.0, 550.0, "tiny", batch_size=512, return_periodicity=True)

    return lambda: [one(clip) for side in (x, y) for clip in side]


def transformers_wavlm(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    from transformers import WavLMConfig, WavLMForXVector

    model = WavLMForXVector(WavLMConfig(use_weighted_layer_sum=True)).eval()

    def run() -> object:
        with torch.no_grad():
            return [model(clip[None]).embeddings for side in (x, y) for clip in side]

    return run


def speechbrain(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    features = Fbank(n_mels=80, left_frames=0, right_frames=0)
    normalise = InputNormalization(norm_type="sentence", std_norm=False)
    model = ECAPA_TDNN(80, channels=[1024] * 4 + [3072]).eval()

    def run() -> object:
        with torch.no_grad():
            return [
                model(normalise(features(clip[None]), torch.ones(1)), torch.ones(1)) for side in (x, y) for clip in side
            ]

    return run


F0 = ("f0_corr", "f0_rmse", "vuv_error", "f0_gpe", "f0_ffe")
PAIRS: dict[str, tuple[Callable[..., Callable[[], object]], Callable[..., Callable[[], object]] | None]] = {
    "dnsmos": (ours("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"), dnsmos),
    "distillmos": (ours("distillmos"), distillmos),
    "resemblyzer": (ours("sim_resemblyzer"), resemblyzer),
    "crepe": (ours(*(f"{name}_crepe" for name in F0)), torchcrepe),
    "praat": (ours(*F0), None),
    "wavlm": (of_random_weights("sim_wavlm", "wavlm_base_plus_sv"), transformers_wavlm),
    "ecapa": (of_random_weights("sim_ecapa", "ecapa_voxceleb"), speechbrain),
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="perf/network_metrics.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--clips", type=int, default=8, metavar="B", help="clips in the batch (default 8)")
    result.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of each (default 4)")
    result.add_argument("--only", nargs="+", choices=list(PAIRS), metavar="NAME", help="these only")
    result.add_argument(
        "--repeat", type=int, default=2, metavar="N", help="runs, of which the least counts (default 2)"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return result


if __name__ == "__main__":
    main()
