"""The dashboard of the program: whether it runs, how fast it is, what comes in, and what it uses."""

from deploy.grafana.board import ACCOUNT, SYMBOL, Board, Row
from deploy.grafana.health_parts import FEED, MACHINE, SPEED
from deploy.grafana.panels import Series, Stat, Table
from deploy.grafana.queries import JOB, Query, own, process

_MIB = 2.0**20
_SEVERITY = {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")}

ALL = Row(
    panels=(
        Table(
            title="All accounts",
            shows="Every sacd that this Prometheus scrapes: what it trades, whose candles, what it is worth, what it"
            " may do. A click on one shows it.",
            good="Each of them up.",
            otherwise="One is down: systemctl status sacd@NAME, then its log.",
            width=14,
            height=6,
            runbook=("SacdDown", "SacdAbsent"),
            queries=[
                Query(expr=f"max by (instance) (up{{{JOB}}})"),
                Query(expr=f"max by (instance, mode, source, timeframe) (sacd_instance_info{{{JOB}}})"),
                Query(expr=f"max by (instance) (sacd_equity_quote{{{JOB}}})"),
                Query(expr=f"max by (instance) (sacd_drawdown_ratio{{{JOB}}})"),
                Query(
                    expr=f'max by (instance) (sacd_trading_state{{{JOB},state="reducing"}})'
                    f' + 2 * max by (instance) (sacd_trading_state{{{JOB},state="halted"}})'
                ),
            ],
            columns={
                "instance": "Account",
                "Value #A": "Up",
                "mode": "Mode",
                "source": "Candles",
                "timeframe": "Timeframe",
                "Value #C": "Equity",
                "Value #D": "Drawdown",
                "Value #E": "Trading",
            },
            by="Account",
            series=(
                Series(
                    name="Account",
                    link=(
                        "Show this account",
                        "/d/sacd-trading?var-instance=${__value.raw}&var-datasource=${datasource}",
                    ),
                ),
                Series(
                    name="Up",
                    names={"0": ("down", "red"), "1": ("up", "green")},
                    cell={"type": "color-text"},
                    pixels=70,
                ),
                Series(
                    name="Trading",
                    names={"0": ("active", "green"), "1": ("reducing", "orange"), "2": ("halted", "red")},
                    cell={"type": "color-text"},
                ),
                Series(name="Equity", unit="locale", decimals=2),
                Series(name="Drawdown", unit="percentunit", decimals=2),
            ),
        ),
        Table(
            title="Alerts of this account",
            shows="Alerts that Prometheus holds now: pending ones wait for their time to be up, firing ones have been"
            " sent.",
            good="None.",
            otherwise="Each has an entry in the runbook.",
            width=10,
            height=6,
            queries=[Query(expr=own("ALERTS"))],
            columns={"alertname": "Alert", "alertstate": "State", "severity": "Severity", "symbol": "Symbol"},
            by="Alert",
            none="-",
            series=(
                Series(name="Severity", names=_SEVERITY, cell={"type": "color-text"}),
                Series(
                    name="State",
                    names={"firing": ("firing", "red"), "pending": ("pending", "yellow")},
                    cell={"type": "color-text"},
                ),
            ),
        ),
    )
)

NOW = Row(
    panels=(
        Stat(
            title="sacd",
            shows="Whether Prometheus gets an answer.",
            good="Up.",
            otherwise="Down: systemctl status, then the log. Live positions are protected by their stops at the"
            " exchange.",
            width=3,
            height=4,
            runbook=("SacdDown",),
            queries=[Query(expr=process("up"))],
            names={"0": ("Down", "red"), "1": ("Up", "green")},
            is_filled=True,
        ),
        Stat(
            title="Running for",
            shows="Since it was ready for its first candle; and its version.",
            good="Long.",
            otherwise="Minutes, again and again: it restarts; the log's last lines before each start say why.",
            width=3,
            height=4,
            runbook=("SacdRestarting",),
            queries=[Query(expr=f"time() - {own('sacd_started_timestamp_seconds')}")],
            unit="s",
            decimals=1,
            steps=((None, "text"),),
        ),
        Stat(
            title="Restarts",
            shows="Over the span that is looked at.",
            good="Zero, but for upgrades.",
            otherwise="Several an hour: after five failures in ten minutes systemd gives up.",
            width=3,
            height=4,
            runbook=("SacdRestarting",),
            queries=[Query(expr=f"changes({process('process_start_time_seconds')}[$__range])")],
            decimals=0,
            steps=((None, "green"), (1.0, "yellow"), (3.0, "red")),
        ),
        Stat(
            title="Newest candle",
            shows="How long ago the newest candle of any symbol arrived.",
            good="Less than one timeframe and a few seconds.",
            otherwise="More: the exchange, the way to it, or the clock.",
            width=3,
            height=4,
            runbook=("SacdNoCandle",),
            queries=[Query(expr=own("instance:sacd_candle_age_seconds:min"))],
            unit="s",
            decimals=0,
            steps=((None, "text"),),
        ),
        Stat(
            title="Decision, 99 of 100",
            shows="Time from the candles' arrival to their decisions on disk, which 99 of 100 stayed below in 6 hours.",
            good="Milliseconds.",
            otherwise="Seconds: a slow disk (see the journal beside) or a busy processor.",
            width=3,
            height=4,
            runbook=("SacdDecisionSlow",),
            queries=[Query(expr=own("instance:sacd_decision_latency_seconds:p99_6h"))],
            unit="s",
            steps=((None, "green"), (0.25, "yellow"), (1.0, "red")),
        ),
        Stat(
            title="Journal, 9 of 10",
            shows="Time to have records on disk, which 9 of 10 writes stayed below in 6 hours.",
            good="Milliseconds.",
            otherwise="Above 0.5 s: the disk is slow or shared. No order leaves before its record is written.",
            width=3,
            height=4,
            runbook=("SacdJournalSlow",),
            queries=[Query(expr=own("instance:sacd_journal_commit_seconds:p90_6h"))],
            unit="s",
            steps=((None, "green"), (0.1, "yellow"), (0.5, "red")),
        ),
        Stat(
            title="Memory",
            shows="Memory that the process holds.",
            good="100 to 300 MiB.",
            otherwise="Above 700 MiB: it is slowed down at 768 MiB and ended at 1 GiB. Restart it, and report it.",
            width=3,
            height=4,
            runbook=("SacdMemoryHigh",),
            queries=[Query(expr=process("process_resident_memory_bytes"))],
            unit="bytes",
            decimals=0,
            steps=((None, "green"), (500 * _MIB, "yellow"), (700 * _MIB, "red")),
        ),
        Stat(
            title="Disk free",
            shows="Room left on the disk of the journal.",
            good="More than 500 MiB.",
            otherwise="Below 100 MiB nothing is bought any more. Old backups may be deleted.",
            width=3,
            height=4,
            runbook=("SacdDiskLow", "SacdDiskScarce", "SacdDiskFilling"),
            queries=[Query(expr=own("sacd_disk_free_bytes"))],
            unit="bytes",
            decimals=1,
            steps=((None, "red"), (100 * _MIB, "orange"), (500 * _MIB, "green")),
        ),
    )
)

BOARD = Board(
    uid="sacd-health",
    title="sacd: health",
    description="Whether sacd runs, how fast it is, what comes in, and what it uses.",
    span="24h",
    choices=(ACCOUNT, SYMBOL),
    rows=(ALL, NOW, SPEED, FEED, MACHINE),
)
