"""Programs in the README and in the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
PROGRAMS = [
    pytest.param(program, id = f'{page.relative_to(ROOT)}-{number}')
    for page in PAGES for number, program in enumerate(re.findall(r'^```python\n(.*?)^```', page.read_text(encoding = 'utf-8'), re.MULTILINE | re.DOTALL))
]


def test_the_readme_has_programs():
    assert len(PROGRAMS) >= 10


@pytest.mark.parametrize('program', PROGRAMS)
def test_a_program_runs_as_it_stands(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, 'README.md', 'exec'), {'__name__': '__main__'})


@pytest.mark.parametrize('page', PAGES, ids = [str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', page.read_text(encoding = 'utf-8'))
    missing = [link for link in links if not link.startswith('http') and not (page.parent / link).exists()]
    assert not missing


def test_programs_of_the_first_release_run_unchanged(shared, tmp_path, monkeypatch):
    page = shared / 'seed' / 'README.md'

    if not page.is_file():
        pytest.skip('reference data are not here: shared/seed')

    monkeypatch.chdir(tmp_path)
    programs = re.findall(r'^```python\n(.*?)^```', page.read_text(encoding = 'utf-8'), re.MULTILINE | re.DOTALL)
    assert len(programs) == 4

    for program in programs:
        exec(compile(program, str(page), 'exec'), {'__name__': '__main__'})
