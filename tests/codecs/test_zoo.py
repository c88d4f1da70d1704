"""The zoo's own codec: what only it promises. (That streams equal clips, and batches loops: tests/contract.)"""

from __future__ import annotations

import torch

from codeczoo import load_codec
from tests.support.small import codec_of

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


def test_a_step_of_its_stream_is_20_ms_of_both_sides() -> None:
    codec = codec_of("zoo_16k", "small", torch.float64)
    assert (codec.hop_length, codec.latency, codec.frame_rate) == (320, 0.02, 50)
    stream = codec.stream(num_codebooks=3)
    codes = stream.encode(torch.randn(1, 1, 320, dtype=torch.float64))
    assert codes.codes.shape == (1, 3, 1)
    assert stream.decode(codes.codes).waveform.shape == (1, 1, 320)


def test_each_codebook_is_half_a_kilobit() -> None:
    codec = load_codec("zoo_16k", weights="random", device="cpu")
    assert [codec.bitrate_of(k) for k in codec.codebook_choices] == [500 * k for k in range(1, 13)]
    assert load_codec("zoo_16k_1_5kbps", weights="random", device="cpu").num_codebooks == 3
