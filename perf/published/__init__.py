"""The published implementations behind one face, for `compare.py`: the only place that imports them.

One file a family; its `CASES` are found here by themselves. Each is built from the tensors of a golden manifest and
used as its authors use it at inference: weight norm stays as their loader leaves it, modules are in eval mode, and the
caller switches gradients off. `encode` and `decode` are the authors' own calls on tensors at the codec's rate;
`to_ours` and `from_ours` only change the form of codes and are not timed.
"""

from importlib import import_module
from pkgutil import iter_modules

from perf.published.interface import Case, Given, Published

_modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
CASES: tuple[Case, ...] = tuple(case for module in _modules for case in getattr(module, "CASES", ()))

__all__ = ["CASES", "Case", "Given", "Published"]
