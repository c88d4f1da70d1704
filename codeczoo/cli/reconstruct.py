"""`codeczoo reconstruct`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from codeczoo.cli.arguments import FORMATS, add_audio_inputs, add_codec, add_output, source_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from codeczoo.base.audio import Audio
    from codeczoo.base.codec import BaseCodec
    from codeczoo.cli.batch_job import ClipOutput
    from codeczoo.cli.outputs import Writer

EPILOG = """
examples:
  %(prog)s talk.wav --codec opus_12k -o talk.opus.wav
  %(prog)s recordings/ --codec mimi -o heard/ --format flac
      a folder, mirrored: recordings/a/b.mp3 becomes heard/a/b.flac
  %(prog)s - --codec encodec_24k --bitrate 1500 < talk.wav | aplay

The output has the input's rate, length and channel count, so that the two can be compared sample by sample. WAV and
FLAC hold 16 bit. Outputs that are there already are kept.

exit code: 0 all clips are reconstructed; 1 wrong usage, or no such input; 3 some clips failed (each is named on
standard error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Audio to codes and back: hear what a codec does to it."
    parser.epilog = EPILOG
    add_codec(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: by OUT's suffix, else wav")
    add_output(parser, "files", "reconstructed")
    add_audio_inputs(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.catalogue import find_variant
    from codeczoo.cli.batch_job import run_on_audio
    from codeczoo.cli.inputs import open_audio
    from codeczoo.cli.outputs import audio_outputs

    if reason := find_variant(args.codec).decode_unsupported_reason:
        raise NotImplementedError(reason)
    inputs = open_audio(args.inputs, **source_arguments(args))
    outputs, make_writer = audio_outputs(args, "reconstructed", args.inputs, inputs.count)
    return run_on_audio(args, inputs, outputs, partial(_reconstruct, make_writer=make_writer), "reconstructed")


def _reconstruct(
    codec: BaseCodec, clips: Sequence[Audio], make_writer: Callable[[Tensor, int], Writer]
) -> list[ClipOutput]:
    from codeczoo.cli.batch_job import ClipOutput

    codes = codec.encode(clips)
    decoded = codec.decode(codes)
    outputs = []
    for clip, back, frames, bits in zip(clips, decoded, codes.lengths.tolist(), codes.num_bits.tolist(), strict=True):
        seconds = float(clip.seconds[0])
        facts = {
            "codec": codec.name,
            "seconds": seconds,
            "sample_rate": clip.sample_rate,
            "channels": clip.channels,
            "frames": frames,
            "bits": bits,
            "bitrate": bits / seconds,
        }
        waveform = codec.match_input(back, clip).waveform[0].cpu()
        outputs.append(ClipOutput(make_writer(waveform, clip.sample_rate), facts))
    return outputs
