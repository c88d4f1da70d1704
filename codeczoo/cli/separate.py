"""`codeczoo separate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeczoo.cli.arguments import (
    FORMATS,
    add_device,
    add_inputs,
    add_source_arguments,
    positive_float,
    source_arguments,
)

if TYPE_CHECKING:
    from torch import Tensor

    from codeczoo.cli.inputs import InputClip, Inputs
    from codeczoo.cli.outputs import Outputs, Writer
    from codeczoo.separation.separator import Separator

EPILOG = """
examples:
  %(prog)s song.wav -o stems/
      stems/song/drums.wav, stems/song/bass.wav and so on
  %(prog)s album/ --model htdemucs_ft --stems vocals -o stems/ --format flac
      a folder, mirrored: album/1/a.mp3 becomes stems/1/a/vocals.flac
  %(prog)s song.wav --shifts 2 --overlap 0.5 -o stems/
      better by a little, in three times the time

Stems have the separator's rate, 44.1 kHz, are stereo, and as long as the input. WAV and FLAC hold 16 bit; samples over
full scale are clipped. A clip whose stems are all there already is kept and counts as done.

exit code: 0 all clips are separated; 1 wrong usage, or nothing there; 3 some clips failed (each is named on standard
error); 130 stopped by Ctrl-C or a closed pipe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Music into its stems: drums, bass, other, vocals."
    parser.epilog = EPILOG
    add_inputs(parser)
    parser.add_argument("-o", "--out", default="stems", metavar="OUT", help="a folder (default: stems/)")
    parser.add_argument(
        "--model",
        default="htdemucs",
        metavar="NAME",
        help="htdemucs (default), htdemucs_ft (four times the time), htdemucs_6s (guitar and piano too), hdemucs_mmi",
    )
    parser.add_argument(
        "--weights", metavar="PATH", help="file, folder, FILE::ENTRY or random (default: the published ones)"
    )
    parser.add_argument("--stems", nargs="+", metavar="STEM", help="only these (default: all)")
    parser.add_argument("--format", choices=FORMATS, default="wav", help="default: wav")
    parser.add_argument("--overwrite", action="store_true", help="write stems that are there already once more")
    parser.add_argument("--json", action="store_true", help="a line of JSON a clip on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no closing words; failures are named")
    add_source_arguments(parser)
    group = parser.add_argument_group("how")
    group.add_argument("--overlap", type=float, default=0.25, metavar="P", help="of segments, 0 to below 1 (0.25)")
    group.add_argument("--segment", type=positive_float, metavar="S", help="seconds of one (default: the model's own)")
    group.add_argument(
        "--shifts",
        type=int,
        default=0,
        metavar="N",
        help="separate N times with random delays and average; --seed fixes them (default 0: once, without)",
    )
    add_device(group, "fast, fastest: TF32 where there is some (default: exact)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.base.errors import first_line
    from codeczoo.cli.inputs import open_audio
    from codeczoo.cli.outputs import audio_outputs
    from codeczoo.cli.progress import Progress
    from codeczoo.separation.registry import find_separator, load_separator

    find_separator(args.model)
    inputs = open_audio(args.inputs, **source_arguments(args))
    args.out = args.out.rstrip("/") + "/"  # a folder, whatever it is called
    outputs, form = audio_outputs(args, "stems", args.inputs, inputs.count)
    separator = load_separator(args.model, args.weights, device=args.device, precision=args.precision)
    stems = list(separator.stem_places(args.stems))
    listed = inputs.entries() if inputs.count is not None else ()
    files = {clip.key.resolve() for clip in listed if isinstance(clip.key, Path)}
    with Progress("separated", inputs.count, outputs, json_lines=args.json, quiet=args.quiet) as progress:
        for clip in inputs.entries():
            names = {stem: f"{clip.name}/{stem}" for stem in stems}
            paths = {stem: str(outputs.path(name)) for stem, name in names.items()}
            facts: dict[str, Any] = {"model": separator.name, "output": paths}
            if taken := [path for path in paths.values() if Path(path).resolve() in files]:
                raise ValueError(f"{taken[0]} is an input, and would be written over: choose another -o")
            if all(outputs.is_done(name) for name in names.values()):
                progress.kept(clip.id, clip.name, facts)
                continue
            try:
                facts |= _separate(args, separator, inputs, clip, names, outputs, form)
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever it is, it is this clip's failure)
                progress.failed(clip.id, first_line(error))
            else:
                progress.done(clip.id, clip.name, facts)
        return progress.close()


def _separate(
    args: argparse.Namespace,
    separator: Separator,
    inputs: Inputs,
    clip: InputClip,
    names: dict[str, str],
    outputs: Outputs,
    form: Callable[[Tensor, int], Writer],
) -> dict[str, Any]:
    """Separate one clip and write its stems; what is told of it."""
    from codeczoo.base.audio import Audio
    from codeczoo.data.read import decoded

    clip.check_readable()
    found = separator.separate(
        Audio.of(*decoded(inputs.read(clip))),
        stems=list(names),
        overlap=args.overlap,
        segment=args.segment,
        shifts=args.shifts,
        seed=args.seed,
        progress=not args.quiet and inputs.count == 1,
    )
    seconds = 0.0
    while found:  # each is let go when it is written: of a long clip they are most of the memory
        stem, audio = found.popitem()
        seconds = float(audio.seconds[0])
        outputs.write(names[stem], form(audio.waveform[0].cpu(), audio.sample_rate))
    return {"seconds": seconds, "sample_rate": separator.sample_rate, "channels": 2}
