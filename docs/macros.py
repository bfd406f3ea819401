"""The README is the documentation's first page, so that nothing is said twice. For Zensical's macros (mkdocs.yml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / 'README.md'


def define_env(env: Any) -> None:
    env.macro(readme)


def readme() -> str:
    """With links as they are in docs/."""
    return README.read_text(encoding = 'utf-8').replace('](docs/', '](')
