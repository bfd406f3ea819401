"""Configs of training runs as YAML files, and those that come with the library."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.packaged import folder_of

PRESETS = Path(__file__).parent / 'presets'

# of a run, in its folder

CONFIG = 'config.yaml'


def config_to_yaml(config: TrainConfig) -> str:
    import yaml

    return yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}, sort_keys = False)


def changes(before: str, now: TrainConfig) -> list[str]:
    """What has changed since a run's YAML, in words."""
    import yaml

    then, values = yaml.safe_load(before), yaml.safe_load(config_to_yaml(now))
    return [f'{name} {value} instead of {then.get(name)}' for name, value in values.items() if value != then.get(name)]


def config_from_yaml(text: str, where: str = 'config') -> TrainConfig:
    """Keys that are left out have the paper's values.

    Args:
        where: What errors call it.

    Raises:
        ValueError: For what is no mapping, for unknown keys, with the nearest known one, and for values of another type.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f'{where}: must be YAML, but {error}. Take the config.yaml that a run wrote.') from error

    if not isinstance(values, dict):
        fail(where, 'must be a YAML mapping', type(values).__name__, 'Take the config.yaml that a run wrote.')

    known = {field.name for field in fields(TrainConfig)}
    types = get_type_hints(TrainConfig)

    for name in values:
        if name not in known:
            nearest = get_close_matches(str(name), known, n = 1)
            fail(where, 'must have known keys alone', name, f'Did you mean {nearest[0]}?' if nearest else f'Known are {sorted(known)}.')

    config = TrainConfig(**{name: as_type(f'{where}, {name}', value, types[name]) for name, value in values.items()})
    config.check()
    return config


def as_type(where: str, value: Any, hint: Any) -> Any:  # noqa: RET503, since fail never returns
    """A value as YAML reads it, as a field of that type. YAML takes 1e-4 for a word, and an integer may stand for a number."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)

    for choice in choices:
        if type(value) is choice or (get_origin(choice) is Literal and value in get_args(choice)):
            return value

        if choice is Path and isinstance(value, str):
            return Path(value)

        if get_origin(choice) is tuple and type(value) is list and len(value) == len(get_args(choice)):
            return tuple(as_type(where, each, hint) for each, hint in zip(value, get_args(choice), strict = True))

        if choice is float and isinstance(value, int | str) and not isinstance(value, bool):
            with suppress(ValueError):
                return float(value)

    names = ' or '.join(' or '.join(get_args(choice)) if get_origin(choice) is Literal else 'nothing' if choice is type(None) else f'a list of {len(get_args(choice))} values' if get_origin(choice) is tuple else choice.__name__ for choice in choices)
    fail(where, f'must be {names}', repr(value), 'See lvsm train --help.')


def load_config(name: str) -> TrainConfig:
    """A preset by its name, or a YAML file by its path.

    Raises:
        ValueError: For what is neither, and as `config_from_yaml`.
    """
    path = PRESETS / f'{name}.yaml' if name in presets() else Path(name)

    if not path.is_file():
        fail('config', f'must be one of {presets()} or a YAML file', repr(name), 'Leave it out for the demo.')

    return config_from_yaml(path.read_text(encoding = 'utf-8'), str(name))


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob('*.yaml'))


def save_config(run: Path, config: TrainConfig) -> None:
    write_whole(run / CONFIG, lambda temporary: temporary.write_text(config_to_yaml(config), encoding = 'utf-8'))


def config_beside(model: Path) -> TrainConfig | None:
    """Of the run that the folder of a model is, if it is one."""
    return load_run_config(model) if (folder_of(model) / CONFIG).is_file() else None


def data_beside(model: Path) -> Path | None:
    """The data of the run that the folder of a model is, from whichever folder one asks; None where there is no run, or it had none.

    Runs remember where their data lay; those that were begun with a relative path by an earlier version are looked for around the run.
    """
    run = config_beside(model)

    if run is None or run.data is None or run.data.exists():
        return None if run is None else run.data

    around = (folder / run.data for folder in folder_of(model).absolute().parents)
    return next((data for data in around if data.exists()), run.data)


def load_run_config(run: Path) -> TrainConfig:
    """The config of a run, from its folder.

    Raises:
        ValueError: For a folder that is no run.
    """
    run = folder_of(run)

    if not (run / CONFIG).is_file():
        fail('run', 'must be a folder that `lvsm train` wrote', f'{run} without {CONFIG}', 'Train first: lvsm train --out RUN.')

    return config_from_yaml((run / CONFIG).read_text(encoding = 'utf-8'), str(run / CONFIG))
