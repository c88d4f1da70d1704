"""Names of data sets of the Hugging Face hub, and local folders in the hub's forms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPO_ID = re.compile(r"(?:hf://)?(?:datasets/)?([\w.-]+(?:/[\w.-]+)?)(?:@([^@:]+))?(?::([^@:]+))?")


@dataclass(frozen=True)
class HubDataset:
    """`owner/name@revision:config`. Revision and config may be left out, and some old data sets have no owner."""

    repo: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubDataset | None:
        """None if it cannot be the name of a data set."""
        found = REPO_ID.fullmatch(text)
        if found is None or re.search(r"--|\.\.|(^|/)[-.]|[-.](/|$)", found[1]):
            return None
        return cls(*found.groups())


def is_saved(folder: Path) -> bool:
    """Whether the `datasets` library's `save_to_disk` wrote that folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def is_layout(folder: Path) -> bool:
    """Whether a folder says, as repositories of the hub do, how it is to be read: by a README whose head speaks of
    configs or columns, or by a metadata file with a column of file names."""
    readme = folder / "README.md"
    if readme.is_file():
        head = re.match(r"---\s*\n(.*?)\n---", readme.read_text("utf-8", "replace"), re.DOTALL)
        if head and re.search(r"^(configs|dataset_info):", head[1], re.MULTILINE):
            return True
    for path in (*folder.glob("metadata.*"), *folder.glob("*/metadata.*")):
        if path.suffix in (".csv", ".jsonl"):
            with path.open(encoding="utf-8", errors="replace") as file:
                if "file_name" in file.readline():
                    return True
    return False
