"""A real Prometheus with our configuration and rules, scraping programs on this machine every second."""

import http.client
import json
import math
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.crash.forking import die_with_parent
from tests.deploy.commands import command
from tests.deploy.rules import PROMETHEUS

SCRAPE_S = 1.0
"""Between two scrapes, and two evaluations of the rules."""
_START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One series of an answer. samples: time in seconds and value, oldest first; only finite values count as data."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]

    @property
    def finite(self) -> Sequence[tuple[float, float]]:
        return [sample for sample in self.samples if math.isfinite(sample[1])]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Prometheus:
    """See the module. targets: port of each instance."""

    def __init__(self, root: Path, targets: Mapping[str, int]) -> None:
        self._root = root
        self._port = free_port()
        self._binary = command("prometheus")
        self._config = root / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(_configuration(targets)), encoding="utf-8")

    def __enter__(self) -> Self:
        self._log = (self._root / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                self._binary,
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._root / 'series'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
        )
        self.until(self._is_ready, "Prometheus is ready", _START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def until(self, is_so: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait until something is so; what it waits for are other programs, whose clocks are real."""
        end = time.monotonic() + timeout_s
        while not is_so():
            assert self._process.poll() is None, self._root.joinpath("prometheus.log").read_text(encoding="utf-8")
            assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == http.client.OK
        except OSError:
            return False

    # ---- questions ----------------------------------------------------------------------------------------------
    def instant(self, expr: str, at_s: float) -> list[Answer]:
        """Return what holds at a moment."""
        result = self._ask("query", query=expr, time=at_s)["result"]
        return [_answer(series["metric"], [series["value"]]) for series in result]

    def over(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[Answer]:
        """Return what held over a span."""
        result = self._ask("query_range", query=expr, start=start_s, end=end_s, step=step_s)["result"]
        return [_answer(series["metric"], series["values"]) for series in result]

    def label_values(self, selector: str, label: str, start_s: float, end_s: float) -> list[str]:
        """Return the values of a label of the series that a selector selects."""
        return list(self._ask(f"label/{label}/values", **{"match[]": selector}, start=start_s, end=end_s))

    def _ask(self, path: str, **parameters: object) -> Any:
        status, body = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(body)
        assert status == http.client.OK, f"{answer.get('error')}: {parameters}"
        assert not answer.get("warnings"), answer["warnings"]
        return answer["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _answer(labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> Answer:
    return Answer(labels=labels, samples=[(float(at), float(value)) for at, value in values])


def _configuration(targets: Mapping[str, int]) -> dict[str, Any]:
    """Return deploy/prometheus/prometheus.yml with other targets and a quicker pace."""
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    pace = f"{SCRAPE_S:.0f}s"
    config["global"] |= {"scrape_interval": pace, "scrape_timeout": pace, "evaluation_interval": pace}
    config["rule_files"] = [str(PROMETHEUS / pattern) for pattern in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": instance}} for instance, port in targets.items()
    ]
    return config
