"""The published implementations behind one face, for `compare.py`: the only place that imports them.

One file a family. Each is built from the tensors of a golden manifest and used as its authors use it at inference:
weight norm stays as their loader leaves it, modules are in eval mode, and the caller switches gradients off. `encode`
and `decode` are the authors' own calls on tensors at the codec's rate; `to_ours` and `from_ours` only change the form
of codes and are not timed.
"""

from perf.published import (
    academicodec,
    audiodec,
    auv,
    bigcodec,
    dac,
    encodec,
    funcodec,
    mimi,
    s3tokenizer,
    snac,
    speechtokenizer,
    sqcodec,
    unicodec,
    wavtokenizer,
    xcodec2,
)
from perf.published.interface import Case, Given, Published

CASES: tuple[Case, ...] = (
    *(mimi.CASES + dac.CASES + encodec.CASES + wavtokenizer.CASES),
    *(speechtokenizer.CASES + bigcodec.CASES + sqcodec.CASES + s3tokenizer.CASES + auv.CASES),
    *(academicodec.CASES + audiodec.CASES + funcodec.CASES + unicodec.CASES),
    *(snac.CASES + xcodec2.CASES),
)

__all__ = ["CASES", "Case", "Given", "Published"]
