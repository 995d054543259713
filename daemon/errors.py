"""The daemon's errors, split by who acts on them. Messages name value, unit, limit and remedy; never a secret."""


class SacdError(Exception):
    """Base of everything the daemon raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 1


class ConfigError(SacdError):
    """The operator has to change the configuration before anything starts."""

    exit_code = 78


class NotArmed(SacdError):
    """The gate says no: real money is not traded as things stand."""

    exit_code = 3


class DataError(SacdError):
    """A data file is missing or broken; names file, line and remedy."""


class TransientError(SacdError):
    """We retry: feed lost, venue busy, rate limit."""


class UnknownOutcome(SacdError):
    """An order may exist: keep it in flight, ask the venue, never resend under a new id."""


class ArtifactError(SacdError):
    """A bundle cannot be used: keep the one that serves, raise an alarm."""


class FatalError(SacdError):
    """Journal, invariant or reconciliation broken: stop."""
