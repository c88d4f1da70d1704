"""Ids as file names: they stay below the folder, and stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeczoo.data.file_names import safe_path

IDS = (
    "a",
    "a/b",
    "../a",
    "/../a",
    "..",
    ".",
    "...",
    "a:b",
    "a%3Ab",
    "a%zz",
    'q"<>|?*',
    "c:\\x",
    "tab\t",
    "ü/日本",
    " ",
)


def test_plain_names_stay_as_they_are() -> None:
    for name in ("a", "a/b.c", "100% real.x", "ü/日本 (2)", "..."):
        assert safe_path(name) == name


@pytest.mark.parametrize("name", IDS)
def test_no_name_leads_out_or_holds_what_a_file_system_lacks(name: str, tmp_path: Path) -> None:
    made = safe_path(name)
    assert (tmp_path / made).resolve().is_relative_to(tmp_path.resolve())
    assert made and not set(made) & set('<>:"\\|?*\t')
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).write_bytes(b"")


def test_different_ids_have_different_names() -> None:
    assert len({safe_path(name) for name in IDS}) == len(IDS) - 1  # "../a" and "/../a" differ in slashes alone
    assert safe_path("") == safe_path("///") == "%"
