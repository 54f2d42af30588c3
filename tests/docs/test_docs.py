"""Docs show files by a marker, `<!-- file: path -->`; what they name must exist, and links must lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_shown_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_shown_file_is_shown_as_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, re.S)
    assert len(shown) == text.count("<!-- file:")
    for path, block in shown:
        assert block == (ROOT / path).read_text(encoding="utf-8"), f"{page.name} shows {path} as it was: run scripts/docs"
