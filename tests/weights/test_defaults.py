"""What a codec is does not depend on PyTorch's own defaults: neither its weights nor its codes and audio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from codeczoo import Audio, BaseCodec, Codes, load_codec
from codeczoo.base.catalogue import find_variant
from codeczoo.weights.load import load_model
from tests.support.small import ROOTS, small_variant
from tests.support.sound import chirp

ONE_OF_EACH = list({find_variant(name).family: name for name in reversed(ROOTS)}.values())


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def used(name: str) -> tuple[BaseCodec, Codes, Audio | None]:
    variant = small_variant(name)
    codec = load_model(variant, "random" if variant.build().state_dict() else None, device="cpu")
    assert isinstance(codec, BaseCodec)
    codes = codec.encode(chirp(codec.sample_rate // 3, codec.sample_rate), codec.sample_rate)
    return codec, codes, codec.decode(codes) if codec.supports_decode else None


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_another_default_dtype_changes_nothing(name: str) -> None:
    codec, codes, audio = used(name)
    with default_dtype(torch.float64):
        other, other_codes, other_audio = used(name)
    tensors = zip([*codec.parameters(), *codec.buffers()], [*other.parameters(), *other.buffers()], strict=True)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors)
    assert other_codes == codes and other_audio == audio
    assert audio is None or (other_audio is not None and other_audio.waveform.dtype == audio.waveform.dtype)


def test_another_default_device_changes_nothing() -> None:
    variant = small_variant("mimi")
    expected = load_model(variant, "random", device="cpu").state_dict()
    with torch.device("meta"):
        found = load_model(variant, "random", device="cpu").state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("dtype", ["float64", "torch.float64", "double", torch.float64])
def test_a_type_goes_by_its_name_too(dtype: str | torch.dtype) -> None:
    assert load_codec("g711_ulaw", device="cpu", dtype=dtype).dtype == torch.float64


@pytest.mark.parametrize(
    ("dtype", "error", "says"),
    [
        ("float65", ValueError, r"'float65' is not a type of torch; choose of: float32, float64"),
        ("nn", ValueError, r"'nn' is not a type of torch"),
        ("int16", ValueError, r"'int16' is not floating point"),
        (torch.int16, ValueError, r"torch.int16 is not floating point"),
        (float, TypeError, r"torch.float64; it is <class 'float'>"),
        (None, TypeError, r"it is None"),
    ],
)
def test_what_is_no_type_is_named(dtype: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load_codec("g711_ulaw", device="cpu", dtype=dtype)  # type: ignore[arg-type]
