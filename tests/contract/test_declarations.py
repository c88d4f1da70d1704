"""What a family's test file must declare, and what is said when it does not."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tests.support.declarations import MissingDeclarationError, packagings_of, small_numbers


def test_a_family_without_a_test_file_is_told_which_to_write() -> None:
    with pytest.raises(MissingDeclarationError, match=r"no tests/codecs/test_nosuch\.py: write one with .*golden case"):
        small_numbers("nosuch")


def test_a_test_file_that_lacks_a_declaration_is_told_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tests.codecs.test_mimi", ModuleType("tests.codecs.test_mimi"))
    with pytest.raises(MissingDeclarationError, match=r"test_mimi\.py declares no SMALL: write .*SMALL: dict"):
        small_numbers("mimi")
    with pytest.raises(MissingDeclarationError, match=r"test_mimi\.py declares no PACKAGINGS: write .*Packaging\("):
        packagings_of("mimi")


def test_codecs_without_weights_need_no_packagings() -> None:
    assert packagings_of("g711") == {}
