"""`python -m kws` is the `kws` command; torchrun starts it so."""

from kws.cli import main

main()
