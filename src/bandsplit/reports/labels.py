"""Places for the labels of points in a picture, so that none covers another, a point, or the axes' edge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_MARKER_PX, _GAP_PX, _LEADER_PX = 7.0, 2.0, 11.0
_DIRECTIONS = 16
_SEARCH_PX = 60.0
"""Largest distance at which a place is sought that is nearer to its own point than to any other."""


def place_labels(figure: Figure, axes: Axes, labels: Sequence[Annotation]) -> None:
    """Move labels from their points to places where they cover nothing; those nearer to another point get a thin line.

    Labels of crowded points are placed first. Each takes the free place nearest to its point, on rings around it, and
    if possible one that is nearer to no other point.

    Args:
        figure: its layout is computed first and then stays fixed.
        axes: the axes of the points.
        labels: annotations with offsets in points of 1/72 inch, centred on points in data coordinates.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # a second layout would move the points from under their labels
    renderer = canvas.get_renderer()
    scale = 72 / figure.dpi  # pixels are valid for one resolution only, and vector formats have another
    points = [tuple(axes.transData.transform(label.xy)) for label in labels]
    marks = [_box(x, y, _MARKER_PX, _MARKER_PX) for x, y in points]
    inside = axes.get_window_extent(renderer)
    sizes = [(box.width / 2, box.height / 2) for box in (label.get_window_extent(renderer) for label in labels)]
    crowd = [sum(math.dist(point, other) < 60 for other in points) for point in points]
    taken: list[Bbox] = []
    for number in sorted(range(len(labels)), key=lambda number: (-crowd[number], points[number])):
        label, (x, y), (half_w, half_h) = labels[number], points[number], sizes[number]
        free: tuple[float, float, Bbox] | None = None
        for dx, dy in _offsets(half_w, half_h):
            box = _box(x + dx, y + dy, half_w + _GAP_PX, half_h)
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if fits and not any(_overlap(box, other) for other in (*taken, *marks)):
                free = free or (dx, dy, box)
                if _is_nearest(box, points[number], points):
                    free = dx, dy, box
                    break
                if math.hypot(dx, dy) > _SEARCH_PX:
                    break
        # If the picture has no free place, a label lies on its point.
        dx, dy, box = free or (0.0, 0.0, _box(x, y, half_w, half_h))
        label.set_position((dx * scale, dy * scale))
        taken.append(box)
        near_x, near_y = _nearest(box, x, y)
        if math.dist((near_x, near_y), (x, y)) > _LEADER_PX or not _is_nearest(box, (x, y), points):
            line = axes.annotate(
                "", label.xy, xytext=((near_x - x) * scale, (near_y - y) * scale), textcoords="offset points", zorder=1,
                arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
            )  # fmt: skip
            line.set_in_layout(False)


def _is_nearest(box: Bbox, point: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    """Whether no point is nearer to a label than its own."""
    own = math.dist(_nearest(box, *point), point)
    return not any(math.dist(_nearest(box, *other), other) < own for other in points)


def _offsets(half_w: float, half_h: float) -> Iterator[tuple[float, float]]:
    """Yield offsets of the centre in pixels, ring by ring; the right first, clear of bars on the point."""
    ring = 0.0
    while ring < 600:
        for step in range(_DIRECTIONS):
            angle = 2 * math.pi * ((step + 1) // 2 * (-1) ** (step + 1)) / _DIRECTIONS
            reach = _MARKER_PX + _GAP_PX + 1 + ring
            yield (half_w + reach) * math.cos(angle), (half_h + reach) * math.sin(angle)
        ring += 4.0


def _box(x: float, y: float, half_w: float, half_h: float) -> Bbox:
    return Bbox.from_extents(x - half_w, y - half_h, x + half_w, y + half_h)


def _overlap(a: Bbox, b: Bbox) -> bool:
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def _nearest(box: Bbox, x: float, y: float) -> tuple[float, float]:
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
