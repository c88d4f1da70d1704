"""What a file is that is no audio: the reason in words."""

from __future__ import annotations

KNOWN = (
    (b"version https://git-lfs", "a git LFS pointer, not the file: fetch it with `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"Rar!", "a rar archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"MThd", "a MIDI file: notes, no sound"),
    (b"\x93NUMPY", "a NumPy array: load it with numpy.load and pass the array with its rate"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"PAR1", "a Parquet table"),
    (b"\x7fELF", "a program"),
)
SHOWN = 40  # characters of a text


def what_is(head: bytes, size: int) -> str | None:
    """What a file is that begins with `head`, in words, or None if that does not show."""
    for start, name in KNOWN:
        if head.startswith(start):
            return name
    if not head.strip(b"\0"):
        return f"{size} bytes, of which at least the first {len(head)} are zero"
    text = _text(head)
    if text is None:
        return None
    lowered = text.lstrip("\ufeff \t\r\n").lower()
    if lowered.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "a web page, saved in place of the file: download it again"
    if lowered.startswith("<"):
        return "XML or a web page, saved in place of the file: download it again"
    if lowered.startswith(("{", "[")):
        return f"JSON, which begins {_shown(text)}"
    return f"a text, which begins {_shown(text)}"


def _text(head: bytes) -> str | None:
    """`head` as text, if it is nothing but text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
        head = head[: len(head) // 2 * 2]
    else:
        encodings = ["utf-8"]
    for encoding in encodings:
        for cut in range(4):  # the last character may be cut
            try:
                text = head[: len(head) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            return text if text and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text) else None
    return None


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line[:SHOWN] + "…" if len(line) > SHOWN else line)
