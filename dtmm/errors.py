"""Errors that a user meets: one line that names the thing, its value and what was expected."""

from __future__ import annotations


class DtmmError(Exception):
    """Base of every error this library raises on bad input or a failing tool."""


class ArtifactError(DtmmError):
    """A saved object is missing, damaged, of another kind or of a newer version."""


class ConfigError(DtmmError):
    """A configuration key is unknown or its value is not usable."""


class DataError(DtmmError):
    """A dataset folder or file is missing or malformed."""


class UnsupportedError(DtmmError):
    """A model holds an operator, shape or option outside the supported set."""


class InfeasibleError(DtmmError):
    """No schedule meets the budgets; the message names the smallest feasible value."""


class ToolchainError(DtmmError):
    """A compiler, simulator or solver is missing, crashed, hung or has the wrong version."""


class MeasurementError(DtmmError):
    """A measurement is missing, inconsistent or rejected."""
