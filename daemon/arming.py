"""Whether a run may trade real money: everything that can be refused without asking the exchange, in a fixed order.

Opens and sends nothing. What only the exchange can say is looked at by `daemon.live_checks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon import journal_reader
from daemon.check_result import refuse_failed
from daemon.config import Config
from daemon.credentials import credentials_of
from daemon.errors import ConfigError, DataError, FatalError, NotArmed
from daemon.journal_restored import refuse_unaccepted, restored_marker
from daemon.machine_checks import machine_checks
from daemon.paths import journal_path
from daemon.ports import Entry
from daemon.readiness import Readiness, read_readiness, refuse_unready
from daemon.recovery import refuse_other_account
from daemon.run_record import account_of, money_of
from daemon.serving import load_model
from strategy.bundle import Bundle

FLAG = "--yes-trade-real-money"


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """What may run. config: with credentials when live.

    bundle, readiness: the ensemble that was found fit, and why; None on paper, where any may serve.  overrides: what a
    person allowed, for the journal's run record; None on paper.
    """

    config: Config = field(repr=False)
    bundle: Bundle | None = field(default=None, repr=False)
    readiness: Readiness | None = None
    overrides: Mapping[str, Any] | None = None


def arm(config: Config, *, confirmed: bool, accept_recovery: bool = False) -> Armed:
    """Return what may run as configured.

    confirmed: the person said --yes-trade-real-money.  accept_recovery: that a journal restored from a backup is good.

    Raises, the first that applies: ConfigError for a confirmation on paper, NotArmed without one outside a sandbox,
    ConfigError for credentials, ArtifactError for a broken ensemble or evaluation, NotArmed for one that is not ready,
    ConfigError for the journal of another account, SacdError for a machine on which a new account should not begin,
    ConfigError for a restored journal that nobody accepted, FatalError or DataError for a damaged one.
    """
    if not config.is_live:
        if confirmed:
            raise ConfigError(
                f'daemon.mode = "{config.daemon.mode}" trades play money: leave {FLAG} out, or set mode = "live"'
            )
        return Armed(config=config)
    refuse_unconfirmed(config, confirmed=confirmed)
    credentials = credentials_of(config.credential_file)
    bundle = load_model(config)
    readiness = read_readiness(config.strategy.model, bundle.manifest)
    unproven = refuse_unready(readiness, config.live.allow_unproven)
    try:
        refuse_other_journal(config)
        if first_entry(journal_path(config)) is None:
            # An account that holds something already is looked after also where a new one would not begin.
            refuse_failed(machine_checks(config, is_start=True))
    except (FatalError, DataError):
        if not accept_recovery:
            raise  # else it is restored when it is opened, and the account is compared then
    recovery = _recovery(config, accepted=accept_recovery)
    return Armed(
        config=config.with_credentials(credentials),
        bundle=bundle,
        readiness=readiness,
        overrides={
            "unproven": unproven,
            "recovery": recovery,
            "confirmed": confirmed,
            "evaluation": str(readiness),
        },
    )


def refuse_unconfirmed(config: Config, *, confirmed: bool) -> None:
    """Raise NotArmed when real money would be traded and nobody said so. An exchange's test market needs no word."""
    money = money_of(config)
    if money != "sandbox" and not confirmed:
        where = (
            f"real money at {config.exchange.id}"
            if money == "real"
            else "at a venue on this machine as if it were real"
        )
        raise NotArmed(
            f'this would trade {where} (account "{config.daemon.instance}", {", ".join(config.market.symbols)}): '
            f"add {FLAG}"
        )


def refuse_other_journal(config: Config) -> None:
    """Raise ConfigError when the journal is not of this account: another mode, exchange, or kind of money."""
    path = journal_path(config)
    first = first_entry(path)
    if first is None:
        return
    stored = first.payload.get("account")
    if not isinstance(stored, Mapping):
        raise FatalError(f"journal {path}: entry {first.seq} does not say whose it is; see `sacd journal verify`")
    refuse_other_account(path, stored, account_of(config))


def first_entry(path: Path) -> Entry | None:
    """Return how the journal at `path` begins, None when there is none, or none but an empty file."""
    if not path.exists() or path.stat().st_size == 0 or journal_reader.is_blank(path):
        return None
    return next(iter(journal_reader.read(path, limit=1)), None)


def _recovery(config: Config, *, accepted: bool) -> str:
    """Return how the journal was restored, when a person has accepted that, "" when it never was."""
    path = journal_path(config)
    if not accepted:
        refuse_unaccepted(path)
    marker = restored_marker(path)
    return "" if marker is None else marker.in_words()
