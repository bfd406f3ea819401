"""Docstrings are in Google style, as mkdocstrings reads it, and name arguments that are there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / 'lvsm_pytorch').rglob('*.py'))


def documented(file):
    """Functions and classes of a file that have a docstring, which comes without its indent."""
    for node in ast.walk(ast.parse(file.read_text(encoding = 'utf-8'))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (docstring := ast.get_docstring(node)):
            yield node, docstring


def names_in(docstring, section):
    """Of the entries of a section, in order."""
    body = re.search(rf'^{section}:\n((?:    .*\n?|\n)+)', docstring, re.MULTILINE)
    return re.findall(r'^    \**(\w+): ', body[1], re.MULTILINE) if body else []


def arguments_of(node):
    """Of a function, or of a class's __init__; and its fields."""
    if isinstance(node, ast.ClassDef):
        inits = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == '__init__']
        fields = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
        return set().union(*map(arguments_of, inits), fields)

    return {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}


@pytest.mark.parametrize('file', FILES, ids = lambda file: file.relative_to(ROOT / 'lvsm_pytorch').as_posix())
def test_docstrings_name_arguments_that_are_there(file):
    for node, docstring in documented(file):
        described = names_in(docstring, 'Args') + names_in(docstring, 'Attributes')
        assert set(described) <= arguments_of(node), node.name
        assert len(set(described)) == len(described), node.name
        assert not re.search(r'^(Args|Attributes):', docstring, re.MULTILINE) or described, node.name


@pytest.mark.parametrize('file', FILES, ids = lambda file: file.relative_to(ROOT / 'lvsm_pytorch').as_posix())
def test_arguments_and_errors_are_in_sections(file):
    """And not in lines of their own, which mkdocstrings would run together."""
    for node, docstring in documented(file):
        assert not re.search(r'(^|[.)] )Errors: ', docstring, re.MULTILINE), node.name
        prose = re.split(r'^(?:Args|Attributes|Returns|Raises|Yields):$', docstring, maxsplit = 1, flags = re.MULTILINE)[0]
        lines = [line for line in prose.splitlines() if (begins := re.match(r'(\w+): ', line)) and begins[1] in arguments_of(node)]
        assert not lines, node.name


def test_what_the_reference_lists_is_there():
    for page in sorted((ROOT / 'docs' / 'api').glob('*.md')):
        for line in page.read_text(encoding = 'utf-8').splitlines():
            if line.startswith(':'):
                name = re.fullmatch(r'::: ([\w.]+)', line)
                assert name, f'{page.name}: {line}'
                found = resolve(name[1])
                assert inspect.getdoc(found), name[1]


def resolve(name):
    """A module, or what is in one."""
    module, _, attribute = name.rpartition('.')

    try:
        return importlib.import_module(name)
    except ImportError:
        return getattr(importlib.import_module(module), attribute)
