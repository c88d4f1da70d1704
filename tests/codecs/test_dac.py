"""DAC: the golden cases in both namings, long and ragged signals in tiles, and the file mode."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from codeczoo import Audio, load_codec
from codeczoo.codecs.dac import DAC
from codeczoo.codecs.formats import dac as dac_file
from codeczoo.codecs.formats.dac import DACFile
from codeczoo.nn import cache_tiling
from tests.support.golden import assert_audio_agrees, assert_codes_agree, golden_case, golden_codec
from tests.support.packagings import HF, Packaging, Tensors, numbers_of, of_transformers
from tests.support.small import codec_of

CASES = [
    ("dac_44k", "manifest.json", "public"),
    ("dac_44k", "manifest_hf.json", "public_hf"),
    ("dac_24k", "manifest.json", "public"),
    ("dac_16k", "manifest.json", "public"),
    ("dac_44k_16kbps", "manifest.json", "public"),
]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"encoder_dim": 4, "decoder_dim": 64, "codebook_size": 64}
GAIN = 0.5
LICENCE = "MIT"
TRANSFORMERS = ("dac_24k", "dac_16k")


def descript(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    config = packaging.config()
    kwargs = numbers_of(config, "sample_rate")
    kwargs |= {
        "n_codebooks": config.num_codebooks,
        "latent_dim": config.latent_channels,
        "quantizer_dropout": 0.5,
    }
    torch.save({"state_dict": OrderedDict(tensors), "metadata": {"kwargs": kwargs}}, folder / "weights.pth")
    return folder / "weights.pth"


PACKAGINGS = {
    "dac": Packaging("dac_44k", "dac_44k", descript),
    "dac at 24 kHz": Packaging("dac_24k", "dac_24k", descript),
    "dac of transformers": Packaging("dac_44k", "dac_44k", of_transformers, HF),
}


def small(name: str = "dac_24k") -> DAC:
    codec = codec_of(name, "small", torch.float64)
    assert isinstance(codec, DAC)
    return codec


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- the published numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "manifest", "case"), CASES)
@torch.no_grad()
def test_golden(name, manifest, case):
    codec, (truth, _) = golden_codec(name, name, manifest), golden_case(name, case)
    codes = codec.encode(truth["audio"], codec.sample_rate)
    assert_codes_agree(codes.codes, truth["codes"], truth["codes_stable"])
    reconstruction = codec.decode(truth["codes"]).waveform
    assert_audio_agrees(reconstruction, truth["reconstruction"])
    assert_audio_agrees(codec.quantizer.decode(truth["codes"]), truth["quantized"])
    padded = torch.nn.functional.pad(truth["audio"], (0, -truth["audio"].shape[-1] % codec.hop_length))
    latent, _ = codec.encoder(padded)
    assert_audio_agrees(latent, truth["latent"])
    if "projected_latents" in truth:
        residual, projected = latent, []
        for level, code in zip(codec.quantizer.levels, truth["codes"].unbind(1), strict=True):
            projected.append(level.in_proj(residual))
            residual = residual - level.decode(code)
        assert_audio_agrees(torch.cat(projected, 1), truth["projected_latents"])


def test_golden_compress(tmp_path):
    codec, (truth, facts) = golden_codec("dac_44k", "dac_44k"), golden_case("dac_44k", "compress")
    file = codec.compress(truth["audio"], 44100, win_duration=1.0, normalize_db=-16)
    assert_codes_agree(file.codes, truth["codes"], truth["codes_stable"])
    torch.testing.assert_close(file.input_db, truth["input_db"], rtol=0, atol=1e-3)
    assert (file.chunk_length, file.original_length) == (int(facts["chunk_length"]), int(facts["original_length"]))
    assert not file.padding
    file.save(tmp_path / "clip.dac")
    back = codec.decompress(tmp_path / "clip.dac")
    assert_audio_agrees(back.waveform, truth["reconstruction"])
    assert (back.sample_rate, back.lengths.tolist()) == (44100, [74973])


# -- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dac_44k", "dac_24k"])
def test_tiles_change_nothing(name, monkeypatch):
    codec = small(name)
    lengths = [30000, 1, 513, 29999]
    clips = [noise(1, n, seed=n) for n in lengths]
    whole = codec.encode(clips, codec.sample_rate)
    audio = codec.decode(whole)
    monkeypatch.setattr(cache_tiling, "TILE_VALUES", 3000)
    monkeypatch.setattr(cache_tiling, "MAX_SEAM_SHARE", 0.5)
    again = codec.encode(clips, codec.sample_rate)
    assert torch.equal(again.codes, whole.codes)
    torch.testing.assert_close(codec.decode(whole).waveform, audio.waveform, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["dac_44k", "dac_16k"])
@torch.no_grad()
def test_context_is_what_a_frame_sees_and_no_more(name):
    codec, hop, frame = small(name), small(name).hop_length, 12
    x = noise(1, 1, 30 * hop)
    latent, _ = codec.encoder(x)
    left, right = codec.encode_context
    for place, changes in (
        (frame * hop - left - 1, False),
        (frame * hop - left, True),
        ((frame + 1) * hop + right - 1, True),
        ((frame + 1) * hop + right, False),
    ):
        other = x.clone()
        other[..., place] += 1
        assert torch.equal(codec.encoder(other)[0][..., frame], latent[..., frame]) != changes


def test_strides_of_five_leave_eight_samples_of_silence():
    codec = small("dac_24k")
    audio = codec.decode(codec.encode(noise(1, 24000), 24000))
    assert audio.lengths.tolist() == [24000]
    assert not audio.waveform[..., -8:].any()
    assert audio.waveform[..., -9].any()
    assert codec.decode(torch.zeros(1, 3, 10, dtype=torch.long)).lengths.tolist() == [3192]


def test_fewer_codebooks_are_the_first_ones():
    codec, clip = small(), noise(1, 5000)
    codes = codec.encode(clip, 24000).codes
    assert codes.shape[1] == 32
    assert torch.equal(codec.encode(clip, 24000, num_codebooks=5).codes, codes[:, :5])
    with pytest.raises(ValueError, match="dac_24k has 32 codebooks"):
        codec.encode(clip, 24000, num_codebooks=33)


# -- checkpoints ----------------------------------------------------------------------------------


def checkpoint(**kwargs: object) -> dict[str, object]:
    known = {"encoder_dim": 64, "encoder_rates": [2, 4, 5, 8], "n_codebooks": 12, "sample_rate": 16000, "loss": "l1"}
    return {"state_dict": {"decoder.model.0.bias": torch.zeros(1536)}, "metadata": {"kwargs": {**known, **kwargs}}}


def test_metadata_of_another_model_are_an_error():
    with pytest.raises(ValueError, match=r"another model: .*n_codebooks is 12 there and 32 here") as error:
        load_codec("dac_24k", weights=checkpoint())
    assert "sample_rate is 16000 there and 24000 here" in str(error.value)
    with pytest.raises(ValueError, match="latent_dim is 128 there and 1024 here"):
        load_codec("dac_16k", weights=checkpoint(latent_dim=128))
    with pytest.raises(ValueError, match=r"encoder_rates is \[2, 4, 8, 8\] there"):
        load_codec("dac_16k", weights=checkpoint(encoder_rates=[2, 4, 8, 8]))


def test_metadata_that_agree_go_on_to_the_tensors():
    with pytest.raises(ValueError, match=r"missing: .*encoder\.block\.0\.weight"):
        load_codec("dac_16k", weights=checkpoint(latent_dim=None))


@pytest.mark.parametrize(
    ("alias", "name"),
    [("descript/dac_44khz", "dac_44k"), ("DAC_16khz", "dac_16k"), ("dac_44khz_16kbps", "dac_44k_16kbps")],
)
def test_names(alias, name):
    from codeczoo import codec_info

    assert codec_info(alias).name == name


# -- the file mode --------------------------------------------------------------------------------


def test_a_short_clip_is_compressed_whole():
    codec, clip = small(), noise(1, 1, 24000)
    file = codec.compress(clip, 24000, normalize_db=None)
    assert file.padding
    assert file.chunk_length == file.codes.shape[-1] == 75
    assert torch.equal(file.codes, codec.encode(clip / max(float(clip.abs().max()), 1), 24000).codes)
    back = codec.decompress(file)  # the decoder ends 8 samples early: upstream fails here
    assert back.lengths.tolist() == [24000]
    assert not back.waveform[..., -8:].any()


def test_windows_are_coded_by_themselves():
    """A window's codes do not depend on the audio around it; and more windows at once are only a faster loop."""
    codec, clip = small(), noise(1, 1, 60000)
    file = codec.compress(clip, 24000, normalize_db=None, num_codebooks=3)
    assert (file.chunk_length, file.codes.shape) == (59, (1, 3, 5 * 59))  # windows start every 13346 samples
    other = clip.clone()
    other[..., 30000:] = 0
    before = codec.compress(other, 24000, normalize_db=None, num_codebooks=3).codes
    assert torch.equal(before[..., :59], file.codes[..., :59])
    assert not torch.equal(before, file.codes)
    try:
        codec.max_chunk_seconds = 2.0
        assert torch.equal(codec.compress(clip, 24000, normalize_db=None, num_codebooks=3).codes, file.codes)
        in_chunks = codec.decompress(file).waveform
    finally:
        codec.max_chunk_seconds = None
    torch.testing.assert_close(codec.decompress(file).waveform, in_chunks, rtol=1e-9, atol=1e-9)


