"""Docstrings as Markdown: what they say of each argument becomes an item of a list. For mkdocstrings (mkdocs.yml)."""

from __future__ import annotations

import re
from typing import Any

import griffe

ARGUMENTS = re.compile(r'^([*\w]+(?:, [*\w]+)*): (.*)')
RESULTS = re.compile(r'^(Returns|Errors:)(.*)')


class OurDocstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            names = {parameter.name for parameter in getattr(obj, 'parameters', [])} | set(obj.members)
            obj.docstring.value = as_markdown(obj.docstring.value, names)


def as_markdown(docstring: str, names: set[str]) -> str:
    """names: of arguments or fields, whose lines become items; what follows a line is part of it where it is no such itself."""
    return '\n\n'.join(paragraph_as_markdown(paragraph, names) for paragraph in docstring.split('\n\n'))


def paragraph_as_markdown(paragraph: str, names: set[str]) -> str:
    lines: list[str] = []

    for line in paragraph.split('\n'):
        arguments, result = ARGUMENTS.match(line), RESULTS.match(line)

        if arguments and any(name.strip('*') in names for name in arguments[1].split(', ')):
            lines.append(f'- **`{arguments[1]}`**: {arguments[2]}')
        elif result:
            lines.append(f'\n**{result[1].strip(":")}**{":" if result[1].endswith(":") else ""}{result[2]}')
        elif lines:
            lines[-1] += ' ' + line.strip()
        else:
            lines.append(line)

    # a list begins after an empty line

    text = '\n'.join(lines).strip('\n')
    return re.sub(r'(^|\n)(?!- )([^\n]+)\n- ', r'\1\2\n\n- ', text)
