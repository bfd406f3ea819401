"""`train`, called by a program, leaves the program as it was."""

from __future__ import annotations

import os
import signal
import warnings

import pytest
import torch
from accelerate import Accelerator

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training import loop
from lvsm_pytorch.training.loop import train

TINY = dict(image_size = 16, dim = 16, depth = 1, dim_head = 16, steps = 2, batch_size = 2, num_depth_planes = 0, workers = 0, tensorboard = False, device = 'cpu')


@pytest.fixture
def accelerate_state():
    """Nothing of a test is left to others."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state = True)
    yield
    AcceleratorState._reset_state(reset_partial_state = True)


def test_random_numbers_are_those_of_the_program(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    train(TrainConfig(out = tmp_path / 'run', **TINY))
    assert torch.equal(torch.rand(4), expected)


def test_accelerate_is_as_the_program_has_set_it_up(tmp_path, accelerate_state):
    before = Accelerator(cpu = True, gradient_accumulation_steps = 3)
    environment, filters = dict(os.environ), list(warnings.filters)
    train(TrainConfig(out = tmp_path / 'run', bf16 = True, **TINY))
    assert before.mixed_precision == 'no'
    assert before.gradient_accumulation_steps == 3
    assert Accelerator(cpu = True).state._shared_state is before.state._shared_state
    assert os.environ == environment
    assert warnings.filters == filters


def test_runs_of_one_process_have_settings_of_their_own(tmp_path, accelerate_state):
    from accelerate.state import is_initialized

    for bf16 in (True, False):
        train(TrainConfig(out = tmp_path / f'run-{bf16}', bf16 = bf16, **TINY))
        assert not is_initialized()


@pytest.mark.parametrize('handle_signals', [False, True])
def test_handlers_of_signals_are_changed_where_this_is_asked_for_alone(tmp_path, monkeypatch, handle_signals):
    handlers = []
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    step = loop.agreed

    def note(*arguments):
        handlers.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
        return step(*arguments)

    monkeypatch.setattr(loop, 'agreed', note)
    train(TrainConfig(out = tmp_path / 'run', **TINY), handle_signals = handle_signals)
    assert all((each == before) != handle_signals for each in handlers)
    assert len(handlers) == TINY['steps']
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_model_changes_nothing_of_the_process(monkeypatch):
    monkeypatch.setattr('lvsm_pytorch.allocator.tune_malloc', lambda: pytest.fail('a model is no command'))
    threads, state = torch.get_num_threads(), torch.get_default_dtype()
    LVSM(16, max_image_size = 16, patch_size = 8, depth = 1, dim_head = 16)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, state)
