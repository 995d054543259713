"""The training side's errors. Messages name value, place and remedy."""


class TrainingError(Exception):
    """Base of everything `training` raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 1


class ExportError(TrainingError):
    """A policy cannot be exported, or its NumPy twin does not answer as torch does."""


class BundleError(TrainingError):
    """A bundle cannot be written or read."""
