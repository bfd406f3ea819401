"""A browser without a screen and without a GPU, for tests and benchmarks of the viewer."""

from __future__ import annotations

import shutil

SOFTWARE = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist']


def chromium_path() -> str | None:
    """Of the one that is installed, if there is one."""
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
