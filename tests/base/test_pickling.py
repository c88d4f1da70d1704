"""What travels between the processes of a run comes back equal, and small."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from codeczoo import Audio, load_codec
from codeczoo.base import pickling


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(2, 3, 5),
        torch.randn(2, 3, 5).transpose(0, 2),
        torch.randn(1, 4).expand(3, 4),
        torch.tensor(3),
        torch.zeros(2, 0),
        torch.tensor([True, False]),
        torch.tensor([1.5, float("nan"), float("inf")]),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]),
        torch.eye(3).to_sparse(),
        torch.tensor([1.0], requires_grad=True),
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=[
        "contiguous",
        "transposed",
        "expanded",
        "scalar",
        "empty",
        "bool",
        "nan",
        "bfloat16",
        "complex",
        "sparse",
        "gradient",
        "parameter",
    ],
)
def test_tensors_of_every_kind_come_back(value: torch.Tensor) -> None:
    found = pickle.loads(pickling.dumps({"a": [value]}))["a"][0]
    assert (type(found), found.dtype, found.shape) == (type(value), value.dtype, value.shape)
    assert (found.layout, found.requires_grad) == (value.layout, value.requires_grad)
    torch.testing.assert_close(found, value, rtol=0, atol=0, equal_nan=True)


def test_what_comes_back_may_be_written_to_and_is_its_own() -> None:
    value = torch.zeros(4)
    found = pickle.loads(pickling.dumps([value, value]))
    found[0][1] = 1
    assert found[0] is found[1]
    assert value.tolist() == [0, 0, 0, 0]


def test_a_view_takes_its_own_bytes_alone() -> None:
    whole = torch.zeros(100_000)
    assert len(pickling.dumps(whole[10:20])) < 1000


def test_audio_and_codes_come_back() -> None:
    audio = Audio.of([np.zeros(800, np.float32), np.ones(500, np.float32)], 8000)
    codes = load_codec("g711_ulaw").encode(audio)
    assert pickle.loads(pickling.dumps((audio, codes))) == (audio, codes)
