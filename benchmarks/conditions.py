"""Under what a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

import torch


def conditions(device: torch.device, *, threads: int, precision: list[str]) -> dict[str, str | int]:
    """For a JSON file, and in words by `in_words`. precision: those of autocast."""
    machine: dict[str, str | int] = dict(cpu = cpu_name(), cores = os.cpu_count() or 1, threads = threads, torch = torch.__version__, precision = ', '.join(precision))

    if device.type == 'cuda':
        machine['gpu'] = torch.cuda.get_device_name(device)

    return machine


def in_words(machine: dict[str, str | int]) -> str:
    """One line."""
    return f'{machine["gpu"] + ", " if "gpu" in machine else ""}{machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]}, {machine["precision"]}'


def cpu_name() -> str:
    """As the system has it, with whether it has units for bfloat16, on which its speed in bfloat16 depends most."""
    with suppress(OSError):
        lines = [line.split(':', 1) for line in Path('/proc/cpuinfo').read_text(encoding = 'utf-8').splitlines() if ':' in line]
        values = {name.strip(): value.strip() for name, value in lines}
        name = values.get('model name') or platform.machine()
        return f'{name}, family {values["cpu family"]} model {values["model"]}, {bfloat16_units(values["flags"])}' if {'cpu family', 'model', 'flags'} <= set(values) else name

    if platform.system() == 'Darwin':
        return subprocess.run(['sysctl', '-n', 'machdep.cpu.brand_string'], capture_output = True, text = True, check = True).stdout.strip()

    return platform.processor() or platform.machine()


def bfloat16_units(flags: str) -> str:
    has = [name for name, flag in (('AMX', 'amx_bf16'), ('AVX512', 'avx512_bf16')) if flag in flags.split()]
    return f'bfloat16 units ({has[0]})' if has else 'no bfloat16 units'
