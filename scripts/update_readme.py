"""Write what is generated from the families: the facts of their networks beside the TOML files, the tables of families
and codecs in the README and docs/codecs.md, and the table of keys in docs/codec_toml.md."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from codeczoo.base import codec_toml, info
from codeczoo.base.catalogue import codec_info, list_codecs, variants
from codeczoo.cli.listing import codec_table, family_table

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "codeczoo" / "configs"


def main() -> None:
    own = [variant for variant in variants().values() if variant.defined_in.startswith("configs/")]
    with torch.device("meta"):
        facts = info.facts_of(own)
    (CONFIGS / info.FACTS).write_text(info.write_facts(facts), "utf-8")
    names = {variant.name for variant in own}
    infos = [codec_info(name) for name in list_codecs() if name in names]
    put(ROOT / "README.md", "families", family_table(infos, markdown=True))
    put(ROOT / "docs" / "codecs.md", "codecs", codec_table(infos, markdown=True))
    put(ROOT / "docs" / "codec_toml.md", "keys", codec_toml.markdown())


def put(page: Path, name: str, content: str) -> None:
    """Replace what stands between the two comments of that name."""
    pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- /{name} -->)"
    text = re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", page.read_text("utf-8"), flags=re.DOTALL)
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
