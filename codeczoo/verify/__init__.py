"""Are the weights on this machine the published ones, and does the codec do with them what it should?

`verify("mimi")` asks it of one codec; `codeczoo verify NAME ...` prints and saves the answers. `checks.py` says what an
answer is, `run.py` in which order they are found.
"""

from codeczoo.verify.checks import Check, Report
from codeczoo.verify.run import verify

__all__ = ["Check", "Report", "verify"]
