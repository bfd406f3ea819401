"""lvsm-pytorch 0.1.6, beside which ours is measured.

python benchmarks/seed.py FOLDER    # installs it there, from PyPI
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def install_seed(folder: Path) -> None:
    """lvsm-pytorch 0.1.6 and what it imports beyond what ours has; without torchvision, whose part of it is switched off."""
    if not (folder / 'lvsm_pytorch').is_dir():
        subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', str(folder), 'lvsm-pytorch==0.1.6', 'jaxtyping', 'wadler-lindig'], check = True)


if __name__ == '__main__':
    install_seed(Path(sys.argv[1]))
