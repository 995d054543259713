"""The dashboard of the money: what the account is worth, what it holds, what it trades and what that costs."""

from deploy.grafana.board import ACCOUNT, QUOTE, SYMBOL, Board, Row
from deploy.grafana.orders import VENUE
from deploy.grafana.panels import Gauges, Lines, Series, Stat, States, Table
from deploy.grafana.queries import Query, over, own, share_of_limit, symbols

_VALUE = f"{symbols('sacd_position_base')} * {symbols('sacd_mark_price_quote')}"
# A figure is NaN until a start has recovered it, and a difference with NaN is none: `> -Inf` leaves such samples out.
_TRADED = f"sum without (symbol, side) (increase({own('sacd_traded_quote_total')}[$__range]))"
_USED = ((None, "green"), (0.5, "yellow"), (0.8, "orange"), (1.0, "red"))
"""Of a limit; from 0.8 on there is an alert."""
_YES_NO = {"0": ("", "transparent"), "1": ("yes", "orange")}

NOW = Row(
    panels=(
        Stat(
            title="Trading",
            shows="What the account may do now.",
            good="Active.",
            otherwise="Reducing: the loss of the day has reached its limit, and nothing is bought until 00:00 UTC."
            " Halted: the drawdown has, and everything was sold; `sacd resume` ends it, once you know why.",
            width=4,
            height=4,
            runbook=("SacdHalted", "SacdReducing"),
            queries=[
                Query(
                    expr=f"{own('sacd_trading_state', state='reducing')}"
                    f" + on (job, instance) 2 * {own('sacd_trading_state', state='halted')}"
                )
            ],
            names={"0": ("Active", "green"), "1": ("Reducing", "orange"), "2": ("Halted", "red")},
            is_filled=True,
        ),
        Stat(
            title="Buying",
            shows="Whether anything forbids new exposure: a halt, a pause, a silent feed, a wrong clock, no way to the"
            " exchange, or a market that has drifted away from the training candles. Selling is never forbidden.",
            good="Allowed.",
            otherwise="Look below at what forbids it, and since when.",
            width=3,
            height=4,
            runbook=("SacdPaused",),
            queries=[
                Query(
                    expr=f"clamp_max(max without (by) ({own('sacd_trading_restricted')}) + on (job, instance)"
                    f" (1 - {own('sacd_trading_state', state='active')}), 1)"
                ),
            ],
            names={"0": ("Allowed", "green"), "1": ("Forbidden", "orange")},
            is_filled=True,
        ),
        Stat(
            title="Equity, $quote",
            shows="Cash and positions at the last close, and how that changed over the span that is looked at.",
            good="It grows more than it falls. One day says nothing.",
            otherwise="Look at the drawdown, and at what holding would be worth: a market that falls is no fault.",
            width=5,
            height=4,
            queries=[Query(expr=own("sacd_equity_quote"))],
            unit="locale",
            decimals=2,
            steps=((None, "blue"),),
            has_line=True,
            shows_change=True,
        ),
        Stat(
            title="Since 00:00 UTC",
            shows="Gain or loss of the day, as a share of the equity at its beginning.",
            good="Anything above the limit of the day.",
            otherwise="At the limit (risk.daily_loss) nothing is bought until the next day.",
            width=3,
            height=4,
            runbook=("SacdReducing",),
            queries=[Query(expr=f"0 - {own('sacd_day_loss_ratio')}")],
            unit="percentunit",
            decimals=2,
            steps=((None, "red"), (0.0, "green")),
        ),
        Stat(
            title="Against holding",
            shows="Equity compared with buying every symbol equally at the first decision, costs included, and"
            " waiting.",
            good="Above zero; below it while the market rises is the price of smaller losses.",
            otherwise="Below zero in a falling market too: the ensemble costs money. Look at sacd evaluate.",
            width=3,
            height=4,
            queries=[Query(expr=own("instance:sacd_equity_over_hold:ratio"))],
            unit="percentunit",
            decimals=2,
            steps=((None, "orange"), (0.0, "green")),
        ),
        Stat(
            title="Invested",
            shows="Value of all positions as a share of the equity.",
            good="It moves with the ensemble's targets; zero for weeks is usual in a market that falls.",
            otherwise="Nothing is bought although the target says so: look at the verdicts under sacd: decisions.",
            width=3,
            height=4,
            queries=[Query(expr=f"1 - {own('sacd_cash_quote')} / {own('sacd_equity_quote')}")],
            unit="percentunit",
            decimals=1,
            steps=((None, "text"),),
        ),
        Stat(
            title="Positions won",
            shows="Share of the positions that were sold for more than they cost, over the life of the account.",
            good="By itself it says little: few large gains pay for many small losses.",
            otherwise="Falling for months together with the equity: let a retraining be tried.",
            width=3,
            height=4,
            queries=[
                Query(
                    expr=f"{own('sacd_round_trips', result='won')}"
                    f" / ignoring (result) sum without (result) ({own('sacd_round_trips')})"
                )
            ],
            unit="percentunit",
            decimals=0,
            none="none closed",
        ),
    )
)

