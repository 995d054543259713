"""Tables and facts of the ensembles that `sacd models list` and `sacd status` print, made from their JSON objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from daemon import wording, wording_models
from daemon.model_life import Outcome
from daemon.models_history import Origin, Standing

_NARROW = 110
"""Below this many columns gate and verdict of the history stand below each other."""
_ORIGINS: Mapping[Origin, str] = {
    Origin.SCHEDULE: "by the schedule",
    Origin.HAND: "by hand",
    Origin.DRIFT: "because of drift",
    Origin.FOUND: "found at a start",
}
_STANDINGS: Mapping[Standing, tuple[str, str]] = {
    Standing.TRAINING: ("in training", ""),
    Standing.PASSED: ("passed the gate", ""),
    Standing.SHADOW: ("in shadow", ""),
    Standing.KEPT: ("incumbent kept", ""),
    Standing.CUT_SHORT: ("cut short", ""),
    Standing.FAILED: ("failed", "yellow"),
    Standing.SWAP_FAILED: ("could not be put in place", "red"),
    Standing.WATCH: ("promoted", "green"),
    Standing.SERVES: ("serves", "green"),
    Standing.ROLLBACK_FAILED: ("could not be rolled back", "red"),
    Standing.REPLACED: ("replaced", ""),
    Standing.ROLLED_BACK: ("rolled back", "red"),
}
_PASSING = frozenset({Standing.TRAINING, Standing.PASSED, Standing.SHADOW})
"""What is told only while nothing has followed."""


# ---- where they stand -------------------------------------------------------------------------------------------
def facts_table(facts: Iterable[tuple[str, str | Text]]) -> Table:
    """Return names and what there is to say of each; text as it stands, never as markup."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in facts:
        table.add_row(name, words if isinstance(words, Text) else Text(words))
    return table


def models_facts(told: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    """Yield what is to say of the object `models` of `sacd status --json`."""
    yield "incumbent", _incumbent(told)
    if told["fault"]:
        yield "fault", Text(wording.one_line(told["fault"]), "red")
    if told["previous"]:
        yield "previous", told["previous"]
    if told["candidate"]:
        yield "candidate", f"{told['candidate']}, in shadow"
    if told["shadow"] is not None:
        shadow = told["shadow"]
        figures = shadow["decisions"], shadow["of"], shadow["ahead_bp"], shadow["p"]
        yield "shadow", wording_models.shadow_words(*figures)
    if told["watch"] is not None:
        watch = told["watch"]
        yield "watch", wording_models.watch_words(watch["decisions"], watch["of"], watch["ahead"])
    yield from _retrain_facts(told)
    if told["drift"] is not None:
        yield "drift", _drift(told["drift"])


def _incumbent(told: Mapping[str, Any]) -> Text:
    since = f", serves since {wording.moment(told['since_ms'])}" if told["since_ms"] else ""
    words = Text(f"{told['serving'] or 'none yet'}{since}")
    return words.append(", pinned", "yellow") if told["pinned"] else words


def _retrain_facts(told: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    retrain, next_ms = told["retrain"], told["next_retrain_ms"]
    if retrain is None:
        yield "last retrain", "none yet"
    else:
        style = "yellow" if retrain["outcome"] == Outcome.FAILED else ""
        yield "last retrain", Text(wording_models.retrain_words(retrain), style)
    if told["progress"]:
        yield "trainer", wording.one_line(told["progress"])
    if next_ms is not None:
        yield "next retrain", wording.moment(next_ms)


def _drift(drift: Mapping[str, Any]) -> Text:
    features = [(feature["name"], feature["distance"]) for feature in drift["features"]]
    is_beyond = 0.0 < drift["limit"] <= drift["joint"]
    return Text(wording_models.drift_words(drift["joint"], drift["limit"], features), "yellow" if is_beyond else "")


# ---- the registry -----------------------------------------------------------------------------------------------
def registry_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return the ensembles that there are. rows: those of `sacd models list --json`."""
    table = Table(box=None, pad_edge=False)
    for name in ("role", "id"):
        table.add_column(name, no_wrap=True)
    for name in ("members", "steps"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("trained on", overflow="fold")
    for row in rows:
        table.add_row(", ".join(row["roles"]), row["id"], *_registry_cells(row))
    return table


def _registry_cells(row: Mapping[str, Any]) -> tuple[str | Text, ...]:
    if row["fault"] is not None:
        return "", "", Text(wording.one_line(row["fault"]), "red")
    span = f"{_date(row['from_ms'])} to {_date(row['until_ms'])}"
    return str(row["members"]), f"{row['steps']:,}", Text(f"{span}, {', '.join(row['symbols'])}")


# ---- the history ------------------------------------------------------------------------------------------------
def history_table(rows: Sequence[Mapping[str, Any]], width: int) -> Table:
    """Return when, what data, which gate, which verdict, oldest first. rows: those of `sacd models list --json`.

    width: columns of the terminal.
    """
    is_narrow = width < _NARROW
    table = Table(box=None, pad_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("ensemble and its data", overflow="fold")
    for name in ("gate and verdict",) if is_narrow else ("gate", "verdict"):
        table.add_column(name, ratio=1, overflow="fold")
    for i, row in enumerate(rows):
        if i:
            table.add_row()
        judged = [_gate(row["gate"]), _verdict(row["turns"])]
        table.add_row(_when(row), _made(row), *([Text("\n").join(filter(None, judged))] if is_narrow else judged))
    return table


def _when(row: Mapping[str, Any]) -> Text:
    words = Text(wording.moment(row["at_ms"]).removesuffix(" UTC"))
    return words.append(f"\n{_ORIGINS[Origin(row['origin'])]}", "dim")


_DAY_MS = 86_400_000


def _made(row: Mapping[str, Any]) -> Text:
    words, data = Text(row["model"] or "-"), row["data"]
    if data is None:
        return words
    words.append(f"\n{wording.one_line(', '.join(data['symbols']))}")
    words.append(f"\n{_date(data['start_ms'])} to {_date(data['end_ms'])}")
    days = (data["end_ms"] - data["holdout_from_ms"]) / _DAY_MS
    return words.append(f"\njudged on the last {days:,.0f} days")


def _gate(gate: Sequence[Mapping[str, Any]]) -> Text:
    """Return what the gate said in short: how many of its criteria passed, and what was found of those that did not."""
    if not gate:
        return Text()
    failed = [criterion for criterion in gate if not criterion["passed"]]
    words = Text(f"{len(gate) - len(failed)} of {len(gate)} passed")
    for criterion in failed:
        words.append(f"\n{wording.one_line(criterion['name'])}: {wording.one_line(criterion['words'])}", "yellow")
    return words


def _verdict(turns: Sequence[Mapping[str, Any]]) -> Text:
    """Return what became of it, each turn with its moment and reason; what only led to the next one is left out."""
    *former, last = turns
    told = [turn for turn in former if Standing(turn["standing"]) not in _PASSING]
    return Text("\n").join(_turn(turn) for turn in (*told, last))


def _turn(turn: Mapping[str, Any]) -> Text:
    words, style = _STANDINGS[Standing(turn["standing"])]
    told = Text().append(words, style).append(f"  {wording.moment(turn['at_ms']).removesuffix(' UTC')}", "dim")
    return told.append(f"\n{wording.one_line(turn['reason'])}") if turn["reason"] else told


def _date(at_ms: int) -> str:
    return wording.moment(at_ms)[:10]
