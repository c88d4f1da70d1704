"""`codeczoo.superb`: scripts written for Codec-SUPERB run on it, with its shapes and without its defects."""

from __future__ import annotations

import ast
import copy
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save

from codeczoo import Codes, load_codec, superb
from codeczoo.base.catalogue import find_variant
from codeczoo.codecs.academicodec import AcademiCodec
from codeczoo.superb.base_codec import general
from codeczoo.superb.codec import codec_supports_decode, list_codec, wrap
from codeczoo.weights.download import INSIST
from tests.support.golden import assert_codes_agree, golden_case, golden_codec, golden_state_dict
from tests.support.hub_server import HubServer
from tests.support.small import codec_of
from tests.support.sound import chirp

NAMES = (Path(__file__).parents[1] / "golden" / "superb_names.txt").read_text().split()
# One of each network.
NETWORKS = list({(v.family, repr(v.network)): v.name for v in map(find_variant, NAMES)}.values())
DECODABLE = [name for name in NETWORKS if codec_supports_decode(name)]
# Axes of a unit as upstream's wrappers give it: K codebooks, N frames.
AXES = {"dac": "NK", "auv": "N", "s3tokenizer": "N"}
INT32 = ("sqcodec_", "s3tokenizer_v2", "s3tokenizer_v3")


def small(name: str) -> superb.codec.Codec:
    """A small network; its own `encode`, of which the tests take the truth, does what upstream's wrapper does."""
    model = codec_of(name, "small", torch.float32)
    if isinstance(model, AcademiCodec):
        model = copy.deepcopy(model)
        model.peak_normalise = True
    return wrap(model)


def item(samples: int = 15000, rate: int = 22050, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"audio": {"array": chirp(samples, rate, seed)[0].numpy(), "sampling_rate": rate}, **more}


def dense(name: str, unit: torch.Tensor) -> torch.Tensor:
    """A unit as [K, N], the codes of each codebook counted from zero."""
    axes = AXES.get(find_variant(name).family, "KN")
    assert unit.ndim == len(axes)
    assert unit.dtype == (torch.int32 if name.startswith(INT32) else torch.int64)
    unit = unit[None] if axes == "N" else unit.T if axes == "NK" else unit
    if find_variant(name).family == "audiodec":
        unit = unit - 1024 * torch.arange(len(unit))[:, None]
    return unit.long()


# -- names ----------------------------------------------------------------------------------------


def test_all_names_are_listed_and_each_is_a_module_with_a_class() -> None:
    assert list_codec() == sorted(NAMES) and len(NAMES) == 43
    assert list_codec(["dac_16k.py", "__init__.py"]) == sorted(set(NAMES) - {"dac_16k"})
    for name in NAMES:
        module = importlib.import_module(f"codeczoo.superb.codec.{name}")
        assert module.Codec.codec_name == name and issubclass(module.Codec, general.BaseCodec)
        assert module.Codec.supports_decode == codec_supports_decode(name) == (not name.startswith("s3tokenizer"))
    with pytest.raises(ImportError):
        importlib.import_module("codeczoo.superb.codec.dac_17k")


def test_upstreams_ways_to_import_work_on_it() -> None:
    from codeczoo import superb as SoundCodec
    from codeczoo.superb import codec
    from codeczoo.superb.base_codec.general import BatchExtractedUnit, ExtractedUnit
    from codeczoo.superb.codec import load_codec as direct
    from codeczoo.superb.codec.dac_16k import Codec as Dac

    assert SoundCodec.codec is codec and codec.load_codec is direct is SoundCodec.load_codec
    assert Dac.codec_name == "dac_16k" and issubclass(Dac, general.BaseCodec)
    assert (BatchExtractedUnit, ExtractedUnit) == (superb.BatchExtractedUnit, superb.ExtractedUnit)
    with pytest.raises(KeyError, match="did you mean 'dac_16k'"):
        direct("dac_17k")


def test_any_codec_of_the_zoo_loads_with_its_options() -> None:
    codec = superb.load_codec("opus_12k", device="cpu")
    assert (codec.device, codec.sampling_rate, codec.setting, codec.supports_decode) == ("cpu", 16000, "opus_12k", True)
    weights = superb.load_codec("encodec_24k_3bps", weights="random", device="cpu")
    assert weights.setting == "encodec_24khz_3" and weights.extract_unit(item()).unit.shape[0] == 4


