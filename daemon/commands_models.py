"""`sacd models ...` and `sacd retrain`: what they take and print.

What changes the ensembles is asked of the running daemon. Where none runs, `promote` and `rollback` change the links of
the registry themselves, and the next start goes by them.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from daemon.errors import ArtifactError, SacdError
from daemon.hand_over import hand_over

if TYPE_CHECKING:
    from daemon.config import Config
    from daemon.models import Listed
    from daemon.models_status import ModelsStatus

_CONFIG = Path("config.toml")
_ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
_Id = Annotated[str, typer.Argument(metavar="ID", help="The ensemble's id, or how it begins when only one does.")]
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_PATIENCE_S = 60.0
"""For what may wait for the candles of a whole group, and reads an ensemble."""
_LOOK_S = 3.0
"""For a look at what the daemon would add to what its journal says."""


def add_models_verbs(app: typer.Typer, models: typer.Typer) -> None:
    """Add the verbs of `sacd models`, and `retrain`, to the command line."""
    models.command("list")(models_list)
    models.command("show")(models_show)
    models.command("promote")(models_promote)
    models.command("rollback")(models_rollback)
    models.command("shadow")(models_shadow)
    models.command("pin")(models_pin)
    models.command("import", context_settings=_PASSED_ON)(models_import)
    app.command("retrain")(retrain)


# ---- looking ----------------------------------------------------------------------------------------------------
def models_list(config: _ConfigPath = _CONFIG, as_json: _AsJson = False) -> None:
    """List the ensembles beside the configured one, where they stand, and what became of every attempt."""
    from daemon.models import list_bundles  # noqa: PLC0415 - what the other verbs do not need

    loaded = _config(config)
    found, journalled = list_bundles(loaded.strategy.model.parent), _journalled(loaded)
    standing = _asked(loaded)
    if standing is None and journalled.standing is not None:
        standing = journalled.standing.to_json()
    rows = [_row(listed, standing) for listed in found]
    if as_json:
        told = {"models": rows, "status": standing, "history": journalled.history}
        _print(json.dumps(told, indent=2, allow_nan=False))
        return
    from daemon.models_text import facts_table, history_table, models_facts, registry_table  # noqa: PLC0415

    console = Console()
    console.print(registry_table(rows))
    if standing is not None:
        console.print()
        console.print(facts_table(models_facts(standing)))
    if journalled.history:
        console.print()
        console.print(history_table(journalled.history, console.width))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journalled:
    """What the journal says of the ensembles. history: as JSON types, oldest first."""

    standing: "ModelsStatus | None" = None
    history: Sequence[Mapping[str, Any]] = ()


def _journalled(config: "Config") -> _Journalled:
    from daemon import journal_reader  # noqa: PLC0415
    from daemon.models_history import history  # noqa: PLC0415
    from daemon.models_status import as_journalled  # noqa: PLC0415
    from daemon.paths import journal_path  # noqa: PLC0415

    path = journal_path(config)
    if not path.is_file() or journal_reader.is_blank(path):
        return _Journalled()
    steps = list(journal_reader.read(path, kinds={"model"}))
    standing = as_journalled(steps, journal_reader.last_of_kind(path, "shadow"))
    return _Journalled(standing=standing, history=[row.to_json() for row in history(steps)])


def _asked(config: "Config") -> dict[str, Any] | None:
    """Return what the running daemon says of its ensembles, None when none runs or it does not answer."""
    from daemon.control import ControlError, NotRunning, call  # noqa: PLC0415

    try:
        answer = asyncio.run(call(config.control_socket, "status", {}, timeout_s=_LOOK_S))
    except NotRunning:
        return None
    except ControlError as error:
        print(f"sacd: {error}; shown is what its journal says", file=sys.stderr)  # noqa: T201
        return None
    return answer.get("models")


def _row(listed: "Listed", standing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return one item of `sacd models list --json`; without a manifest null or empty."""
    manifest = listed.manifest
    trained = None if manifest is None else manifest.training
    return {
        "id": listed.name,
        "roles": _roles(listed, standing),
        "current": listed.is_current,
        "previous": listed.is_previous,
        "members": None if manifest is None else len(manifest.members),
        "symbols": [] if trained is None else list(trained.symbols),
        "from_ms": None if trained is None else trained.start_ms,
        "until_ms": None if trained is None else trained.end_ms,
        "steps": None if trained is None else trained.steps,
        "fault": listed.fault or None,
    }


