"""`codeczoo verify`: what is right passes, what was damaged on purpose is caught, and it is said by which check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file
from torch import Tensor

from codeczoo import load_codec, register_codec
from codeczoo.base.catalogue import WeightsSource, find_variant
from codeczoo.cli import main
from codeczoo.verify import Check, Report, verify
from codeczoo.verify.expected import known, records_of, with_data, without_data
from codeczoo.verify.superb import on_superb
from tests.support.command_line import write_sound
from tests.support.golden import golden_state_dict
from tests.support.hub_server import HubServer
from tests.support.published import small_checkpoint
from tests.support.registering import registered_for_a_while
from tests.support.small import small_variant

Tensors = dict[str, Tensor]
# A small network of each, in the form in which the hub has it: golden folder and manifest.
FAMILIES = {
    "mimi": ("mimi", "manifest_hf.json"),
    "dac_44k": ("dac_44k", "manifest_hf.json"),
    "encodec_24k": ("encodec_24k", "manifest_hf.json"),
    "wavtokenizer_small_40": ("wavtokenizer_40", "manifest.json"),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture(params=FAMILIES)
def small(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[str, Tensors]]:
    """The name of a small network of the family, and its tensors by published key; its file is pinned."""
    folder, manifest = FAMILIES[request.param]
    tensors, _ = small_checkpoint(find_variant(request.param).name, folder, manifest)
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    pin = WeightsSource(
        repo="someone/small", file="model.safetensors", sha256=hashlib.sha256(save(tensors)).hexdigest()
    )
    variant = replace(small_variant(request.param), name="small_one", root="", aliases=(), second_names={}, copies=())
    with registered_for_a_while():
        register_codec(replace(variant, weights=pin))
        yield "small_one", tensors


def outcomes(report: Report) -> dict[str, str]:
    return {check.name: check.outcome for check in report.checks}


def failed(report: Report) -> set[str]:
    return {name for name, outcome in outcomes(report).items() if outcome == "failed"}


# -- what is right --------------------------------------------------------------------------------


def test_the_published_form_through_the_hub(small: tuple[str, Tensors], hub: HubServer, home: Path) -> None:
    """All promises are kept with these weights; they are noise, which the last check notices."""
    name, tensors = small
    hub.add("someone/small", {"model.safetensors": save(tensors)})
    report = verify(name, record=home / "trusted.json", device="cpu")
    assert failed(report) == {"STOI of the embedded speech"}
    assert "the published file someone/small/model.safetensors" in report.checks[0].found
    again = verify(name, expect=home / "trusted.json", device="cpu", local_files_only=True)
    assert outcomes(again)["tensors' values"] == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_full_size_through_the_hub(name: str, hub: HubServer, home: Path) -> None:
    """The same of networks of the published size, whose files are pinned by size and hash as published ones are."""
    content = save({key: value.contiguous() for key, value in golden_state_dict(*FAMILIES[name]).items()})
    hub.add("someone/full", {"model.safetensors": content})
    pin = WeightsSource(
        repo="someone/full", file="model.safetensors", sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    with registered_for_a_while():
        variant = replace(find_variant(name), name="full_one", root="", aliases=(), second_names={}, copies=())
        register_codec(replace(variant, weights=pin))
        report = verify("full_one", device="cpu")
    assert failed(report) <= {"STOI of the embedded speech"}, "the weights are noise"
    assert outcomes(report)["ragged batch = alone"] == "passed"


def test_a_changed_file_is_the_first_check_that_fails(
    small: tuple[str, Tensors], hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, tensors = small
    hub.add("someone/small", {"model.safetensors": save(louder(tensors))})
    report = verify(name, device="cpu")
    (check,) = report.checks
    assert (check.name, check.outcome) == ("file", "failed") and "has sha256 " in check.found
    monkeypatch.setenv("CODECZOO_CHANGED_WEIGHTS", "allow")
    insisted = verify(name, device="cpu")
    assert outcomes(insisted)["file"] == "failed" and len(insisted.checks) > 5


def test_a_codec_that_works_ends_with_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", "g711_ulaw", "--device", "cpu", "--json", str(tmp_path / "checks.json")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("g711_ulaw: 6 checks passed, 0 failed")
    (kept,) = json.loads((tmp_path / "checks.json").read_text())
    assert (kept["codec"], kept["passed"]) == ("g711_ulaw", True)
    assert {check["outcome"] for check in kept["checks"]} == {"passed", "skipped"}
    assert main(["verify", "g711_ulaw", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["codec"] == "g711_ulaw"
    assert main(["verify", "g711_ulaw", "--device", "cpu", "--report"]) == 0
    assert "| stream = whole | ok | 100.0% of the codes equal |" in capsys.readouterr().out


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    shown = capsys.readouterr().out
    for word in ("file", "tensors", "promises", "quality", "--data", "--record trusted.json", "exit code: 0"):
        assert word in shown


def test_weights_that_cannot_be_had_end_with_1(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "mimi", "g711_ulaw", "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert "error: mimi: model.safetensors of kyutai/mimi" in shown.err
    assert shown.out.startswith("g711_ulaw: "), "the other one is verified all the same"


def test_the_known_numbers_are_of_codecs_that_are_here() -> None:
    for record in known()["records"]:
        variant = find_variant(record["codec"])
        assert variant.name == record["codec"] and record["of"]
    for name, kinds in known()["superb"].items():
        assert find_variant(name) and "Speech" in kinds
        assert all(0 < scores["stoi"] < 1 < 1 + scores["mel"] for scores in kinds.values())


# -- what was damaged on purpose ------------------------------------------------------------------


def two_swapped(tensors: Tensors) -> Tensors:
    """Two of one shape, with other values."""
    keys = [key for key in tensors if tensors[key].ndim == 3]
    pairs = ((a, b) for i, a in enumerate(keys) for b in keys[i + 1 :] if tensors[a].shape == tensors[b].shape)
    one, other = next((a, b) for a, b in pairs if not torch.equal(tensors[a], tensors[b]))
    return {**tensors, one: tensors[other], other: tensors[one]}


def permuted(tensors: Tensors) -> Tensors:
    """The rows of one codebook (with the sums and counts that it is kept as), one place on."""
    key = next(key for key in tensors if key.endswith(("codebook.weight", "embed", "embed_sum")))
    turned = [key, key.replace("embed_sum", "cluster_usage")]
    return {**tensors, **{one: tensors[one].roll(1, 0) for one in turned}}


def louder(tensors: Tensors) -> Tensors:
    """One tensor times 1.01."""
    key = next(key for key in tensors if tensors[key].ndim == 3)
    return {**tensors, key: tensors[key] * 1.01}


def of_another_stride(tensors: Tensors) -> Tensors:
    key = max((key for key in tensors if tensors[key].ndim == 3), key=lambda key: tensors[key].shape[-1])
    return {**tensors, key: torch.cat([tensors[key], tensors[key][..., :2]], -1)}


def noise(tensors: Tensors) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    key = max(tensors, key=lambda key: tensors[key].numel())
    values = tensors[key].clone()
    values.view(-1)[7] = torch.nan
    return {**tensors, key: values + torch.randn(values.shape, generator=generator)}


DAMAGES: dict[Callable[[Tensors], Tensors], set[str]] = {  # → the checks that catch it
    two_swapped: {"file", "tensors' values"},
    permuted: {"file", "tensors' values"},
    louder: {"file", "tensors' values"},
    of_another_stride: {"tensors"},
    noise: {"tensors"},
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damages_are_caught(damage: Callable, small: tuple[str, Tensors], home: Path) -> None:
    name, tensors = small
    save_file(tensors, home / "whole.safetensors")
    changed = damage(tensors)
    save_file({key: value.contiguous() for key, value in changed.items()}, home / "damaged.safetensors")
    trusted = home / "trusted.json"
    trusted.write_text(json.dumps({"records": recorded(name, home / "whole.safetensors")}))
    report = verify(name, home / "damaged.safetensors", expect=trusted, device="cpu")
    assert failed(report) - {"STOI of the embedded speech"} == DAMAGES[damage]


def recorded(name: str, weights: Path) -> list:
    from codeczoo.verify.expected import record

    return record(load_codec(name, weights, device="cpu"))


@pytest.fixture
def small_dac(home: Path) -> Iterator[tuple[Tensors, Path]]:
    """DAC in the authors' naming, and what is known of it: bytes of codebooks and biases, and a quantiser's output."""
    tensors, _ = small_checkpoint("dac_44k", "dac_44k", "manifest.json")
    levels = sorted(key for key in tensors if key.endswith("codebook.weight"))
    biases = [key.replace("codebook.weight", "out_proj.bias") for key in levels]
    hashes = {
        f"{what} [n]": hashlib.sha256(
            np.stack([tensors[key].numpy() for key in keys]).astype("<f4").tobytes()
        ).hexdigest()
        for what, keys in (("codebooks", levels), ("out_proj_bias", biases))
    }
    codes = [[1, 2, 3], [4, 5, 6]]
    frames = []
    for row in codes:
        total = 0
        for code, key in zip(row, levels, strict=False):
            v, g = (tensors[key.replace("codebook.weight", f"out_proj.weight_{part}")].double() for part in "vg")
            weight = (v * g / v.flatten(1).norm(dim=1)[:, None, None])[..., 0]
            total = (
                total
                + weight @ tensors[key][code].double()
                + tensors[key.replace("codebook", "out_proj").replace("weight", "bias")]
            )
        frames.append(total)
    decoded = {
        "first_8_dims_of_frames_0_to_3": [frame[:8].tolist() for frame in frames],
        "l2_norm_of_each_frame": [float(frame.norm()) for frame in frames],
    }
    records = [
        {"codec": "small_dac", "sha256_of_float32_le": hashes},
        {"codec": "small_dac", "input": {"codes [frame][codebook]": codes}, "quantizer_decode": decoded},
    ]
    (home / "known.json").write_text(json.dumps({"records": records}))
    variant = replace(small_variant("dac_44k"), name="small_dac", root="", aliases=(), second_names={}, copies=())
    with registered_for_a_while():
        register_codec(replace(variant, weights=None))
        yield tensors, home / "known.json"


def test_bytes_and_features_are_compared(small_dac: tuple[Tensors, Path], home: Path) -> None:
    tensors, known_numbers = small_dac
    level = "quantizer.quantizers.{}.codebook.weight"
    damages = {
        "none": ({}, set()),
        "permuted": (
            {level.format(1): tensors[level.format(1)].roll(1, 0)},
            {"bytes of codebooks", "quantiser's output"},
        ),
        "swapped": (
            {level.format(0): tensors[level.format(2)], level.format(2): tensors[level.format(0)]},
            {"bytes of codebooks", "quantiser's output"},
        ),
        "a bias": (
            {(key := "quantizer.quantizers.0.out_proj.bias"): tensors[key] + 0.1},
            {"bytes of out_proj_bias", "quantiser's output"},
        ),
    }
    for what, (changes, caught) in damages.items():
        torch.save({**tensors, **changes}, home / "w.pth")
        codec = load_codec("small_dac", home / "w.pth", device="cpu")
        checks = list(without_data(codec, records_of(codec, known_numbers)))
        assert {check.name for check in checks if check.outcome == "failed"} == caught, what
        assert len(checks) == 3


def test_codes_of_recordings_are_compared(small_dac: tuple[Tensors, Path], home: Path) -> None:
    """With clips and numbers in the form of those that are public."""
    tensors, _ = small_dac
    torch.save(tensors, home / "w.pth")
    codec = load_codec("small_dac", home / "w.pth", device="cpu")
    (home / "clips").mkdir()
    r = np.random.default_rng(0)
    for number in range(2):
        soundfile.write(home / "clips" / f"{number}.wav", 0.1 * r.standard_normal(16000 + number), 16000)
    codes = codec.encode(home / "clips" / "1.wav").codes[0, :, :15].tolist()
    record = {
        "codec": "small_dac",
        "input": {"dataset": "x", "item": 1, "samples_at_16k": 16001},
        "codes_first_frames": codes,
    }
    other = {**record, "codes_first_frames": [[code + 1 for code in row] for row in codes]}
    elsewhere = {**record, "input": {"dataset": "x", "item": 0, "samples_at_16k": 16001}}
    expect = home / "expect.json"
    for one, outcome, said in (
        (record, "passed", "100% equal in the first codebook"),
        (other, "failed", "0% equal in the first codebook"),
        (elsewhere, "failed", "not the clip that the numbers are of"),
    ):
        expect.write_text(json.dumps({"records": [one]}))
        (check,) = with_data(codec, records_of(codec, expect), str(home / "clips"))
        assert (check.outcome, said in check.found) == (outcome, True), check
    assert records_of(codec) == [], "nothing public is of a codec of one's own"


def test_codec_superbs_table_is_compared_under_its_protocol(small_dac: tuple[Tensors, Path], home: Path) -> None:
    """The numbers of a run are those of a run; others are not."""
    tensors, _ = small_dac
    torch.save(tensors, home / "w.pth")
    codec = load_codec("small_dac", home / "w.pth", device="cpu")
    for name in ("one", "two"):
        write_sound(home / "clips" / "Speech" / f"{name}.wav", 0.5)
    (home / "clips" / "list.csv").write_text("id,path,category\none,Speech/one.wav,Speech\ntwo,Speech/two.wav,Speech\n")

    def checks(mel: float, stft: float) -> dict[str, Check]:
        table = [{"codec": "small_dac", "superb": {"Speech": {"mel": mel, "stft": stft}}}]
        found = on_superb(codec, table, str(home / "clips" / "list.csv"), home / "w.pth", "cpu")
        return {check.name: check for check in found}

    first = checks(1, 1)
    assert first["Codec-SUPERB: clips"].found == "2 of 2 measured"
    mel, stft = (float(first[f"Codec-SUPERB: {name}, Speech"].found.split()[0]) for name in ("mel", "stft"))
    again = checks(mel * 1.05, stft * 1.2)
    assert again["Codec-SUPERB: mel, Speech"].outcome == "passed"
    assert again["Codec-SUPERB: stft, Speech"].outcome == "failed"


def test_a_file_that_is_no_record_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"x\.json: not a file that --record wrote"):
        verify("g711_ulaw", expect=tmp_path / "x.json", device="cpu")