# -- shapes and values ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_unit_is_the_codes_in_upstreams_shape(name: str) -> None:
    codec = small(name)
    data = item()
    extracted = codec.extract_unit(data)
    truth = codec.model.encode(data["audio"]["array"], 22050)
    assert isinstance(extracted, general.ExtractedUnit)
    assert extracted.to_dict() == {"unit": extracted.unit, "stuff_for_synth": extracted.stuff_for_synth}
    assert torch.equal(dense(name, extracted.unit), truth.codes[0])
    assert codec.is_1d() == (truth.num_codebooks == 1)
    assert (codec.sampling_rate, codec.supports_decode) == (codec.model.sample_rate, codec_supports_decode(name))


@pytest.mark.parametrize("name", DECODABLE)
def test_audio_comes_from_the_integers_alone(name: str) -> None:
    codec = small(name)
    extracted = codec.extract_unit(item())
    assert isinstance(extracted.stuff_for_synth, Codes)
    whole = codec.decode_unit(extracted.stuff_for_synth)
    truth = codec.model.decode(extracted.stuff_for_synth)
    flat = find_variant(name).family == "bigcodec"
    assert whole.dtype == np.float32 and whole.shape == (truth.waveform.shape[-1:] if flat else truth.waveform[0].shape)
    assert np.array_equal(whole.reshape(-1), truth.numpy())
    assert np.array_equal(codec.decode_unit(extracted), whole)
    bare = codec.model.decode(codec.model.codes_from_tensor(dense(name, extracted.unit)[None])).numpy()
    for unit in (extracted.unit, extracted.unit.numpy(), extracted.unit.tolist()):
        assert np.array_equal(codec.decode_unit(unit).reshape(-1), bare)
    assert np.array_equal(codec.decode_unit(general.ExtractedUnit(extracted.unit, None)).reshape(-1), bare)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_mixed_lengths_and_rates_gives_each_what_it_gets_alone(name: str) -> None:
    codec = small(name)
    items = [item(15000, 22050, 1), item(9000, 16000, 2), item(21000, 44100, 3)]
    batch = codec.batch_extract_unit(items)
    assert isinstance(batch, general.BatchExtractedUnit) and batch.batch_size == 3
    assert batch.to_dict().keys() == {"units", "stuff_for_synth", "batch_size"}
    alone = [codec.extract_unit(data) for data in items]
    assert all(torch.equal(unit, one.unit) for unit, one in zip(batch.units, alone, strict=True))
    empty = codec.batch_extract_unit([])
    assert (empty.units, empty.stuff_for_synth, empty.batch_size) == ([], [], 0)
    if not codec.supports_decode:
        assert batch.stuff_for_synth == [None] * 3
        return
    decoded = codec.batch_decode_unit(batch)
    assert codec.batch_decode_unit(empty) == codec.batch_synth([], local_save=False) == []
    for audio, one in zip(decoded, alone, strict=True):
        single = codec.decode_unit(one.stuff_for_synth)
        assert audio.shape == single.shape
        np.testing.assert_allclose(audio, single, atol=2e-5 * float(np.abs(single).max()))
    bare = codec.batch_decode_unit(general.BatchExtractedUnit(batch.units, [None] * 3, 3))
    for audio, one in zip(bare, alone, strict=True):
        single = codec.decode_unit(one.unit)
        assert audio.shape == single.shape
        np.testing.assert_allclose(audio, single, atol=2e-5 * float(np.abs(single).max()))


@pytest.mark.parametrize("name", DECODABLE)
def test_synth_keeps_rate_length_and_level(name: str) -> None:
    """Upstream feeds DAC and FunCodec at the clip's rate as if it were theirs, and AcademiCodec never gets its level
    back."""
    codec = small(name)
    clip = item(15001, 22050)["audio"]["array"]
    data = {"audio": {"array": clip, "sampling_rate": 22050}, "id": "x"}
    out = codec.synth(data, local_save=False)
    assert out is data and out["id"] == "x" and out["audio"].keys() == {"array", "sampling_rate"}
    family = find_variant(name).family
    assert out["audio"]["sampling_rate"] == 22050 and out["audio"]["array"].dtype == np.float32
    assert out["audio"]["array"].shape == ((1, 15001) if family in ("dac", "funcodec") else (15001,))
    truth = codec.model.reconstruct(clip, 22050).numpy()
    np.testing.assert_allclose(out["audio"]["array"].reshape(-1), truth, atol=2e-5 * float(np.abs(truth).max()))
    assert torch.equal(out["unit"], codec.extract_unit(item(15001, 22050)).unit)

    batch = [item(15001, 22050, path="kept"), item(7000, 8000, 1)]
    results = codec.batch_synth(batch, local_save=False)
    assert [a is b for a, b in zip(results, batch, strict=True)] == [True, True]
    assert [r["audio"]["sampling_rate"] for r in results] == [22050, 8000]
    assert [r["audio"]["array"].shape[-1] for r in results] == [15001, 7000]
    assert all(r["audio"]["array"].ndim == (1 if family == "bigcodec" else 2) for r in results)
    np.testing.assert_allclose(results[0]["audio"]["array"].reshape(-1), truth, atol=1e-4 * float(np.abs(truth).max()))


