"""The page of an evaluation: it fetches and runs nothing, says what the evaluation says, and survives any content."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from tests.training.evaluations import BASELINES, SYMBOLS, UNDEFINED, metrics_of, sample
from training.errors import TrainingError
from training.evaluation import Bootstrap, Deflated, Evaluation, RandomEntries, Range
from training.report import page, render

SAMPLE = sample()
VOID = {"meta", "input"}
SECTIONS = [
    "verdict", "words", "figures", "equity", "months", "rolling", "costs", "spans", "refits", "intervals", "luck",
    "members", "symbols", "metrics", "conditions",
]  # fmt: skip


class Page(HTMLParser):
    """Reads a page: its tags in order, the text of every table by caption, and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text: list[str] = []
        self._caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in {"td", "th"}:
            self.tables[self._caption][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text.append(data)
        if "caption" in self.open:
            self._caption += data
        elif ("td" in self.open or "th" in self.open) and "svg" not in self.open:
            self.tables[self._caption][-1][-1] += data

    def rows(self, caption: str) -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in self.tables[caption] if row[0]}


TEXT = render(SAMPLE)
READ = Page(TEXT)


def told(share: float, digits: int = 1) -> str:
    """Return a percentage as the page writes it, made from decimal text and not by its code."""
    return f"{round(share * 100.0, digits):,.{digits}f}\u00a0%".replace("-", "\u2212")


# ---- the page as such -------------------------------------------------------------------------------------------
def test_every_tag_is_closed_and_every_section_is_there_once() -> None:
    assert READ.open == []
    assert [attributes["id"] for tag, attributes in READ.tags if tag == "section"] == SECTIONS
    links = [attributes["href"] for tag, attributes in READ.tags if tag == "a"]
    assert links == [f"#{key}" for key in SECTIONS]


