"""Draw the rooms of the code as floors beside this file: ``.venv/bin/python docs/images/draw_rooms.py``."""

from pathlib import Path

FLOORS = (
    ("cli",), ("serve",), ("studies", "tools"), ("training",), ("recipes", "reports"), ("evaluation", "runs"),
    ("separation",), ("models", "data"), ("audio", "published"), ("core",),
)  # fmt: skip
"""The highest first, as in ``tests/test_imports_point_down.py``."""
COLOURS = ("#bfdbfe", "#c7d2fe", "#ddd6fe", "#fbcfe8", "#fed7aa", "#fde68a", "#d9f99d", "#a7f3d0", "#a5f3fc", "#e2e8f0")
WIDTH, HEIGHT, GAP = 640, 44, 8


def draw(path: Path) -> None:
    """Draw a box for each room: filled, so that its text is readable on a light page and on a dark one."""
    boxes = []
    for number, (rooms, colour) in enumerate(zip(FLOORS, COLOURS, strict=True)):
        width = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        for place, room in enumerate(rooms):
            x, y = place * (width + GAP), number * (HEIGHT + GAP)
            boxes.append(f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{HEIGHT}" rx="6" fill="{colour}"/>')
            boxes.append(f'<text x="{x + width / 2:g}" y="{y + HEIGHT / 2 + 5:g}">{room}</text>')
    total = len(FLOORS) * (HEIGHT + GAP) - GAP
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="16" text-anchor="middle" fill="#1e293b">\n'
        + "\n".join(boxes)
        + "\n</svg>\n",
        encoding="utf-8",
    )


draw(Path(__file__).parent / "rooms.svg")
