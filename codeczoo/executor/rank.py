"""One benchmark on many machines without a cluster engine: each process takes every n-th batch, and its own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Which part of the work is this process's."""

    index: int = 0
    count: int = 1
    local: int | None = None  # number of this process on its machine, which chooses its device

    def mine(self, number: int) -> bool:
        """Whether the batch (or shard of tokens) of that number is this process's."""
        return number % self.count == self.index

    @property
    def suffix(self) -> str:
        """What its files are called beside those of the first."""
        return f"-{self.index:05d}" if self.index else ""

    def device(self, wanted: str | None) -> str | None:
        """The device of this process: with several on one machine, each takes its own."""
        import torch

        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.local is not None and wanted in (None, "cuda") and here > 1:
            return f"cuda:{self.local % here}"
        return wanted


# (index, count, number on its machine): of torchrun, and of Slurm inside `srun`. A batch script of Slurm that does not
# use srun sees SLURM_PROCID too but is alone, so what a step alone has is asked for.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def find_shard(given: tuple[int, int] | None = None, environ: Mapping[str, str] | None = None) -> Shard:
    """`given` as (index, count), else what torchrun or Slurm say, else the whole.

    Raises:
        ValueError: numbers that do not go together.
    """
    environ = os.environ if environ is None else environ
    if given is not None:
        return _checked(*given, None, "--shard")
    for index, count, local in VARIABLES:
        if index in environ and count in environ:
            numbers = [environ[name] for name in (index, count)]
            if not all(number.strip().isdigit() for number in numbers):
                raise ValueError(f"{index}={numbers[0]!r} and {count}={numbers[1]!r} must be whole numbers")
            near = environ.get(local, "")
            return _checked(
                int(numbers[0]), int(numbers[1]), int(near) if near.isdigit() else None, f"{index}, {count}"
            )
    return Shard()


def _checked(index: int, count: int, local: int | None, source: str) -> Shard:
    if not 0 <= index < count:
        raise ValueError(f"{source}: this process is number {index} of {count}; numbers go from 0 to {count - 1}")
    return Shard(index, count, local)