def test_a_tokenizer_gives_units_and_says_why_there_is_no_audio() -> None:
    codec = small("s3tokenizer_v1")
    for call in (lambda: codec.decode_unit(None), lambda: codec.batch_decode_unit(codec.batch_extract_unit([item()]))):
        with pytest.raises(NotImplementedError, match="s3tokenizer_v1 cannot decode"):
            call()
    (batched,) = codec.batch_synth([item()], local_save=False)
    for out in (codec.synth(item(), local_save=False), batched):
        assert out["encode_only"] is True and out["audio"] == {"array": None, "sampling_rate": 22050}
        assert isinstance(out["unit"], torch.Tensor)
    out = codec.synth(item())
    assert "encode_only" not in out and out["audio"]["array"].shape == (15000,) and out["unit"].ndim == 1


def test_academicodec_has_upstreams_units_and_gives_the_level_back() -> None:
    name = "academicodec_hifi_16k_320d"
    case, _ = golden_case(name)
    codec = superb.load_codec(name, weights=golden_state_dict(name), device="cpu")
    extracted = codec.extract_unit({"audio": {"array": case["audio"][0, 0].numpy(), "sampling_rate": 16000}})
    assert extracted.unit.shape == case["peak_normalised_codes"].shape[1:]
    assert_codes_agree(extracted.unit[None], case["peak_normalised_codes"], case["peak_normalised_codes_stable"])
    assert codec.model.peak_normalise is False  # the codec itself stays as it is
    quiet, loud = (
        codec.synth({"audio": {"array": level * case["audio"][0, 0].numpy(), "sampling_rate": 16000}}, False)
        for level in (0.01, 1.0)
    )
    np.testing.assert_allclose(quiet["audio"]["array"], 0.01 * loud["audio"]["array"], atol=1e-6)


def test_encodec_at_full_size_gives_the_golden_codes() -> None:
    codec = wrap(golden_codec("encodec_24k", "encodec_24k"))
    case, _ = golden_case("encodec_24k")
    unit = codec.extract_unit({"audio": {"array": case["audio"][0], "sampling_rate": 24000}}).unit
    assert_codes_agree(unit[None], case["codes"][:, :8], case["codes_stable"][:, :8])


def test_audiodec_counts_its_codebooks_on() -> None:
    unit = wrap(load_codec("audiodec_24k_320d", "random", device="cpu")).extract_unit(item()).unit
    assert unit.shape[0] == 8
    for k, row in enumerate(unit):
        assert 1024 * k <= int(row.min()) and int(row.max()) < 1024 * (k + 1)


def test_unicodec_can_be_told_the_domain() -> None:
    codec = small("unicodec_24k")
    units = [codec.extract_unit(item(), domain=domain).unit for domain in "012"]
    assert torch.equal(units[0], codec.extract_unit(item()).unit)
    assert [codec.model.domains_of(unit).unique().tolist() for unit in units] == [[0], [1], [2]]
    assert codec.model.domain == "speech"


# -- what items may look like ---------------------------------------------------------------------


def opus(name: str = "opus_12k") -> superb.codec.Codec:
    return superb.load_codec(name, device="cpu")


class Decoder:
    """What Hugging Face datasets give where torchcodec is installed: its AudioDecoder, as far as it is used."""

    def __init__(self, samples: torch.Tensor, rate: int) -> None:
        self._samples = SimpleNamespace(data=samples, sample_rate=rate)

    def get_all_samples(self) -> SimpleNamespace:
        return self._samples