def test_loudness_rate_length_and_channels_come_back():
    codec = small("dac_16k")
    audio = Audio(torch.cat([noise(2, 2, 33075), 0.1 * noise(1, 2, 33075, seed=1)]), torch.tensor([33075] * 3), 22050)
    file = codec.compress(audio, num_codebooks=4)
    back = codec.decompress(file)
    assert (back.sample_rate, back.waveform.shape) == (22050, audio.waveform.shape)
    assert file.codes.shape[0] == 6
    assert float(file.input_db[0] - file.input_db[2]) == pytest.approx(20, abs=0.5)
    alone = codec.compress(audio[2], num_codebooks=4)
    assert torch.equal(alone.codes, file.codes[4:])


def test_channels_of_an_item_share_one_gain():
    """Upstream scales down a clipping channel alone, and gives each channel back the loudness of the whole."""
    codec = small("dac_16k")
    clip = noise(1, 2, 12000) * torch.tensor([10.0, 0.5])[:, None]
    peak = clip.abs().max()
    assert peak > 1
    file = codec.compress(clip, 16000, normalize_db=None)
    assert torch.equal(file.codes, codec.encode(clip.transpose(0, 1) / peak, 16000).codes)
    decoded = codec.decode(file.codes).waveform[:, 0]
    gains = codec.decompress(file).waveform[0, :, :11992] / decoded[:, :11992]
    torch.testing.assert_close(gains, gains[:1, :1].expand_as(gains), rtol=1e-9, atol=0)


