"""Metrics that networks compute: golden cases of the networks, golden values of the packages whose weights they take,
ragged = alone, and what is said where a network or a voice is missing."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codeczoo import metrics
from codeczoo.base.model import Model
from codeczoo.metrics import judged, opinion
from codeczoo.metrics.networks import models
from codeczoo.metrics.networks.models import network, networks
from codeczoo.weights.load import load_model, randomise
from tests.support.golden import golden_case, golden_state_dict
from tests.support.hub_server import HubServer
from tests.support.metric_cases import FOLDER, golden_pairs, recording

VALUES: dict[str, Any] = json.loads((FOLDER / "models.json").read_text())
RATES = {pair[key]: pair["sample_rate"] for pair in golden_pairs() for key in ("reference_file", "degraded_file")}
FILES = sorted(file for file in VALUES["files"] if file in RATES)
DNSMOS = {"dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos", "dnsmos_ovrl": "ovrl_mos", "dnsmos_p808": "p808_mos"}


def needs(name: str) -> pytest.MarkDecorator:
    """The package that holds a network's weights."""
    try:
        models.packaged(name)
    except models.NoModelError as error:
        return pytest.mark.skip(reason=str(error))
    return pytest.mark.filterwarnings("default")


# -- UTMOS and WavLM: the golden cases --------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def golden_network(name: str, dtype: torch.dtype) -> Model:
    """In float64 weight norm is resolved in float64 too."""
    tensors = {key: value.to(dtype) for key, value in golden_state_dict(name).items()}
    return load_model(networks()[name], tensors, device="cpu", dtype=dtype)


