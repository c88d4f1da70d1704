"""Work in halves: nothing is lost, only what is at fault fails, and memory is free before the next try."""

from __future__ import annotations

import weakref

import pytest
import torch

from codeczoo.base.device import is_out_of_memory
from codeczoo.executor.bisect import reason_of, run_bisecting


def square(numbers: list[int]) -> list[int]:
    if any(n < 0 for n in numbers):
        raise ValueError(f"negative: {[n for n in numbers if n < 0]}\nand more words")
    return [n * n for n in numbers]


def test_what_goes_well_is_done_in_one_piece() -> None:
    assert list(run_bisecting(square, range(5))) == [([0, 1, 2, 3, 4], [0, 1, 4, 9, 16])]
    assert list(run_bisecting(square, [])) == []


@pytest.mark.parametrize("bad", [{0}, {6}, {3, 4}, set(range(7))])
def test_only_what_is_at_fault_fails_and_order_stays(bad: set[int]) -> None:
    numbers = [-number if i in bad else number for i, number in enumerate(range(1, 8))]
    out = list(run_bisecting(square, numbers))
    assert [n for part, _ in out for n in part] == numbers
    failed = {part[0]: result for part, result in out if isinstance(result, Exception)}
    assert set(failed) == {numbers[i] for i in bad}
    for number, error in failed.items():
        assert reason_of(error) == f"ValueError: negative: [{number}]"
    for part, result in out:
        if not isinstance(result, Exception):
            assert result == square(part)


def test_splits_are_told_from_the_whole_downwards() -> None:
    told: list[tuple[int, str]] = []
    list(
        run_bisecting(
            square, [1, 2, 3, -4], on_split=lambda part, error: told.append((len(part), type(error).__name__))
        )
    )
    assert told == [(4, "ValueError"), (2, "ValueError")]


def test_memory_of_what_failed_is_free_before_the_halves() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def work(items: list[int]) -> int:
        alive.extend(ref() is not None for ref in held)
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        if len(items) > 1:
            try:
                raise MemoryError("inside")
            except MemoryError as inner:
                raise RuntimeError("too much") from inner
        return len(tensor)

    assert [part for part, _ in run_bisecting(work, [1, 2, 3])] == [[1], [2], [3]]
    assert alive and not any(alive)


def test_other_errors_and_interrupts_go_up() -> None:
    def interrupted(items: list[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_bisecting(interrupted, [1, 2]))
    with pytest.raises(ValueError, match="negative"):
        list(run_bisecting(square, [1, -2], errors=(OSError,)))


def test_out_of_memory_is_known_in_all_its_forms() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_reasons_are_one_line() -> None:
    assert reason_of(KeyError("no such key")) == "KeyError: no such key"
    assert reason_of(RuntimeError("")) == "RuntimeError: no message"
