"""Charts as SVG: well formed, inside their frame, deterministic."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from airgate.steps import plot


def points(text):
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in re.findall(r'points="([^"]+)"', text)]


def test_panels_are_well_formed_and_inside_their_frames():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 50).astype(float)
    p = np.clip(y * 0.4 + random.random(50) * 0.6, 0, 1)
    text = plot.svg([plot.roc(y, p), plot.calibration(y, p)])
    root = ET.fromstring(text)
    assert plot.svg([plot.roc(y, p), plot.calibration(y, p)]) == text
    for line in points(text):
        assert all(0 <= a <= float(root.get("width")) and plot.TOP <= b <= plot.TOP + plot.SIZE for a, b in line)


def test_a_perfect_model_goes_through_the_corner():
    curve = plot.roc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])).lines[0]
    assert list(zip(curve.x, curve.y, strict=True)) == [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]


def test_ties_are_one_point():
    curve = plot.roc(np.array([0.0, 1, 0, 1]), np.full(4, 0.5)).lines[0]
    assert (list(curve.x), list(curve.y)) == ([0, 1], [0, 1])


def test_names_are_escaped_and_a_constant_line_is_drawn():
    text = plot.svg([plot.Panel("a < b", "x & y", "", [plot.Line("<one>", [1, 2], [3, 3])])])
    assert ET.fromstring(text) is not None and "a &lt; b" in text and "nan" not in text
