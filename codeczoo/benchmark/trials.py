"""Trial lists of speaker verification: which pairs of clips are asked about, and whether they are of one speaker."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

TARGET = {"1": True, "0": False, "target": True, "nontarget": False, "imposter": False, "impostor": False}


class Trial(NamedTuple):
    """Attributes:
    target: whether both are of one speaker.
    enrolled, tested: ids of clips.
    """

    target: bool
    enrolled: str
    tested: str


def read_trials(path: str | Path) -> list[Trial]:
    """The trials of a text file, one a line: `1 ENROLLED TESTED`, as VoxCeleb's veri_test2.txt has it, or
    `ENROLLED TESTED target`, as Kaldi has it; 0 and `nontarget` for two speakers. Ids are without spaces.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line of another form (the message names it), or no trial at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it is to be a list of trials (`1 ENROLLED TESTED` a line)")
    trials = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) == 3 and words[0] in ("0", "1"):
            trials.append(Trial(TARGET[words[0]], words[1], words[2]))
        elif len(words) == 3 and words[2] in TARGET:
            trials.append(Trial(TARGET[words[2]], words[0], words[1]))
        else:
            raise ValueError(
                f"{path}, line {number}: {line!r} is no trial: `1 ENROLLED TESTED` or `ENROLLED TESTED target`"
            )
    if not trials:
        raise ValueError(f"{path}: there is no trial in it")
    return trials
