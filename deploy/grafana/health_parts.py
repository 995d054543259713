"""What the dashboard of the program shows in detail: its speed, the candles that come in, and what it uses."""

from deploy.grafana.board import Row
from deploy.grafana.panels import Gauges, Heatmap, Lines, Series, Stat, States
from deploy.grafana.queries import Query, own, process, symbols

_FEED = {"0": ("", "transparent"), "1": ("yes", "green")}

SPEED = Row(
    title="Speed",
    panels=(
        Heatmap(
            title="Time of decisions",
            shows="How many decisions took how long, from the candles' arrival to the disk.",
            good="One dark band at a few milliseconds.",
            otherwise="A second band above: look whether the journal's writes or the loop are late at the same time.",
            width=12,
            height=8,
            runbook=("SacdDecisionSlow",),
            queries=[
                Query(
                    expr=f"increase({own('sacd_decision_latency_seconds_bucket')}[$__rate_interval])", legend="{{le}}"
                )
            ],
            unit="s",
        ),
        Lines(
            title="Decision, journal and loop",
            shows="What most of them stayed below: decisions (99 of 100 in 6 hours), writes to the journal (9 of 10 in"
            " 6 hours), and how late the event loop wakes up (99 of 100 in 10 minutes).",
            good="All below 0.1 s.",
            otherwise="The loop late: something else takes the processor. The journal slow: the disk.",
            width=12,
            height=8,
            runbook=("SacdDecisionSlow", "SacdJournalSlow", "SacdLoopBlocked"),
            queries=[
                Query(expr=own("instance:sacd_decision_latency_seconds:p99_6h"), legend="decision"),
                Query(expr=own("instance:sacd_journal_commit_seconds:p90_6h"), legend="journal"),
                Query(expr=own("instance:sacd_loop_lag_seconds:p99_10m"), legend="loop"),
            ],
            unit="s",
            log=10,
            series=(
                Series(name="decision", color="blue"),
                Series(name="journal", color="orange"),
                Series(name="loop", color="purple"),
            ),
        ),
    ),
)

FEED = Row(
    title="Candles",
    panels=(
        Lines(
            title="Age of the newest candle",
            shows="How long ago the newest candle of each symbol arrived, by our clock.",
            good="A saw that never rises above one timeframe.",
            otherwise="One symbol rises alone: is its market closed? All do: the feed.",
            width=8,
            height=7,
            runbook=("SacdNoCandle", "SacdSymbolSilent"),
            queries=[Query(expr=symbols("symbol:sacd_candle_age_seconds:last"), legend="{{symbol}}")],
            unit="s",
            least=0.0,
        ),
        Lines(
            title="Lag of candles",
            shows="From the close of a candle to its arrival, on live feeds: the median and the slowest in twenty,"
            " over an hour.",
            good="Below two seconds.",
            otherwise="Longer: the exchange is slow, or our clock is wrong.",
            width=8,
            height=7,
            runbook=("SacdClockSkew",),
            queries=[
                Query(
                    expr=f"histogram_quantile({quantile}, sum without (symbol)"
                    f" (rate({symbols('sacd_candle_lag_seconds_bucket')}[1h])))",
                    legend=name,
                )
                for quantile, name in ((0.5, "median"), (0.95, "slow"))
            ],
            unit="s",
            least=0.0,
            none="no live feed",
        ),
        States(
            title="Stream",
            shows="Health of the feed. Simulated and recorded ones are live while candles come.",
            good="live throughout.",
            otherwise="stale or reconnecting: nothing is bought meanwhile. Once a day is usual.",
            width=8,
            height=7,
            runbook=("SacdFeedStale", "SacdFeedFlapping"),
            queries=[Query(expr=own("sacd_feed_health"), legend="{{health}}")],
            names=_FEED,
            series=(
                Series(name="stale", names={"0": ("", "transparent"), "1": ("yes", "red")}),
                Series(name="reconnecting", names={"0": ("", "transparent"), "1": ("yes", "orange")}),
            ),
        ),
        Lines(
            title="Candles taken",
            shows="Candles that went into the window: live ones as they came, others fetched afterwards.",
            good="One for each symbol and timeframe.",
            otherwise="Many fetched afterwards: the stream was lost, and what was missed has been filled in.",
            width=8,
            height=7,
            queries=[
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_candles_total')}[$__rate_interval]))",
                    legend="{{arrival}}",
                )
            ],
            drawn="bars",
            fill=80,
            is_stacked=True,
            series=(Series(name="live", color="green"), Series(name="backfill", color="blue")),
        ),
        Lines(
            title="What was wrong with candles",
            shows="Lost streams, candles that the exchange does not have, and late copies that differ.",
            good="Zero, but for a lost stream a day.",
            otherwise="Missing candles fill nothing in: with too many of them the window counts as broken.",
            width=8,
            height=7,
            runbook=("SacdFeedFlapping",),
            queries=[
                Query(expr=f"increase({own('sacd_feed_reconnects_total')}[$__rate_interval])", legend="streams lost"),
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_missing_candles_total')}[$__rate_interval]))",
                    legend="candles missing",
                ),
                Query(
                    expr=f"sum without (symbol) (increase({symbols('sacd_late_candles_total')}[$__rate_interval]))",
                    legend="late copies",
                ),
            ],
            drawn="bars",
            fill=80,
            is_stacked=True,
        ),
        Lines(
            title="Silence of the stream",
            shows="How long a live feed has brought no news; trades count as such.",
            good="Seconds.",
            otherwise="At exchange.stale_after_s it is opened again, at risk.stale_feed_s nothing is bought.",
            width=8,
            height=7,
            runbook=("SacdFeedStale",),
            queries=[Query(expr=own("sacd_feed_age_seconds"), legend="silence")],
            unit="s",
            least=0.0,
            none="no live feed",
        ),
    ),
)

