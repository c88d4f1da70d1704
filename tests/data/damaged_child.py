"""Reads damaged data sets in a process of its own, which dies where a reader crashes, hangs or takes too much memory.

    python tests/data/damaged_child.py FOLDER KIND FIRST COUNT

prints a line for each: kind, seed, outcome.
"""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import sys
import tarfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from codeczoo.data.batching import plan_batches
from codeczoo.data.open import open_source
from codeczoo.data.read import read_batch
from tests.support.clips import clips, parquet, wav

SECONDS = 5  # of processor time that a data set may take
MEMORY = 1 << 30  # bytes that may be asked for beyond what the process has

ROWS = [
    {"id": "0", "path": "a.wav", "text": 'he said "hi"', "offset": "0.01", "duration": "0.02"},
    {"id": "1", "path": "b.wav", "text": "one, two\u2028three", "offset": "", "duration": ""},
    {"id": "2", "path": "a.wav", "text": "é ü", "offset": "0", "duration": "0.05"},
    {"id": "3", "path": "gone.wav", "text": "", "offset": "", "duration": ""},
    {"id": "", "path": "c.wav", "text": "x\ty", "offset": "", "duration": "0.05"},
]
TEXT = [*'",;|~/\t\n\r\0\\{}[]: é', '""', "\r\n", "\u2028", "..", "://", "null", "1e999", "-1", "NaN", "path", "offset",
        "\ufeff"]  # fmt: skip
PIECES = [piece.encode() for piece in TEXT] + [b"\xff", b"\xe9", b"\xff\xfe", b"\xed\xa0\x80"]


def table(delimiter: str, quote: Callable[[str], str]) -> bytes:
    lines = [delimiter.join(ROWS[0]), *(delimiter.join(map(quote, row.values())) for row in ROWS)]
    return "\n".join(lines).encode()


def tar(compression: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:
        for i in range(4):
            note = json.dumps({"id": i, "category": "x"}).encode()
            for name, content in (
                (f"clip{i}.json", note),
                (f"clip{i}.wav", wav(i, seconds=0.1)),
                (f"clip{i}.cls", b"1"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def jsonl() -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


MANIFESTS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "CSV": ("m.csv", lambda: table(",", lambda cell: '"' + cell.replace('"', '""') + '"')),
    "semicolons": ("m.csv", lambda: table(";", lambda cell: cell.replace('"', "'").replace(";", ","))),
    "TSV": ("m.tsv", lambda: table("\t", lambda cell: cell.replace("\t", " "))),
    "JSON lines": ("m.jsonl", jsonl),
    "JSON": ("m.json", lambda: json.dumps(ROWS, indent=1).encode()),
    "UTF-16": ("m.tsv", lambda: table("\t", lambda cell: cell.replace("\t", " ")).decode().encode("utf-16")),
    "list": ("m.txt", lambda: b"a.wav\nb.wav\n\nc.wav\ngone.wav\n"),
    "scp": ("wav.scp", lambda: b"a a.wav\nb b.wav\nc cat c.wav |\nd gone.ark:12\n"),
    "segments": ("segments", lambda: b"a-1 a 0.01 0.05\na-2 a 0.02 -1\nb-1 b 0 0.1\nc-1 c 0 1\nd-1 d 0 1\n"),
}
ARCHIVES: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "tar": ("s.tar", lambda: tar("")),
    "tar.gz": ("s.tar.gz", lambda: tar("gz")),
    "Parquet": ("t.parquet", lambda: parquet(clips("test", 4), rows_in_group=2)),
}
KINDS = {**MANIFESTS, **ARCHIVES}


def damaged(data: bytes, r: random.Random, text: bool) -> bytes:
    """`data` with one to four faults of the kinds that editors, disks and networks make."""
    out = bytearray(data)
    for _ in range(r.randint(1, 4)):
        size = max(len(out), 1)
        start = r.choice(
            (r.randrange(size), r.randrange(min(size, 300)), max(size - 1 - r.randrange(min(size, 300)), 0))
        )
        run = slice(start, start + r.choice((1, 1, 3, 10, 64, 512)))
        match r.randrange(8):
            case 0 | 1 if text:
                out[start:start] = r.choice(PIECES)
            case 2 if text:
                out[run] = r.choice(PIECES)
            case 0 | 1 | 2:
                number = r.choice((0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1))
                out[start : start + 8] = number.to_bytes(8, r.choice(("little", "big")))[: len(out[start : start + 8])]
            case 3:
                out[run] = r.randbytes(len(out[run]))
            case 4:
                del out[run]
            case 5:
                out[start:start] = out[run]
            case 6:
                del out[start:]
            case 7 if out:
                out[start] ^= 1 << r.randrange(8)
    return bytes(out)


def outcome(path: Path) -> str:
    """What reading all of a data set comes to."""
    try:
        source = open_source(path)
        batches = list(plan_batches(source, 4, 100, workers=1))
        reads = [read_batch(source, batch) for batch in batches]
    except (ValueError, OSError) as error:
        named = path.name in str(error) and "\n" not in str(error)
        return "error" if named else f"unnamed {error!r}"
    except BaseException as error:  # noqa: BLE001
        return f"other {type(error).__name__} {error!r}"
    clips = sum(len(group) for read in reads for group in read.groups)
    failures = [reason for read in reads for reason in read.failures.values()]
    if source.count != clips + len(failures) or not all(failures) or any("\n" in reason for reason in failures):
        return f"lost {source.count} {clips} {failures}"
    return f"result {clips} {len(failures)}"


def main(place: str, kinds: str, first: int, count: int) -> None:
    warnings.simplefilter("ignore")
    folder = Path(place)
    for i, name in enumerate("abc"):
        (folder / f"{name}.wav").write_bytes(wav(i, seconds=0.1))
    for kind in kinds.split(","):
        name, content = KINDS[kind]
        whole = content()
        if name == "segments":
            (folder / "wav.scp").write_bytes(KINDS["scp"][1]())
        (folder / name).write_bytes(whole)
        sound = outcome(folder / name)
        assert sound.startswith("result"), (kind, sound)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process
        for seed in range(first, first + count):
            (folder / name).write_bytes(damaged(whole, random.Random(f"{kind} {seed}"), kind in MANIFESTS))
            sys.stdout.write(f"{kind}: {seed}: ")
            sys.stdout.flush()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            sys.stdout.write(f"{outcome(folder / name)}\n")
            signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
