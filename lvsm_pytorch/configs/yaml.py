"""Training configs as YAML files, and the presets."""

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

# file of the config in the folder of a run

CONFIG = 'config.yaml'


def config_to_yaml(config: TrainConfig) -> str:
    import yaml

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Path) else [plain(each) for each in value] if isinstance(value, tuple) else value

    return yaml.safe_dump({name: plain(value) for name, value in asdict(config).items()}, sort_keys = False)


def changes(before: str, now: TrainConfig) -> list[str]:
    """Descriptions of the values that differ from the YAML of a run."""
    import yaml

    then, values = yaml.safe_load(before), yaml.safe_load(config_to_yaml(now))
    return [f'{name} {value} instead of {then.get(name)}' for name, value in values.items() if value != then.get(name)]


def config_from_yaml(text: str, where: str = 'config') -> TrainConfig:
    """A config from YAML. Missing keys have the defaults of TrainConfig.

    Args:
        where: Name of the config in errors.

    Raises:
        ValueError: For text that is not a mapping, for unknown keys (with the nearest known one), and for values of a wrong type.
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
    """Converts a value from YAML to the type of a field. YAML reads 1e-4 as a string, and integers are valid floats."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)

    for choice in choices:
        if type(value) is choice or (get_origin(choice) is Literal and value in get_args(choice)):
            return value

        if choice is Path and isinstance(value, str):
            return Path(value)

        if get_origin(choice) is dict and type(value) is dict:
            return {key: as_type(f'{where}, {key}', each, get_args(choice)[1]) for key, each in value.items()}

        if get_origin(choice) is tuple and type(value) is list and (hints := hints_of(choice, len(value))) is not None:
            return tuple(as_type(where, each, hint) for each, hint in zip(value, hints, strict = True))

        if choice is float and isinstance(value, int | str) and not isinstance(value, bool):
            with suppress(ValueError):
                return float(value)

    fail(where, f'must be {" or ".join(map(name_of, choices))}', repr(value), 'See lvsm train --help.')


def hints_of(choice: Any, count: int) -> list[Any] | None:
    """Types of the values of a tuple of so many; None where it has another number of them."""
    hints = list(get_args(choice))
    hints = hints[:1] * count if hints[-1] is Ellipsis else hints
    return hints if len(hints) == count else None


def name_of(choice: Any) -> str:
    """A type in words."""
    if get_origin(choice) is Literal:
        return ' or '.join(get_args(choice))

    if get_origin(choice) is tuple:
        hints = get_args(choice)
        return f'a list of {hints[0].__name__}' if hints[-1] is Ellipsis else f'a list of {len(hints)} values'

    return 'nothing' if choice is type(None) else choice.__name__


def load_config(name: str) -> TrainConfig:
    """Loads a preset by name, or a YAML file by path.

    Raises:
        ValueError: For a name that is neither, and as `config_from_yaml`.
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
    """Config of the run in the folder of a model; None for other folders."""
    return load_run_config(model) if (folder_of(model) / CONFIG).is_file() else None


def data_beside(model: Path) -> Path | tuple[Path, ...] | None:
    """Data of the run in the folder of a model; None without a run or data.

    A relative path, which earlier versions saved, is resolved against the parent folders of the run.
    """
    run = config_beside(model)

    if run is None or run.data is None:
        return None

    return tuple(found_around(model, data) for data in run.data) if isinstance(run.data, tuple) else found_around(model, run.data)


def found_around(model: Path, data: Path) -> Path:
    around = (folder / data for folder in folder_of(model).absolute().parents)
    return data if data.exists() else next((each for each in around if each.exists()), data)


def load_run_config(run: Path) -> TrainConfig:
    """Loads the config of a run from its folder.

    Raises:
        ValueError: For a folder without a run.
    """
    run = folder_of(run)

    if not (run / CONFIG).is_file():
        fail('run', 'must be a folder that `lvsm train` wrote', f'{run} without {CONFIG}', 'Train first: lvsm train --out RUN.')

    return config_from_yaml((run / CONFIG).read_text(encoding = 'utf-8'), str(run / CONFIG))
