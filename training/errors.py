"""The training side's errors. Messages name value, place and remedy."""


class TrainingError(Exception):
    """Base of everything `training` raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 1


class ExportError(TrainingError):
    """A policy cannot be exported, or its NumPy twin does not answer as torch does."""


class Diverged(TrainingError):
    """A member learned its way out of all numbers; the same plan would do so again."""


class NoMember(TrainingError):
    """No member of an ensemble passed its gate, so there is no bundle."""


class BundleError(TrainingError):
    """A bundle cannot be written or read."""


class Interrupted(TrainingError):
    """A person or the system ended a run; what was done is kept, and the message says how to go on."""

    exit_code = 130
