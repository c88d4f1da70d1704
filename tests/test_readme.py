"""The README says what is so: its code runs, and its table is the one that the package makes."""

from __future__ import annotations

import re
from pathlib import Path

from codeczoo import codec_info, list_codecs
from codeczoo.cli import codec_table

README = Path(__file__).parent.parent / "README.md"


def code_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_table_of_codecs_is_the_generated_one() -> None:
    text = README.read_text("utf-8")
    table = re.search(r"<!-- codecs: .*? -->\n(.*?)<!-- /codecs -->", text, flags=re.DOTALL)
    assert table is not None
    made = codec_table([codec_info(name) for name in list_codecs()], markdown=True)
    assert table.group(1).strip() == made, "run: python scripts/update_readme.py"