def _roles(listed: "Listed", standing: Mapping[str, Any] | None) -> list[str]:
    """Return what an ensemble is to the account; by the links alone where no journal says more."""
    if standing is None:
        links = {"current": listed.is_current, "previous": listed.is_previous}
        return [role for role, is_it in links.items() if is_it]
    is_incumbent = listed.name == standing["serving"]
    roles = {
        "incumbent": is_incumbent,
        "current": listed.is_current and not is_incumbent,  # the next start serves it
        "candidate": listed.name == standing["candidate"],
        "previous": listed.name == standing["previous"],
    }
    return [role for role, is_it in roles.items() if is_it]


def models_show(
    model: Annotated[Path | None, typer.Argument(help="A bundle; without it the configured one.")] = None,
    config: _ConfigPath = _CONFIG,
) -> None:
    """Verify a bundle and print its manifest."""
    from daemon.models import load_bundle  # noqa: PLC0415

    bundle = load_bundle(model if model is not None else _config(config).strategy.model)
    _print(json.dumps(bundle.manifest.to_json(), indent=2, allow_nan=False))


# ---- changing ---------------------------------------------------------------------------------------------------
def models_promote(model: _Id, config: _ConfigPath = _CONFIG, as_json: _AsJson = False) -> None:
    """Let an ensemble serve from the next candle on; without a running daemon, from the next start on."""
    from daemon.models import resolve_name  # noqa: PLC0415

    loaded = _config(config)
    name = resolve_name(loaded.strategy.model.parent, model)
    effect = _ask(loaded, "promote", {"model": name})
    _tell(_promote_at_rest(loaded, name) if effect is None else effect, _notes(loaded, name), as_json=as_json)


def models_rollback(config: _ConfigPath = _CONFIG, as_json: _AsJson = False) -> None:
    """Let the ensemble before this one serve again; without a running daemon, from the next start on."""
    loaded = _config(config)
    effect, notes = _ask(loaded, "rollback", {}), list[str]()
    if effect is None:
        name, before = _roll_back_at_rest(loaded)
        effect, notes = _at_rest(name, before), _notes(loaded, name)
    _tell(effect, notes, as_json=as_json)


def models_shadow(model: _Id, config: _ConfigPath = _CONFIG, as_json: _AsJson = False) -> None:
    """Let an ensemble trade play money beside the one that serves, which it replaces if it does better."""
    from daemon.models import resolve_name  # noqa: PLC0415

    loaded = _config(config)
    name = resolve_name(loaded.strategy.model.parent, model)
    why = "a candidate trades play money beside an account that trades"
    _tell(_must_ask(loaded, "shadow", {"model": name}, why), _notes(loaded, name), as_json=as_json)


def models_pin(
    off: Annotated[bool, typer.Option("--off", help="Let it be replaced again.")] = False,
    config: _ConfigPath = _CONFIG,
    as_json: _AsJson = False,
) -> None:
    """Keep the ensemble that serves: none replaces it, and it is not rolled back, until asked by hand."""
    why = "a pin is kept by the daemon, in its journal"
    _tell(_must_ask(_config(config), "pin", {"off": off}, why), [], as_json=as_json)


def retrain(config: _ConfigPath = _CONFIG, as_json: _AsJson = False) -> None:
    """Train a new ensemble now; the gate, and then its time in shadow, decide whether it ever serves."""
    why = "the daemon asks for a retraining and judges what it makes; `sacd train` trains without it"
    _tell(_must_ask(_config(config), "retrain", {}, why), [], as_json=as_json)


def models_import(context: typer.Context, config: _ConfigPath = _CONFIG) -> None:
    """Turn an archive of Stable-Baselines3's SAC into an ensemble."""
    names_place = any(argument in {"--help", "-h"} or argument.startswith("--out") for argument in context.args)
    # Only an ensemble that goes beside the configured one needs a configuration.
    place = [] if names_place else ["--models", str(_config(config).strategy.model.parent)]
    hand_over("models-import", [*place, *context.args])