def test_what_cannot_be_compressed_or_read_says_why():
    codec = small()
    with pytest.raises(ValueError, match=r"clips of one length; these have \[100, 200\] samples"):
        codec.compress([noise(1, 100), noise(1, 200)], 24000)
    with pytest.raises(ValueError, match="makes nothing of less than"):
        codec.compress(noise(1, 24000), 24000, win_duration=0.1)
    file = codec.compress(noise(1, 30000), 24000, num_codebooks=2)
    with pytest.raises(ValueError, match="not whole windows of 58"):
        codec.decompress(DACFile(file.codes, 58, 30000, file.input_db, 1, 24000, False))
    with pytest.raises(ValueError, match="out of range"):
        codec.decompress(DACFile(file.codes + 1000, 59, 30000, file.input_db, 1, 24000, False))
    with pytest.raises(ValueError, match="1 rows of codes do not make 1 items of 2 channels"):
        DACFile(file.codes, 59, 30000, file.input_db, 2, 24000, False)


def test_a_dac_file_is_the_published_form(tmp_path):
    codes = torch.arange(24).view(2, 3, 4)
    DACFile(codes, 4, 1000, torch.tensor([-20.5]), 2, 22050, True).save(tmp_path / "a.dac")
    content = np.load(tmp_path / "a.dac", allow_pickle=True)[()]
    assert content["codes"].dtype == np.uint16
    assert content["codes"].tolist() == codes.tolist()
    assert content["metadata"].pop("input_db").tolist() == [-20.5]
    assert content["metadata"] == {
        "original_length": 1000,
        "sample_rate": 22050,
        "chunk_length": 4,
        "channels": 2,
        "padding": True,
        "dac_version": "1.0.0",
    }
    # As the published package writes it: the dict itself, with numbers of NumPy's kinds where it has them.
    content["metadata"] |= {"input_db": np.float32(-20.5), "original_length": np.int64(1000)}
    save_npy(tmp_path / "b.dac", content)
    for name in ("a.dac", "b.dac"):
        loaded = DACFile.load(tmp_path / name)
        assert torch.equal(loaded.codes, codes)
        assert (loaded.original_length, loaded.input_db.tolist(), loaded.padding) == (1000, [-20.5], True)


def save_npy(path: Path, content: object) -> None:
    with path.open("wb") as file:
        np.save(file, content)


class Hostile:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


def test_a_hostile_or_broken_dac_file_is_refused(tmp_path):
    path, marker = tmp_path / "x.dac", tmp_path / "marker"
    content = np.empty((), dtype=object)
    content[()] = {"codes": Hostile(str(marker)), "metadata": {}}
    save_npy(path, content)
    with pytest.raises(ValueError, match=r"x\.dac: .*it names \w+\.mkdir"):
        DACFile.load(path)
    assert not marker.exists()

    with path.open("wb") as file:  # a pickle that sets an attribute on a name that it may mention
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(b"\x80\x02cnumpy.core.multiarray\nscalar\nN}X\x07\x00\x00\x00contentK\x05s\x86b.")
    with pytest.raises(ValueError, match="not a readable"):
        DACFile.load(path)
    assert not hasattr(dac_file.STAND_INS["scalar"], "content")

    DACFile(torch.zeros(1, 2, 4, dtype=torch.long), 4, 9, torch.zeros(1), 1, 16000, True).save(path)
    whole = path.read_bytes()
    for cut in (0, 3, 60, 130, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"x\.dac: not a readable \.dac file"):
            DACFile.load(path)
    path.write_bytes(whole.replace(b"1.0.0", b"2.0.0"))
    with pytest.raises(ValueError, match=r"version is '2\.0\.0'"):
        DACFile.load(path)
    save_npy(path, np.zeros(3))
    with pytest.raises(ValueError, match="not one object"):
        DACFile.load(path)
    buffer = io.BytesIO()
    pickle.dump({"codes": 1}, buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="not a readable"):
        DACFile.load(path)
    with pytest.raises(FileNotFoundError, match=r"no \.dac file"):
        DACFile.load(tmp_path / "none.dac")
