"""A language model of one codebook: interpolated n-grams with Witten and Bell's smoothing.

    P(w | h) = (c(h w) + T(h) P(w | h')) / (c(h) + T(h))

c counts in the training clips, T(h) is the number of different codes that followed h, h' is h without its oldest code,
and below the empty history stands the even distribution over all entries. So every code has a probability, and those of
all entries sum to 1 after any history. (Witten and Bell, IEEE Trans. Inf. Theory 37(4), 1991, method C.) A clip begins
with a mark that no entry has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_KEY = 2**62


class WittenBell:
    """The models of the orders 1 to `order`, trained on some clips.

        model = WittenBell(train, entries=1024, order=3)
        bits = -model.log2_probabilities(held_out).mean(axis=1)   # a code, by order

    Args:
        clips: codes [n] of each clip, 0 to entries - 1.
        entries: of the codebook.

    Raises:
        ValueError: an order below 1, or so many entries that an n-gram does not fit into 62 bits.
    """

    def __init__(self, clips: Sequence[np.ndarray], entries: int, order: int = 3) -> None:
        if order < 1:
            raise ValueError(f"the order of an n-gram must be at least 1; it is {order}")
        if (entries + 1) ** order >= MAX_KEY:
            raise ValueError(
                f"n-grams of order {order} over {entries} entries do not fit into 62 bits: lower the order"
            )
        self.entries, self.order = entries, order
        self._tables = []
        histories, codes = _histories(clips, entries, order)
        for history in histories:
            grams, counts = np.unique(history * (entries + 1) + codes, return_counts=True)
            contexts, first = np.unique(grams // (entries + 1), return_index=True)
            different = np.diff(np.append(first, len(grams)))
            total = np.add.reduceat(counts, first) if len(first) else counts
            self._tables.append((grams, counts, contexts, total, different))

    def log2_probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """log2 P of each code of these clips, end to end, after those before it in its clip: [order, codes]."""
        histories, codes = _histories(clips, self.entries, self.order)
        below = np.full(len(codes), 1 / self.entries)
        out = np.empty((self.order, len(codes)))
        for i, (history, table) in enumerate(zip(histories, self._tables, strict=True)):
            grams, counts, contexts, total, different = table
            seen = _looked_up(contexts, total, history)
            kinds = _looked_up(contexts, different, history)
            times = _looked_up(grams, counts, history * (self.entries + 1) + codes)
            known = seen > 0
            below = np.where(known, (times + kinds * below) / np.where(known, seen + kinds, 1), below)
            out[i] = np.log2(below)
        return out


def _histories(clips: Sequence[np.ndarray], entries: int, order: int) -> tuple[list[np.ndarray], np.ndarray]:
    """For each order the number of each code's history, and all codes end to end."""
    codes = np.concatenate([np.asarray(clip, dtype=np.int64) for clip in clips] or [np.zeros(0, np.int64)])
    histories = [np.zeros(len(codes), np.int64)]
    for back in range(1, order):
        before = [np.concatenate([np.full(min(back, len(c)), entries), c[: len(c) - back]]) for c in clips if len(c)]
        earlier = np.concatenate(before or [codes]).astype(np.int64)
        histories.append(histories[-1] + earlier * (entries + 1) ** (back - 1))
    return histories, codes


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of `wanted` among sorted keys; 0 for those that are not there."""
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
