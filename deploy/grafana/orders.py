"""What only an account with orders at an exchange has: the way there, answers, stops at rest, changes by others."""

from deploy.grafana.board import Row
from deploy.grafana.panels import Lines, Series, Stat
from deploy.grafana.queries import Query, own, symbols

_WORTH_A_LOOK = "=~filled|cancelled|expired|rejected|not_placed|unknown"

VENUE = Row(
    title="Orders at the exchange (live accounts)",
    panels=(
        Stat(
            title="Way to the exchange",
            shows="Whether orders can be sent and followed. On paper there is no such way.",
            good="Open.",
            otherwise="Closed: sacd cannot sell either. Stops that rest at the exchange stay there.",
            width=4,
            height=4,
            runbook=("SacdOrderPathClosed",),
            queries=[
                Query(
                    expr=f"{own('sacd_trading_restricted', by='order_path')}"
                    f" and on (job, instance) {own('sacd_instance_info', mode='live')}"
                )
            ],
            names={"0": ("Open", "green"), "1": ("Closed", "red")},
            none="paper",
            is_filled=True,
        ),
        Stat(
            title="Oldest unanswered order",
            shows="How long the order that waits longest has had no answer.",
            good="Zero, or a second for a moment.",
            otherwise="Minutes: it may have been filled or not. sacd asks until it knows, and never sends it twice.",
            width=4,
            height=4,
            runbook=("SacdOrderUnknown",),
            queries=[Query(expr=own("sacd_oldest_unknown_order_seconds"))],
            unit="s",
            decimals=0,
            steps=((None, "green"), (10.0, "yellow"), (120.0, "red")),
        ),
        Lines(
            title="Held without a stop",
            shows="Share of the time in which something was held and no stop rested at the exchange for it.",
            good="Zero, but for a moment after a purchase.",
            otherwise="Look at the exchange whether the stop is there; sacd places it again and sells when that fails.",
            width=8,
            height=5,
            runbook=("SacdNakedPosition",),
            queries=[
                Query(
                    expr=f"rate({symbols('sacd_naked_position_seconds_total')}[$__rate_interval])", legend="{{symbol}}"
                )
            ],
            unit="percentunit",
            least=0.0,
            fill=40,
        ),
        Lines(
            title="Answers of the exchange",
            shows="From sending an order to its first answer, and to its first fill: the median and the slowest in"
            " twenty.",
            good="Answers below a second.",
            otherwise="Seconds: the exchange is overrun, or the way to it. Orders older than live.decision_age_s are"
            " dropped.",
            width=8,
            height=11,
            queries=[
                Query(
                    expr=f"histogram_quantile({quantile}, rate({own('sacd_order_latency_seconds_bucket')}[1h]))",
                    legend=f"{{{{step}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.95, "slow"))
            ],
            unit="s",
            log=10,
            none="paper",
        ),
        Lines(
            title="Orders",
            shows="Reports that brought an order into a state that ends it, or that needs a look.",
            good="filled, and cancelled for what a limit did not take.",
            otherwise="rejected: the log says why. unknown: it is looked up until it is certain.",
            width=8,
            height=7,
            runbook=("SacdOrdersRejected", "SacdOrderUnknown"),
            queries=[
                Query(
                    expr="sum without (kind)"
                    f" (increase({own('sacd_orders_total', state=_WORTH_A_LOOK)}[$__rate_interval]))",
                    legend="{{state}}",
                )
            ],
            unit="short",
            drawn="bars",
            fill=80,
            is_stacked=True,
            series=(
                Series(name="filled", color="green"),
                Series(name="cancelled", color="text"),
                Series(name="rejected", color="red"),
                Series(name="unknown", color="orange"),
            ),
        ),
        Lines(
            title="What should not happen",
            shows="Stops that the exchange ended or refused, sales that did not wait for a candle, and changes of the"
            " account by others: in what is ours, in what is not, and such that a symbol halts.",
            good="Zero.",
            otherwise="Each has its entry in the runbook; `sacd status` says what it is.",
            width=8,
            height=6,
            runbook=("SacdStopLost", "SacdReconcileDrift", "SacdSymbolHalted"),
            queries=[
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_stops_lost_total')}[$__rate_interval]))",
                    legend="stops lost",
                ),
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_forced_exits_total')}[$__rate_interval]))",
                    legend="forced sales",
                ),
                Query(
                    expr=f"increase({own('sacd_external_changes_total')}[$__rate_interval])",
                    legend="changed by others: {{kind}}",
                ),
            ],
            unit="short",
            drawn="bars",
            fill=80,
            is_stacked=True,
        ),
    ),
)
