"""Imports of packages without warnings that users can't fix."""

from __future__ import annotations

import warnings


def import_x_transformers() -> None:
    """Imports x_transformers without the deprecation warning of torch.jit.script (torch 2.9), which its attend.py uses.

    Where warnings are errors, the import would fail. Other warnings and the filters of the program stay as they are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'`torch\.jit\.script(_method)?` is (deprecated|not supported)', category = Warning)
        import x_transformers  # noqa: F401
