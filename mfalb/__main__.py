"""`python -m mfalb`: the same as the `mfalb` command."""

from mfalb.cli import main

main()
