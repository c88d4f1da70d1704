"""G.711 against the Recommendation's tables and another implementation of them (libsndfile's)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from codeczoo import load_codec
from codeczoo.base.codec import CHECK_BLOCK_FRAMES
from tests.support.sound import si_sdr, speech

LAWS = {"g711_ulaw": "ULAW", "g711_alaw": "ALAW"}
BORDER = {"g711_ulaw": 4, "g711_alaw": 16}  # steps begin at multiples of this, on the 16-bit scale


def sndfile_decode(octets: np.ndarray, law: str) -> np.ndarray:
    return sf.read(io.BytesIO(octets.tobytes()), format="RAW", subtype=law, samplerate=8000, channels=1, dtype="int16")[
        0
    ]


def sndfile_encode(samples: np.ndarray, law: str) -> np.ndarray:
    buffer = io.BytesIO()
    sf.write(buffer, samples, 8000, format="RAW", subtype=law)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def encode(name: str, samples: Tensor) -> Tensor:
    """[T] → codes [T]."""
    return load_codec(name, device="cpu").encode(samples, 8000).codes[0, 0]


@pytest.mark.parametrize(
    ("name", "octet", "level", "of"),
    [
        # Rows of tables 2a and 2b (14 bits) and 1a and 1b (13 bits) of the Recommendation.
        ("g711_ulaw", 0b10000000, 8031, 8192),
        ("g711_ulaw", 0b10001111, 4191, 8192),
        ("g711_ulaw", 0b11110000, 30, 8192),
        ("g711_ulaw", 0b11101111, 33, 8192),
        ("g711_ulaw", 0b11111111, 0, 8192),
        ("g711_ulaw", 0b01111110, -2, 8192),
        ("g711_ulaw", 0b00000000, -8031, 8192),
        ("g711_alaw", 0b10101010, 4032, 4096),
        ("g711_alaw", 0b11010101, 1, 4096),
        ("g711_alaw", 0b01010101, -1, 4096),
        ("g711_alaw", 0b11000101, 33, 4096),
        ("g711_alaw", 0b00101010, -4032, 4096),
    ],
)
def test_levels_of_the_recommendation(name: str, octet: int, level: int, of: int) -> None:
    audio = load_codec(name, device="cpu").decode(torch.tensor([[[octet]]]))
    assert float(audio.waveform) == level / of


@pytest.mark.parametrize("name", LAWS)
def test_every_code_decodes_as_in_libsndfile(name: str) -> None:
    octets = np.arange(256, dtype=np.uint8)
    audio = load_codec(name, device="cpu").decode(torch.from_numpy(octets.astype(np.int64))[None, None])
    assert (audio.waveform[0, 0].numpy() * 32768 == sndfile_decode(octets, LAWS[name])).all()


@pytest.mark.parametrize("name", LAWS)
def test_every_16_bit_sample_encodes_as_in_libsndfile(name: str) -> None:
    """But for negative samples on the border of two steps, where it departs from the ITU's own software."""
    samples = np.arange(-32768, 32768).astype(np.int16)
    ours = encode(name, torch.from_numpy(samples / 32768)).numpy()
    theirs = sndfile_encode(samples, LAWS[name])
    border = (samples < 0) & (samples % BORDER[name] == 0)
    assert (ours == theirs)[~border].all()
    nearer_to_zero = np.flatnonzero(border) + 1
    assert (ours[border] == ours[nearer_to_zero])[samples[border] > -32768].all()


@pytest.mark.parametrize("name", LAWS)
def test_decoded_levels_encode_to_themselves(name: str) -> None:
    codec = load_codec(name, device="cpu")
    octets = torch.arange(256)
    again = codec.encode(codec.decode(octets[None, None])).codes[0, 0]
    negative_zero = 127 if name == "g711_ulaw" else -1  # the only octet whose level has another one too
    assert octets[again != octets].tolist() == ([negative_zero] if negative_zero >= 0 else [])


@pytest.mark.parametrize("name", LAWS)
def test_the_telephone_sounds_as_it_should(name: str) -> None:
    """The quantising noise of G.712 (figure on total distortion): 33 dB and more below a tone of ordinary level."""
    codec = load_codec(name, device="cpu")
    tone = torch.sin(2 * torch.pi * 1020 / 8000 * torch.arange(8000))
    for level in (1.0, 0.1, 0.03):
        heard = codec.decode(codec.encode(level * tone, 8000)).waveform[0, 0]
        assert si_sdr(level * tone, heard) > 33
    loud = codec.decode(codec.encode(torch.tensor([3.0, -3.0]), 8000)).waveform[0, 0]
    assert loud.tolist() == [float(codec.levels.max()) / 32768, float(codec.levels.min()) / 32768]


def test_a_byte_a_sample_is_64_kbit() -> None:
    codec = load_codec("g711_alaw", device="cpu")
    codes = codec.encode([speech(16000, 1.0), speech(16000, 0.1)], 16000)
    assert codes.bitrate.tolist() == [64000, 64000]
    assert codes.lengths.tolist() == codes.num_samples.tolist() == [8000, 800]
    assert codec.nominal_bitrate == 64000 and codec.info.parameters == 0 and codec.info.latency == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_codes_do_not_depend_on_the_floating_point_type(dtype: torch.dtype) -> None:
    clip = speech(8000, 2.0).to(torch.float16)  # samples that every type holds
    codec = load_codec("g711_ulaw", device="cpu", dtype=dtype)
    assert codec.decode(codec.encode(clip, 8000)).waveform.dtype == dtype
    assert torch.equal(codec.encode(clip, 8000).codes[0, 0], encode("g711_ulaw", clip))


def test_all_codes_that_are_out_of_range_are_counted_however_long_the_clip() -> None:
    codes = torch.zeros(1, 1, 3 * CHECK_BLOCK_FRAMES, dtype=torch.int64)
    codes[0, 0, [7, CHECK_BLOCK_FRAMES + 1, 3 * CHECK_BLOCK_FRAMES - 1]] = 300
    with pytest.raises(ValueError, match=r"code 300 at item 0, codebook 0, frame 7 is .* \(3 codes are out of range\)"):
        load_codec("g711_ulaw", device="cpu").decode(codes)
