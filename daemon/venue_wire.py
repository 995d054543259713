"""Watches the requests of one ccxt instance on their way, so that it can be proven what left and what did not.

ccxt's errors do not tell a refused connection from a lost answer, and its last answer is shared by all calls that run.
Here each call has evidence of its own. Also keeps what must never happen from happening: a redirect that is followed
(with key and signature, to wherever the answer says), and a second request where one was to leave.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp

from daemon import crash_points
from daemon.venue_errors import Evidence

_LONGEST_PAUSE_S = 3 * 86_400.0  # the longest ban Binance documents
_BODILESS = frozenset({"GET", "DELETE"})

_evidence: ContextVar[Evidence | None] = ContextVar("evidence", default=None)


class Redirected(aiohttp.ClientError):
    """The venue pointed somewhere else; nobody goes there with our key."""


class SecondRequest(RuntimeError):
    """One call was about to send twice."""


@contextmanager
def observed(*, is_change: bool) -> Iterator[Evidence]:
    """Gather evidence of the requests made inside, and in tasks begun inside. is_change: at most one may leave."""
    evidence = Evidence(is_change=is_change)
    token = _evidence.set(evidence)
    try:
        yield evidence
    finally:
        _evidence.reset(token)


def attach(exchange: Any) -> None:  # noqa: ANN401  # ccxt has no types worth the name
    """Watch every REST request of a ccxt instance from now on; call within the running loop."""
    fetch, answered, through_proxy = exchange.fetch, exchange.on_rest_response, exchange.get_socks_proxy_session
    tracing = _tracing()

    async def fetch_once(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:  # noqa: ANN401
        exchange.open(True)
        _trace(exchange.session, tracing)
        _begin(method, exchange.milliseconds())
        return await fetch(url, method, headers, body)

    def keep(*answer: Any) -> Any:  # noqa: ANN401  # ccxt's own
        status, _reason, _url, _method, headers, body, *_sent = answer
        _keep(status, headers, body, exchange.milliseconds())
        return answered(*answer)

    exchange.fetch = fetch_once
    exchange.on_rest_response = keep
    exchange.get_socks_proxy_session = lambda proxy: _trace(through_proxy(proxy), tracing)


def halfway_ms() -> float:
    """Return our clock halfway between the last request of the call around this and its answer.

    Not halfway through the call: it may have waited long for its turn. Raises LookupError outside of `observed`.
    """
    evidence = _evidence.get()
    if evidence is None:
        raise LookupError("no call is observed here")
    return (evidence.left_ms + evidence.answered_ms) / 2.0


def _keep(status: int, headers: Mapping[str, str], body: str, at_ms: float) -> None:
    if (evidence := _evidence.get()) is not None:
        evidence.answered_ms = at_ms
        evidence.status, evidence.body, evidence.retry_after_s = status, body, _retry_after_s(headers)


def _begin(method: str, at_ms: float) -> None:
    evidence = _evidence.get()
    if evidence is None:
        return
    if evidence.is_change and evidence.is_handed_over:
        raise SecondRequest(f"a second request ({method}) within one call")
    if evidence.is_change and method == "GET":
        return  # what ccxt looks up first changes nothing
    evidence.is_handed_over, evidence.left_ms = True, at_ms
    evidence.is_connected = evidence.is_traced = False
    evidence.status, evidence.body, evidence.retry_after_s = None, "", None


def _trace(session: aiohttp.ClientSession, tracing: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    if tracing not in session.trace_configs:
        session.trace_configs.append(tracing)
    return session


def _tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(_on_start)
    tracing.on_connection_create_end.append(_on_connected)
    tracing.on_connection_reuseconn.append(_on_connected)
    tracing.on_request_headers_sent.append(_on_headers)
    tracing.on_request_chunk_sent.append(_on_chunk)
    tracing.on_request_redirect.append(_on_redirect)
    tracing.freeze()
    return tracing


async def _on_start(_session: object, _context: object, _params: object) -> None:
    if (evidence := _evidence.get()) is not None:
        evidence.is_traced = True


async def _on_connected(_session: object, _context: object, _params: object) -> None:
    if (evidence := _evidence.get()) is not None:
        evidence.is_connected = True


async def _on_headers(_session: object, _context: object, params: aiohttp.TraceRequestHeadersSentParams) -> None:
    if params.method in _BODILESS:
        _mark_sent()


async def _on_chunk(_session: object, _context: object, _params: object) -> None:
    _mark_sent()


def _mark_sent() -> None:
    # aiohttp tells of headers and body right before it writes them, without giving way in between; the next turn of the
    # loop is after the writing and before any answer.
    evidence = _evidence.get()
    if evidence is not None and evidence.is_change:
        asyncio.get_running_loop().call_soon(crash_points.at, "sent")


async def _on_redirect(_session: object, _context: object, params: aiohttp.TraceRequestRedirectParams) -> None:
    raise Redirected(f"the venue answered with a redirect ({params.response.status}), which is not followed")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = str({str(name).lower(): text for name, text in headers.items()}.get("retry-after", ""))
    return min(_LONGEST_PAUSE_S, float(value)) if re.fullmatch(r"[0-9]{1,9}", value) else None
