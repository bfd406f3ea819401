"""The README is the documentation's first page, so that nothing is said twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / 'README.md'


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    return README.read_text(encoding = 'utf-8').replace('](docs/', '](') if page.is_homepage else markdown
