"""Errors in one line, for messages about them; and those that are no clip's."""

from __future__ import annotations

# What asks the program to stop. All else that is raised while a clip is read, coded or measured is that clip's failure,
# what is no `Exception` too (a library in Rust raises such).
STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit)


def first_line(error: BaseException) -> str:
    """The error's class and the first line of its message, if it has one."""
    text = message_of(error)
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def message_of(error: BaseException) -> str:
    """What the error says; of a KeyError without the quotes."""
    try:
        return str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    except Exception:  # noqa: BLE001 (an error whose text cannot be made)
        return ""


def printable(text: str) -> str:
    """A text that every stream of UTF-8 takes: names of files may hold bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()
