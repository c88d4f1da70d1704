"""Names of clips as names of files."""

from __future__ import annotations

import re

# What some file system cannot have in a name; and a % that could be taken for the stand-in of one of these.
UNSAFE = re.compile(r'[<>:"\\|?*\x00-\x1f]|%(?=[0-9A-F]{2})')


def safe_path(name: str) -> str:
    """A clip's id as a relative path that leads nowhere but down, of names that every file system has.

    "a/b" stays a folder and a file; two ids that differ in more than slashes stay apart.
    """
    parts = [UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", part) for part in name.split("/") if part]
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else part for part in parts) or "%"
