"""Where the names of a plot's points go, so that none lies on another or on a point."""

from __future__ import annotations

from collections.abc import Sequence

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


def place_labels(points: Sequence[tuple[float, float, str]]) -> list[str | None]:
    """For each point (x and y from 0 to 1 in the drawing area, label) a place of PLACES, or None where all collide.
    The first points choose first."""
    spots = [(x * WIDTH, y * HEIGHT) for x, y, _ in points]
    taken: list[Box] = [(x - MARK / 2, y - MARK / 2, x + MARK / 2, y + MARK / 2) for x, y in spots]
    out: list[str | None] = []
    for (x, y), (_, _, text) in zip(spots, points, strict=True):
        boxes = {place: _box(x, y, len(text) * LETTER, *to) for place, to in PLACES.items()}
        free = (place for place, box in boxes.items() if _inside(box) and not any(_meet(box, t) for t in taken))
        place = next(free, None)
        if place is not None:
            taken.append(boxes[place])
        out.append(place)
    return out


def _box(x: float, y: float, width: float, right: int, up: int) -> Box:
    x += right * (width / 2 + (MARK / 2 + GAP) * (0.4 if up else 1))
    y += up * (LINE / 2 + MARK / 2 + GAP)
    return x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2


def _inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
