"""Imports of packages that warn of what their users can't change."""

from __future__ import annotations

import warnings


def import_x_transformers() -> None:
    """Imports it without its warning of torch.jit.script, which it compiles one function by (attend.py) and which torch deprecates since 2.9.

    Warnings that a program makes errors would end the import there. Every other warning stays as it is, and so do the program's filters.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'`torch\.jit\.script(_method)?` is (deprecated|not supported)', category = Warning)
        import x_transformers  # noqa: F401
