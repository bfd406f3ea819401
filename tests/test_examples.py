from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / 'examples'


@pytest.mark.slow
def test_a_training_loop_of_ones_own_learns(tmp_path):
    result = subprocess.run([sys.executable, str(EXAMPLES / 'own_training_loop.py'), '25'], cwd = tmp_path, capture_output = True, text = True)
    assert result.returncode == 0, result.stderr
    figures = [float(figure) for figure in re.findall(r'step \d+: ([\d.]+) dB', result.stdout)]
    assert len(figures) == 2
    assert figures[1] > figures[0] + 1
