"""The `lvsm` command: arguments in, one function called."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from tyro.extras import subcommand_cli_from_dict

        from lvsm_pytorch.config import TrainConfig
        from lvsm_pytorch.render import RenderConfig, render
        from lvsm_pytorch.train import train

        config = subcommand_cli_from_dict(dict(train = TrainConfig, render = RenderConfig), prog = 'lvsm', description = 'See a scene from where nobody stood.')
        train(config) if isinstance(config, TrainConfig) else render(config)
    except ImportError as error:
        sys.exit(f'lvsm: {error}. The command needs what pip install "lvsm-pytorch[train]" installs.')
    except (ValueError, OSError) as error:
        sys.exit(f'lvsm: {error}')
    except KeyboardInterrupt:
        sys.exit('lvsm: stopped; what was saved at the last look is kept.')
