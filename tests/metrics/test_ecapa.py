"""SpeechBrain's ECAPA-TDNN: its embeddings of clips alone, in one ragged batch here; and its published naming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from codeczoo import metrics
from codeczoo.metrics.networks import models
from codeczoo.metrics.networks.ecapa_sv import EcapaSV, log_mel
from codeczoo.metrics.networks.models import networks
from codeczoo.weights.load import load_model
from tests.support.metric_cases import FOLDER, recording

SMALL = {"channels": 16, "hidden": 8, "attention": 8, "embedding": 12}


@pytest.fixture(scope="module")
def case() -> dict[str, Tensor]:
    return load_file(FOLDER / "ecapa.safetensors")


@pytest.fixture(scope="module")
def model(case: dict[str, Tensor]) -> EcapaSV:
    """From a state dict under SpeechBrain's names."""
    variant = networks()["ecapa_voxceleb"]
    state = {key.removeprefix("state."): value for key, value in case.items() if key.startswith("state.")}
    small = replace(variant, network={**variant.network, **SMALL})
    loaded = load_model(small, state, device="cpu", dtype=torch.float64)
    assert isinstance(loaded, EcapaSV)
    return loaded


def test_embeddings_are_speechbrains(case: dict[str, Tensor], model: EcapaSV) -> None:
    """Of a ragged batch, noise behind the shorter clip's end. Its features are float32."""
    clips = [case["audio_a"].double(), case["audio_b"].double()]
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.randn(2, 1, int(lengths.max()), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, clip in zip(batch, clips, strict=True):
        row[0, : len(clip)] = clip
    features = log_mel(batch[:, 0], lengths)
    assert float((features[0, :, :20].T - case["features_a"]).abs().max()) < 1e-3  # decibels
    found = model(batch, lengths)
    truth = torch.stack([case["embedding_a"], case["embedding_b"]])
    assert float((found - truth).abs().max()) < 1e-4 * float(truth.abs().max())
    for i, clip in enumerate(clips):
        alone = model(clip[None, None], lengths[i : i + 1])[0]
        assert float((alone - found[i]).abs().max()) < 1e-12


def test_all_lengths_from_the_shortest_on_are_their_own(model: EcapaSV) -> None:
    lengths = torch.tensor([model.shortest, model.shortest + 1, 801, 3000, 1599])
    batch = torch.randn(len(lengths), 1, 3000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = model(batch, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = model(batch[i : i + 1, :, :length], lengths[i : i + 1])
        assert torch.allclose(together[i], alone[0], rtol=0, atol=1e-10)
        assert bool(alone.isfinite().all())


def test_the_published_file_is_pinned_and_has_the_published_layout() -> None:
    variant = networks()["ecapa_voxceleb"]
    source = variant.weights
    assert source is not None and source.file == "embedding_model.ckpt"
    assert (len(source.revision or ""), len(source.sha256 or "")) == (40, 64)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in variant.build().parameters())
    assert parameters == 20_767_552, "as SpeechBrain's network with the channels of its recipe"


def test_similarity_by_it(model: EcapaSV, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = models.Network(model.float(), "small", "0" * 64)
    monkeypatch.setattr("codeczoo.metrics.speaker.network", lambda *_: loaded)
    speech = recording("audio/s_en_16k.flac").float()
    clips = [speech, speech[:, :20000], 0 * speech, speech[:, :600]]
    others = [speech, speech[:, 20000:40000], speech, speech[:, :600]]
    scores = metrics.evaluate(clips, others, 16000, "sim_ecapa")
    assert scores.reasons["sim_ecapa"] == [None, None, "silent_reference", "too_short"]
    assert float(scores["sim_ecapa"][0]) == pytest.approx(1, abs=1e-6) and float(scores["sim_ecapa"][1]) < 0.9999
