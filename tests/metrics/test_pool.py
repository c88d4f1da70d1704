"""The pool: a crash or a hang costs one clip, and nothing else."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codeczoo.metrics import WorkerPool, evaluate
from tests.support.metric_cases import pair

ROOT = Path(__file__).parent.parent.parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def bursts(count: int) -> Tensor:
    """[1, T] at 16 kHz: noise that is on for 0.3 s and off for 0.3 s. PESQ's tables hold 50 utterances."""
    noise = 0.1 * torch.randn(count * 9_600, generator=torch.Generator().manual_seed(0))
    return (noise * (torch.arange(count * 9_600) % 9_600 < 4_800))[None]


def test_a_crash_costs_the_crashing_clip_alone() -> None:
    reference, estimate, _ = pair("s_en_16k__opus_6")
    killer = bursts(60)
    references = [reference.float(), killer, reference.float()[:, :30_000], killer, reference.float()]
    estimates = [estimate.float(), 0.9 * killer, estimate.float()[:, :30_000], 0.8 * killer, estimate.float()]
    names = ["pesq_wb", "waveform", "f0_rmse"]
    with WorkerPool(2) as pool:
        scores = evaluate(references, estimates, 16_000, names, pool=pool)
        assert scores.reasons["pesq_wb"] == [None, "crashed", None, "crashed", None]
        assert scores["pesq_wb"].isnan().tolist() == [False, True, False, True, False]
        assert scores.reasons["waveform"] == [None] * 5
        alone = evaluate(references[0], estimates[0], 16_000, names, pool=pool)  # the pool goes on
    assert float(scores["pesq_wb"][0]) == float(scores["pesq_wb"][4]) == float(alone["pesq_wb"][0])


def test_codec_superbs_stand_in_is_no_answer_to_a_crash() -> None:
    scores = evaluate(bursts(60), 0.9 * bursts(60), 16_000, "superb/pesq")
    assert math.isnan(scores["superb/pesq"][0])
    assert scores.reasons["superb/pesq"] == ["crashed"]


def test_a_worker_is_replaced_after_a_clip_that_may_have_damaged_it() -> None:
    """Forty utterances in 24 s: no crash, but more than 50 would fit into that time."""
    with WorkerPool(1) as pool:
        evaluate(bursts(5), 0.9 * bursts(5), 16_000, "pesq_wb", pool=pool)
        first = pool.pids
        evaluate(bursts(5), 0.9 * bursts(5), 16_000, "pesq_wb", pool=pool)
        assert pool.pids == first  # it stays from call to call
        scores = evaluate(bursts(40), 0.9 * bursts(40), 16_000, "pesq_wb", pool=pool)
        assert scores.reasons["pesq_wb"] == [None]
        assert pool.pids == []


def test_a_clip_that_takes_too_long_is_given_up() -> None:
    reference, estimate, rate = pair("s_en_16k__opus_6")
    with WorkerPool(1, timeout=0.005) as pool:
        scores = evaluate(reference.tile(5), estimate.tile(5), rate, ["pesq_wb", "mel"], pool=pool)
        assert scores.reasons == {"pesq_wb": ["timeout"], "mel": [None]}
        pool.timeout = None
        assert evaluate(reference, estimate, rate, "pesq_wb", pool=pool).reasons["pesq_wb"] == [None]


@LINUX
@pytest.mark.parametrize(("kills", "reason"), [(1, None), (2, "crashed")])
def test_one_kill_from_outside_costs_nothing(kills: int, reason: str | None) -> None:
    """A second one over the same clip cannot be told from a crash."""
    reference, estimate, rate = pair("s_en_16k__opus_6")
    reference, estimate = reference.float().tile(8), estimate.float().tile(8)  # a second of PESQ or more
    whole = evaluate(reference, estimate, rate, "pesq_wb")
    assert whole.reasons["pesq_wb"] == [None]
    with WorkerPool(1) as pool, ThreadPoolExecutor(1) as thread:
        future = thread.submit(evaluate, reference, estimate, rate, "pesq_wb", pool=pool)
        killed: set[int] = set()
        while len(killed) < kills and not future.done():
            for pid in set(pool.pids) - killed:
                if cpu_seconds(pid) > 0.3:  # it is at work
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            time.sleep(0.01)
        scores = future.result()
    assert len(killed) == kills
    assert scores.reasons["pesq_wb"] == [reason]
    if reason is None:
        assert float(scores["pesq_wb"]) == float(whole["pesq_wb"])


def cpu_seconds(pid: int) -> float:
    """Of a process that may be gone."""
    try:
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def test_what_a_library_raises_unexpectedly_is_told() -> None:
    silence = np.zeros(8_000, dtype=np.float32)
    with WorkerPool(1) as pool:
        reply = pool.submit("pesq", (silence, silence, 11_025, "wb"), seconds=1).result()
        assert reply.value is None
        assert reply.reason is not None
        assert reply.reason.startswith("error: ValueError: fs")


def test_a_library_that_does_not_import_is_no_clips_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pesq.py").write_text("raise ImportError('built for another machine')")
    monkeypatch.syspath_prepend(tmp_path)
    reference, estimate, rate = pair("s_en_16k__opus_6")
    with WorkerPool(1) as pool, pytest.raises(ImportError, match="built for another machine"):
        evaluate(reference, estimate, rate, "pesq_wb", pool=pool)


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with WorkerPool(1) as pool, pytest.raises(RuntimeError, match="could not start"):
        evaluate(torch.randn(1, 8_000), torch.randn(1, 8_000), 16_000, "pesq_wb", pool=pool)


@pytest.mark.parametrize(("options", "message"), [({"num_workers": 0}, "at least 1"), ({"timeout": 0}, "positive")])
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorkerPool(**options)


@LINUX
def test_workers_are_small_and_have_one_thread_each() -> None:
    reference, estimate, rate = pair("s_en_16k__opus_6")
    with WorkerPool(1) as pool:
        evaluate(reference, estimate, rate, ["pesq_wb", "f0_corr"], pool=pool)
        (pid,) = pool.pids
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"OMP_NUM_THREADS=1" in environment
        assert b"OPENBLAS_NUM_THREADS=1" in environment
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    assert not Path(f"/proc/{pid}").exists()


SCRIPT = """
import numpy as np
from codeczoo import metrics

noise = np.random.default_rng(0).standard_normal(16000).astype("float32") / 10
with metrics.WorkerPool(1) as pool:
    print(*metrics.evaluate(noise, noise, 16000, "pesq_wb", pool=pool)["pesq_wb"].tolist(), *pool.pids, flush=True)
    {then}
"""


def start(then: str) -> subprocess.Popen[str]:
    """A plain script, without `if __name__ == "__main__"`."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_script_needs_no_main_guard() -> None:
    with start("pass") as script:
        assert script.stdout is not None
        value, _ = script.stdout.read().split()
    assert script.returncode == 0
    assert float(value) == pytest.approx(4.644, abs=1e-3)


@LINUX
def test_workers_end_with_a_parent_that_was_killed() -> None:
    with start("import time; time.sleep(60)") as script:
        assert script.stdout is not None
        pid = int(script.stdout.readline().split()[1])
        script.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")
