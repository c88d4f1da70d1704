"""What is said in clips, by files of lines beside them: LibriSpeech's `*.trans.txt` and Kaldi's `text`."""

from __future__ import annotations

from pathlib import Path

from codeczoo.data.manifest_text import lines_of, read_text

OF_LIBRISPEECH = ".trans.txt"  # how the names of its files end
OF_KALDI = "text"  # the name of the file beside `wav.scp`


def transcripts_in(folder: Path) -> dict[str, str]:
    """What the `*.trans.txt` of a folder say, by the names of the files without their suffix."""
    return {
        id_: words
        for path in sorted(folder.glob(f"*{OF_LIBRISPEECH}"))
        for id_, words in read_transcripts(path).items()
    }


def read_transcripts(path: Path) -> dict[str, str]:
    """Lines of an id and words. A line of an id alone says that nothing is spoken.

    Raises:
        ValueError: text that cannot be read, an id twice. The message names the line.
    """
    found: dict[str, str] = {}
    for number, line in lines_of(read_text(path)):
        id_, *rest = line.strip().split(None, 1)
        if id_ in found:
            raise ValueError(f"{path}, line {number}: the id {id_!r} is there twice")
        found[id_] = rest[0] if rest else ""
    return found
