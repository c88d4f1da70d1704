"""What a user sees: the names behind a codec's dot, and the door for authors of codecs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch

import codeczoo
import codeczoo.base
from codeczoo import Audio, AudioLike, BaseCodec
from codeczoo.base.codec import INSIDE_NAMES, MODULE_NAMES
from tests.support.small import ROOTS, codec_of

FOR_USERS = {
    *("encode", "decode", "reconstruct", "stream", "warm_up", "prepare", "match_input", "codes_from_tensor"),
    *("from_pretrained", "save_pretrained", "push_to_hub", "export_onnx"),
    *("is_compatible_with", "info", "name", "sample_rate", "channels", "hop_length", "frame_rate"),
    *("num_codebooks", "codebook_sizes", "codebook_choices", "nominal_bitrate", "bitrate_of", "causal", "latency"),
    *("supports_decode", "device", "dtype", "precision", "arithmetic", "graphs", "max_chunk_seconds", "strategy"),
    *("weights_source", "weights_hash", "weights_id"),
}
OF_THE_INSIDE = {
    *("latents", "quantize", "vectors", "synthesize", "straight_through", "latents_from_tensor", "codebooks"),
    *("gradients", "latent_dim", "vector_dim"),
}


def test_a_codec_offers_what_is_for_users() -> None:
    codec = codec_of("mimi", "small", torch.float64)
    shown = {name for name in dir(codec) if not name.startswith("_")}
    assert shown == FOR_USERS | OF_THE_INSIDE | MODULE_NAMES | {name for name, _ in codec.named_children()}
    assert not shown & {"key_maps", "Config", "refusal_of", "check_tensors", "configure", "settings_files", "readers"}


@pytest.mark.parametrize("name", ROOTS)
def test_every_codec_offers_them_and_has_them(name: str) -> None:
    codec = codec_of(name, "small", torch.float64)
    assert set(dir(codec)) >= FOR_USERS
    assert INSIDE_NAMES == OF_THE_INSIDE
    assert set(dir(codec)) & OF_THE_INSIDE == (OF_THE_INSIDE if codec.latent_dim else set())
    missing = [shown for shown in dir(codec) if not hasattr(codec, shown)]
    assert not missing


def test_one_type_says_what_audio_may_be() -> None:
    for function in (BaseCodec.encode, BaseCodec.reconstruct, BaseCodec.prepare, BaseCodec.forward, Audio.of):
        assert inspect.signature(function).parameters["audio"].annotation == "AudioLike"
    assert codeczoo.AudioLike is AudioLike is codeczoo.base.AudioLike


def test_the_door_for_authors_has_every_name_and_imports_nothing_by_itself() -> None:
    for name in codeczoo.base.__all__:
        assert getattr(codeczoo.base, name) is not None
    assert dir(codeczoo.base) == sorted(codeczoo.base.__all__)
    with pytest.raises(AttributeError, match=r"'codeczoo.base' has no attribute 'nothing'"):
        codeczoo.base.nothing  # noqa: B018
    script = """
import sys, codeczoo.base
assert not {"torch", "numpy"} & sys.modules.keys()
codeczoo.base.Variant
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
