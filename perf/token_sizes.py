"""How many bytes the codes of the embedded clips take as `.czt` and in other forms.

    python -m perf.token_sizes --codecs encodec_24k mimi --weights random

Run it from the root of the repository. All embedded clips go through each codec; a form's size is that of all clips
together in one file, or in one file a clip where the form holds one. Packed sizes do not depend on the weights, that of
entropy-coded codes does: with random weights a codec uses few entries, and the figure says nothing of real speech.
`bound` is the empirical entropy of each codebook, over all clips: no static model of these codes can do better, and the
model itself is not counted in it. zstd is at level 19, over the int16 array of all clips, codebook by codebook.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

from codeczoo import Audio, Codes, load_codec
from codeczoo.base.codes_czt import clips_of, header_of
from codeczoo.codecs.formats.ecdc import to_ecdc
from codeczoo.czt import write_czt
from codeczoo.data.embedded import embedded_clips


def czt_size(codes: list[Codes], entropy: bool | None) -> int:
    file = io.BytesIO()
    write_czt(file, header_of(codes[0]), [clip for one in codes for clip in clips_of(one)], entropy)
    return len(file.getvalue())


def entropy_bits(codes: list[Codes]) -> float:
    """Codes times the entropy of their codebook, over all clips."""
    total = 0.0
    for k in range(codes[0].num_codebooks):
        row = np.concatenate([part.numpy() for one in codes for part in one.codebook(k)])
        counts = np.unique(row, return_counts=True)[1]
        total -= float((counts * np.log2(counts / len(row))).sum())
    return total


def sizes_of(codes: list[Codes]) -> dict[str, int]:
    """Bytes of each form."""
    import zstandard

    rows = [
        np.concatenate([p.numpy() for one in codes for p in one.codebook(k)]) for k in range(codes[0].num_codebooks)
    ]
    raw = np.concatenate(rows).astype("<i2").tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        safetensors = 0
        for one in codes:
            one.save(path)
            safetensors += path.stat().st_size
    found = {
        "int16 .npy": len(raw) + 128,
        "safetensors": safetensors,
        ".czt packed": czt_size(codes, False),
        ".czt": czt_size(codes, None),
        "bound": round(entropy_bits(codes) / 8),
        "zstd": len(zstandard.ZstdCompressor(level=19).compress(raw)),
    }
    if codes[0].codec.startswith("encodec"):
        found[".ecdc"] = sum(len(to_ecdc(one)) for one in codes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes of tokens in several forms, on the embedded clips.")
    parser.add_argument("--codecs", nargs="+", default=["encodec_24k", "mimi", "snac_24khz"], metavar="NAME")
    parser.add_argument("--weights", default="random", help="random (default), or published")
    args = parser.parse_args()
    clips = [Audio.load(path) for path in embedded_clips()]
    seconds = sum(float(clip.seconds[0]) for clip in clips)
    print(f"{len(clips)} clips, {seconds:.1f} s\n")
    flac = 0
    for path in embedded_clips():
        samples, rate = sf.read(path)
        file = io.BytesIO()
        sf.write(file, samples, rate, format="FLAC")
        flac += len(file.getvalue())
    print(f"FLAC of the originals: {flac} bytes")
    opus = load_codec("opus_12k")
    print(f"Opus at 12 kbit/s: {round(sum(float(opus.encode(clip).num_bits[0]) for clip in clips) / 8)} bytes\n")
    for name in args.codecs:
        codec = load_codec(name, weights="random" if args.weights == "random" else None)
        sizes = sizes_of([codec.encode(clip).cpu() for clip in clips])
        print("| codec | " + " | ".join(sizes) + " |\n|" + "---|" * (len(sizes) + 1))
        print(f"| {name} | " + " | ".join(f"{size:,}" for size in sizes.values()) + " |\n")


if __name__ == "__main__":
    main()
