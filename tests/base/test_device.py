"""Where a codec computes: what is asked for by name, else by the environment, else the best there is."""

from __future__ import annotations

import operator
import subprocess
import sys
import threading

import pytest
import torch

from codeczoo import load_codec
from codeczoo.base.device import available_devices, choose_device, matmul_precision

HAS_CUDA = torch.cuda.is_available()
HAS_MPS = torch.backends.mps.is_available()


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODECZOO_DEVICE", raising=False)


def test_the_best_device_is_taken_when_none_is_named() -> None:
    best = "cuda" if HAS_CUDA else "mps" if HAS_MPS else "cpu"
    assert choose_device().type == best
    assert load_codec("g711_ulaw").device.type == best


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECZOO_DEVICE", "cpu")
    assert choose_device().type == "cpu"
    assert load_codec("g711_ulaw").device.type == "cpu"
    monkeypatch.setenv("CODECZOO_DEVICE", "no such device")
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setenv("CODECZOO_DEVICE", "")
    assert choose_device().type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xpu", "meta", "cuda:99", "cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error_however_it_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (name == "cuda" and HAS_CUDA) or (name == "mps" and HAS_MPS):
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=rf"device='{name}' is .*choose of: .*cpu"):
        load_codec("g711_ulaw", device=name)
    monkeypatch.setenv("CODECZOO_DEVICE", name)
    with pytest.raises(ValueError, match=rf"CODECZOO_DEVICE='{name}' is .*choose of: .*cpu"):
        load_codec("g711_ulaw")


def test_every_available_device_can_be_chosen() -> None:
    for name in available_devices():
        codec = load_codec("g711_ulaw", device=name)
        assert str(codec.device).startswith(name)
        codes = codec.encode(torch.zeros(100), 8000)
        assert codes.device.type == codec.device.type == codec.decode(codes.cpu()).device.type


@pytest.mark.parametrize(("precision", "allowed"), [("exact", False), ("fast", True)])
def test_precision_is_set_for_a_while_and_put_back(precision: str, allowed: bool) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for value in (True, False):
            for flag in flags:
                flag.allow_tf32 = value
            with matmul_precision(precision):
                assert [flag.allow_tf32 for flag in flags] == [allowed, allowed]
            with pytest.raises(RuntimeError), matmul_precision(precision):
                raise RuntimeError
            assert [flag.allow_tf32 for flag in flags] == [value, value]
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


CUDA_SWITCHES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn")
CPU_SWITCHES = ("mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def precisions(names: tuple[str, ...]) -> list[str]:
    return [operator.attrgetter(name)(torch.backends).fp32_precision for name in names]


SETTINGS = (
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium')",  # bfloat16 on CPUs that have it
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",  # the older names then raise an error when they are read
    "torch.backends.fp32_precision = 'tf32'",  # what all others inherit
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
)
PROGRAM = """
import torch
from codeczoo.base.device import matmul_precision
from tests.base.test_device import CPU_SWITCHES, CUDA_SWITCHES, SETTINGS, precisions
every = CUDA_SWITCHES + CPU_SWITCHES
for setting in SETTINGS:
    exec(setting)
    before = precisions(every)
    with matmul_precision("exact"):
        assert precisions(every) == ["ieee"] * 6, (setting, precisions(every))
        with matmul_precision("fast"):
            assert precisions(every) == ["ieee"] * 6, (setting, precisions(every))  # the stricter wish wins
            with matmul_precision("exact"):
                assert precisions(every) == ["ieee"] * 6, (setting, precisions(every))
        assert precisions(every) == ["ieee"] * 6, (setting, precisions(every))
    assert precisions(every) == before, (setting, before, precisions(every))
    with matmul_precision("fast"):
        assert precisions(CUDA_SWITCHES) == ["tf32"] * 3, (setting, precisions(every))
        with matmul_precision("exact"):
            assert precisions(every) == ["ieee"] * 6, (setting, precisions(every))
        assert precisions(CUDA_SWITCHES) == ["tf32"] * 3, (setting, precisions(every))
    assert precisions(every) == before, (setting, before, precisions(every))
    if "medium" in setting:
        assert torch.get_float32_matmul_precision() == "medium"
"""


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9")
def test_exact_is_exact_however_less_was_allowed_before() -> None:
    """In a process of its own, because PyTorch cannot forget that both kinds of names were used."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exact_holds_while_any_thread_asks_for_it() -> None:
    """Whoever leaves first must not give TF32 back to the one that still computes, nor the last leave it changed."""
    flag = torch.backends.cudnn
    before = flag.allow_tf32
    entered, leave = threading.Event(), threading.Event()

    def other(precision: str) -> None:
        with matmul_precision(precision):
            entered.set()
            leave.wait()

    try:
        for value in (True, False):
            for precision in ("exact", "fast"):
                flag.allow_tf32 = value
                entered.clear(), leave.clear()
                thread = threading.Thread(target=other, args=(precision,))
                thread.start()
                entered.wait()
                with matmul_precision("exact"):
                    leave.set()
                    thread.join()
                    assert not flag.allow_tf32
                assert flag.allow_tf32 is value
    finally:
        flag.allow_tf32 = before


def test_exact_within_fast_is_exact_for_as_long_as_it_lasts() -> None:
    flag = torch.backends.cudnn
    before = flag.allow_tf32
    with matmul_precision("fast"):
        with matmul_precision("exact"):
            assert not flag.allow_tf32
        assert flag.allow_tf32
    assert flag.allow_tf32 is before