MACHINE = Row(
    title="What it uses",
    panels=(
        Lines(
            title="Memory over time",
            shows="Memory that the process holds.",
            good="Level, between 100 and 300 MiB.",
            otherwise="It climbs for days: restart it, and report it.",
            width=6,
            height=7,
            runbook=("SacdMemoryHigh",),
            queries=[Query(expr=process("process_resident_memory_bytes"), legend="memory")],
            unit="bytes",
            least=0.0,
            fill=15,
        ),
        Lines(
            title="Processor",
            shows="Share of one core.",
            good="A few hundredths; a simulated market that runs fast takes what it gets.",
            otherwise="Near 1 on a live market: report it.",
            width=6,
            height=7,
            queries=[
                Query(expr=f"rate({process('process_cpu_seconds_total')}[$__rate_interval])", legend="processor"),
            ],
            unit="percentunit",
            least=0.0,
            fill=15,
        ),
        Lines(
            title="Journal",
            shows="Records written each second.",
            good="A few for each decision.",
            otherwise="A flood: which kind? sacd journal show --last 100.",
            width=6,
            height=7,
            queries=[
                Query(expr=f"rate({own('sacd_journal_records_total')}[$__rate_interval])", legend="records"),
            ],
            unit="wps",
            least=0.0,
            fill=15,
        ),
        Lines(
            title="Disk of the journal",
            shows="Room left, and the size of the disk.",
            good="It falls slowly.",
            otherwise="Make room before 500 MiB: sacd journal backup elsewhere, then delete old copies.",
            width=6,
            height=7,
            runbook=("SacdDiskFilling", "SacdDiskLow"),
            queries=[
                Query(expr=own("sacd_disk_free_bytes"), legend="free"),
                Query(expr=own("sacd_disk_size_bytes"), legend="size"),
            ],
            unit="bytes",
            least=0.0,
            series=(
                Series(name="free", color="green", fill=15),
                Series(name="size", color="text", is_dashed=True, width=1),
            ),
        ),
        Gauges(
            title="Open files",
            shows="Files and sockets that are open, as a share of what may be.",
            good="A few percent.",
            otherwise="Above 80 %: it can soon neither reconnect nor back up. Restart it, and report it.",
            width=5,
            height=4,
            runbook=("SacdFilesHigh",),
            queries=[Query(expr=f"{process('process_open_fds')} / {process('process_max_fds')}", legend="open files")],
            unit="percentunit",
            decimals=1,
            least=0.0,
            most=1.0,
            steps=((None, "green"), (0.5, "yellow"), (0.8, "red")),
        ),
        Stat(
            title="Last backup of the journal",
            shows="How long ago the newest copy of this run was made and proved sound.",
            good="Less than journal.backup_every_s: an hour unless configured.",
            otherwise="Too little room, or a damaged journal: the log says which.",
            width=5,
            height=4,
            runbook=("SacdBackupFailing",),
            queries=[Query(expr=f"time() - {own('sacd_last_backup_timestamp_seconds')}")],
            unit="s",
            decimals=0,
            none="none yet",
        ),
        Stat(
            title="Dropped output",
            shows="Log entries lost over the span that is looked at, because their reader was too slow.",
            good="Zero.",
            otherwise="The journal is whole. Where the log goes is too slow.",
            width=5,
            height=4,
            runbook=("SacdOutputDropped",),
            queries=[Query(expr=f"round(sum without (queue) (increase({own('sacd_dropped_total')}[$__range])))")],
            decimals=0,
            steps=((None, "green"), (1.0, "orange")),
        ),
        Stat(
            title="Configuration",
            shows="Whether the configuration that was read last is in force.",
            good="In force.",
            otherwise="Not taken: the file has a mistake, or changes what needs a restart; the log names every key.",
            width=4,
            height=4,
            runbook=("SacdConfigKept",),
            queries=[Query(expr=own("sacd_config_last_reload_successful"))],
            names={"0": ("Not taken", "orange"), "1": ("In force", "green")},
        ),
        Stat(
            title="Version",
            shows="The program that runs.",
            good="The one you installed.",
            otherwise="An older one: systemctl restart after an upgrade.",
            width=5,
            height=4,
            queries=[Query(expr=own("sacd_build_info"), legend="{{version}}, Python {{python}}")],
            steps=((None, "text"),),
            shows_name=True,
        ),
    ),
)
