"""`sacd models import`: a Stable-Baselines3 archive in, a bundle out."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from strategy.candle_table import CandleTable
from strategy.decision import ACTION_RULE_VERSION
from strategy.manifest import BundleManifest, DataRecord, FeatureRecord, TrainingRecord
from strategy.observation import OBSERVATION_HASH, OBSERVATION_SCHEMA
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from training.candles import CandleFile
from training.commands_common import add_candles, add_json, add_span, needs_extra, read_candles, when
from training.console import make_console, print_json
from training.errors import TrainingError
from training.history import History
from training.import_archive import Archive, read_archive
from training.market import Conditions, first_symbols, setup_of
from training.reference import reference_of
from training.run_directory import refuse_taken

_OUT = make_console()
_RECORDS = (("strategy", StrategyParameters), ("risk", RiskLimits), ("costs", CostModel))


class UsageRefused(TrainingError):
    """A verb was called without what it needs."""

    exit_code = 2


def add_models_import(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd models import`."""
    parser.prog = "sacd models import"
    parser.add_argument("archive", type=Path, metavar="MODEL.ZIP", help="what SAC.save of Stable-Baselines3 wrote")
    parser.add_argument(
        "--i-trust-this-file",
        action="store_true",
        help="loading an archive can run any code in it; say that you know who made it",
    )
    add_candles(parser, required=False)  # so that a missing one is told with its reason
    add_span(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle; must not exist yet")
    parser.add_argument("--models", type=Path, metavar="DIR", help="without --out: where it gets a directory by its id")
    for title, record in _RECORDS:
        group = parser.add_argument_group(title, "as it was trained under, for the record")
        for field in fields(record):
            option = f"--{field.name.replace('_', '-')}"
            group.add_argument(option, type=type(field.default), metavar="VALUE", help=f"(default {field.default})")
    add_json(parser)
    parser.set_defaults(run=_import, verb="models import")


def _import(args: argparse.Namespace) -> int:
    archive = read_archive(args.archive)
    _check_usage(args, archive)
    conditions = _conditions(args)
    files, tables = read_candles(args)
    setup_of(tables, conditions, "import")  # tables that do not go together are refused before the work
    rows = [History(table, conditions.strategy.max_missing).rows for table in tables]
    imports, export = map(needs_extra, ("training.import_model", "training.export"))
    if args.out is not None:
        refuse_taken(args.out)
    imported = imports.import_actor(archive, imports.choose_observations(rows))
    manifest = export.write_bundle(
        args.out or args.models,
        [export.TrainedMember(actor=imported.actor, seed=imported.seed or 0, weight=1.0)],
        action_rule_version=ACTION_RULE_VERSION,
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=OBSERVATION_SCHEMA),
        reference=reference_of(rows),
        costs=conditions.costs.to_json(),
        risk=conditions.limits.to_json(),
        strategy=conditions.strategy.to_json(),
        training=_record(_command(args, files, imported.seed), imported.steps, archive, files, tables),
        versions={**export.library_versions(), "archive_stable_baselines3": archive.version or "unknown"},
        in_registry=args.out is None,
    )
    _tell(args, archive, imported, manifest)
    return 0


def _record(
    command: str, steps: int, archive: Archive, files: Sequence[CandleFile], tables: Sequence[CandleTable]
) -> TrainingRecord:
    candles = [DataRecord(name=file.name, sha256=file.sha256) for file in files]
    return TrainingRecord(
        command=command,
        start_ms=min(int(table.open_ms[0]) for table in tables),
        end_ms=max(int(table.open_ms[-1]) + table.timeframe.span_ms for table in tables),
        steps=steps,
        symbols=first_symbols(tables),
        timeframe=tables[0].timeframe.name,
        data=(DataRecord(name=archive.name, sha256=archive.sha256), *candles),
    )


def _check_usage(args: argparse.Namespace, archive: Archive) -> None:
    """Refuse what a person has to decide first, and say why it is asked."""
    if not args.i_trust_this_file:
        raise UsageRefused(
            f"{archive.name} ({archive.describe()}) was not loaded: an archive of Stable-Baselines3 holds pickles, and "
            "loading a pickle runs whatever code it holds. Give --i-trust-this-file when you know who made it; it is "
            "then loaded in a process of its own without network, files or rights, and only numbers come back"
        )
    if not args.data:
        raise UsageRefused(
            f"{archive.name}: give --data FILE..., the candles that it was trained on: the bundle records from them "
            "what the policy has seen, and far from that it takes no new position"
        )
    if args.out is None and args.models is None:
        raise UsageRefused("give --out DIR for the bundle, or --models DIR of a registry")


def _conditions(args: argparse.Namespace) -> Conditions:
    return Conditions(
        strategy=replace(StrategyParameters(), **_given(args, StrategyParameters)),
        limits=replace(RiskLimits(), **_given(args, RiskLimits)),
        costs=replace(CostModel(), **_given(args, CostModel)),
    )


def _given(args: argparse.Namespace, record: Any) -> dict[str, Any]:  # noqa: ANN401 - one of the three records
    return {f.name: getattr(args, f.name) for f in fields(record) if getattr(args, f.name) is not None}


def _command(args: argparse.Namespace, files: Sequence[CandleFile], seed: int | None) -> str:
    """Return the command line that repeats the import: all that decides the bundle, nothing of where things lie."""
    parts = ["sacd models import", shlex.quote(args.archive.name), "--i-trust-this-file --data"]
    parts += [shlex.quote(file.name) for file in files]
    parts += ["--symbol", *map(shlex.quote, args.symbol)] if args.symbol else []
    parts += [
        f"--{name} {when(ms)}" for name, ms in (("since", args.since_ms), ("until", args.until_ms)) if ms is not None
    ]
    given = {name: value for _, record in _RECORDS for name, value in _given(args, record).items()}
    parts += [f"--{name.replace('_', '-')} {value}" for name, value in given.items()]
    return " ".join([*parts, *(["# the archive tells no seed"] if seed is None else [])])


def _tell(args: argparse.Namespace, archive: Archive, imported: Any, manifest: BundleManifest) -> None:  # noqa: ANN401 - of a module that needs the training extra
    out = args.out or args.models / manifest.short_id
    if args.json:
        print_json(
            {
                "out": str(out),
                "id": manifest.id,
                "members": len(manifest.members),
                "archive": {"name": archive.name, "sha256": archive.sha256, "stable_baselines3": archive.version},
                "difference": imported.actor.difference,
                "restrictions": list(imported.held),
            }
        )
        return
    lines = [f"{archive.name}: {archive.describe()}"]
    lines += [f"  loaded under: {held}" for held in imported.held]
    lines += [f"  answers as Stable-Baselines3 does to {imported.actor.difference:.1e}"]
    lines += [f"bundle {manifest.short_id} with 1 member lies in {out}"]
    for line in lines:
        _OUT.print(line, markup=False, highlight=False)