def test_every_form_of_an_item_is_the_same_clip(tmp_path: Path) -> None:
    codec, samples = opus(), chirp(8000, 16000)[0]
    sf.write(tmp_path / "a.wav", samples.numpy(), 16000, subtype="FLOAT")
    forms = [
        {"array": samples.numpy(), "sampling_rate": 16000},
        {"array": samples, "sampling_rate": 16000},
        {"array": samples.double().numpy(), "sampling_rate": 16000},
        {"array": samples.tolist(), "sampling_rate": 16000},
        {"array": samples[None].numpy(), "sampling_rate": 16000},
        {"array": samples[:, None].numpy(), "sampling_rate": 16000},
        {"array": None, "path": str(tmp_path / "a.wav"), "sampling_rate": None},
        {"path": None, "bytes": (tmp_path / "a.wav").read_bytes()},
        {"array": samples.numpy()},  # taken to be at the codec's rate, as upstream does
        str(tmp_path / "a.wav"),
        Decoder(samples[None], 16000),
    ]
    units = [codec.extract_unit({"audio": audio}).unit for audio in forms]
    assert all(torch.equal(unit, units[0]) for unit in units)
    outs = [codec.synth({"audio": audio}, local_save=False)["audio"] for audio in forms]
    assert all(out["sampling_rate"] == 16000 and np.array_equal(out["array"].ravel(), outs[0]["array"]) for out in outs)
    with pytest.raises(TypeError, match="For 16-bit integers"):
        codec.extract_unit({"audio": {"array": (samples * 32767).short().numpy(), "sampling_rate": 16000}})
    with pytest.raises(ValueError, match="NaN"):
        codec.extract_unit({"audio": {"array": samples.numpy() * np.nan, "sampling_rate": 16000}})


def test_stereo_comes_back_as_it_lay() -> None:
    """Upstream reads [T, 2] as T channels of two samples, or drops the clip."""
    codec, samples = opus("opus_64k"), torch.cat([chirp(8000, 16000), chirp(8000, 16000, 1)]).numpy()
    truth = codec.model.reconstruct(samples, 16000).numpy()
    assert truth.shape == (2, 8000) and not np.array_equal(truth[0], truth[1])
    for array in (samples, samples.T):
        out = codec.synth({"audio": {"array": array, "sampling_rate": 16000}}, local_save=False)["audio"]["array"]
        assert out.shape == array.shape
        assert np.array_equal(out if array is samples else out.T, truth)
    both = codec.batch_synth([item(5000, 8000), {"audio": {"array": samples, "sampling_rate": 16000}}], False)
    assert [out["audio"]["array"].shape for out in both] == [(1, 5000), (2, 8000)]


# -- saving ---------------------------------------------------------------------------------------


def test_saved_audio_is_exact_and_no_clip_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream clamps to 0.99 and truncates to 16 bit; equal ids overwrite each other, and a slash loses the clip."""
    monkeypatch.chdir(tmp_path)
    codec = opus()

    def loud(**more: Any) -> dict[str, Any]:
        return {"audio": {"array": 3 * chirp(8000, 22050)[0].numpy(), "sampling_rate": 22050}, **more}

    truth = codec.synth(loud(), local_save=False)["audio"]["array"]
    assert float(np.abs(truth).max()) > 1
    outs = [codec.synth(loud(id=identity)) for identity in ("a/b", "same", "same", "../up", 7)]
    outs.append(codec.synth(loud()))
    paths = [out["audio"]["path"] for out in outs]
    assert all(out["audio"].keys() == {"path", "sampling_rate"} for out in outs)
    assert paths[:3] == [f"reconstructed_opus_12k/{name}.wav" for name in ("a/b", "same", "same-2")]
    assert len(set(paths)) == 6 and all((tmp_path / path).resolve().is_relative_to(tmp_path) for path in paths)
    for path in paths:
        samples, rate = sf.read(path, dtype="float32")
        assert rate == 22050 and np.array_equal(samples, truth)
    first, second = codec.batch_synth([loud(id="one"), loud(id="two")])
    assert (first["audio"], second["audio"]) == ("dummy_opus_12k/one.wav", "dummy_opus_12k/two.wav")
    np.testing.assert_allclose(sf.read(second["audio"])[0], truth, atol=1e-6)


def test_the_helpers_of_general(tmp_path: Path) -> None:
    general.save_audio(np.array([0.5, -1.5, 0.25]), tmp_path / "new" / "a.wav", 8000)
    assert sf.read(tmp_path / "new" / "a.wav")[0].tolist() == [0.5, -1.5, 0.25]
    general.save_audio(torch.tensor([[0.5, -1.5], [0.0, 0.75]]), tmp_path / "b.wav", 8000, rescale=True)
    np.testing.assert_allclose(sf.read(tmp_path / "b.wav")[0], np.array([[0.5, 0], [-1.5, 0.75]]) * 0.66, rtol=1e-6)
    for broken in (np.array([np.nan, 0.1]), np.zeros(0)):
        with pytest.raises(ValueError, match=r"NaN|samples"):
            general.save_audio(broken, tmp_path / "c.wav", 8000)
    one, two = general.pad_arrays_to_match(np.ones((2, 3)), np.ones((1, 5)))
    assert one.tolist() == [[1, 1, 1, 0, 0]] * 2 and two.tolist() == [[1] * 5, [0] * 5]
    assert general.resample_audio(np.ones(800), 8000, 16000).shape == (1600,)


# -- codecs of one's own --------------------------------------------------------------------------


class Halves(general.BaseCodec):
    """A codec as upstream's guide for contributors has it: 8 bit at 8 kHz."""

    def config(self) -> None:
        self.sampling_rate = 8000
        self.setting = "halves"

    def extract_unit(self, data: Any) -> general.ExtractedUnit:
        unit = torch.from_numpy(np.round(data["audio"]["array"] * 127)).long()[None]
        return general.ExtractedUnit(unit, unit)

    def decode_unit(self, stuff_for_synth: Any) -> np.ndarray:
        return (stuff_for_synth / 127).numpy()