def clips_of(case: dict[str, Tensor], names: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The clips of a golden case as one ragged batch [B, 1, T], noise behind their ends; and their lengths."""
    rows = [row for name in names.split() for row in case[f"audio_{name}"].to(dtype)]
    lengths = torch.tensor([len(row) for row in rows])
    batch = torch.randn(len(rows), 1, int(lengths.max()), dtype=dtype, generator=torch.Generator().manual_seed(0))
    for at, row in zip(batch, rows, strict=True):
        at[0, : len(row)] = row
    return batch, lengths


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 1e-5), pytest.param(torch.float64, 1e-9, marks=pytest.mark.slow)],
    ids=["float32", "float64"],
)
def test_utmos_is_the_published_one(dtype: torch.dtype, bound: float) -> None:
    """One ragged batch gives each clip the score that upstream gives it alone."""
    case, _ = golden_case("utmos22_strong")
    model = golden_network("utmos22_strong", dtype)
    scores = model(*clips_of(case, "a b c_16k d", dtype))
    truth = torch.cat([case[f"score_{name}"].reshape(-1) for name in "abcd"])
    assert scores.shape == truth.shape
    assert float((scores.double() - truth).abs().max()) < bound
    assert model.shortest == 400


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 1e-5), pytest.param(torch.float64, 1e-9, marks=pytest.mark.slow)],
    ids=["float32", "float64"],
)
@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "norm"])
def test_wavlm_sv_is_the_published_one(dtype: torch.dtype, bound: float, normalize: bool) -> None:
    """As above; upstream's own batch differs by 2e-3 in the cosine, because its group norm counts the padding."""
    case, _ = golden_case("wavlm_base_plus_sv")
    model = golden_network("wavlm_base_plus_sv", dtype)
    try:
        model.configure({"preprocessor_config": {"do_normalize": normalize}})
        embeddings = model(*clips_of(case, "a b", dtype)).double()
    finally:
        model.configure({})
    kind = "norm" if normalize else "raw"
    truth = torch.cat([case[f"embedding_a_{kind}"], case[f"embedding_b_{kind}"]])
    assert float((embeddings - truth).abs().max()) < bound
    cosine = torch.nn.functional.cosine_similarity(embeddings[:1], embeddings[1:])
    assert float((cosine - case[f"cosine_{kind}"]).abs().max()) < min(bound, 1e-6)
    assert model.shortest == 5200


def test_utmos_reads_the_published_form(tmp_path: Path) -> None:
    """From a file as SpeechMOS publishes it, in place of the download, of which the table has address and hash."""
    source = networks()["utmos22_strong"].weights
    assert source is not None and source.url is not None and len(source.sha256 or "") == 64
    path = tmp_path / "utmos.pt"
    torch.save(dict(golden_state_dict("utmos22_strong")), path)
    loaded = network("utmos22_strong", torch.device("cpu"), weights=path)
    models.forget()
    case, _ = golden_case("utmos22_strong")
    audio = case["audio_d"].reshape(1, 1, -1)
    assert loaded.source == str(path) and len(loaded.sha256) == 64
    score = float(loaded.model(audio, torch.tensor([audio.shape[-1]])))
    assert score == pytest.approx(float(case["score_d"]), abs=1e-5)


@pytest.mark.slow
def test_wavlm_comes_through_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real hub client; the settings beside the weights decide about normalisation."""
    content = io.BytesIO()
    torch.save(golden_state_dict("wavlm_base_plus_sv"), content)
    files = {"pytorch_model.bin": content.getvalue(), "preprocessor_config.json": b'{"do_normalize": true}'}
    with HubServer() as hub:
        commit = hub.add("microsoft/wavlm-base-plus-sv", files)
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        done = run_in_fresh_python(
            "from codeczoo.metrics.networks.models import networks\n"
            "from codeczoo.weights.load import load_model\n"
            f"model = load_model(networks()['wavlm_base_plus_sv'], revision={commit!r}, device='cpu')\n"
            "print(model.normalize, model.weights_hash)\n"
        )
    assert done.split()[0] == "True" and len(done.split()[1]) == 64


def run_in_fresh_python(code: str, variables: Mapping[str, str] | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    environment |= variables or {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- DNSMOS, DistillMOS, Resemblyzer: what their packages gave ----------------------------------------


def score_files(files: list[str], names: list[str], channel: int | None = None) -> dict[str, list[float]]:
    """Metrics of the estimates alone, in ragged batches of one rate."""
    found: dict[str, list[float]] = {}
    groups: dict[tuple[int, int], list[str]] = {}
    for file in files:
        groups.setdefault((RATES[file], 1 if channel is not None else len(recording(file))), []).append(file)
    for (rate, _), group in groups.items():
        clips = [recording(file).float() for file in group]
        clips = clips if channel is None else [clip[channel : channel + 1] for clip in clips]
        scores = metrics.evaluate(clips, clips, rate, names)
        for i, file in enumerate(group):
            found[file] = [float(scores[name][i]) for name in names]
    return found


@needs("dnsmos")
@pytest.mark.parametrize("files", [FILES[::25], pytest.param(FILES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_dnsmos_equals_its_package(files: list[str]) -> None:
    for file, values in score_files(files, list(DNSMOS)).items():
        truth = [VALUES["files"][file]["dnsmos"][key] for key in DNSMOS.values()]
        assert values == pytest.approx(truth, abs=1e-5), file


@needs("distillmos")
@pytest.mark.parametrize("files", [FILES[::12], pytest.param(FILES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_distillmos_equals_its_package(files: list[str]) -> None:
    """The package takes the first channel. Beyond 16 kHz its resampler rounds otherwise in near-silence, which the
    power of 0.3 makes large: 9e-4 was seen."""
    for file, (value,) in score_files(files, ["distillmos"], channel=0).items():
        bound = 1e-4 if RATES[file] == 16000 else 1.5e-3
        assert value == pytest.approx(VALUES["files"][file]["distillmos"], abs=bound), file


@needs("resemblyzer")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_resemblyzer_equals_its_package(step: int) -> None:
    """The cosine of original and estimate, where a voice is heard in both."""
    checked = 0
    for entry in golden_pairs()[::step]:
        truth = VALUES["pairs"].get(entry["id"])
        if truth is None:
            continue
        sides = [recording(entry[key]).float()[None] for key in ("reference_file", "degraded_file")]
        longest = min(side.shape[-1] for side in sides)
        if len({side.shape[-1] for side in sides}) > 1:
            continue  # evaluate cuts the longer side, the package did not
        scores = metrics.evaluate(*(side[..., :longest] for side in sides), entry["sample_rate"], "sim_resemblyzer")
        if scores.reasons["sim_resemblyzer"][0] == "no_voice":
            continue
        assert float(scores["sim_resemblyzer"]) == pytest.approx(truth["resemblyzer_cosine"], abs=2e-6), entry["id"]
        checked += 1
    assert checked * step > 50


# -- ragged = alone, and what is undefined ------------------------------------------------------------

SPEECH = "audio/s_en_16k.flac"


@needs("dnsmos")
@needs("distillmos")
@needs("resemblyzer")
@pytest.mark.parametrize(
    "names",
    [["distillmos", "sim_resemblyzer"], pytest.param(["dnsmos_ovrl", "dnsmos_p808"], marks=pytest.mark.slow)],
    ids=["fast", "dnsmos"],
)
def test_a_ragged_batch_gives_each_clip_its_own_value(names: list[str]) -> None:
    speech = recording(SPEECH).float()
    clips = [speech, speech[:, 8000:41000], speech[:, :500], torch.cat([speech] * 3, dim=-1)]
    noisy = [
        clip + 0.01 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(i))
        for i, clip in enumerate(clips)
    ]
    together = metrics.evaluate(clips, noisy, 16000, names)
    for i, (clip, estimate) in enumerate(zip(clips, noisy, strict=True)):
        alone = metrics.evaluate([clip], [estimate], 16000, names)
        for name in names:
            assert together.reasons[name][i] == alone.reasons[name][0]
            assert float(together[name][i]) == pytest.approx(float(alone[name][0]), abs=1e-5, nan_ok=True)


@needs("distillmos")
def test_originals_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinion, "_memory", judged.Memory())
    seen: list[int] = []
    model = network("distillmos", torch.device("cpu")).model
    before = model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    speech = recording(SPEECH).float()[None]
    try:
        values = [
            metrics.evaluate(speech, gain * speech, 16000, ["distillmos", "distillmos_reference"])
            for gain in (0.9, 0.5)
        ]
    finally:
        before.remove()
    assert sum(seen) == 3, "two estimates and one original"
    assert float(values[0]["distillmos_reference"]) == float(values[1]["distillmos_reference"])
    own = float(metrics.evaluate(speech, speech, 16000, "distillmos")["distillmos"])
    assert float(values[0]["distillmos_reference"]) == pytest.approx(own, abs=1e-6)


@needs("dnsmos")
@needs("distillmos")
@needs("resemblyzer")
def test_autocast_around_it_changes_nothing() -> None:
    speech = recording(SPEECH).float()[None, :, :20000]
    names = ["dnsmos_p808", "distillmos", "sim_resemblyzer"]
    expected = metrics.evaluate(speech, 0.9 * speech, 16000, names)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = metrics.evaluate(speech, 0.9 * speech, 16000, names)
    for name in names:
        assert float(scores[name]) == pytest.approx(float(expected[name]), abs=1e-6)


@needs("distillmos")
@needs("resemblyzer")
def test_what_is_undefined_has_a_reason() -> None:
    speech = recording(SPEECH).float()
    tone = 0.1 * torch.sin(torch.arange(speech.shape[-1]) * 0.2)[None]
    broken = speech.clone()
    broken[0, 100] = torch.nan
    estimates = [torch.zeros_like(speech), broken, tone, speech]
    names = ["distillmos", "distillmos_reference", "sim_resemblyzer"]
    scores = metrics.evaluate([speech] * 4, estimates, 16000, names)
    assert scores.reasons["distillmos"] == ["silent_estimate", "non_finite", None, None]
    assert scores.reasons["distillmos_reference"] == [None, "non_finite", None, None]
    assert scores.reasons["sim_resemblyzer"][:2] == ["silent_estimate", "non_finite"]
    assert scores.reasons["sim_resemblyzer"][3] is None and float(scores["sim_resemblyzer"][3]) == pytest.approx(1)
    stereo = torch.cat([speech, speech])
    both = metrics.evaluate(stereo[None], stereo[None], 16000, names)
    assert float(both["distillmos"]) == pytest.approx(float(scores["distillmos"][3]), abs=1e-5)


def test_a_missing_network_is_nan_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Packages that are not installed, and weights that cannot be downloaded."""
    packaged = {name: package._replace(module="no_such_package") for name, package in models.PACKAGED.items()}
    monkeypatch.setattr(models, "PACKAGED", packaged)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    models.forget()
    judged._say_once.cache_clear()
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 16000)).astype(np.float32)) * 0.1
    noise[1, 0, 7] = torch.inf
    names = ["utmos", "distillmos", "dnsmos_ovrl", "sim_resemblyzer", "snr"]
    with caplog.at_level(logging.WARNING, logger="codeczoo"):
        scores = [metrics.evaluate(noise, noise, 16000, names) for _ in range(2)][1]
    for name in names[:-1]:
        reason = "no_model" if name == "utmos" else "not_installed"
        assert scores.reasons[name] == [reason, "non_finite"] and bool(scores[name].isnan().all())
    assert scores.reasons["snr"][0] is None
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) == 4
    assert any("pip install --no-deps distillmos" in text for text in said)
    models.forget()


@pytest.mark.parametrize("name", ["utmos22_strong", "wavlm_base_plus_sv"])
def test_small_networks_are_ragged_too(name: str) -> None:
    """In float64, by random weights, over many lengths down to the shortest."""
    small = {"num_layers": 2, "dim": 32, "num_heads": 4, "hidden": 48, "extractor_dim": 16, "position_kernel": 8,
             "position_groups": 4}  # fmt: skip
    extra = {"embedding": 4, "lstm": 8, "projection": 16} if name.startswith("utmos") else {"embedding": 8}
    variant = networks()[name]
    model = replace(variant, network={**variant.network, **small, **extra}).build().double().eval()
    randomise(model)
    lengths = torch.tensor([model.shortest, model.shortest + 1, 9000, 6400, 12345])
    batch = torch.randn(len(lengths), 1, int(lengths.max()), dtype=torch.float64)
    together = model(batch, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = model(batch[i : i + 1, :, :length], lengths[i : i + 1])
        assert torch.allclose(together[i], alone[0], rtol=0, atol=1e-10)
        assert bool(alone.isfinite().all())
