"""What the figures of an evaluation do and do not show, in plain words made from the figures themselves."""

from dataclasses import dataclass
from enum import StrEnum

from training.commands_common import day
from training.console import counted
from training.evaluation import Evaluation, Part, Refit
from training.readiness import VOLATILITY_TARGETED
from training.report_numbers import days, listed, multiple, percent, ratio
from training.report_series import date_of

HOLD, TREND, STEADY_HOLD = "buy and hold", "trend rule", VOLATILITY_TARGETED
_SURE = 0.95
_FEW_TRIPS = 30
_OVERFITTED, _SOUND = 0.5, 0.2

LIMITS = (
    (
        "Orders were filled by a model of costs: at the next candle's open, worse by the slippage, within a share of "
        "the volume. An exchange that stands still or goes bankrupt is not in it, nor is the account's own effect on "
        "prices."
    ),
    (
        "The symbols are those whose candles were given. Coins that vanished may be missing among them, and then all "
        "figures, those of the baselines too, look better than they were."
    ),
    "An interval says how far chance moves a figure if the future is like this span. Whether it is, no figure says.",
    "This page is a measurement. It is not financial advice.",
)


class Side(StrEnum):
    """Whether a finding speaks for the ensemble, against it, or neither."""

    FOR = "for"
    AGAINST = "against"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the figures show."""

    side: Side
    text: str


def findings(evaluation: Evaluation) -> list[Finding]:
    """Return what the figures show, the weightiest first within each topic."""
    topics = (_sharpe, _trials, _length, _against, _earned, _random, _trades, _years, _costs, _members, _refits, _fall)
    return [*_span(evaluation), *(finding for topic in topics for finding in topic(evaluation))]


def refutations(evaluation: Evaluation) -> list[str]:
    """Return what would have to be seen on later candles for the claim to be wrong."""
    drawdown, needed = evaluation.bootstrap.max_drawdown.high, evaluation.deflated.days_needed
    found = []
    if drawdown is not None:
        found.append(f"a fall of more than {percent(drawdown)} from a peak, the upper end of its 95 % interval")
    span = "as long a span" if needed is None else f"the next {days(needed)}"
    found.append(f"a Sharpe ratio of 0 or less over {span} of candles that nobody has seen")
    rivals = [name for name in (STEADY_HOLD, TREND) if name in evaluation.baselines]
    if rivals:
        found.append(f"a lower Sharpe ratio than {listed(rivals)} over the same span and costs")
    return found


def _found(side: Side, text: str) -> list[Finding]:
    return [Finding(side=side, text=text)]


def _span(evaluation: Evaluation) -> list[Finding]:
    first, unseen, end = evaluation.start_ms, evaluation.unseen_from_ms, evaluation.end_ms
    if first >= unseen:
        text = f"None of the candles from {day(first)} to {day(end - 1)} was used to make the ensemble."
        found = _found(Side.FOR, text)
    elif end <= unseen:
        found = _found(Side.AGAINST, f"All candles, up to {day(end - 1)}, were used to make it: this is no evidence.")
    else:
        share = percent((unseen - first) / (end - first), 0)
        text = f"Candles before {day(unseen)}, {share} of the span, were used to make it: they are no evidence."
        found = _found(Side.AGAINST, text)
    strange = [symbol for symbol in evaluation.symbols if symbol not in evaluation.symbols_seen]
    if strange:
        found += _found(Side.NOTE, f"It was never trained on {listed(strange)}.")
    return found


def _sharpe(evaluation: Evaluation) -> list[Finding]:
    bounds = evaluation.bootstrap.sharpe
    if bounds.low is None or bounds.high is None:
        return _found(Side.AGAINST, "The Sharpe ratio has no interval: nothing tells it from chance.")
    reach = f"The 95 % interval of the Sharpe ratio reaches from {ratio(bounds.low)} to {ratio(bounds.high)}"
    if bounds.low > 0.0:
        return _found(Side.FOR, f"{reach}: all of it above 0, before the number of trials is counted.")
    if bounds.high < 0.0:
        return _found(Side.AGAINST, f"{reach}: all of it below 0; it loses more than chance explains.")
    return _found(Side.AGAINST, f"{reach}: it contains 0, so chance alone can explain it.")


def _trials(evaluation: Evaluation) -> list[Finding]:
    deflated = evaluation.deflated
    trials = counted(deflated.trials, "trial")
    if deflated.value is None:
        text = (
            f"With {trials} in the ledger the deflated Sharpe ratio is not defined: luck in picking is not ruled out."
        )
        return _found(Side.AGAINST, text)
    text = (
        f"The ledger holds {trials}. Without any skill, the best of as many would still be expected to show a Sharpe "
        f"ratio of {ratio(deflated.chance)}; this one shows {ratio(evaluation.metrics.sharpe)}. The probability that "
        f"it is truly above that, the deflated Sharpe ratio, is {percent(deflated.value)}"
    )
    if deflated.value >= _SURE:
        return _found(Side.FOR, f"{text}.")
    return _found(
        Side.AGAINST, f"{text}, less than the {percent(_SURE, 0)} wanted: picking the luckiest may explain it."
    )


def _length(evaluation: Evaluation) -> list[Finding]:
    needed, had = evaluation.deflated.days_needed, evaluation.metrics.days
    if needed is None:
        return []
    text = f"To tell such a Sharpe ratio from 0 with 95 % takes {days(needed)}; the span has {days(had)}"
    return _found(Side.FOR, f"{text}.") if had >= needed else _found(Side.AGAINST, f"{text}: too few.")


def _against(evaluation: Evaluation) -> list[Finding]:
    better: list[str] = []
    unclear: list[str] = []
    worse: list[str] = []
    for name, bounds in evaluation.bootstrap.differences.items():
        if bounds.low is None or bounds.high is None:
            continue
        (better if bounds.low > 0.0 else worse if bounds.high < 0.0 else unclear).append(name)
    found = []
    if better:
        found += _found(Side.FOR, f"Its Sharpe ratio is above that of {listed(better)} by more than chance explains.")
    if worse:
        found += _found(
            Side.AGAINST, f"Its Sharpe ratio is below that of {listed(worse)} by more than chance explains."
        )
    if unclear:
        text = f"It cannot be told from {listed(unclear)}: the interval of the difference in Sharpe ratio contains 0."
        found += _found(Side.AGAINST, text)
    return found


def _earned(evaluation: Evaluation) -> list[Finding]:
    """Say whether it beat the rivals that matter, by the figures as they are."""
    found, ours = [], evaluation.metrics
    hold = evaluation.baselines.get(HOLD)
    if hold is not None and ours.total_return is not None and hold.total_return is not None:
        text = f"It earned {percent(ours.total_return)}, buying and holding {percent(hold.total_return)}"
        fall = f"; the deepest falls were {percent(ours.max_drawdown)} and {percent(hold.max_drawdown)}."
        did = ours.total_return > hold.total_return
        found += _found(Side.FOR if did else Side.AGAINST, text + fall)
    for name in (STEADY_HOLD, TREND):
        rival = evaluation.baselines.get(name)
        if rival is None or rival.sharpe is None or ours.sharpe is None:
            continue
        against = f"{ratio(ours.sharpe)} against {ratio(rival.sharpe)}"
        if ours.sharpe > rival.sharpe:
            found += _found(Side.FOR, f"Its Sharpe ratio was above that of the {name}: {against}.")
        else:
            found += _found(Side.AGAINST, f"It did not beat the {name}: Sharpe ratio {against}.")
    return found


def _random(evaluation: Evaluation) -> list[Finding]:
    drawn = evaluation.random
    if drawn.percentile is None:
        return _found(Side.NOTE, "It cannot be held against random entries: its Sharpe ratio is not defined.")
    better = percent(1.0 - drawn.percentile)
    text = f"Of {drawn.draws:,} accounts that entered at random as often, {better} did better"
    if drawn.percentile >= _SURE:
        return _found(Side.FOR, f"{text}: the timing is more than luck.")
    return _found(Side.AGAINST, f"{text}: its timing may be luck.")


def _trades(evaluation: Evaluation) -> list[Finding]:
    metrics = evaluation.metrics
    if metrics.round_trips == 0:
        return _found(Side.AGAINST, "No position was closed: nothing can be said about its trades.")
    if metrics.round_trips < _FEW_TRIPS:
        text = f"Only {counted(metrics.round_trips, 'closed position')}: too few to judge by."
        return _found(Side.AGAINST, text)
    low, high = metrics.win_rate_low, metrics.win_rate_high
    if low is None or high is None:
        return []
    text = (
        f"{metrics.wins:,} of {counted(metrics.round_trips, 'closed position')} won; the 95 % interval of the win rate "
        f"reaches from {percent(low)} to {percent(high)}"
    )
    if low <= 0.5 <= high:  # noqa: PLR2004 - a coin
        return _found(Side.NOTE, f"{text}: a coin would do as well, and only the size of gains can tell.")
    return _found(Side.FOR if low > 0.5 else Side.NOTE, f"{text}.")  # noqa: PLR2004


def _years(evaluation: Evaluation) -> list[Finding]:
    known = [(part, part.total_return) for part in evaluation.years if part.total_return is not None]
    lost = [f"{part.name} ({percent(earned)})" for part, earned in known if earned < 0.0]
    found = []
    if lost:
        found += _found(Side.AGAINST, f"It lost in {listed(lost)}.")
    elif len(known) > 1:
        found += _found(Side.FOR, f"It earned in each of {len(known)} calendar years.")
    behind = [part.name for part in evaluation.years if _is_behind(part)]
    if behind:
        found += _found(Side.AGAINST, f"By Sharpe ratio, buying and holding was better in {listed(behind)}.")
    return found


def _is_behind(part: Part) -> bool:
    return part.sharpe is not None and part.hold_sharpe is not None and part.sharpe < part.hold_sharpe


def _costs(evaluation: Evaluation) -> list[Finding]:
    found = []
    for stress in evaluation.stress:
        told, earned = ratio(stress.metrics.sharpe), stress.metrics.total_return
        if (stress.cost, stress.delay) == (2.0, 0) and earned is not None:
            side = Side.FOR if earned > 0.0 else Side.AGAINST
            found += _found(side, f"At twice the costs it earns {percent(earned)}, Sharpe ratio {told}.")
        if stress.delay and earned is not None:
            side = Side.FOR if earned > 0.0 else Side.AGAINST
            late = counted(stress.delay, "candle")
            found += _found(side, f"Acting {late} late it earns {percent(earned)}, Sharpe ratio {told}.")
    if evaluation.break_even_cost is not None:
        factor = multiple(evaluation.break_even_cost, 1)
        found += _found(Side.NOTE, f"Nothing is earned any more where costs are {factor} those assumed.")
    return found


def _members(evaluation: Evaluation) -> list[Finding]:
    known = [(m.metrics.sharpe, m.seed) for m in evaluation.members if m.metrics.sharpe is not None]
    if len(known) < 2:  # noqa: PLR2004 - one seed has no spread
        return []
    (worst, seed), (best, _) = min(known), max(known)
    text = (
        f"Deciding alone, the worst of {len(known)} members (seed {seed}) has a Sharpe ratio of {ratio(worst)}, the "
        f"best {ratio(best)}"
    )
    if worst > 0.0:
        return _found(Side.FOR, f"{text}.")
    return _found(Side.AGAINST, f"{text}: much depends on the chance of the seed.")


def _refits(evaluation: Evaluation) -> list[Finding]:
    is_picked = len({member.weight for member in evaluation.members}) > 1
    return [finding for refit in evaluation.refits for finding in (*_paths(refit), *_overfitting(refit, is_picked))]


def _paths(refit: Refit) -> list[Finding]:
    known = [sharpe for sharpe in refit.sharpes if sharpe is not None]
    if not known:
        return []
    if len(known) == 1:
        side = Side.FOR if known[0] > 0.0 else Side.AGAINST
        return _found(side, f"Its recipe trained anew ({refit.kind}) came to a Sharpe ratio of {ratio(known[0])}.")
    lost = sum(sharpe <= 0.0 for sharpe in known)
    text = (
        f"Its recipe trained anew ({refit.kind}) came to Sharpe ratios from {ratio(min(known))} to {ratio(max(known))}"
    )
    if lost:
        return _found(Side.AGAINST, f"{text} on {len(known)} paths, of which {lost} did not earn.")
    return _found(Side.FOR, f"{text} on {len(known)} paths.")


def _overfitting(refit: Refit, is_picked: bool) -> list[Finding]:
    """Return what the seeds say. is_picked: their weights differ, so that a choice among them was made."""
    if refit.overfitting is None:
        return []
    text = (
        f"The probability of overfitting ({refit.kind}) is {percent(refit.overfitting)}: that often the seed that "
        "was best in one half of the time was below the median seed in the other. It says nothing of how the settings "
        "were chosen."
    )
    if not is_picked:
        return _found(Side.NOTE, f"{text} Nor was a seed picked here: the members weigh the same.")
    if refit.overfitting > _OVERFITTED:
        return _found(Side.AGAINST, text)
    return _found(Side.FOR if refit.overfitting < _SOUND else Side.NOTE, text)


def _fall(evaluation: Evaluation) -> list[Finding]:
    metrics = evaluation.metrics
    text = (
        f"At worst it fell by {percent(metrics.max_drawdown)} from a peak. The longest time below a peak was "
        f"{days(metrics.drawdown_days)}, and {percent(metrics.underwater, 0)} of all candles lay below one."
    )
    return _found(Side.NOTE, text)


def span_words(evaluation: Evaluation) -> str:
    """Return what was evaluated, in one line."""
    first, last = day(evaluation.start_ms), date_of(evaluation.curves.day_ms[-1])
    symbols = listed(list(evaluation.symbols))
    return f"{symbols}, candles of {evaluation.timeframe}, {first} to {last}: {days(evaluation.metrics.days)}"