def test_a_codec_of_ones_own_inherits_the_rest() -> None:
    codec = Halves()
    assert codec.is_1d() and codec.device in ("cpu", "cuda", "mps")
    out = codec.synth(item(8001, 16000), local_save=False)
    assert out["audio"]["array"].shape == (8001,) and out["audio"]["sampling_rate"] == 16000
    tone = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000).astype(np.float32)
    out = codec.synth({"audio": {"array": np.stack([tone, tone]), "sampling_rate": 8000}}, local_save=False)
    np.testing.assert_allclose(out["audio"]["array"], np.stack([tone, tone]), atol=0.5 / 127)
    batch = codec.batch_extract_unit([item(), item(800, 8000)])
    assert batch.batch_size == 2 and len(codec.batch_decode_unit(batch)) == 2
    results = codec.batch_synth([item(), item(800, 8000)], local_save=False)
    assert [result["audio"]["array"].shape for result in results] == [(15000,), (800,)]


# -- a script -------------------------------------------------------------------------------------

SCRIPT = """
from codeczoo.superb import codec

import numpy as np
import soundfile as sf
import torch

print(codec.list_codec())
model = codec.load_codec("encodec_24k_6bps")
print(model.device, model.sampling_rate, model.setting)

waveform, sample_rate = sf.read("sample_audio.wav", dtype="float32", always_2d=True)
data_item = {"audio": {"array": waveform.T[-1], "sampling_rate": sample_rate}}
sound_unit = model.extract_unit(data_item).unit
assert isinstance(sound_unit, torch.Tensor) and len(sound_unit.shape) == 2
reconstructed = model.synth(data_item, local_save=False)["audio"]["array"]
assert isinstance(reconstructed, np.ndarray) and len(reconstructed) == len(waveform)

wave1, wave2 = waveform[:16000, 0], waveform[:9000, 0]
data_list = [
    {"audio": {"array": wave1, "sampling_rate": 16000}},
    {"audio": {"array": wave2, "sampling_rate": 16000}},
]
batch_extracted = model.batch_extract_unit(data_list)
batch_decoded = model.batch_decode_unit(batch_extracted)
results = model.batch_synth(data_list, local_save=False)
print(sound_unit.shape, [u.shape for u in batch_extracted.units], [a.shape for a in batch_decoded])
print([r["audio"]["array"].shape for r in results], [r["unit"].cpu().numpy().dtype for r in results])
"""


def test_a_script_as_upstreams_readme_has_it(tmp_path: Path) -> None:
    """With the weights through the real hub client from a server of ours, and files read by soundfile."""
    (tmp_path / "script.py").write_text(SCRIPT)
    sf.write(tmp_path / "sample_audio.wav", chirp(20000, 22050)[0].numpy(), 22050)
    with HubServer() as hub:
        weights = save(golden_state_dict("encodec_24k", "manifest_hf.json"))
        source = find_variant("encodec_24k").weights
        assert source is not None
        hub.add("facebook/encodec_24khz", {"model.safetensors": weights}, commit=source.revision)
        environment = {**os.environ, **hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        environment |= {INSIST: "allow", "CODECZOO_DEVICE": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    names, facts, shapes, synthesised = done.stdout.splitlines()
    assert ast.literal_eval(names) == sorted(NAMES)
    assert facts == "cpu 24000 encodec_24khz_6"
    assert shapes == ("torch.Size([8, 69]) [torch.Size([8, 75]), torch.Size([8, 43])] [(1, 24000), (1, 13500)]")
    assert synthesised == "[(1, 16000), (1, 9000)] [dtype('int64'), dtype('int64')]"
