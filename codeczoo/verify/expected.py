"""Numbers that the real checkpoints are known to give, from public test suites (`expected.json` names each one's
source), and the comparison with what a codec gives here."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeczoo.base.audio import Audio, AudioLike
from codeczoo.base.codec import BaseCodec
from codeczoo.base.inputs import read_clips
from codeczoo.data.open import open_source
from codeczoo.verify.checks import Check
from codeczoo.verify.promises import equal_share

FEATURE_TOLERANCE = 1e-3  # absolute, of values that are about 1 to 10
NORM_TOLERANCE = 1e-3  # relative
FIRST_CODEBOOK = {True: 0.9, False: 0.7}  # least share of equal codes, by whether the data set has the codec's rate
ERROR_TOLERANCE = {"encodec": 0.03}  # relative, by family: versions of the published code differ as much
USUAL_ERROR_TOLERANCE = 0.01
SUM_TOLERANCE = 0.02
DATA = "hf-internal-testing/librispeech_asr_dummy"

Records = Sequence[Mapping[str, Any]]


@functools.cache
def known() -> Mapping[str, Any]:
    """The content of expected.json: "records" by codec, and "superb" scores by name and kind of sound."""
    return json.loads((resources.files("codeczoo") / "verify" / "expected.json").read_text("utf-8"))


def records_of(codec: BaseCodec, more: Path | None = None) -> Records:
    """What is known of a codec's weights; with a file that `record` made, also what that says.

    Raises:
        ValueError: not such a file.
    """
    found = list(known()["records"])
    if more is not None:
        try:
            found += json.loads(more.read_text("utf-8"))["records"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{more}: not a file that --record wrote ({type(error).__name__}: {error})") from error
    return [record for record in found if record["codec"] in codec.variant.same_weights]


# -- without data ---------------------------------------------------------------------------------


def without_data(codec: BaseCodec, records: Records) -> Iterator[Check]:
    """The checks that need no recording."""
    made = False
    for record in records:
        if "sha256_of_float32_le" in record:
            yield from _hashes(codec, record["sha256_of_float32_le"])
        elif "quantizer_decode" in record:
            yield _features(codec, record)
        elif "signal" in record.get("input", {}):
            yield _sine(codec, record)
        elif "fingerprints" in record:
            yield _fingerprints(codec, record["fingerprints"])
        else:
            continue
        made = True
    if not made:
        yield Check.skipped("known outputs", "none are public that need no data")


def _hashes(codec: BaseCodec, hashes: Mapping[str, str]) -> Iterator[Check]:
    """DAC's codebooks and projections, byte by byte: {"codebooks [9,1024,8]": sha256, ...}."""
    levels = codec.get_submodule("quantizer").levels
    assert isinstance(levels, nn.ModuleList)
    tensors = {
        "codebooks": torch.stack([level.get_parameter("codebook") for level in levels]),
        "out_proj_bias": torch.stack([level.get_parameter("out_proj.bias") for level in levels]),
    }
    for name, tensor in tensors.items():
        expected = next(value for key, value in hashes.items() if key.startswith(f"{name} "))
        digest = hashlib.sha256(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes()).hexdigest()
        yield Check.of(f"bytes of {name}", digest == expected, digest[:16], expected[:16])


def _features(codec: BaseCodec, record: Mapping[str, Any]) -> Check:
    """What the quantiser makes of given codes."""
    codes = torch.tensor(record["input"]["codes [frame][codebook]"], device=codec.device).T[None]
    quantizer: Any = codec.get_submodule("quantizer")
    features = quantizer.decode(codes)[0].T.double().cpu()  # [frame, dim]
    expected = record["quantizer_decode"]
    first = torch.tensor(expected["first_8_dims_of_frames_0_to_3"], dtype=torch.float64)
    norms = torch.tensor(expected["l2_norm_of_each_frame"], dtype=torch.float64)
    apart = float((features[: len(first), : first.shape[1]] - first).abs().max())
    apart_norms = float((features.norm(dim=1)[: len(norms)] / norms - 1).abs().max())
    found = f"values within {apart:.1e}, norms of {len(norms)} frames within {apart_norms:.1e}"
    right = apart <= FEATURE_TOLERANCE and apart_norms <= NORM_TOLERANCE
    return Check.of("quantiser's output", right, found, f"{FEATURE_TOLERANCE:.0e}, {NORM_TOLERANCE:.0e}")


def _sine(codec: BaseCodec, record: Mapping[str, Any]) -> Check:
    """The first codes of half a second of 440 Hz."""
    n = np.arange(12000)
    sine = (0.5 * np.sin(2 * np.pi * 440 * n / record["input"]["sample_rate"])).astype(np.float32)
    codes = codec.encode(sine, record["input"]["sample_rate"]).codes[0].tolist()
    expected = record["codes_first_frames"]
    found = [row[: len(theirs)] for row, theirs in zip(codes, expected, strict=False)]
    return Check.of("codes of a sine", found == expected, _row(found[0]), _row(expected[0]))


