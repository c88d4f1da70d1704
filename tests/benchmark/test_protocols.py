"""What each protocol compares with what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from codeczoo import Audio, load_codec
from codeczoo.benchmark.protocols import PROTOCOLS, CodecOutput, find_protocol
from codeczoo.benchmark.run import run_benchmark
from codeczoo.benchmark.settings import Settings
from codeczoo.data.open import Entry, Source
from codeczoo.metrics import evaluate
from tests.support.small import codec_of

RECORDINGS = Path(__file__).parents[1] / "golden" / "metrics" / "audio"


def code(protocol: str, name: str, audio: Audio) -> CodecOutput:
    stages: list[str] = []
    coded = PROTOCOLS[protocol].code(codec_of(name, "small", torch.float32), audio, stages.append)
    assert stages[0] == "encode"
    return coded


def noise(seconds: float, rate: int, channels: int = 1) -> Audio:
    samples = np.random.default_rng(0).standard_normal((channels, int(seconds * rate))).astype(np.float32) * 0.1
    return Audio.of(samples, rate)


def test_zoo_is_encode_and_decode_at_the_clips_own_rate_and_channels() -> None:
    original = noise(0.4, 22050, channels=2)
    coded = code("zoo", "encodec_24k", original)
    codec = codec_of("encodec_24k", "small", torch.float32)
    assert coded.reference is original and coded.estimate is not None
    assert torch.equal(coded.estimate.waveform, codec.reconstruct(original).waveform)
    assert coded.estimate.waveform.shape == original.waveform.shape


def test_superb_resamples_with_soxr_and_mixes_to_mono() -> None:
    original = noise(0.4, 22050, channels=2)
    coded = code("superb-2026-05", "encodec_24k", original)
    codec = codec_of("encodec_24k", "small", torch.float32)
    mono = original.waveform.mean(1)[0].numpy()
    taken = soxr.resample(mono.astype(np.float64), 22050, 24000, quality="HQ").astype(np.float32)
    back = codec.reconstruct(taken, 24000).waveform[0, 0].numpy()
    expected = soxr.resample(back.astype(np.float64), 24000, 22050, quality="HQ").astype(np.float32)
    assert coded.reference.channels == 1 and coded.estimate is not None
    assert torch.equal(coded.reference.waveform[0, 0], torch.from_numpy(mono))
    # A resampled clip has ceil(length * new / old) samples; what soxr gives beyond or short of that is cut or zero.
    both = min(len(expected), coded.estimate.waveform.shape[-1])
    assert abs(len(expected) - coded.estimate.waveform.shape[-1]) <= 2
    np.testing.assert_allclose(coded.estimate.waveform[0, 0, :both].numpy(), expected[:both], atol=1e-5)


@pytest.mark.parametrize("name", ["dac_16k", "funcodec_en_libritts_16k_nq32ds320"])
def test_superb_hands_dac_and_funcodec_samples_at_the_wrong_rate(name: str) -> None:
    original = noise(0.6, 48000)
    coded = code("superb-2026-05", name, original)
    codec = codec_of(name, "small", torch.float32)
    mistaken = Audio(original.waveform, original.lengths, 16000)  # three times as long, as the codec hears it
    assert coded.estimate is not None and coded.codes is not None and coded.estimate.sample_rate == 48000
    if name.startswith("dac"):
        file = codec.compress(mistaken)
        assert torch.equal(coded.codes.codes, file.codes)
        assert torch.equal(coded.estimate.waveform, codec.decompress(file).waveform)
    else:
        assert torch.equal(coded.codes.codes, codec.encode(mistaken).codes)
    # The bitrate is that of the clip's true duration: about three times the codec's own, or more.
    assert float(coded.codes.bitrate) == pytest.approx(float(coded.codes.num_bits) / 0.6)
    assert float(coded.codes.bitrate) > 2.9 * float(codec.encode(original).bitrate)


def test_superb_scales_academicodec_to_a_peak_and_leaves_it_there() -> None:
    original = noise(0.5, 16000)
    name = "academicodec_hifi_16k_320d"
    coded = code("superb-2026-05", name, original)
    loud = original.waveform / original.waveform.abs().max() * 0.95
    expected = codec_of(name, "small", torch.float32).reconstruct(loud, 16000)
    assert coded.estimate is not None
    both = min(expected.waveform.shape[-1], coded.estimate.waveform.shape[-1])
    torch.testing.assert_close(coded.estimate.waveform[..., :both], expected.waveform[..., :both])


def test_superb_gives_one_sqcodec_variant_the_rate_that_its_package_misstates() -> None:
    original = noise(0.5, 16000)
    coded = code("superb-2026-05", "sqcodec_24k_12kbps", original)
    codec = codec_of("sqcodec_24k_12kbps", "small", torch.float32)
    assert coded.codes is not None
    assert torch.equal(coded.codes.codes, codec.encode(original.waveform, 24000).codes)


def test_superb_in_a_batch_is_superb_alone() -> None:
    clips = [noise(0.5, 16000).waveform[0], noise(0.9, 16000).waveform[0]]
    for name in ("dac_16k", "academicodec_hifi_16k_320d"):
        batch = code("superb-2026-05", name, Audio.of(clips, 16000)).estimate
        assert batch is not None
        for i, clip in enumerate(clips):
            alone = code("superb-2026-05", name, Audio.of(clip, 16000)).estimate
            assert alone is not None
            torch.testing.assert_close(batch[i].waveform, alone.waveform, atol=1e-5, rtol=0)


def test_superb_leaves_long_clips_out_by_name_and_gives_its_stand_ins(tmp_path: Path) -> None:
    sf.write(tmp_path / "long.wav", np.full(8000 * 121, 0.1), 8000)
    sf.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    (tmp_path / "speech.flac").write_bytes((RECORDINGS / "s_en_8k.flac").read_bytes())
    out = tmp_path / "out"
    summary = run_benchmark(
        Settings(
            codecs=("g711_ulaw",),
            dataset=str(tmp_path),
            protocol="superb-2026-05",
            out=str(out),
            workers=0,
            progress=False,
        )
    )
    assert summary is not None and summary["protocol"] == "superb-2026-05"
    entry = summary["codecs"]["g711_ulaw"]
    (failure,) = entry["failed"]
    assert (failure["id"], failure["stage"]) == ("long.wav", "protocol") and "longer than 120 s" in failure["reason"]
    assert sorted(entry["overall"]) == sorted(find_protocol("superb-2026-05").metrics)
    rows = {row["id"]: row for row in map(json.loads, (out / "clips.jsonl").read_text().splitlines())}
    silence = rows["silence.wav"]
    assert silence["metrics"]["superb/pesq"] == 1.0 and silence["metrics"]["superb/stoi"] == 0.0
    assert "superb/pesq" in silence["stand_ins"]
    assert entry["overall"]["superb/pesq"]["stand_ins"] == {silence["stand_ins"]["superb/pesq"]: 1}


def test_unknown_protocol() -> None:
    with pytest.raises(KeyError, match="there is no protocol 'mine'; there are: zoo, superb-2026-05"):
        find_protocol("mine")


# -- reconstructions that a data set holds ------------------------------------------------------------


class Presynthesised(Source):
    """Recordings, and beside each what Opus and a mono codec made of it; one reconstruction is missing."""

    name = "presynthesised"
    estimates = ("opus_12k", "mono")
    count = 3

    def entries(self) -> Iterator[Entry]:
        for name in ("r_aishell_16k", "s_de_f_16k", "m_poly_44k_st"):
            yield Entry(name, name, "music" if name.startswith("m") else "speech", f"{name}.flac")

    def read(self, entry: Entry) -> Path:
        return RECORDINGS / f"{entry.key}.flac"

    def read_estimate(self, entry: Entry, estimate: str) -> dict | Path:
        if entry.key == "s_de_f_16k":
            raise ValueError("there is no such row")
        if estimate == "opus_12k":
            return next(RECORDINGS.glob(f"{entry.key}__opus_*.flac"))
        samples, _ = sf.read(RECORDINGS / f"{entry.key}.flac", always_2d=True)
        return {"array": soxr.resample(samples.mean(1), 44100 if samples.shape[1] > 1 else 16000, 24000),
                "sampling_rate": 24000}  # fmt: skip


def test_reconstructions_of_a_data_set_are_measured(tmp_path: Path) -> None:
    settings = Settings(metrics=("mel", "si_sdr"), out=str(tmp_path), workers=0, progress=False)
    summary = run_benchmark(settings, Presynthesised())
    assert summary is not None and list(summary["codecs"]) == ["opus_12k", "mono"]
    for name, entry in summary["codecs"].items():
        assert (entry["ok"], entry["bitrate"], entry["codes"]) == (2, None, None), name
        (failure,) = entry["failed"]
        assert (failure["id"], failure["stage"]) == ("s_de_f_16k", "read")
        assert failure["reason"].endswith("no reconstruction: there is no such row")
    reference = Audio.load(RECORDINGS / "r_aishell_16k.flac")
    estimate = Audio.load(next(RECORDINGS.glob("r_aishell_16k__opus_*.flac")))
    expected = float(evaluate(reference, estimate, metrics="mel")["mel"])
    rows = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["id"] == "r_aishell_16k" and row["codec"] == "opus_12k"]
    assert row["metrics"]["mel"] == pytest.approx(expected, rel=1e-6)
    assert summary["codecs"]["mono"]["overall"]["mel"]["count"] == 2  # a mono one stands for both channels


def test_a_reconstruction_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = Settings(codecs=("dac_44k",), out=str(tmp_path), workers=0, progress=False)
    with pytest.raises(KeyError, match="holds no reconstructions by dac_44k; it holds: opus_12k, mono"):
        run_benchmark(settings, Presynthesised())


def test_codec_by_another_name_and_load(tmp_path: Path) -> None:
    """An alias gives results under the codec's own name, once."""
    speech = str(RECORDINGS / "s_en_8k.flac")
    summary = run_benchmark(
        Settings(
            codecs=("G711_ULAW", "g711_ulaw"),
            dataset=speech,
            metrics=("mel",),
            out=str(tmp_path),
            workers=0,
            progress=False,
        )
    )
    assert summary is not None and list(summary["codecs"]) == [load_codec("g711_ulaw").name]
