"""The networks of metrics share the device: they are loaded once, and one at a time where memory is short; and weights
that are not the pinned ones are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from codeczoo import metrics
from codeczoo.base.variant import Variant
from codeczoo.metrics.networks import dnsmos, models
from codeczoo.metrics.networks.models import NoModelError, network, with_room
from codeczoo.weights.download import WeightsUnavailableError
from codeczoo.weights.load import randomise

CPU = torch.device("cpu")
SMALL = ("distillmos", "resemblyzer")


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> models._Shelf:
    """An empty one for this test."""
    own = models._Shelf()
    monkeypatch.setattr(models, "_shelf", own)
    return own


@pytest.fixture
def packages() -> None:
    for name in SMALL:
        try:
            models.packaged(name)
        except NoModelError as error:
            pytest.skip(str(error))


@pytest.mark.usefixtures("packages")
def test_networks_stay_loaded_until_memory_is_short(shelf: models._Shelf, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (network(name, CPU) for name in SMALL)
    assert network(SMALL[0], CPU) is first and len(shelf.loaded) == 2
    attempts: list[int] = []

    def work() -> float:
        attempts.append(len(shelf.loaded))
        if len(shelf.loaded) > 1:
            raise torch.OutOfMemoryError("no room for two networks")
        return float(network("distillmos", CPU).model(torch.ones(1, 1, 800), torch.tensor([800]))[0])

    expected = float(first.model(torch.ones(1, 1, 800), torch.tensor([800]))[0])
    assert with_room(work) == expected
    assert attempts == [2, 0]
    assert "one at a time from now on" in caplog.text
    network("resemblyzer", CPU)
    assert [key[0] for key in shelf.loaded] == ["resemblyzer"], "the other one has gone"
    assert second.model is not network("resemblyzer", CPU).model


def test_memory_that_is_short_for_other_reasons_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="nothing to let go"):
        with_room(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("nothing to let go")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        with_room(lambda: (_ for _ in ()).throw(RuntimeError("shapes differ")))


@pytest.mark.usefixtures("packages")
def test_a_metric_goes_on_where_two_networks_have_no_room(
    shelf: models._Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds one network: both metrics have their values all the same."""
    noise = 0.1 * torch.randn(2, 1, 24000, generator=torch.Generator().manual_seed(0))
    expected = metrics.evaluate(noise, noise, 16000, "distillmos")["distillmos"]
    before = nn.Module.__call__

    def call(module: nn.Module, *given: object, **options: object) -> object:
        if len(shelf.loaded) > 1:
            raise torch.OutOfMemoryError("no room")
        return before(module, *given, **options)

    models.forget()
    monkeypatch.setattr(nn.Module, "__call__", call)
    network("resemblyzer", CPU)
    scores = metrics.evaluate(noise, noise, 16000, ["distillmos", "sim_resemblyzer"])
    assert torch.equal(scores["distillmos"], expected)
    assert [key[0] for key in shelf.loaded] == ["resemblyzer"]


def test_another_file_than_the_pinned_one_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "changed_package").mkdir()
    (tmp_path / "changed_package" / "__init__.py").touch()
    (tmp_path / "changed_package" / "pretrained.pt").write_bytes(b"weights of another release")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    package = models.PACKAGED["resemblyzer"]._replace(module="changed_package")
    monkeypatch.setattr(models, "PACKAGED", {"resemblyzer": package})
    with pytest.raises(NoModelError, match="it was changed since it was made"):
        network("resemblyzer", CPU)


def test_a_network_that_is_missing_is_not_asked_for_with_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unavailable(variant: Variant, *_: object, **__: object) -> None:
        asked.append(variant.name)
        raise WeightsUnavailableError("no network")

    monkeypatch.setattr(models, "load_model", unavailable)
    for _ in range(3):
        with pytest.raises(NoModelError, match="no network"):
            network("utmos22_strong", CPU)
    assert asked == ["utmos22_strong"]
    models.forget()
    with pytest.raises(NoModelError, match="no network"):
        network("utmos22_strong", CPU)
    assert len(asked) == 2
    monkeypatch.setattr(models, "RETRY_SECONDS", 0.0)
    with pytest.raises(NoModelError, match="no network"):
        network("utmos22_strong", CPU)
    assert len(asked) == 3


def test_windows_of_dnsmos_share_their_frames() -> None:
    """Of three windows in one run each has the value that it has alone, zeros around it and all."""
    net = dnsmos.P835()
    randomise(net)
    samples = 0.1 * torch.randn(dnsmos.WINDOW + 2 * dnsmos.STEP, generator=torch.Generator().manual_seed(0))
    seen: list[int] = []
    with torch.no_grad():
        alone = [net([samples[i * dnsmos.STEP :][: dnsmos.WINDOW]]) for i in range(3)]
        net.conv[3].register_forward_hook(lambda _, __, made: seen.append(made.shape[0] * made.shape[2]))
        together = net([samples])
    assert float((together - torch.cat(alone)).abs().max()) < 1e-6 * float(together.abs().max())
    assert float((alone[0] - alone[1]).abs().max()) > 1e-4, "a test that cannot fail"
    assert sum(seen) < 1.6 * dnsmos.FRAMES, "of three times as many"


@pytest.mark.parametrize("seconds", [0.1, 9.1, 10.5, 16.2, 17.5, 24.0, 34.2, 40.0])
def test_windows_of_dnsmos_are_those_of_its_package(seconds: float) -> None:
    """By the loop of the published package, with its rounding."""
    samples = int(seconds * dnsmos.RATE)
    clip = dnsmos._doubled(torch.arange(samples, dtype=torch.float64))
    expected = []
    for i in range(int(len(clip) // dnsmos.RATE - dnsmos.SECONDS) + 1):
        window = clip[int(i * dnsmos.RATE) : int((i + dnsmos.SECONDS) * dnsmos.RATE)]
        if len(window) == dnsmos.WINDOW:
            expected.append(window)
    starts = dnsmos.window_starts(len(clip))
    runs = list(dnsmos._runs(starts))
    assert [start for run in runs for start in run] == starts
    assert len(starts) == len(expected) >= 1
    for start, window in zip(starts, expected, strict=True):
        assert torch.equal(clip[start : start + dnsmos.WINDOW], window)


def test_a_short_clips_zeros_are_computed_once() -> None:
    """DistillMOS of a clip by its short window, and by the whole one of 7.68 s."""
    from codeczoo.metrics.networks.distillmos import WINDOW, windows_of

    variant = models.networks()["distillmos"]
    model = variant.build().eval()
    randomise(model)

    def whole(clip: Tensor) -> Tensor:
        return model._score(nn.functional.pad(clip, (0, WINDOW - len(clip)))[None], [WINDOW])[0]

    with torch.no_grad():
        for samples in (1, 50_000):
            clip = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
            score = float(model(clip[None, None], torch.tensor([samples])))
            assert score == pytest.approx(float(whole(clip)), abs=1e-6)
    assert len(windows_of(torch.ones(50_000))[0]) <= WINDOW / 2
