"""What a check found, and what follows from several of them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from daemon.errors import ConfigError, NotArmed, SacdError

_ERRORS: dict[int, type[SacdError]] = {error.exit_code: error for error in (SacdError, NotArmed, ConfigError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One thing that was looked at. detail: what was found, or what is wrong and what would be right.

    is_warning: good enough to start, but something to know.  exit_code: what a start ends with when it is not good.
    """

    name: str
    is_good: bool
    detail: str
    is_warning: bool = False
    exit_code: int = 1

    @classmethod
    def of_error(cls, name: str, error: Exception) -> "CheckResult":
        """Return what a check comes to that raised `error`."""
        return cls(name=name, is_good=False, detail=str(error), exit_code=getattr(error, "exit_code", 1))

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {**asdict(self), "exit_code": 0 if self.is_good else self.exit_code}


def good(name: str, detail: str) -> CheckResult:
    """Return what a check comes to that found nothing wrong."""
    return CheckResult(name=name, is_good=True, detail=detail)


def warns(name: str, detail: str) -> CheckResult:
    """Return what a check comes to that stops nothing, but should be known."""
    return CheckResult(name=name, is_good=True, detail=detail, is_warning=True)


def bad(name: str, detail: str, exit_code: int = 1) -> CheckResult:
    """Return what a check comes to that stops the start, which ends with `exit_code`."""
    return CheckResult(name=name, is_good=False, detail=detail, exit_code=exit_code)


def exit_code_of(results: Iterable[CheckResult]) -> int:
    """Return what a command ends with after these checks: as the first that is not good says, 0 when all are."""
    return next((result.exit_code for result in results if not result.is_good), 0)


def refuse_failed(results: Iterable[CheckResult]) -> None:
    """Raise what every check that is not good says; SacdError, NotArmed or ConfigError as the first one demands."""
    failed = [result for result in results if not result.is_good]
    if failed:
        error = _ERRORS.get(failed[0].exit_code, SacdError)
        raise error("\n".join(f"{result.name}: {result.detail}" for result in failed))
