"""Texts of people and of files in the Markdown that Airflow's UI shows."""

import re

_SPECIAL = re.compile(r"([\\`*\[\]<>|#])")


def plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