MONEY = Row(
    panels=(
        Lines(
            title="Equity against buy and hold, $quote",
            shows="What the account is worth, beside its highest value and what buying everything at the first"
            " decision and holding it would be worth.",
            good="The blue line rises, or falls less than the orange one. Marked are other ensembles, halts and"
            " starts.",
            otherwise="Far below its peak: look at the drawdown and its limit.",
            width=16,
            height=10,
            queries=[
                Query(expr=own("sacd_equity_quote"), legend="equity"),
                Query(expr=own("sacd_hold_equity_quote"), legend="buy and hold"),
                Query(expr=own("sacd_peak_equity_quote"), legend="highest equity"),
            ],
            unit="locale",
            decimals=0,
            series=(
                Series(name="equity", color="blue", fill=8),
                Series(name="buy and hold", color="orange", width=1),
                Series(name="highest equity", color="text", is_dashed=True, width=1),
            ),
        ),
        Gauges(
            title="Limits used up",
            shows="How much of each limit of [risk] is used up: 100 % of the drawdown sells everything and halts, 100"
            " % of the day's loss stops buying until 00:00 UTC, 100 % of a position is as large as it may become.",
            good="Green. A position may stand at its limit for long.",
            otherwise="Drawdown in orange: decide now whether to wait or to `sacd flatten`; at 100 % it decides.",
            width=8,
            height=5,
            runbook=("SacdDrawdownNearLimit",),
            queries=[
                Query(expr=own("instance:sacd_drawdown_to_limit:ratio"), legend="drawdown"),
                Query(
                    expr=share_of_limit(f"clamp_min({own('sacd_day_loss_ratio')}, 0)", "daily_loss"),
                    legend="loss of the day",
                ),
                Query(
                    expr=share_of_limit(f"max without (symbol) (abs({own('sacd_exposure_ratio')}))", "max_position"),
                    legend="largest position",
                ),
            ],
            unit="percentunit",
            decimals=0,
            least=0.0,
            most=1.0,
            steps=_USED,
        ),
        Lines(
            title="Drawdown",
            shows="Fall of the equity from its highest value, and the limit at which everything is sold.",
            good="Well above the red line.",
            otherwise="The line reaches the limit: sacd sells all, halts, and begins to count from there once it"
            " resumes.",
            width=8,
            height=5,
            runbook=("SacdDrawdownNearLimit", "SacdHalted"),
            queries=[
                Query(expr=f"-{own('sacd_drawdown_ratio')}", legend="drawdown"),
                Query(expr=f"-{own('sacd_limit_ratio', limit='max_drawdown')}", legend="limit"),
            ],
            unit="percentunit",
            most=0.0,
            fill=20,
            series=(
                Series(name="drawdown", color="purple"),
                Series(name="limit", color="red", is_dashed=True, width=1, fill=0),
            ),
        ),
    )
)

HELD = Row(
    panels=(
        Table(
            title="What is held",
            shows="Quantity, price, value and share of the account of each symbol, and the share of the symbol's"
            " capital that the ensemble wants.",
            good="Exposure follows target, but for changes smaller than strategy.dead_band.",
            otherwise="They stay apart: the verdicts under sacd: decisions say what hindered it.",
            width=9,
            height=7,
            queries=[
                Query(expr=f"max by (symbol) ({figure})")
                for figure in (
                    symbols("sacd_position_base"),
                    symbols("sacd_mark_price_quote"),
                    _VALUE,
                    symbols("sacd_exposure_ratio"),
                    symbols("sacd_target_exposure_ratio"),
                )
            ],
            columns={
                "symbol": "Symbol",
                "Value #A": "Quantity",
                "Value #B": "Price",
                "Value #C": "Value",
                "Value #D": "Exposure",
                "Value #E": "Target",
            },
            by="Value",
            is_falling=True,
            series=(
                Series(name="Quantity", unit="short", decimals=4),
                Series(name="Price", unit="locale", decimals=2),
                Series(name="Value", unit="locale", decimals=0),
                Series(name="/Exposure|Target/", unit="percentunit", decimals=1),
            ),
        ),
        Lines(
            title="Share of the account held",
            shows="Value of each position as a share of the equity, on top of each other.",
            good="It follows the ensemble's targets.",
            otherwise="Vertical falls are stops or halts: `sacd journal show --kind order` names their reasons.",
            width=8,
            height=7,
            queries=[Query(expr=over(_VALUE, own("sacd_equity_quote")), legend="{{symbol}}")],
            unit="percentunit",
            least=0.0,
            fill=30,
            is_stepped=True,
            is_stacked=True,
        ),
        States(
            title="What forbids buying",
            shows="What may forbid new exposure, and when it did.",
            good="Empty.",
            otherwise="paused: somebody, or sacd itself, said `sacd pause`. stale_feed, order_path: the exchange is"
            " silent. clock_skew: set the clock. drift: the market is unlike the training candles.",
            width=7,
            height=7,
            runbook=("SacdPaused", "SacdFeedStale", "SacdClockSkew", "SacdOrderPathClosed", "SacdDriftHigh"),
            queries=[
                Query(expr=own("sacd_trading_restricted"), legend="{{by}}"),
                Query(expr=own("sacd_trading_state", state="halted"), legend="halted"),
            ],
            names=_YES_NO,
        ),
    )
)

