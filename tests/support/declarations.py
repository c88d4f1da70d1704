"""What the test file of each family declares, for the tests that walk over all families.

`tests/codecs/test_FAMILY.py` bears these names at module level:

| name | what it is | may be left out |
|---|---|---|
| `SMALL` | numbers of the family's config for a network that runs in milliseconds; `{}` if it has no network | no |
| `PACKAGINGS` | label → `Packaging` (tests/support/packagings.py), each form of its weights | if there are none |
| `GAIN` | factor on the seeded weights: below 1 where noise as weights makes the small network chaotic | yes: 1.0 |
| `LICENCE` | of the weights, if loading says nothing of it; variant → licence where they differ | yes: unclear |
| `LICENCE_WARNING` | what the one warning about the licence says | yes: "is unclear" |
| `TRANSFORMERS` | variants that Hugging Face transformers publishes at sizes without a golden manifest | yes |
| `DEVICE_VARIANTS` | the only variants that the tests of devices take | yes: one of each network |
| `SMALL_ONLY` | variants whose full network does not fit a test machine's memory in float64 | yes |
| `LONG_VARIANTS` | variants whose long clips take another path than those of the family's first | yes |
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib import resources
from types import ModuleType
from typing import Any

from codeczoo.base.catalogue import variants

# Those of this package: others may be installed beside it, and are tested where they are at home.
FAMILIES = tuple(
    sorted(
        entry.name.removesuffix(".toml")
        for entry in (resources.files("codeczoo") / "configs").iterdir()
        if entry.name.endswith(".toml")
    )
)
WITH_WEIGHTS = tuple(
    family for family in FAMILIES if any(v.family == family and v.weights is not None for v in variants().values())
)


class MissingDeclarationError(LookupError):
    """A family whose test file does not say what the tests of all families need."""


def module_of(family: str) -> ModuleType:
    """The test file of a family, imported. (Call it when a test runs: those files import the helpers beside this one.)

    Raises:
        MissingDeclarationError: there is none.
    """
    name = f"tests.codecs.test_{family}"
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        raise MissingDeclarationError(
            f"codeczoo/configs/{family}.toml has no tests/codecs/test_{family}.py: write one with the family's golden "
            "case, SMALL and PACKAGINGS (docs/adding_a_codec.md)"
        )
    return importlib.import_module(name)


def small_numbers(family: str) -> Mapping[str, Any]:
    """The family's `SMALL`.

    Raises:
        MissingDeclarationError: it declares none.
    """
    module = module_of(family)
    if not hasattr(module, "SMALL"):
        raise MissingDeclarationError(
            f"tests/codecs/test_{family}.py declares no SMALL: write at module level, for example, "
            'SMALL: dict[str, object] = {"dim": 16, "codebook_size": 64}: numbers of the config dataclass for a '
            "network of the same architecture that runs in milliseconds, {} if the family has no network"
        )
    return module.SMALL


def packagings_of(family: str) -> Mapping[str, Any]:
    """The family's `PACKAGINGS`.

    Raises:
        MissingDeclarationError: it has published weights and declares none.
    """
    found = getattr(module_of(family), "PACKAGINGS", {})
    if not found and family in WITH_WEIGHTS:
        raise MissingDeclarationError(
            f"tests/codecs/test_{family}.py declares no PACKAGINGS: write at module level, for example, "
            f'PACKAGINGS = {{"{family}": Packaging("{family}", FOLDER, flat_pickle("model.pt"))}}, one for each form '
            "in which its weights are published (tests/support/packagings.py)"
        )
    return found


def declared(family: str, name: str, default: Any) -> Any:
    """What a family declares under a name that may be left out."""
    return getattr(module_of(family), name, default)
