"""Where the names of a plot's points go, so that none lies on another or on a point."""

from __future__ import annotations

from collections.abc import Iterable

WIDTH, HEIGHT = 350.0, 240.0  # pixels of the drawing area that is reckoned with; wider ones have more room
LETTER, LINE, MARK = 5.6, 11.0, 9.0  # pixels: a letter's width, a line's height, a point's size
GAP = 2.0

# plotly's name of a place → where the label's centre lies from the point, in halves of the label and of the mark
PLACES = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}

Box = tuple[float, float, float, float]  # left, bottom, right, top


class Labels:
    """The labels of one plot, placed one after another.

    Args:
        points: x and y of all points, from 0 to 1 in the drawing area.
    """

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        spots = [(x * WIDTH, y * HEIGHT) for x, y in points]
        self._taken: list[Box] = [(x - MARK / 2, y - MARK / 2, x + MARK / 2, y + MARK / 2) for x, y in spots]

    def keep_free(self, left: float, bottom: float, right: float, top: float) -> None:
        """Of labels: a box, from 0 to 1 in the drawing area."""
        self._taken.append((left * WIDTH, bottom * HEIGHT, right * WIDTH, top * HEIGHT))

    def place(self, x: float, y: float, text: str) -> str | None:
        """One of PLACES for the label of the point at x and y; None where all collide."""
        for place, to in PLACES.items():
            box = _box(x * WIDTH, y * HEIGHT, len(text) * LETTER, *to)
            if _inside(box) and not any(_meet(box, taken) for taken in self._taken):
                self._taken.append(box)
                return place
        return None


def _box(x: float, y: float, width: float, right: int, up: int) -> Box:
    x += right * (width / 2 + (MARK / 2 + GAP) * (0.4 if up else 1))
    y += up * (LINE / 2 + MARK / 2 + GAP)
    return x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2


def _inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