TRADES = Row(
    title="Trades and what they cost",
    panels=(
        Lines(
            title="Traded, $quote",
            shows="Value of the fills, purchases above zero and sales below.",
            good="A few a week on daily decisions.",
            otherwise="Much more than usual: costs eat the account. Look at disagreement and dead band.",
            width=9,
            height=7,
            queries=[
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_traded_quote_total')}[$__rate_interval]))",
                    legend="{{side}}",
                )
            ],
            unit="locale",
            decimals=0,
            drawn="bars",
            fill=80,
            series=(Series(name="buy", color="green"), Series(name="sell", color="red", is_below=True)),
        ),
        Lines(
            title="Costs, $quote",
            shows="Fees, and what fills were worse than the prices at their decisions.",
            good="Small beside the value traded: 0.1 % fee and 0.05 % slippage unless configured.",
            otherwise="Slippage above fees: the market is thin, or sacd is slow. See the excess beside it.",
            width=7,
            height=7,
            runbook=("SacdSlippageDrift",),
            queries=[
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_fees_quote_total')}[$__rate_interval]))",
                    legend="fees",
                ),
                Query(expr=f"delta({own('sacd_slippage_quote')}[$__rate_interval])", legend="slippage"),
            ],
            unit="locale",
            decimals=2,
            drawn="bars",
            fill=80,
            is_stacked=True,
            series=(Series(name="fees", color="yellow"), Series(name="slippage", color="orange")),
        ),
        Stat(
            title="Cost of what was traded",
            shows="Fees and slippage over the span that is looked at, as a share of the value traded in it.",
            good="About execution.fee_rate + execution.slippage_rate: 0.15 % unless configured.",
            otherwise="Above that: compare with the excess below.",
            width=4,
            height=3,
            queries=[
                # Slippage is NaN until a start has recovered it, and a difference with NaN is none.
                Query(
                    expr=f"(sum without (symbol) (increase({own('sacd_fees_quote_total')}[$__range]))"
                    f" + on (job, instance) delta(({own('sacd_slippage_quote')} > -Inf)[$__range:]))"
                    f" / on (job, instance) {_TRADED}"
                )
            ],
            unit="percentunit",
            decimals=3,
            none="no trades",
        ),
        Stat(
            title="Beyond the cost model, 7 days",
            shows="What fills of the last 7 days were worse than the cost model expects, as a share of their value."
            " The backtests assumed zero.",
            good="Within 0.05 % of zero. On paper it is zero.",
            otherwise="Above 0.1 %: what looked worth trading may not be. Raise execution.slippage_rate to what it is,"
            " and evaluate again.",
            width=4,
            height=4,
            runbook=("SacdSlippageDrift",),
            queries=[Query(expr=f"round({own('instance:sacd_excess_slippage:ratio_7d')}, 0.00001)")],
            unit="percentunit",
            decimals=3,
            steps=((None, "green"), (0.0005, "yellow"), (0.001, "red")),
            none="no trades",
        ),
        Stat(
            title="Positions closed",
            shows="Positions sold for more than they cost, and for less, over the life of the account.",
            good="Gains larger than losses matter more than their number.",
            otherwise="Many losses in a row: risk.loss_streak keeps the symbol from being bought for a while.",
            width=4,
            height=4,
            queries=[Query(expr=own("sacd_round_trips"), legend="{{result}}")],
            unit="short",
            decimals=0,
            series=(Series(name="won", color="green"), Series(name="lost", color="red")),
        ),
        Stat(
            title="Fills",
            shows="Fills over the span that is looked at.",
            good="A few a week on daily decisions.",
            otherwise="None for months although targets move: see what forbids buying.",
            width=4,
            height=3,
            queries=[Query(expr=f"round(sum without (symbol, side) (increase({own('sacd_fills_total')}[$__range])))")],
            unit="short",
            decimals=0,
        ),
    ),
)

BOARD = Board(
    uid="sacd-trading",
    title="sacd: trading",
    description="What the account is worth, what it holds, what it trades and what that costs.",
    span="7d",
    choices=(ACCOUNT, SYMBOL, QUOTE),
    rows=(NOW, MONEY, HELD, TRADES, VENUE),
)
