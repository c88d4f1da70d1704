"""What `import codeczoo` shows."""

from __future__ import annotations

import subprocess
import sys

import codeczoo
from tests.support.command_line import ENVIRONMENT

ROOMS = ["data", "metrics", "tokens"]


def test_dir_shows_what_is_public_and_nothing_else() -> None:
    assert dir(codeczoo) == sorted([*codeczoo.__all__, *ROOMS])
    assert {"register_codec", "load_codec", "list_codecs", "codec_info"} <= set(codeczoo.__all__)
    assert all(getattr(codeczoo, name) is not None for name in dir(codeczoo))


def test_rooms_are_there_after_the_import_alone_and_torch_is_not() -> None:
    code = f"""
import sys, codeczoo
assert "torch" not in sys.modules
for room in {ROOMS}:
    assert getattr(codeczoo, room).__name__ == "codeczoo." + room
try:
    codeczoo.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stdout == "module 'codeczoo' has no attribute 'nothing'\n", done.stderr
