"""The API reference: a page a public module, and on it every name of its `__all__`, by mkdocstrings.

A name that several modules offer is described once, on the first page that has it; the others link to it.
"""

from __future__ import annotations

import ast
from pathlib import Path

# What users, authors of codecs and authors of tools import from.
MODULES = (
    "codeczoo",
    "codeczoo.data",
    "codeczoo.metrics",
    "codeczoo.tokens",
    "codeczoo.czt",
    "codeczoo.separation",
    "codeczoo.benchmark",
    "codeczoo.report",
    "codeczoo.verify",
    "codeczoo.weights",
    "codeczoo.superb",
    "codeczoo.superb.codec",
    "codeczoo.base",
)
# Modules whose package has no `__all__`: the public names, by the module that they are in.
NAMED = {
    "codeczoo.benchmark": {
        "codeczoo.benchmark.run": ["run_benchmark"],
        "codeczoo.benchmark.settings": ["Settings"],
        "codeczoo.benchmark.bd_rate": ["bd_rate", "bootstrap_bd_rate", "Curve", "RateDifference"],
    },
    "codeczoo.report": {"codeczoo.report.page": ["write_report"]},
    "codeczoo.weights": {
        "codeczoo.weights.packed": ["pack", "unpack", "PackedFile"],
        "codeczoo.weights.export": ["export_safetensors", "export_gguf"],
    },
    "codeczoo.superb.codec": {
        "codeczoo.superb.codec": ["load_codec", "wrap", "list_codec", "codec_supports_decode"],
        "codeczoo.superb.zoo": ["Codec"],
    },
}


def pages(root: Path) -> dict[str, str]:
    """Path → Markdown."""
    out = {"api/index.md": ""}
    rows, seen = [], set[str]()
    for module in MODULES:
        objects = public_objects(root, module)
        own = [path for path in objects if path not in seen]
        seen |= set(own)
        elsewhere = [path for path in objects if path not in own]
        name = f"api/{module}.md"
        text = [f"# {module}", f"::: {module}\n    options:\n      members: false\n      show_root_heading: false\n"]
        if module == "codeczoo.base":
            text[0] = "# codeczoo.base, for authors of codecs"
        if elsewhere:
            links = ", ".join(f"[`{path.rsplit('.', 1)[1]}`][{path}]" for path in elsewhere)
            text.append(f"Described on the pages before: {links}.")
        out[name] = "\n\n".join([*text, *(f"::: {path}" for path in own)]) + "\n"
        rows.append(f"| [`{module}`]({module}.md) | {', '.join(_link(path) for path in objects)} |")
    out["api/index.md"] = "# API\n\n| import from | names |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    return out


def public_objects(root: Path, module: str) -> list[str]:
    """The public names of a module, as paths of where they are defined."""
    if module in NAMED:
        return [f"{place}.{name}" for place, names in NAMED[module].items() for name in names]
    tree = _tree(root, module)
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    paths = [home_of(root, module, name) for name in names if not name.startswith("__")]
    return [path for path in paths if _source(root, path) is None]  # modules have pages of their own


def home_of(root: Path, module: str, name: str) -> str:
    """Where a name of a module is defined, by its imports, those for type checkers too."""
    for node in ast.walk(_tree(root, module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("codeczoo"):
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module != module:
                    return home_of(root, node.module, alias.name)
    return f"{module}.{name}"


def _tree(root: Path, module: str) -> ast.Module:
    source = _source(root, module)
    assert source is not None, f"there is no module {module}"
    return ast.parse(source.read_text("utf-8"))


def _source(root: Path, module: str) -> Path | None:
    place = root.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _link(path: str) -> str:
    return f"[`{path.rsplit('.', 1)[1]}`][{path}]"
