"""`codeczoo env`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

EPILOG = """
It asks no network and loads no codec. Tokens and passwords are never printed: a token is only "set" or "not set", and
the home folder is ~.

examples:
  %(prog)s
  %(prog)s --json | jq .devices

exit code: 0, also where something is missing or broken; the text says what.
"""
UNITS = {"memory": "GiB", "size": "GiB", "free": "GiB"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "What a bug report needs: versions, devices, cache, and what is missing for what."
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from codeczoo.cli.machine import machine

    facts = machine()
    sys.stdout.write((json.dumps(facts, indent=2) if args.json else text_of(facts)) + "\n")
    return 0


def text_of(facts: Mapping[str, Any]) -> str:
    """A section for each key, a line for each fact in it."""
    lines: list[str] = []
    for section, content in facts.items():
        rows = list(_extras(content) if section == "extras" else _rows(content))
        margin = max((len(key) for key, _ in rows), default=0) + 2
        lines += ["", section, *(f"  {key:{margin}}{value}".rstrip() for key, value in rows)]
    return "\n".join(lines[1:])


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield key, ", ".join(f"{name} {_told(name, one)}" for name, one in value.items())
        else:
            yield key, _told(key, value)
    if not content:
        yield "none", ""


def _extras(extras: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What is installed with its versions; of what is not, what it would be for and how to get it."""
    for name, extra in extras.items():
        found = ", ".join(f"{package} {version}" for package, version in extra["installed"].items())
        if extra["missing"]:
            yield f"{name}: no", f"{extra['for']}: {extra['install']} (lacks {', '.join(extra['missing'])})"
        else:
            yield f"{name}: yes", found


def _told(key: str, value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value} {UNITS[key]}" if key in UNITS and not isinstance(value, str) else str(value)
