"""The dashboard of the decisions: what the ensemble wants, what becomes of it, and how far it can be relied on."""

from deploy.grafana.board import ACCOUNT, SYMBOL, Board, Row
from deploy.grafana.panels import Gauges, Lines, Series, Stat, States
from deploy.grafana.queries import Query, own, share_of_limit, symbols

_USED = ((None, "green"), (0.5, "yellow"), (0.8, "orange"), (1.0, "red"))
_LIMIT = Series(name="limit", color="red", is_dashed=True, width=1)
_DUE = own("sacd_verdicts_total", reason="!=between_decisions")
"""Verdicts of candles that a decision falls on; on the others only stops are looked at."""
_VERDICTS = (
    Series(name="approved", color="green"),
    Series(name="hold", color="blue"),
    Series(name="refused", color="orange"),
)
_VOTES_OF_A_SYMBOL = (
    f"sum without (verdict, reason) (increase({own('sacd_verdicts_total')}[1h]))"
    f" * on (job, instance) {own('sacd_model_members')}"
    f" / on (job, instance) count without (symbol, arrival) ({own('sacd_candles_total', arrival='live')})"
)
_FARTHEST = (
    f"{own('sacd_feature_drift')} and on (job, instance, feature)"
    f" topk(16, max_over_time({own('sacd_feature_drift')}[$__range] @ end()))"
)

NOW = Row(
    panels=(
        Stat(
            title="Last decision",
            shows="How long ago the newest candle was decided on, and that was on disk. Most candles change nothing: a"
            " position changes on every strategy.decide_every-th.",
            good="Shorter than one timeframe.",
            otherwise="Longer: do candles come in? Look at sacd: health.",
            width=5,
            height=4,
            runbook=("SacdNoCandle",),
            queries=[Query(expr=f"time() - {own('sacd_last_decision_timestamp_seconds')}")],
            unit="s",
            decimals=0,
            steps=((None, "text"),),
        ),
        Stat(
            title="Decisions",
            shows="Decisions over the span that is looked at, one for each symbol.",
            good="One a day and symbol unless configured (strategy.decide_every).",
            otherwise="None: the window of features is not full, or no candle came.",
            width=4,
            height=4,
            queries=[Query(expr=f"round(sum without (verdict, reason) (increase({_DUE}[$__range])))")],
            unit="short",
            decimals=0,
        ),
        Stat(
            title="Without votes",
            shows="Decisions over the span that is looked at that had no votes although the window was full.",
            good="Zero.",
            otherwise="The ensemble fails: `sacd models list`, then let another one serve. What is held keeps its"
            " stops.",
            width=4,
            height=4,
            runbook=("SacdNoVotes",),
            queries=[
                Query(expr=f"round(increase({own('sacd_model_faults_total')}[$__range]))"),
            ],
            unit="short",
            decimals=0,
            steps=((None, "green"), (1.0, "red")),
        ),
        Gauges(
            title="How near the ensemble is to its limits",
            shows="The largest disagreement of a symbol's members, how unlike the training candles its features are,"
            " and how far the market as a whole has drifted, each as a share of its limit. Beyond the first nothing is"
            " changed, beyond the others nothing is bought.",
            good="Green most of the time. Single candles beyond a limit are what the limits are for.",
            otherwise="Orange for days: the market has changed. Consider `sacd retrain`; nothing is wrong with sacd.",
            width=11,
            height=4,
            runbook=("SacdDisagreementHigh", "SacdDriftHigh"),
            queries=[
                Query(
                    expr=share_of_limit(f"max without (symbol) ({symbols('sacd_disagreement_ratio')})", "disagreement"),
                    legend="disagreement",
                ),
                Query(
                    expr=share_of_limit(
                        f"max without (symbol) ({symbols('sacd_distribution_distance')})", "out_of_distribution"
                    ),
                    legend="unfamiliar market",
                ),
                Query(expr=own("instance:sacd_drift_to_limit:ratio"), legend="drift"),
            ],
            unit="percentunit",
            decimals=0,
            least=0.0,
            most=1.0,
            steps=_USED,
        ),
    )
)

WANTED = Row(
    panels=(
        Lines(
            title="Target and position",
            shows="What the ensemble wants of each symbol, dashed, and what is held, both as a share of the symbol's"
            " capital.",
            good="The solid line follows the dashed one.",
            otherwise="They stay apart: the verdicts beside say why.",
            width=14,
            height=9,
            queries=[
                Query(expr=symbols("sacd_exposure_ratio"), legend="{{symbol}} held"),
                Query(expr=symbols("sacd_target_exposure_ratio"), legend="{{symbol}} target"),
            ],
            unit="percentunit",
            is_stepped=True,
            series=(Series(name="/target$/", is_dashed=True, width=1),),
        ),
        Gauges(
            title="Verdicts by reason",
            shows="Why decisions ended as they did, over the span that is looked at, the most frequent first. voted:"
            " an order followed. neutral, dead_band: there was nothing to do.",
            good="Mostly dead_band, neutral and voted.",
            otherwise="Another reason above all: docs/configure.md has the limit that stands behind it.",
            width=10,
            height=9,
            queries=[
                Query(
                    expr=f"round(sum without (verdict) (increase({_DUE}[$__range]))) > 0",
                    legend="{{reason}}",
                    is_falling=True,
                )
            ],
            unit="short",
            decimals=0,
            steps=((None, "blue"),),
        ),
    )
)

