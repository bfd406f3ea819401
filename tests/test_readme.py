from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / 'README.md'
PROGRAMS = re.findall(r'^```python\n(.*?)^```', README.read_text(encoding = 'utf-8'), re.MULTILINE | re.DOTALL)


def test_the_readme_has_programs():
    assert len(PROGRAMS) >= 4


@pytest.mark.parametrize('program', PROGRAMS, ids = range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs_as_it_stands(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, 'README.md', 'exec'), {'__name__': '__main__'})
