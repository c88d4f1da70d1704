"""Ids of clips as names of files."""

from __future__ import annotations

import re

# Characters that some file system forbids in a name; and a % that would read as an escape of one of these.
UNSAFE_CHARACTERS = re.compile(r'[<>:"\\|?*\x00-\x1f]|%(?=[0-9A-F]{2})')


def safe_path(name: str) -> str:
    """A clip's id as a relative path without "..", of names that every file system allows.

    "a/b" stays a folder and a file. Ids that differ in more than slashes give different paths.
    """
    parts = [UNSAFE_CHARACTERS.sub(lambda match: f"%{ord(match[0]):02X}", part) for part in name.split("/") if part]
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else part for part in parts) or "%"