def test_it_fetches_and_runs_nothing() -> None:
    fetching = {"script", "link", "img", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
    assert [tag for tag, _ in READ.tags if tag in fetching] == []
    for tag, attributes in READ.tags:
        assert not {name for name in attributes if name.startswith("on") or name in {"src", "srcset"}}, tag
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?:|//|url\(|@import", TEXT)
    (policy,) = [attributes["content"] for tag, attributes in READ.tags if "http-equiv" in attributes]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_drawing_is_well_formed_has_a_name_and_only_real_numbers() -> None:
    drawings = re.findall(r"<svg.*?</svg>", TEXT, flags=re.DOTALL)
    assert len(drawings) > 80
    for drawing in drawings:
        root = ET.fromstring(drawing)  # noqa: S314 - our own page
        assert root.get("aria-label") or root.get("aria-hidden") == "true"
        for path in root.iter("path"):
            numbers = re.findall(r"[^MLHVhvZ\s]+", path.get("d", ""))
            assert all(re.fullmatch(r"-?\d*\.?\d+", number) for number in numbers), path.get("d")
    assert not re.search(r"\b(nan|inf|None)\b", "".join(READ.text))


def test_every_table_has_a_caption_and_headed_columns_and_rows() -> None:
    assert len(READ.tables) > 15
    assert "" not in READ.tables
    for caption, rows in READ.tables.items():
        assert {len(row) for row in rows} == {len(rows[0])}, caption
        assert all(rows[0]), caption
    scopes = [attributes.get("scope") for tag, attributes in READ.tags if tag == "th"]
    assert set(scopes) == {"row", "col"}


def test_each_id_and_each_heading_is_used_once_and_in_order() -> None:
    ids = [attributes["id"] for _, attributes in READ.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in READ.tags if tag == "h1"] == ["h1"]


def test_five_years_of_six_symbols_and_ten_members_stay_below_three_megabytes() -> None:
    assert len(render(sample(days=1_826, members=10)).encode()) < 3_000_000


def test_the_page_of_the_json_is_that_of_the_evaluation() -> None:
    assert page(json.loads(json.dumps(SAMPLE.to_json()))) == TEXT
    with pytest.raises(TrainingError, match="has no curves"):
        page(SAMPLE.to_json(curves=False))


# ---- what it says -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ready", "word"), [(True, "\u2713 Ready"), (False, "\u2715 Not ready")])
def test_the_verdict_stands_first(ready: bool, word: str) -> None:
    texts = [text for text in Page(render(replace(SAMPLE, ready=ready))).text if text.strip()]
    assert texts[1] == word  # after the title


def test_criteria_and_vetoes_are_those_of_the_document() -> None:
    assert READ.rows("Criteria")["alpha a year"] == ["3.1\u00a0%", "> 2 %", "\u2713 passed"]
    assert READ.rows("Criteria")["win rate"] == ["not defined", "> 55 %", "\u2715 failed"]
    assert READ.rows("Vetoes")["deflated Sharpe ratio"][0] == "\u2715 refuses"
    assert READ.rows("Vetoes")["too few trades"] == ["\u2713 silent", "103 positions were closed, 30 are needed"]


def test_the_accounts_are_the_ensemble_and_every_baseline() -> None:
    rows = READ.rows("Accounts beside each other")
    assert [*rows] == ["account", "ensemble", *BASELINES]
    for name, metrics in (("ensemble", SAMPLE.metrics), *SAMPLE.baselines.items()):
        shown = dict(zip(rows["account"], rows[name], strict=True))
        assert shown["return"] == told(metrics.total_return or 0.0)
        assert shown["worst fall"] == told(metrics.max_drawdown)
        assert shown["turnover a year"] == "10.9\u00d7"
        assert shown["costs"] == "6.5\u00a0%"
        assert shown["Sharpe"] == ("not defined" if name == "cash" else f"{metrics.sharpe:.2f}")


def test_every_metric_stands_in_the_whole_table() -> None:
    ours = {name: cells[0] for name, cells in READ.rows("All metrics").items()}
    expected = {
        "alpha a year": "+3.1\u00a0%", "beta": "0.42", "time below a peak": "83.0\u00a0%", "skew of days": "\u22120.40",
        "value at risk, 95 % of days": "2.31\u00a0%", "expected shortfall, 95 % of days": "3.42\u00a0%",
        "positive months": "62.5\u00a0% of 48 months", "positions closed": "103: 55 won, 48 lost",
        "its 95 % interval": "43.8\u00a0% to 62.7\u00a0%", "profit factor": "1.52", "mean gain / mean loss": "1.33",
        "mean profit of a position": "+1.23\u00a0%", "mean time held": "11.2 days", "mean exposure": "34.0\u00a0%",
        "candles with a position": "71.0\u00a0%", "fees, of the first cash": "4.3\u00a0%",
        "longest drawdown": "211 days",
    }  # fmt: skip
    assert {name: ours[name] for name in expected} == expected
    assert len(ours) == 32


def test_the_forest_says_which_differences_chance_explains() -> None:
    rows = READ.rows("Differences in Sharpe ratio")
    assert rows["less buy and hold"][1:] == ["+0.61", "0.08 to 1.17", "better"]
    assert rows["less trend rule"][1:] == ["\u22120.31", "\u22120.83 to 0.19", "cannot be told apart"]
    assert rows["less cash"][1:] == ["not defined", "not defined", "not defined"]


def test_the_whiskers_of_the_forest_lie_where_the_bounds_are() -> None:
    table = TEXT.split('aria-label="Differences in Sharpe ratio"')[1].split("</table>")[0]
    found = {}
    for row in table.split("<tr>"):
        place = re.search(r'"whisker ours" d="M([\d.]+) 500H([\d.]+)M', row)
        if place is not None:
            name = row.split("less ")[1].split("</th>")[0]
            found[name] = tuple(map(float, place.groups()))
    ticks = {float(text.replace("\u2212", "-")): float(left) * 10.0
             for left, text in re.findall(r'<span style="left:([\d.]+)%">(\S+?)</span>', table)}  # fmt: skip
    (first, at_first), (last, at_last) = min(ticks.items()), max(ticks.items())
    slope = (at_last - at_first) / (last - first)
    for name, bounds in SAMPLE.bootstrap.differences.items():
        if bounds.low is not None and bounds.high is not None:
            expected = [at_first + (bound - first) * slope for bound in (bounds.low, bounds.high)]
            assert found[name] == pytest.approx(expected, abs=1.5)


def test_the_heat_map_has_every_month_and_year_as_pandas_has_them() -> None:
    dates = pd.date_range("2019-01-01", periods=1_461, freq="D")
    equity = pd.Series(SAMPLE.curves.equity["ensemble"], index=dates)
    rows = READ.rows("Return of each month")
    monthly = pd.concat([pd.Series([1.0]), equity.resample("ME").last()]).pct_change().iloc[1:]
    assert [cell for year in ("2019", "2020", "2021", "2022") for cell in rows[year][:12]] == [
        told(value) for value in monthly
    ]
    yearly = pd.concat([pd.Series([1.0]), equity.resample("YE").last()]).pct_change().iloc[1:]
    assert [rows[str(year)][12] for year in range(2019, 2023)] == [told(value) for value in yearly]


def test_stress_years_folds_and_refits_have_a_row_each() -> None:
    assert [*READ.rows("Other costs, and late")][1:] == [
        "costs 0\u00d7", "costs 1\u00d7", "costs 2\u00d7", "costs 4\u00d7", "costs 1\u00d7, 1 candle late",
    ]  # fmt: skip
    for caption, parts in (
        ("Years", SAMPLE.years), ("Regimes", SAMPLE.regimes), ("Folds of the frozen bundle", SAMPLE.folds),
        ("Folds, walk-forward", SAMPLE.refits[0].folds), ("Folds, combinatorial", SAMPLE.refits[1].folds),
    ):  # fmt: skip
        rows = READ.rows(caption)
        assert [*rows][1:] == [part.name for part in parts]
        for part in parts:
            assert rows[part.name][4:6] == [told(part.total_return or 0.0), told(part.hold_return or 0.0)]
    assert READ.rows("Paths, combinatorial")["5 paths"][1:] == ["\u22120.14 to 1.04", "41.0\u00a0%"]
    assert READ.rows("Paths, walk-forward")["1 path"][2] == "not defined"


def test_the_worst_seed_is_named_and_every_member_has_its_figures() -> None:
    rows = READ.rows("Members")
    worst = min(SAMPLE.members, key=lambda member: member.metrics.sharpe or 0.0)
    assert [name for name in rows if "the worst" in name] == [f"seed {worst.seed}, the worst"]
    assert len(rows) == 1 + len(SAMPLE.members)
    assert rows[f"seed {worst.seed}, the worst"][-1] == "37\u00a0% / 28\u00a0% / 35\u00a0%"


def test_every_symbol_has_its_figures_price_votes_and_disagreement() -> None:
    names = [name for name in READ.rows("Each symbol with an account of its own") if name != "symbol"]
    assert names == [*SYMBOLS[:-1], f"{SYMBOLS[-1]} (never trained on)"]
    for symbol in SYMBOLS:
        panel = TEXT.split(f"<h3>{symbol}</h3>")[1].split("</figure>")[0]
        assert panel.count('class="vote buy"') == panel.count('class="vote sell"') == len(SAMPLE.members)
        assert "price, USDT" in panel
        assert 3 < panel.count('class="turn buy"') <= 70
        assert panel.count("&#10;disagreement") == panel.count("data-told") <= 200


def test_pointing_at_a_chart_tells_the_last_day_of_its_strip_for_every_line() -> None:
    at = SAMPLE.curves.day_ms.index(1_577_836_800_000)  # the midnight that ends 2019
    words = [text for text in re.findall(r'data-told="([^"]*)"', TEXT) if text.startswith("2019-12-")]
    equity = next(text for text in words if "momentum" in text)
    day = equity.split("&#10;")[0]
    index = at - (31 - int(day[-2:]))
    for name, values in SAMPLE.curves.equity.items():
        assert f"{name}: {values[index]:.2f}\u00d7" in equity


def test_conditions_command_and_the_whole_id_are_there() -> None:
    text = "".join(READ.text)
    for words in (SAMPLE.command, SAMPLE.bundle, "decide_every 24", "fee_rate 0.001", SAMPLE.summary, SAMPLE.at,
                  *SAMPLE.warnings, "not financial advice"):  # fmt: skip
        assert words in text, words


# ---- whatever it holds ------------------------------------------------------------------------------------------
def test_hostile_text_is_shown_and_never_taken_for_markup() -> None:
    evil = "<script>alert('x')</script>&\"' https://example.invalid"
    curves = SAMPLE.curves
    hostile = replace(
        SAMPLE, summary=evil, command=evil, symbols=(evil,), warnings=(evil,), timeframe=evil, at=evil,
        conditions={evil: {evil: 1}}, by_symbol={evil: SAMPLE.metrics}, baselines={evil: SAMPLE.metrics},
        criteria=tuple(replace(one, name=evil, wanted=evil) for one in SAMPLE.criteria),
        vetoes=tuple(replace(one, name=evil, words=evil) for one in SAMPLE.vetoes),
        years=tuple(replace(one, name=evil) for one in SAMPLE.years),
        refits=tuple(replace(one, kind=evil) for one in SAMPLE.refits),
        bootstrap=replace(SAMPLE.bootstrap, differences={evil: Range(value=0.1, low=0.0, high=0.2)}),
        curves=replace(
            curves,
            equity={"ensemble": curves.equity["ensemble"], evil: curves.equity["cash"]},
            symbols=tuple(replace(one, symbol=evil, action=(evil, *one.action[1:])) for one in curves.symbols[:1]),
        ),
    )  # fmt: skip
    read = Page(render(hostile))
    assert read.open == []
    assert "script" not in {tag for tag, _ in read.tags}
    assert not {name for _, attributes in read.tags for name in attributes if name.startswith("on")}
    assert "".join(read.text).count(evil) > 20


def undefined(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation of an account that never traded: no ratio of it is defined."""
    none = Range(value=None, low=None, high=None)
    still = replace(metrics_of(pd.Series([1.0] * 40).to_numpy()), **UNDEFINED, positive_months=None, value_at_risk=None,
                    expected_shortfall=None, round_trips=0, wins=0, losses=0, actions={})  # fmt: skip
    curves = evaluation.curves
    days = len(curves.day_ms)
    nobody: tuple[Any, ...] = (None,) * days
    return replace(
        evaluation,
        metrics=still,
        by_symbol=dict.fromkeys(evaluation.by_symbol, still),
        baselines={},
        baselines_by_symbol={},
        random=RandomEntries(draws=0, percentile=None, low=None, median=None, high=None, median_return=None),
        bootstrap=Bootstrap(draws=0, block=1.0, sharpe=none, annual_return=none, max_drawdown=none, differences={}),
        deflated=Deflated(value=None, probabilistic=None, trials=0, spread=None, chance=None, days_needed=None),
        members=tuple(replace(member, metrics=still) for member in evaluation.members),
        stress=(),
        break_even_cost=None,
        years=tuple(
            replace(part, total_return=None, sharpe=None, max_drawdown=None, exposure=None, hold_return=None,
                    hold_sharpe=None, hold_drawdown=None)
            for part in evaluation.years
        ),
        refits=(),
        curves=replace(
            curves,
            equity={"ensemble": (1.0,) * days},
            symbols=tuple(
                replace(one, exposure=(0.0,) * days, action=("",) * days, votes=(nobody,) * len(one.votes),
                        disagreement=nobody)
                for one in curves.symbols
            ),
        ),
    )  # fmt: skip


def test_what_is_not_defined_is_said_to_be_so_everywhere() -> None:
    text = render(undefined(SAMPLE))
    read = Page(text)
    assert read.open == []
    assert not re.search(r"\b(nan|inf|None)\b", "".join(read.text))
    ours = {name: cells[0] for name, cells in read.rows("All metrics").items()}
    for name in ("Sharpe ratio, of days", "Calmar ratio", "beta", "win rate", "positive months", "profit factor"):
        assert ours[name] == "not defined"
    assert read.rows("Random entries with the same turnover")["0 draws"][1] == "not defined"
    assert "No position was closed" in text
    assert "The recipe was not trained anew" in text
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ET.fromstring(drawing)  # noqa: S314 - our own page


@pytest.mark.parametrize(
    "made",
    [
        lambda: sample(days=30, members=1, symbols=("BTC/USDT",)),
        lambda: sample(days=2, members=1, symbols=("BTC/USDT",)),
        lambda: replace(SAMPLE, members=(), regimes=(), criteria=(), vetoes=()),
    ],
    ids=["a month", "two days", "lists without an item"],
)
def test_a_short_or_small_evaluation_has_a_page(made: Callable[[], Evaluation]) -> None:
    assert Page(render(made())).open == []
