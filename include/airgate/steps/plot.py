"""Small line charts as SVG text, shown by MLflow as they are: no plotting library, same numbers same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

SIZE, LEFT, TOP, RIGHT, BOTTOM = 300, 55, 34, 15, 46
COLOURS = ("#0b6e99", "#b4540a", "#5b7f2b", "#7b4f9d")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name for the legend ('' for none) and its points. `dashed` is for a reference line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart with its axes. `unit` fixes both axes to 0..1; otherwise they span the points."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    unit: bool = False


def roc(labels: Floats, scores: Floats) -> Panel:
    """ROC curve of n rows; both classes must be present. One point for each distinct score."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-1.0))
    hits, false = np.cumsum(labels[order])[last], np.cumsum(1 - labels[order])[last]
    curve = Line("", [0.0, *(false / false[-1]).tolist()], [0.0, *(hits / hits[-1]).tolist()])
    return Panel("ROC curve", "false positive rate", "true positive rate", [curve, _diagonal()], unit=True)


def calibration(labels: Floats, scores: Floats) -> Panel:
    """Mean score against the share of label 1, in five groups of nearly equal size by score."""
    groups = [group for group in np.array_split(np.argsort(scores, kind="stable"), 5) if group.size]
    line = Line("", [float(scores[g].mean()) for g in groups], [float(labels[g].mean()) for g in groups])
    return Panel("Calibration", "mean score", "share with label 1", [line, _diagonal()], unit=True)


def svg(panels: Sequence[Panel]) -> str:
    """Draw the panels side by side. Points must be finite."""
    step = SIZE + LEFT + RIGHT
    width, height = step * len(panels), SIZE + TOP + BOTTOM
    drawn = "".join(_panel(panel, number * step + LEFT) for number, panel in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
            f'<rect width="{width}" height="{height}" fill="white"/>{drawn}</svg>\n')


def _panel(panel: Panel, left: int) -> str:
    x_low, x_high = (0.0, 1.0) if panel.unit else _span([value for line in panel.lines for value in line.x])
    y_low, y_high = (0.0, 1.0) if panel.unit else _span([value for line in panel.lines for value in line.y])
    middle, low, turned = left + SIZE / 2, TOP + SIZE, f' transform="rotate(-90 {left - 6} {TOP + SIZE / 2:g})"'
    parts = [f'<rect x="{left}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#888"/>',
             _text(middle, TOP - 14, panel.title, "middle", ' font-weight="bold"'),
             _text(middle, low + 36, panel.x_label, "middle"),
             _text(left - 6, TOP + SIZE / 2, panel.y_label, "middle", turned),
             _text(left, low + 16, f"{x_low:g}", "middle"), _text(left + SIZE, low + 16, f"{x_high:.4g}", "middle"),
             _text(left - 6, low, f"{y_low:.3g}", "end"), _text(left - 6, TOP + 10, f"{y_high:.3g}", "end")]
    for number, line in enumerate(panel.lines):
        colour = "#999" if line.dashed else COLOURS[number % len(COLOURS)]
        across = [left + (x - x_low) / (x_high - x_low) * SIZE for x in line.x]
        down = [TOP + (y_high - y) / (y_high - y_low) * SIZE for y in line.y]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
        dash = ' stroke-dasharray="4 4"' if line.dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(_text(left + SIZE - 8, low - 10 - 16 * number, line.name, "end", f' fill="{colour}"'))
    return "".join(parts)


def _diagonal() -> Line:
    return Line("", [0, 1], [0, 1], dashed=True)


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>' if text else ""


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
