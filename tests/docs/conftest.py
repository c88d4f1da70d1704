"""The browser that the tests of the report use."""

from tests.report.conftest import browser

__all__ = ["browser"]
