"""python -m dtmm: the command line."""

from dtmm.cli import main

main()