AGREEMENT = Row(
    panels=(
        Lines(
            title="Disagreement of the members",
            shows="Spread of the members' votes on each symbol: 0 is one mind, 1 is opposite extremes. The larger it"
            " is the smaller is the step; beyond the limit nothing is changed.",
            good="Well below the limit.",
            otherwise="Near it for days: the members have learned different things, and none of them knows this"
            " market.",
            width=8,
            height=8,
            runbook=("SacdDisagreementHigh",),
            queries=[
                Query(expr=symbols("sacd_disagreement_ratio"), legend="{{symbol}}"),
                Query(expr=own("sacd_limit_ratio", limit="disagreement"), legend="limit"),
            ],
            unit="percentunit",
            least=0.0,
            series=(_LIMIT,),
        ),
        Lines(
            title="Verdicts",
            shows="Decisions by verdict: approved ones became orders, hold changed nothing, refused ones were"
            " forbidden by a limit.",
            good="Mostly hold.",
            otherwise="Mostly refused: see the reasons above.",
            width=8,
            height=8,
            queries=[
                Query(
                    expr=f"sum without (reason) (increase({_DUE}[$__rate_interval]))",
                    legend="{{verdict}}",
                )
            ],
            unit="short",
            drawn="bars",
            fill=80,
            is_stacked=True,
            series=_VERDICTS,
        ),
        Lines(
            title="Votes at the end of their range",
            shows="Share of the members' votes whose direction could not be stronger, over the last hour.",
            good="Below a half.",
            otherwise="Nearly all: the ensemble shouts at everything, and says no more than a constant would.",
            width=8,
            height=8,
            queries=[
                Query(
                    expr=f"increase({symbols('sacd_saturated_votes_total')}[1h])"
                    f" / on (job, instance) group_left () ({_VOTES_OF_A_SYMBOL})",
                    legend="{{symbol}}",
                )
            ],
            unit="percentunit",
            least=0.0,
            most=1.0,
        ),
    )
)

MARKET = Row(
    title="How far the market lies from what the ensemble was trained on",
    panels=(
        Lines(
            title="Unfamiliarity of single candles",
            shows="How unlike the training data the features of the newest candle are: 1 is the edge of what it saw."
            " Beyond the limit nothing is bought.",
            good="Below 1 nearly always.",
            otherwise="Beyond the limit for days: nothing is bought, and that is right.",
            width=8,
            height=8,
            queries=[
                Query(expr=symbols("sacd_distribution_distance"), legend="{{symbol}}"),
                Query(expr=own("sacd_limit_ratio", limit="out_of_distribution"), legend="limit"),
            ],
            unit="short",
            decimals=2,
            least=0.0,
            series=(_LIMIT,),
        ),
        Lines(
            title="Drift of the market",
            shows="How far the averages of the last weeks lie from the training candles, in all features together.",
            good="Below the limit.",
            otherwise="Beyond it nothing is bought. A retraining takes the new market in; docs/drift.md tells what it"
            " is.",
            width=8,
            height=8,
            runbook=("SacdDriftHigh",),
            queries=[
                Query(expr=own("sacd_drift_joint"), legend="drift"),
                Query(expr=own("sacd_limit_ratio", limit="drift"), legend="limit"),
            ],
            unit="short",
            decimals=3,
            least=0.0,
            series=(_LIMIT, Series(name="drift", color="blue", fill=8)),
        ),
        Gauges(
            title="Features that drifted most",
            shows="The ten features in which the market lies farthest from the training candles now.",
            good="None stands out by much.",
            otherwise="volatility and volume ones: the market is livelier or calmer. return and mean_distance ones: it"
            " trends in another way.",
            width=8,
            height=8,
            queries=[
                Query(expr=f"topk(10, {own('sacd_feature_drift')} > -Inf)", legend="{{feature}}", is_falling=True)
            ],
            unit="short",
            decimals=2,
            least=0.0,
            steps=((None, "blue"),),
        ),
        States(
            title="Drift of each feature",
            shows="The sixteen features that were farthest away within the span that is looked at, from green (as in"
            " training) to red.",
            good="Green and yellow.",
            otherwise="Many turn red at one moment: something happened in the market then.",
            width=24,
            height=9,
            queries=[Query(expr=_FARTHEST, legend="{{feature}}")],
            unit="short",
            decimals=2,
            least=0.0,
            is_graded=True,
        ),
    ),
)

BOARD = Board(
    uid="sacd-decisions",
    title="sacd: decisions",
    description="What the ensemble wants, what becomes of it, and how far it can be relied on.",
    span="7d",
    choices=(ACCOUNT, SYMBOL),
    rows=(NOW, WANTED, AGREEMENT, MARKET),
)
