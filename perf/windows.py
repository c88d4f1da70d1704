"""The error of chunking where it is not exact: long clips in chunks against the same clips whole.

    python perf/windows.py --codecs wavtokenizer_75 --weights random --seconds 6 10 20 30

The clip is all embedded clips, one after another. For encoders that are not exact in chunks it prints the share of
equal codes; for decoders, the signal-to-difference ratio and the log-spectral distance (RMS over bins, mean over
frames, STFT of 1024 points) of equal codes decoded in chunks and whole.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from codeczoo import load_codec
from codeczoo.base import audio_io
from codeczoo.base.resampling import resample
from codeczoo.data import embedded_clips

WHOLE = 1e6  # seconds: no clip is chunked


def embedded_sound(sample_rate: int) -> Tensor:
    """[1, T]: all embedded clips, mixed to one channel."""
    clips = [audio_io.read(path) for path in embedded_clips()]
    return torch.cat([resample(clip.mean(0, keepdim=True), rate, sample_rate) for clip, rate in clips], dim=-1)


def ratio(truth: Tensor, other: Tensor) -> float:
    """In dB."""
    return float(10 * torch.log10(truth.square().sum() / (truth - other).square().sum()))


def log_spectral_distance(truth: Tensor, other: Tensor) -> float:
    """In dB."""
    window = torch.hann_window(1024)
    spectra = [torch.stft(x, 1024, 256, window=window, return_complex=True) for x in (truth, other)]
    levels = [20 * torch.log10(x.abs().clamp(min=1e-5)) for x in spectra]
    return float((levels[0] - levels[1]).square().mean(-2).sqrt().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", required=True)
    parser.add_argument("--weights", help="a path, or 'random'; published weights if left out")
    parser.add_argument("--seconds", nargs="+", type=float, default=[6.0, 10.0, 20.0, 30.0], help="of a pass")
    args = parser.parse_args()
    for name in args.codecs:
        codec = load_codec(name, weights=args.weights, device="cpu", max_chunk_seconds=WHOLE)
        clip = embedded_sound(codec.sample_rate)
        codes = codec.encode(clip, codec.sample_rate)
        audio = codec.decode(codes).waveform[:, 0] if codec.supports_decode else None
        print(f"{codec.name}, {clip.shape[-1] / codec.sample_rate:.0f} s, weights {codec.weights_source}")
        for seconds in args.seconds:
            codec.max_chunk_seconds = seconds
            line = f"  passes of {seconds:4g} s:"
            if "encode" in codec.approximate_when_long:
                share = (codec.encode(clip, codec.sample_rate).codes == codes.codes).double().mean()
                line += f" {float(share):7.2%} of the codes agree"
            if "decode" in codec.approximate_when_long and audio is not None:
                passes = codec.decode(codes).waveform[:, 0]
                line += f" audio {ratio(audio, passes):5.1f} dB,"
                line += f" spectra {log_spectral_distance(audio, passes):4.1f} dB apart"
            print(line, flush=True)


if __name__ == "__main__":
    main()
