"""The dashboard of the ensembles: which one serves, which is tried beside it, and what became of the retrainings."""

from deploy.grafana.board import ACCOUNT, MARKS, QUOTE, Board, Mark, Row
from deploy.grafana.panels import Gauges, Lines, Series, Stat, States
from deploy.grafana.queries import Query, own

_YES = {"0": ("", "transparent"), "1": ("yes", "blue")}
_RETRAINED = Mark(
    name="Retrained",
    expr=f"{own('sacd_last_retrain_timestamp_seconds')} * 1000 > 0",
    color="yellow",
    text="A retraining ended.",
    is_moment=True,
)

NOW = Row(
    panels=(
        Stat(
            title="Serving",
            shows="The ensemble that decides, by the first 16 digits of its manifest.",
            good="One that you know: `sacd models show ID` tells where it comes from.",
            otherwise="Another one than you expect: the journal says why it was swapped, `sacd models list` what else"
            " there is.",
            width=6,
            height=4,
            queries=[Query(expr=own("sacd_model_info"), legend="{{id}}")],
            steps=((None, "blue"),),
            shows_name=True,
        ),
        Stat(
            title="Phase",
            shows="Steady: one serves, none is tried. Shadow: a candidate trades play money beside it. Watch: a new"
            " one serves, and the former one comes back when it does worse.",
            good="Any of them.",
            otherwise="Shadow or watch for months: too few decisions fall; see retrain.shadow_decisions.",
            width=3,
            height=4,
            queries=[
                Query(
                    expr=f"{own('sacd_model_phase', phase='shadow')}"
                    f" + on (job, instance) 2 * {own('sacd_model_phase', phase='watch')}"
                )
            ],
            names={"0": ("Steady", "green"), "1": ("Shadow", "blue"), "2": ("Watch", "yellow")},
            is_filled=True,
        ),
        Stat(
            title="Serving for",
            shows="How long it has decided in this account.",
            good="Long. A change must earn its place.",
            otherwise="Hours, again and again: swaps and rollbacks alternate; pin one and look at the comparison.",
            width=3,
            height=4,
            queries=[Query(expr=f"time() - {own('sacd_model_serving_since_timestamp_seconds')}")],
            unit="s",
            decimals=1,
            steps=((None, "text"),),
        ),
        Stat(
            title="Has not seen the last",
            shows="Age of the newest candle that it was trained on.",
            good="Less than a year.",
            otherwise="Older: retrain. That usually keeps what serves, for good reasons.",
            width=3,
            height=4,
            runbook=("SacdModelOld",),
            queries=[Query(expr=own("instance:sacd_model_age_seconds:last"))],
            unit="s",
            decimals=1,
            steps=((None, "green"), (180 * 86400.0, "yellow"), (365 * 86400.0, "orange")),
        ),
        Stat(
            title="Members",
            shows="Policies that vote. Retrainings make as many as the serving ensemble has.",
            good="Three and more: a single one has nobody to disagree with.",
            otherwise="It was exchanged by hand for another one.",
            width=2,
            height=4,
            queries=[Query(expr=own("sacd_model_members"))],
            decimals=0,
        ),
        Stat(
            title="Changes by itself",
            shows="Whether a candidate that proves itself takes its place, and a bad one is taken back.",
            good="As you want it.",
            otherwise="Pinned, and forgotten: `sacd models pin --off`.",
            width=3,
            height=4,
            queries=[Query(expr=own("sacd_model_pinned"))],
            names={"0": ("Yes", "green"), "1": ("Pinned", "orange")},
        ),
        Stat(
            title="Next retraining in",
            shows="When the schedule asks for the next one.",
            good="Any time ahead.",
            otherwise="Below zero for hours: nothing takes the request. Nothing here: no schedule is configured.",
            width=4,
            height=4,
            runbook=("SacdRetrainOverdue",),
            queries=[Query(expr=f"{own('sacd_retrain_next_timestamp_seconds')} - time()")],
            unit="s",
            decimals=1,
            steps=((None, "orange"), (0.0, "text")),
            none="no schedule",
        ),
    )
)

LIFE = Row(
    panels=(
        States(
            title="What is going on",
            shows="Phases of the ensembles, retrainings, and whether the serving one is pinned.",
            good="Mostly steady. A retraining takes hours; shadow and watch take weeks on daily decisions.",
            otherwise="A retraining that never ends: see its log.",
            width=24,
            height=6,
            runbook=("SacdRetrainOverdue",),
            queries=[
                *(
                    Query(expr=own("sacd_model_phase", phase=phase), legend=phase)
                    for phase in ("steady", "shadow", "watch")
                ),
                Query(expr=own("sacd_retrain_running"), legend="retraining"),
                Query(expr=own("sacd_model_pinned"), legend="pinned"),
            ],
            names=_YES,
        ),
    )
)

