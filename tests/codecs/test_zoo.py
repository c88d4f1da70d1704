"""The zoo's own codec: what only it promises. (That streams equal clips, and batches loops: tests/contract.)"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import codeczoo
from codeczoo import BaseCodec, codec_info, load_codec
from codeczoo.base.inputs import collate, read_clips
from codeczoo.metrics import evaluate
from codeczoo.weights.download import sha256_of
from codeczoo.weights.load import load_weights
from scripts.train_zoo_codec import Recordings, Run, parse
from tests.support.golden import PACKAGED
from tests.support.packagings import Packaging, flat_safetensors
from tests.support.small import codec_of, small_variant

NAMES = ("mel", "stoi")
FLOOR = 0.6  # of STOI at 1.5 kbit/s: an espeak voice at that rate
CLIPS = Path(codeczoo.__file__).parent / "data" / "clips"

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {
    "bands": 16,
    "encoder_window": 160,
    "fine_dim": 16,
    "fine_hidden": 32,
    "dim": 24,
    "hidden": 32,
    "latent_dim": 8,
    "codebook_size": 32,
}
LICENCE = "Apache-2.0"
PACKAGINGS = {"zoo_16k": Packaging("zoo_16k", "zoo_16k", flat_safetensors("zoo_16k.safetensors"), PACKAGED)}


def test_a_step_of_its_stream_is_20_ms_of_both_sides() -> None:
    codec = codec_of("zoo_16k", "small", torch.float64)
    assert (codec.hop_length, codec.latency, codec.frame_rate) == (320, 0.02, 50)
    stream = codec.stream(num_codebooks=3)
    codes = stream.encode(torch.randn(1, 1, 320, dtype=torch.float64))
    assert codes.codes.shape == (1, 3, 1)
    assert stream.decode(codes.codes).waveform.shape == (1, 1, 320)


def test_each_codebook_is_half_a_kilobit() -> None:
    assert codec_info("zoo_16k").bitrates == tuple(500.0 * k for k in range(1, 13))
    assert [codec_info(f"zoo_16k_{rate}kbps").bitrate for rate in ("0_5", "1_5", "3")] == [500, 1500, 3000]


# -- its weights, which lie in the package ----------------------------------------------------------


@pytest.fixture(scope="module")
def codec() -> BaseCodec:
    return load_codec("zoo_16k", device="cpu", local_files_only=True)


def test_they_are_small_and_say_where_they_lie(codec: BaseCodec) -> None:
    path = Path(codeczoo.__file__).parent / "codecs" / "weights" / "zoo_16k.safetensors"
    assert path.stat().st_size <= 5_000_000
    assert codec.weights_source == "codecs/weights/zoo_16k.safetensors of the package codeczoo"
    assert codec.weights_hash == sha256_of(path)


def test_more_codebooks_are_better(codec: BaseCodec) -> None:
    """On speech of voices that training did not hear, each time by more than a hair."""
    clips = [
        collate(read_clips(CLIPS / f"speech_{name}.flac")) for name in ("en_female_16k", "en_male_24k", "de_female_22k")
    ]
    found = []
    for count in (1, 3, 6, 12):
        scores = [evaluate(clip, codec.reconstruct(clip, num_codebooks=count), metrics=NAMES) for clip in clips]
        found.append({name: float(np.mean([float(one[name][0]) for one in scores])) for name in NAMES})
    for fewer, more in itertools.pairwise(found):
        assert more["mel"] < fewer["mel"] - 0.02
        assert more["stoi"] > fewer["stoi"]
    assert found[1]["stoi"] > FLOOR


def test_its_stream_is_the_whole_clip(codec: BaseCodec) -> None:
    audio = collate(read_clips(CLIPS / "speech_en_female_16k.flac"))
    whole = codec.encode(audio)
    samples = audio.waveform.shape[-1] // 320 * 320
    stream = codec.stream()
    codes = [stream.encode(audio.waveform[..., i : i + 1600]) for i in range(0, samples - 1600, 1600)]
    streamed = torch.cat([chunk.codes for chunk in codes], dim=-1)
    assert float((streamed == whole.codes[..., : streamed.shape[-1]]).double().mean()) > 0.999


# -- its training (scripts/train_zoo_codec.py) ------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as scripts/zoo_codec_data.py writes it, of embedded clips."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train").mkdir()
    rows = []
    for kind, clip in (("speech", "speech_en_female_16k"), ("music", "music_band_stereo_44k")):
        audio = collate(read_clips(CLIPS / f"{clip}.flac"), sample_rate=16000, channels=1)
        np.save(folder / "train" / f"{clip}.npy", (audio.waveform[0, 0].numpy() * 32767).astype(np.int16))
        rows.append({"name": clip, "kind": kind, "hours": 0.001})
    (folder / "data.json").write_text(json.dumps(rows))
    return folder


def a_run(data: Path, folder: Path, *options: str) -> tuple[Run, Recordings]:
    numbers = ["--batch", "4", "--seconds", "0.4", "--quantise-from", "8", "--warm-up", "5", *options]
    run = Run(parse([str(data), str(folder), *numbers]), small_variant("zoo_16k"))
    return run, Recordings(data, 6400)


def test_training_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    run, recordings = a_run(data, tmp_path)
    losses = [run.advance(recordings)["mel"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("discriminator", ["0", "10"])
def test_a_resumed_run_is_the_run_that_was_not_stopped(data: Path, tmp_path: Path, discriminator: str) -> None:
    options = ("--discriminator-from", discriminator)
    run, recordings = a_run(data, tmp_path / "whole", *options)
    whole = [run.advance(recordings) for _ in range(14)]
    first, _ = a_run(data, tmp_path / "parts", *options)
    parts = [first.advance(recordings) for _ in range(11)]
    first.save()
    second, _ = a_run(data, tmp_path / "parts", *options)
    parts += [second.advance(recordings) for _ in range(3)]
    assert parts == whole
    for name, finished in (("whole", run), ("parts", second)):
        finished.export(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()


def test_what_training_exports_loads(data: Path, tmp_path: Path) -> None:
    run, recordings = a_run(data, tmp_path)
    for _ in range(10):
        run.advance(recordings)
    run.export(tmp_path / "own.safetensors")
    exported = load_file(tmp_path / "own.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float16}
    codec = small_variant("zoo_16k").build()
    load_weights(codec, tmp_path / "own.safetensors")
    assert all(torch.equal(codec.state_dict()[name], tensor.float()) for name, tensor in exported.items())
