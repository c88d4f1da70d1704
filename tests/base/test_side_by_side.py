"""Groups side by side: what workers see, and what they leave behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import torch

from codeczoo.base.side_by_side import can_run_beside, run_beside
from tests.support.command_line import hearing_ctrl_c

MARK: ContextVar[str] = ContextVar("mark", default="none")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def in_a_fresh_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_results_stand_in_order_and_threads_are_those_asked_for() -> None:
    seen: dict[int, tuple[int, int]] = {}
    meet = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        if item < 2:
            meet.wait()  # both are at work at once
        seen[item] = threading.get_ident(), torch.get_num_threads()
        return item * item

    assert run_beside(work, range(7), 2, 1) == [item * item for item in range(7)]
    assert len({thread for thread, _ in seen.values()}) == 2 and {count for _, count in seen.values()} == {1}
    assert in_a_fresh_thread() == 2  # what later threads begin with is as it was
    assert run_beside(lambda _: torch.get_num_threads(), range(3), 3, 1) == [1, 1, 1]
    assert in_a_fresh_thread() == 2


def test_one_thread_computes_no_wider_than_it_was_told() -> None:
    """What PyTorch's own operators, MKL and oneDNN do on a worker takes processor time of that worker alone."""
    x, y, w = torch.randn(512, 512), torch.randn(8, 64, 4000), torch.randn(64, 64, 7)

    def work(_: int) -> float:
        own, whole = time.thread_time(), time.process_time()
        for _ in range(3):
            x @ x, torch.conv1d(y, w), torch.sin(y)
        return (time.thread_time() - own) / (time.process_time() - whole)

    assert max(run_beside(work, range(3), 1, 1)) > 0.9


def test_a_worker_sees_what_its_caller_has_set() -> None:
    def settings(_: int = 0) -> tuple[object, ...]:
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            MARK.get(),
        )

    token = MARK.set("the caller's")
    try:
        assert run_beside(settings, range(2), 2, 1) == [settings()] * 2
        with torch.no_grad(), torch.autocast("cpu", torch.float16):
            assert run_beside(settings, range(2), 2, 1) == [settings()] * 2
        with torch.inference_mode():
            assert run_beside(settings, range(2), 2, 1) == [settings()] * 2
    finally:
        MARK.reset(token)
    assert run_beside(settings, range(2), 2, 1) == [settings()] * 2


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_first_error_in_order_is_raised_and_nothing_runs_on(kind: type[BaseException]) -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            time.sleep(0.05)
        if item in (1, 2):
            raise kind(f"item {item}")
        ended.append(item)

    with pytest.raises(kind, match="item 1"):
        run_beside(work, range(50), 2, 1)
    assert len(begun) < 50
    before = list(ended)
    time.sleep(0.1)
    assert ended == before
    assert run_beside(int, range(3), 2, 1) == [0, 1, 2]  # the workers are as good as before


def test_ctrl_c_ends_it_once_what_runs_has_ended() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        ended.append(item)

    with hearing_ctrl_c(), pytest.raises(KeyboardInterrupt):
        run_beside(work, range(200), 2, 1)
    assert sorted(begun) == sorted(ended) and len(begun) < 200


def test_many_callers_share_the_workers() -> None:
    found: dict[int, list[int]] = {}

    def call(number: int) -> None:
        found[number] = run_beside(lambda item: item + number, range(20), 2, 1)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == {number: [item + number for item in range(20)] for number in range(6)}


def test_a_mode_of_this_thread_keeps_work_in_it() -> None:
    assert can_run_beside()
    with torch.device("cpu"):
        assert not can_run_beside()
    assert can_run_beside()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_process_has_workers_of_its_own() -> None:
    run_beside(int, range(2), 2, 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if run_beside(int, range(5), 2, 1) == list(range(5)) else 1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)