# ---- the running daemon -----------------------------------------------------------------------------------------
def _ask(config: "Config", verb: str, args: Mapping[str, Any]) -> str | None:
    """Return the effect that the running daemon tells, None when none runs.

    Raises ControlError when one runs and does not answer, or refuses.
    """
    from daemon.control import ControlError, NotRunning, call  # noqa: PLC0415
    from daemon.machine_checks import lock_holder  # noqa: PLC0415
    from daemon.paths import journal_path  # noqa: PLC0415

    try:
        return str(asyncio.run(call(config.control_socket, verb, args, timeout_s=_PATIENCE_S))["effect"])
    except NotRunning as error:
        path = journal_path(config)
        holder = lock_holder(path.with_name(f"{path.name}.lock"))
        if holder is not None:
            raise ControlError(
                f"{config.control_socket}: nobody listens there, but process {holder} has the journal {path}: it is "
                "starting, is ending, or listens elsewhere; ask again in a moment, or name its [control] socket"
            ) from error
        return None


def _must_ask(config: "Config", verb: str, args: Mapping[str, Any], why: str) -> str:
    effect = _ask(config, verb, args)
    if effect is None:
        raise SacdError(
            f"{config.control_socket}: no sacd is running there, and {why}: start it with `sacd run`, then ask again"
        )
    return effect


# ---- without one ------------------------------------------------------------------------------------------------
def _promote_at_rest(config: "Config", name: str) -> str:
    """Let `current` lead to an ensemble that this configuration can serve; returns the effect in words."""
    from daemon.golden import check_serves  # noqa: PLC0415
    from daemon.models import find_bundle, serving_names, set_current  # noqa: PLC0415

    registry = _registry(config)
    before, _ = serving_names(registry)
    if before == name:
        return f"{name} is current already: nothing changes"
    check_serves(find_bundle(registry, name, timeframe=config.market.timeframe))
    set_current(registry, name)
    return _at_rest(name, before)


def _at_rest(name: str, before: str) -> str:
    instead = f" in place of {before}" if before else ""
    return f"no sacd is running: {name} is current now{instead}, and serves from the next `sacd run` on"


def _roll_back_at_rest(config: "Config") -> tuple[str, str]:
    """Let the links change places; returns what serves from the next start on, and what did before.

    One that was killed half-way is finished.
    """
    from daemon.golden import check_serves  # noqa: PLC0415
    from daemon.models import find_bundle, serving_names, swap_back  # noqa: PLC0415

    registry = _registry(config)
    _, previous = serving_names(registry)
    if previous:
        check_serves(find_bundle(registry, previous, timeframe=config.market.timeframe))
    name = swap_back(registry)
    return name, serving_names(registry)[1]


def _registry(config: "Config") -> Path:
    """Return where the links lie. Raises ArtifactError where the configuration does not go by them."""
    from daemon.registry_links import CURRENT  # noqa: PLC0415

    model = config.strategy.model
    if model.name != CURRENT:
        raise ArtifactError(
            f"[strategy] model = {model} names one ensemble for good: write {model.parent / CURRENT} there, which "
            "this verb then sets"
        )
    return model.parent


def _notes(config: "Config", name: str) -> list[str]:
    """Return what somebody who trades real money has to know of an ensemble; empty when there is nothing."""
    from daemon.models import load_bundle  # noqa: PLC0415
    from daemon.readiness import read_readiness  # noqa: PLC0415

    path = config.strategy.model.parent / name
    try:
        readiness = read_readiness(path, load_bundle(path).manifest)
    except ArtifactError as error:
        return [f"live trading would refuse it: {error}"]
    if readiness.is_ready or config.live.allow_unproven == name:
        return []
    return [f"live trading would refuse it: {readiness}"]


# ---- printing ---------------------------------------------------------------------------------------------------
def _tell(effect: str, notes: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        _print(json.dumps({"effect": effect, "notes": list(notes)}, indent=2))
        return
    for line in (effect, *notes):
        _print(line)


def _print(line: str) -> None:
    print(line)  # noqa: T201


def _config(path: Path) -> "Config":
    from daemon.config import load_config  # noqa: PLC0415

    return load_config(path, os.environ)