COMPARISON = Row(
    title="Two ensembles on the same candles, with play money",
    panels=(
        Lines(
            title="Accounts of play money, $quote",
            shows="What the old ensemble's and the new one's accounts are worth since the comparison began. In shadow"
            " the old one serves, in the watch the new one does.",
            good="Nothing while none is tried. In shadow nobody expects the new one to win.",
            otherwise="In the watch the new one falls behind: it is taken back at retrain.regret_limit.",
            width=10,
            height=9,
            queries=[Query(expr=own("sacd_shadow_equity_quote"), legend="{{side}}")],
            unit="locale",
            decimals=0,
            series=(Series(name="old", color="orange"), Series(name="new", color="blue")),
            none="none is tried",
        ),
        Lines(
            title="How likely by chance",
            shows="In shadow: how often an equal candidate would come so far. In the watch: how often one that is no"
            " worse would fall so far behind. It may be looked at any time: the test allows for that.",
            good="In shadow it falls below retrain.shadow_alpha only for one that is better; in the watch it stays"
            " high.",
            otherwise="In the watch near retrain.regret_alpha: the former ensemble is about to come back.",
            width=5,
            height=9,
            queries=[Query(expr=own("sacd_shadow_p_value"), legend="probability")],
            unit="short",
            log=10,
            most=1.0,
            series=(Series(name="probability", color="purple", fill=8),),
            none="none is tried",
        ),
        Lines(
            title="Regret since the swap",
            shows="Lead of the former ensemble over the one that serves, in the watch; below zero the new one leads.",
            good="Below zero, or near it.",
            otherwise="At retrain.regret_limit (3 % unless configured) the former one serves again.",
            width=5,
            height=9,
            runbook=("SacdRolledBack",),
            queries=[Query(expr=own("sacd_regret_ratio"), legend="regret")],
            unit="percentunit",
            series=(Series(name="regret", color="red", fill=15),),
            none="no watch",
        ),
        Stat(
            title="Compared so far",
            shows="Decisions compared, in shadow or in the watch.",
            good="It grows with every decision.",
            otherwise="At retrain.shadow_decisions a candidate that has not proved better is dropped.",
            width=4,
            height=4,
            queries=[Query(expr=own("sacd_shadow_decisions"))],
            unit="short",
            decimals=0,
            none="none is tried",
        ),
        Stat(
            title="Lead per decision",
            shows="Mean growth per decision of the new ensemble's account less that of the old one's.",
            good="Above zero.",
            otherwise="Below zero: in shadow it will be dropped, in the watch taken back.",
            width=4,
            height=5,
            queries=[Query(expr=own("sacd_shadow_difference_mean_ratio"))],
            unit="percentunit",
            decimals=4,
            steps=((None, "orange"), (0.0, "green")),
            none="none is tried",
        ),
    ),
)

HISTORY = Row(
    title="Retrainings and swaps",
    panels=(
        Gauges(
            title="Retrainings that ended",
            shows="By outcome, since sacd was started: kept is the usual one, and no failure; candidate went into"
            " shadow.",
            good="kept and candidate.",
            otherwise="failed: the result in STATE_DIR/retrain says why.",
            width=6,
            height=5,
            runbook=("SacdRetrainFailed", "SacdRetrainFailing"),
            queries=[Query(expr=own("sacd_retrains_total"), legend="{{outcome}}")],
            decimals=0,
            least=0.0,
            series=(
                Series(name="failed", color="orange"),
                Series(name="kept", color="blue"),
                Series(name="candidate", color="green"),
            ),
        ),
        Gauges(
            title="Swaps",
            shows="Times that another ensemble began to serve, since sacd was started, by cause: found at a start,"
            " proved in shadow, by hand, rolled back.",
            good="Few.",
            otherwise="A rollback for each proved one: shadows promise what does not hold; lower retrain.shadow_alpha.",
            width=6,
            height=5,
            runbook=("SacdRolledBack",),
            queries=[Query(expr=own("sacd_model_swaps_total"), legend="{{cause}}")],
            decimals=0,
            least=0.0,
            series=(
                Series(name="found", color="text"),
                Series(name="proved", color="green"),
                Series(name="hand", color="blue"),
                Series(name="rollback", color="orange"),
            ),
        ),
        Stat(
            title="Swaps that failed",
            shows="Since sacd was started; what served goes on serving.",
            good="Zero.",
            otherwise="The log names the file; `sacd models verify` looks at all of them.",
            width=3,
            height=5,
            runbook=("SacdSwapFailed",),
            queries=[Query(expr=own("sacd_model_swap_failures_total"))],
            decimals=0,
            steps=((None, "green"), (1.0, "orange")),
        ),
        Stat(
            title="Failures in a row",
            shows="Retrainings that failed since one did not.",
            good="Zero.",
            otherwise="Three: it will not pass by itself.",
            width=3,
            height=5,
            runbook=("SacdRetrainFailing",),
            queries=[Query(expr=own("sacd_retrain_failures_in_a_row"))],
            decimals=0,
            steps=((None, "green"), (1.0, "yellow"), (3.0, "red")),
        ),
        Stat(
            title="Last retraining took",
            shows="From its request to its result.",
            good="Hours at most; retrain.limit_hours ends it.",
            otherwise="At the limit: give it fewer steps, more cores or more time.",
            width=3,
            height=5,
            queries=[Query(expr=own("sacd_retrain_duration_seconds"))],
            unit="s",
            decimals=1,
            none="none yet",
        ),
        Stat(
            title="Last retraining ended",
            shows="How long ago the newest one ended, its candidate's time in shadow included.",
            good="As the schedule says.",
            otherwise="Long ago although there is a schedule: see the next one above.",
            width=3,
            height=5,
            queries=[Query(expr=f"time() - {own('sacd_last_retrain_timestamp_seconds')}")],
            unit="s",
            decimals=1,
            none="none yet",
        ),
    ),
)

BOARD = Board(
    uid="sacd-models",
    title="sacd: models",
    description="Which ensemble serves, which is tried beside it, and what became of the retrainings.",
    span="30d",
    choices=(ACCOUNT, QUOTE),
    marks=(*MARKS, _RETRAINED),
    rows=(NOW, LIFE, COMPARISON, HISTORY),
)
