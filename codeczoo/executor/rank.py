"""One run by several processes without a cluster engine: each takes every n-th batch and writes its own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rank:
    """This process's share of the work.

    Attributes:
        number: of this process, from 0; world_size: how many processes there are.
        local: number of this process on its machine, which chooses its device; None = not known.
    """

    number: int = 0
    world_size: int = 1
    local: int | None = None

    def owns(self, number: int) -> bool:
        """Whether the batch (or shard of tokens) of that number is this process's."""
        return number % self.world_size == self.number

    @property
    def suffix(self) -> str:
        """Of its files' names, beside those of process 0: "-00001"."""
        return f"-{self.number:05d}" if self.number else ""

    def device(self, wanted: str | None) -> str | None:
        """The device of this process. Where several GPUs are on its machine, process `local` takes number `local`."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.local is not None and wanted in (None, "cuda") and count > 1:
            return f"cuda:{self.local % count}"
        return wanted


# Environment variables (number, world size, number on the machine) of torchrun, and of Slurm inside `srun`. A batch
# script of Slurm that does not use srun sees SLURM_PROCID too, though it runs alone; SLURM_STEP_NUM_TASKS is set for
# the steps of srun only.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def find_rank(given: tuple[int, int] | None = None, environ: Mapping[str, str] | None = None) -> Rank:
    """`given` as (number, world size), else what torchrun or Slurm say, else the only process.

    Raises:
        ValueError: numbers that contradict each other.
    """
    environ = os.environ if environ is None else environ
    if given is not None:
        return _checked(*given, None, "--shard")
    for number, world_size, local in VARIABLES:
        if number in environ and world_size in environ:
            numbers = [environ[name] for name in (number, world_size)]
            if not all(text.strip().isdigit() for text in numbers):
                raise ValueError(f"{number}={numbers[0]!r} and {world_size}={numbers[1]!r} must be whole numbers")
            near = environ.get(local, "")
            return _checked(
                int(numbers[0]), int(numbers[1]), int(near) if near.isdigit() else None, f"{number}, {world_size}"
            )
    return Rank()


def _checked(number: int, world_size: int, local: int | None, origin: str) -> Rank:
    if not 0 <= number < world_size:
        raise ValueError(
            f"{origin}: this process is number {number} of {world_size}; numbers go from 0 to {world_size - 1}"
        )
    return Rank(number, world_size, local)
