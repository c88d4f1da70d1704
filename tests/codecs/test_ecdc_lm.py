"""`.ecdc` files that EnCodec's language model entropy-codes: as the published package reads and writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from codeczoo import Codes
from codeczoo.codecs.formats.arithmetic_coding import ArithmeticDecoder, ArithmeticEncoder, ends_of_shares
from codeczoo.codecs.formats.ecdc import EcdcHeader, from_ecdc, read_ecdc, to_ecdc, write_ecdc
from codeczoo.codecs.formats.encodec_lm import EncodecLM, language_models, load_language_model
from codeczoo.weights.download import WeightsUnavailableError
from tests.support.golden import GOLDEN, golden_case
from tests.support.golden_weights import noise
from tests.support.language_model import GOLDEN_NETWORK, HEADS, coder_case, language_model

TINY = {"num_codebooks": 2, "dim": 16, "layers": 1, "heads": 2, "hidden": 32, "past": 5}


def golden_model(case: str) -> EncodecLM:
    codec = "encodec_48k" if case.endswith("48k") else "encodec_24k"
    return language_model(codec, HEADS[case.partition("_")[0]], **GOLDEN_NETWORK)


def golden_codes(case: str) -> Codes:
    tensors, facts = golden_case("ecdc", case)
    codes = tensors["codes"].long()
    return Codes(
        codes=codes,
        lengths=torch.tensor([codes.shape[-1]]),
        num_samples=torch.tensor([int(facts["samples"])]),
        sample_rate=48000 if "scale" in tensors else 24000,
        codec="encodec_48k" if "scale" in tensors else "encodec_24k",
        codebook_sizes=(1024,) * codes.shape[1],
        frame_rate=150.0 if "scale" in tensors else 75.0,
        side_info={"scale": tensors["scale"]} if "scale" in tensors else {},
    )


def any_codes(codec: str, samples: int, count: int = 2) -> Codes:
    frames = sum(EcdcHeader(f"{codec}hz", samples, count).segment_frames)
    values = (noise(f"{codec}/{samples}", count * frames) + 1) / 2 * 1024
    side = {"scale": torch.full((1, -(-samples // 47520)), 0.5)} if codec == "encodec_48k" else {}
    return Codes(
        codes=torch.from_numpy(values).long().view(1, count, frames),
        lengths=torch.tensor([frames]),
        num_samples=torch.tensor([samples]),
        sample_rate=48000 if side else 24000,
        codec=codec,
        codebook_sizes=(1024,) * count,
        frame_rate=150.0 if side else 75.0,
        side_info=side,
    )


# -- against the published package -----------------------------------------------------------------


def test_the_coder_writes_and_reads_the_published_bytes() -> None:
    data, encoder = (GOLDEN / "ecdc" / "coder.bin").read_bytes(), ArithmeticEncoder()
    decoder = ArithmeticDecoder(b"other bytes" + data, len(b"other bytes"))
    for probabilities, symbol in coder_case():
        ends = ends_of_shares(probabilities)
        encoder.push(symbol, ends)
        assert decoder.pull(ends) == symbol
    assert encoder.finish() == data
    assert decoder.finish() == len(b"other bytes" + data)


@pytest.mark.parametrize("case", ["sharp", "sharp_48k"])
def test_published_files_are_read_and_written_byte_for_byte(case: str, tmp_path) -> None:
    """On every machine: the probabilities are 0 and 1."""
    path, model, codes = GOLDEN / "ecdc" / f"{case}.ecdc", golden_model(case), golden_codes(case)
    assert read_ecdc(path, model) == codes
    write_ecdc(codes, tmp_path / "again.ecdc", model)
    assert (tmp_path / "again.ecdc").read_bytes() == path.read_bytes()


def test_probabilities_are_the_published_ones_and_so_are_files_where_the_last_bits_are() -> None:
    """The last bits are those of the machine that made the golden file; on others it may be refused, by name."""
    tensors, facts = golden_case("ecdc", "natural")
    data = (GOLDEN / "ecdc" / "natural.ecdc").read_bytes()
    model, codes = golden_model("natural"), golden_codes("natural")
    with model.reproducible():
        predictions, found = model.predictions(2), []
        for row in codes.codes[0].T.numpy():
            found.append(predictions.next())
            predictions.saw(row)
    torch.testing.assert_close(torch.from_numpy(np.stack(found[:4])), tensors["probabilities"], rtol=1e-4, atol=1e-8)
    if hashlib.sha256(np.stack(found).tobytes()).hexdigest() == facts["sha256"]:
        assert to_ecdc(codes, model) == data
        assert from_ecdc(data, language_model=model) == codes
    else:
        with pytest.raises(ValueError, match="other probabilities than the language model has here"):
            from_ecdc(data, language_model=model)


@pytest.mark.parametrize("codec", ["encodec_24k", "encodec_48k"])
def test_a_published_checkpoint_fits(codec: str, tmp_path) -> None:
    layout = json.loads((GOLDEN / "ecdc" / "layout.json").read_text())[codec]
    path = tmp_path / "lm.th"
    torch.save({key: torch.zeros(shape) for key, shape in layout["tensors"].items()}, path)
    model = load_language_model(codec, path)
    assert model.config.past == layout["past"]
    assert model.dtype == torch.float32 and model.device.type == "cpu"


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "samples"), [("encodec_24k", 1), ("encodec_24k", 6401), ("encodec_48k", 1), ("encodec_48k", 47521)]
)
def test_codes_survive_whatever_the_number_of_threads_is_around(codec: str, samples: int) -> None:
    model, codes = language_model(codec, **TINY), any_codes(codec, samples)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        data = to_ecdc(codes, model)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert EcdcHeader.from_bytes(data)[0].entropy_coded
    assert from_ecdc(data, language_model=model) == codes


def test_codes_that_the_model_expects_take_less(tmp_path) -> None:
    model = language_model("encodec_24k", 100000.0, **TINY)
    with model.reproducible():
        predictions, rows = model.predictions(2), []
        for _ in range(200):
            rows.append(predictions.next().argmax(-1))
            predictions.saw(rows[-1])
    codes = replace(any_codes("encodec_24k", 200 * 320), codes=torch.from_numpy(np.stack(rows, 1))[None])
    data = to_ecdc(codes, model)
    assert from_ecdc(data, language_model=model) == codes
    assert len(data) < 70 < len(to_ecdc(codes))


@pytest.mark.slow  # threads that wait for a core that others use take seconds
def test_files_written_with_all_threads_are_read_where_there_are_as_many() -> None:
    model, codes = language_model("encodec_24k", **GOLDEN_NETWORK), any_codes("encodec_24k", 40 * 320)
    model.threads = 2
    data = to_ecdc(codes, model)
    model.threads, before = 1, torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert from_ecdc(data, language_model=model) == codes
    finally:
        torch.set_num_threads(before)


# -- what cannot be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "samples", "count"), [("encodec_24k", 3201, 120), ("encodec_48k", 47521, 15)])
def test_no_damage_of_the_codes_goes_unseen(codec: str, samples: int, count: int) -> None:
    model, codes = language_model(codec, **TINY), any_codes(codec, samples)
    data = to_ecdc(codes, model)
    start = EcdcHeader.from_bytes(data)[1] + (4 if codec == "encodec_48k" else 0)
    for seed in range(count):
        dice = np.random.RandomState(seed)
        broken, place = bytearray(data), int(dice.randint(start, len(data)))
        if seed % 3 == 0:
            broken[place] ^= 1 << int(dice.randint(8))
        elif seed % 3 == 1:
            del broken[place:]
        else:
            broken[place:place] = dice.bytes(1)
        said = ""
        try:
            read = from_ecdc(bytes(broken), "a.ecdc", model)
        except ValueError as error:
            said = str(error)
        if said:
            assert said.startswith("a.ecdc: broken")
        else:  # it was in a scale, which has no check
            assert torch.equal(read.codes, codes.codes)


def test_other_weights_are_noticed() -> None:
    codes = any_codes("encodec_24k", 6401)
    data = to_ecdc(codes, language_model("encodec_24k", **TINY))
    with pytest.raises(ValueError, match="other probabilities than the language model has here with 1 "):
        from_ecdc(data, language_model=language_model("encodec_24k", 1.01, **TINY))
    with pytest.raises(ValueError, match="encodec_lm_48k is no language model of the codes of encodec_24k"):
        from_ecdc(data, language_model=language_model("encodec_48k", **TINY))
    with pytest.raises(ValueError, match="knows 1 codebooks, not 2"):
        to_ecdc(codes, language_model("encodec_24k", **{**TINY, "num_codebooks": 1}))


@pytest.mark.parametrize("published", ["encodec_24khz", "encodec_48khz"])
def test_a_header_that_tells_of_more_than_the_file_can_hold_is_refused_at_once(published: str) -> None:
    for samples in (10**18, 10**10):
        data = EcdcHeader(published, samples, 2, entropy_coded=True).to_bytes() + bytes(100)
        with pytest.raises(ValueError, match="do not fit in it"):
            from_ecdc(data, language_model=language_model(published.replace("hz", ""), **TINY))


def test_without_the_published_model_the_error_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    data = to_ecdc(any_codes("encodec_24k", 321), language_model("encodec_24k", **TINY))
    with pytest.raises(WeightsUnavailableError, match=r"encodec_lm_24khz-1608e3c0\.th .*--lm-weights in the shell"):
        from_ecdc(data)
    with pytest.raises(ValueError, match="encodec_24k and encodec_48k, none of mimi"):
        load_language_model("mimi")


def test_the_files_are_pinned_by_the_hash_in_their_names() -> None:
    for variant in language_models().values():
        assert variant.weights is not None and variant.weights.url and variant.weights.sha256
        assert variant.weights.url.endswith(f"-{variant.weights.sha256}.th")