def _fingerprints(codec: BaseCodec, expected: Mapping[str, float]) -> Check:
    """Each tensor's sum with weights that depend on the place, as `record` took it."""
    found = fingerprints(codec)
    wrong = [name for name, value in expected.items() if not np.isclose(found.get(name, np.nan), value, rtol=1e-5)]
    told = f"{len(expected) - len(wrong)} of {len(expected)} tensors as recorded"
    return Check.of("tensors' values", not wrong, f"{told}; {', '.join(wrong[:3])}" if wrong else told)


def fingerprints(codec: BaseCodec) -> dict[str, float]:
    """Of each tensor, one number that changes if values change or change places."""
    out = {}
    for name, tensor in codec.state_dict().items():
        values = tensor.detach().double().cpu().flatten()
        places = torch.arange(1, len(values) + 1, dtype=torch.float64)
        out[name] = float((values * torch.cos(places.sqrt() * 7)).sum() + values.abs().sum())
    return out


# -- with recordings ------------------------------------------------------------------------------


def with_data(codec: BaseCodec, records: Records, data: str | None) -> Iterator[Check]:
    """Codes, and what comes back, of clips of LibriSpeech dummy (73 clips of 16 kHz)."""
    wanted = [one for one in records if "dataset" in one.get("input", {})]
    if not wanted:
        yield Check.skipped("known codes", "none are public for this codec")
        return
    if data is None:
        yield Check.skipped("known codes", f"--data was not given: a folder of {DATA}, or its name")
        return
    source = open_source(data)
    entries = list(source.entries())
    for record in wanted:
        number = record["input"]["item"]
        if not -len(entries) <= number < len(entries):
            yield Check.skipped(f"clip {number}", f"{data} has {len(entries)} clips")
            continue
        content = source.read(entries[number])
        clip = read_clips({"bytes": content} if isinstance(content, bytes) else content)[0]
        audio = Audio.of(clip.waveform, clip.sample_rate)
        length, expected = int(audio.lengths[0]), record["input"].get("samples_at_16k")
        if audio.sample_rate != 16000 or expected not in (None, length):
            told = f"{length} samples at {audio.sample_rate} Hz instead of {expected or 'some'} at 16000"
            yield Check.of(f"clip {number}", False, f"{told}: not the clip that the numbers are of")
            continue
        yield from _clip(codec, record, audio, f"clip {number}")


def _clip(codec: BaseCodec, record: Mapping[str, Any], audio: Audio, name: str) -> Iterator[Check]:
    if max(codec.channels) > 1:
        audio = Audio.of(audio.waveform[0].expand(max(codec.channels), -1), audio.sample_rate)
    if "codes_first_frames" in record:
        theirs = torch.tensor(record["codes_first_frames"])
        rows = theirs.shape[0]
        codes = codec.encode(audio, num_codebooks=rows).codes[0].cpu()
        ours = codes[:, : theirs.shape[1]]
        share, all_of_them = equal_share(ours[:1], theirs[:1]), equal_share(ours, theirs)
        least = FIRST_CODEBOOK[codec.sample_rate == audio.sample_rate]
        found = f"{share:.0%} equal in the first codebook, {all_of_them:.0%} in all {rows}"
        yield Check.of(f"{name}: codes", share >= least, found, f"{least:.0%} in the first")
    if isinstance(error := record.get("codec_error"), float):
        ours_error = codec_error(audio, codec)
        allowed = ERROR_TOLERANCE.get(codec.variant.family, USUAL_ERROR_TOLERANCE)
        right = abs(ours_error / error - 1) <= allowed
        yield Check.of(f"{name}: codec error", right, f"{ours_error:.6f}", f"{error:.6f} within {allowed:.0%}")
    for rate, sums in record.get("sum_of_codes", {}).items() if codec.variant.family == "mimi" else ():
        total = int(codec.encode(audio, num_codebooks=int(rate)).codes.sum())
        right = any(abs(total / value - 1) <= SUM_TOLERANCE for value in sums.values())
        yield Check.of(f"{name}: sum of {rate} codebooks", right, str(total), " or ".join(map(str, sums.values())))


def codec_error(audio: AudioLike, codec: BaseCodec) -> float:
    """Both signals, cut to the shorter one and divided by their L2 norms: the root of the mean squared difference."""
    prepared = codec.prepare(audio)
    one = prepared.waveform[0]
    other = codec.decode(codec.encode(prepared, num_codebooks=len(codec.codebook_sizes))).waveform[0].to(one)
    shared = min(one.shape[-1], other.shape[-1])
    one, other = one[:, :shared].double(), other[:, :shared].double()
    return float((one / one.norm() - other / other.norm()).square().mean().sqrt())


# -- a record of one's own ------------------------------------------------------------------------


def record(codec: BaseCodec) -> list[dict[str, Any]]:
    """Records of weights that are trusted: of every tensor a fingerprint. Another form of the same weights, another
    machine or another day can be compared with it."""
    return [{"codec": codec.variant.root or codec.name, "fingerprints": fingerprints(codec)}]


def _row(codes: Sequence[int] | Tensor) -> str:
    return " ".join(str(int(code)) for code in codes)
