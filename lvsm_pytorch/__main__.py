"""`python -m lvsm_pytorch` is the `lvsm` command, for launchers that start modules."""

from lvsm_pytorch.cli import main

main()
