"""No test may leave the process other than it found it: the next one, whichever that is, would see it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import torch

os.environ["CODECZOO_TUNING"] = "off"  # what was measured on this machine says nothing about the tests


def process_state() -> dict[str, object]:
    """What belongs to the whole process and changes what later tests see."""
    log = logging.getLogger("codeczoo")
    return {
        "the level of codeczoo's log": logging.getLevelName(log.level),
        "whether codeczoo's log is heard": (log.disabled, log.propagate, logging.root.manager.disable),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "whether torch keeps gradients": torch.is_grad_enabled(),
        "torch's precision of products": torch.get_float32_matmul_precision(),
        "cuDNN's TF32": torch.backends.cudnn.allow_tf32,
        "the folder": os.getcwd(),
        "the device asked for": os.environ.get("CODECZOO_DEVICE"),
    }


@pytest.fixture(autouse=True)
def the_process_is_left_as_it_was() -> Iterator[None]:
    before = process_state()
    yield
    after = process_state()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not changed, f"left behind, as (before, after): {changed}"
