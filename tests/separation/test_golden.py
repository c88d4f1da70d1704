"""Separators against the published implementation: bare network and whole procedure.

The full networks take 10 s a segment, so they are slow tests; the small ones (tests/support/separation.py) hold the
same arithmetic in the default run.
"""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import Tensor

from codeczoo import load_separator
from codeczoo.separation import Separator
from tests.support import golden_weights
from tests.support.golden import assert_audio_agrees, golden_case, golden_state_dict
from tests.support.separation import LONG, RATE, SMALL, STRIDE, bare_mix, long_mix, small_separator

FULL = ("htdemucs", "htdemucs_6s", "hdemucs_mmi")


def all_stems(separator: Separator, mix: Tensor, segment: float | None = None) -> Tensor:
    """[B, S, 2, T]."""
    stems = separator.separate(mix, RATE, segment=segment)
    assert list(stems) == list(separator.sources)
    return torch.stack([audio.waveform for audio in stems.values()], dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 2e-7)])
@pytest.mark.parametrize("case", SMALL)
def test_a_small_network_gives_what_the_published_one_gives(case: str, dtype: torch.dtype, tolerance: float) -> None:
    """float64: what float32 windows, where the published run has float64 ones, and stored float32 values make."""
    found = small_separator(case, dtype).models[0](bare_mix(case).to(dtype))
    assert_audio_agrees(found[..., ::STRIDE], golden_case("separation", case)[0]["stems"], tolerance)


@pytest.mark.parametrize("case", SMALL)
def test_the_whole_procedure_with_a_small_network(case: str) -> None:
    """Three segments, the last of 5,123 samples; the mix is quiet and has an offset."""
    found = all_stems(small_separator(case), long_mix(case))
    assert found.shape == (1, len(small_separator(case).sources), 2, LONG)
    assert_audio_agrees(found[..., ::STRIDE], golden_case("separation", case)[0]["stems_long"], 1e-5)


def named(spec: str) -> Tensor:
    """The input that a golden case's metadata names: `audio('NAME', B, C, T, rate)`."""
    found = re.fullmatch(r"audio\('(.*)', (\d+), (\d+), (\d+), (\d+)\)", spec)
    assert found is not None
    return torch.from_numpy(golden_weights.audio(found[1], *map(int, found.groups()[1:])))


def windows(x: Tensor, starts: Tensor, width: int) -> Tensor:
    return torch.cat([x[..., start : start + width] for start in starts.tolist()], dim=-1)


@pytest.fixture(scope="module", params=FULL)
def full(request: pytest.FixtureRequest) -> Separator:
    return load_separator(request.param, golden_state_dict(request.param), device="cpu")


@pytest.mark.slow
def test_the_bare_network_is_the_golden_case(full: Separator) -> None:
    case, meta = golden_case(full.name)
    found = full.models[0](named(meta["input"]))
    assert_audio_agrees(windows(found, case["starts"], int(meta["window"])), case["stems"], 1e-5)


@pytest.mark.slow
def test_the_whole_procedure_is_the_golden_case(full: Separator) -> None:
    case, meta = golden_case(full.name)
    segment = json.loads(meta["settings"])["segment"]
    found = all_stems(full, named(meta["input_long"]), segment if isinstance(segment, float) else None)
    assert_audio_agrees(windows(found, case["starts_long"], int(meta["window"])), case["stems_long"], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["htdemucs", "htdemucs_6s"])
def test_what_enters_and_leaves_the_transformer_is_the_golden_case(name: str) -> None:
    """The second is what the first becomes and needs all of a segment, so a hook looks at a whole run."""
    separator = load_separator(name, golden_state_dict(name), device="cpu")
    case, meta = golden_case(name)
    seen: list[Tensor] = []
    separator.models[0].crosstransformer.register_forward_hook(lambda _, before, after: seen.extend([*before, *after]))
    separator.models[0](named(meta["input"]))
    for found, key in zip(seen, ("freq_in", "time_in", "freq_out", "time_out"), strict=True):
        truth = case[f"transformer_{key}"]
        assert_audio_agrees(found[..., : truth.shape[-1]], truth, 1e-5)
