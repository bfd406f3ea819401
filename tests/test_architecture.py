"""The rooms of the package, the arrows between them, and their drawing in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lvsm_pytorch

PACKAGE = Path(lvsm_pytorch.__file__).parent

# each room may import from itself and from those before it

LAYERS = ['base', 'configs', 'geometry', 'lvsm', 'data', 'pipeline', 'evaluation', 'training', 'inference', 'viewer', 'cli']
PIPELINE = 'lvsm_pytorch.inference.pipeline'    # photos and cameras in, views out: what is evaluated, and what the rest of its room stands on
CLI = {'cli', '__main__', '__init__'}
CORE = {'torch', 'einops', 'einx', 'x_transformers'}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_of(path): path for path in PACKAGE.rglob('*.py')}


def room_of(module: str) -> str:
    parts = module.split('.')[1:]

    if module == PIPELINE:
        return 'pipeline'

    if len(parts) <= 1 and (not parts or parts[0] in CLI):
        return 'cli'

    return parts[0] if (PACKAGE / parts[0]).is_dir() else 'base'


def imports_of(path: Path, *, types_too: bool = True, inner_too: bool = True) -> list[tuple[str, str]]:
    """(module, name) of all imports. types_too: those under TYPE_CHECKING. inner_too: those in functions."""
    found = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test) and not types_too:
            return

        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inner_too:
            return

        if isinstance(node, ast.Import):
            found.extend((alias.name, '') for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: imports are absolute'
            found.extend((f'{node.module}.{alias.name}', '') if f'{node.module}.{alias.name}' in MODULES else (str(node.module), alias.name) for alias in node.names)

        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding = 'utf-8')))
    return found


def test_every_room_is_listed():
    assert {room_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize('module', MODULES)
def test_arrows_go_down(module):
    height = LAYERS.index(room_of(module))
    upward = {imported for imported, _ in imports_of(MODULES[module]) if imported in MODULES and imported != 'lvsm_pytorch' and LAYERS.index(room_of(imported)) > height}
    assert not upward


def test_no_circles():
    """By what Python runs at import; of what type checkers alone read, an annotation may name a caller."""
    graph = {module: {imported for imported, _ in imports_of(path, types_too = False) if imported in MODULES} for module, path in MODULES.items()}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(' -> '.join(error.args[1])) from error


@pytest.mark.parametrize('module', MODULES)
def test_no_module_takes_private_names_of_another(module):
    assert not [(imported, name) for imported, name in imports_of(MODULES[module]) if imported in MODULES and name.startswith('_')]


@pytest.mark.parametrize('module', [module for module in MODULES if room_of(module) in ('base', 'geometry', 'lvsm')])
def test_the_model_imports_core_dependencies_alone(module):
    """Others are imported in the function that needs them."""
    import sys

    tops = {imported.split('.')[0] for imported, _ in imports_of(MODULES[module], types_too = False, inner_too = False)}
    assert tops - {'lvsm_pytorch', *sys.stdlib_module_names} <= CORE


def drawn_paths() -> list[str]:
    """Of the drawing, in order: folders end with /, modules stand behind their folder, and what follows # is prose."""
    page = PACKAGE.parent / 'CONTRIBUTING.md'

    if not page.is_file():
        pytest.skip('CONTRIBUTING.md is part of the repository, and not of what is installed')

    drawing = re.search(r'^```\nlvsm_pytorch/\n(.*?)^```', page.read_text(encoding = 'utf-8'), re.MULTILINE | re.DOTALL)
    assert drawing is not None
    folders, found = [''], []

    for line in drawing[1].splitlines():
        words = line.split('#')[0].split()
        depth = (len(line) - len(line.lstrip())) // 2

        if words[0].endswith('/'):
            folders = [*folders[:depth], folders[depth - 1] + words.pop(0)]
            found.append(folders[-1])
        elif depth == 1:
            folders = ['']

        found += [folders[-1] + word for word in words]

    return found


def test_all_that_is_drawn_is_there():
    """And once."""
    drawn = drawn_paths()
    assert len(drawn) == len(set(drawn))
    assert not [path for path in drawn if not (PACKAGE / path).is_dir() and not (PACKAGE / f'{path}.py').is_file()]


def test_all_folders_and_what_all_rooms_may_use_are_drawn():
    """Modules of a room need not be: draw those that one looks for."""
    folders = {f'{path.relative_to(PACKAGE).as_posix()}/' for path in PACKAGE.rglob('*') if path.is_dir() and path.name != '__pycache__' and path.parent.name != 'pretrained'}
    shared = {path.stem for path in PACKAGE.glob('*.py')} - {'__init__'}
    undrawn = (folders | shared) - set(drawn_paths())
    assert not undrawn, 'draw them in CONTRIBUTING.md'


def test_the_drawing_has_the_order_of_the_arrows():
    rooms = [path.rstrip('/') for path in drawn_paths() if path.count('/') == 1 and path.endswith('/')]
    assert rooms == [layer for layer in LAYERS if layer in rooms]
