"""The `lvsm` command with FSDP as accelerate has it for GPUs, on CPUs too, where accelerate would leave it out."""

from __future__ import annotations

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from lvsm_pytorch.cli import main

begin = AcceleratorState.__init__


def begin_with_fsdp(self, *args, fsdp_plugin = None, **kwargs):
    begin(self, *args, fsdp_plugin = fsdp_plugin, **kwargs)

    if fsdp_plugin is not None:  # the first time; later it holds what it was given
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin

        if self._mixed_precision != 'no':
            fsdp_plugin.set_mixed_precision(self._mixed_precision)


AcceleratorState.__init__ = begin_with_fsdp
main()
