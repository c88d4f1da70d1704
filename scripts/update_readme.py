"""Put the generated table of codecs into the README."""

from __future__ import annotations

import re
from pathlib import Path

from codeczoo import codec_info, list_codecs
from codeczoo.cli import codec_table

README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    table = codec_table([codec_info(name) for name in list_codecs()], markdown=True)
    text = README.read_text("utf-8")
    pattern = r"(<!-- codecs: .*? -->\n).*?(<!-- /codecs -->)"
    README.write_text(re.sub(pattern, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
