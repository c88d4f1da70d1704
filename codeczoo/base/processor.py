"""This machine's CPU, as far as it says what it is."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 10  # that a program may take to answer


def usable_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cpu_name() -> str:
    """As its maker calls it; where it does not say, its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpu_facts(), re.MULTILINE)
    told = found.group(1) if found else ""
    if sys.platform == "darwin":
        told = said_by("sysctl", "-n", "machdep.cpu.brand_string")
    return told or platform.processor() or platform.machine()


def cpu_facts() -> str:
    """Linux's own text; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""


def said_by(*command: str) -> str:
    """What a program prints; empty where it is not there, or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
