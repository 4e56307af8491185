"""The command line, `dtmm VERB`: a file per group of verbs, put together in `verbs`."""

from dtmm.cli.verbs import cli, main

__all__ = ["cli", "main"]
