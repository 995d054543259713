"""What the adapter concludes from what happened on the wire: real sockets, ccxt unmodified, scripted faults."""

import asyncio
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemon import crash_points
from daemon.errors import SacdError, UnknownOutcome
from daemon.venue import NotSent, RefusalKind, Unauthorised, VenueRefused
from tests.daemon.ccxt_venues import SYMBOL, adapter, asked, fault, opened, order_id, request, resting, venue_server

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN: type[SacdError] = UnknownOutcome


def refusal(code: int, message: str) -> str:
    return json.dumps({"code": code, "msg": message})


FILTER, FUNDS, WOULD, CLOSED, OTHER = (
    RefusalKind.FILTER,
    RefusalKind.FUNDS,
    RefusalKind.WOULD_TRADE,
    RefusalKind.CLOSED,
    RefusalKind.OTHER,
)
ANSWERS: dict[str, tuple[int, str, Any]] = {
    "empty": (200, "", UNKNOWN),
    "html": (200, "<html>ok</html>", UNKNOWN),
    "truncated": (200, '{"orderId": 17, "cli', UNKNOWN),
    "no id": (200, "{}", UNKNOWN),
    "list": (200, "[]", UNKNOWN),
    "another order": (200, '{"symbol":"BTCUSDT","orderId":1,"clientOrderId":"web_1","side":"BUY"}', UNKNOWN),
    "another side": (200, '{"symbol":"BTCUSDT","orderId":1,"side":"SELL"}', UNKNOWN),
    "502": (502, "<html>Bad Gateway</html>", UNKNOWN),
    "503": (503, refusal(-1000, "Unknown error"), UNKNOWN),
    "504": (504, "", UNKNOWN),
    "500 with a refusal": (500, refusal(-2010, "Account has insufficient balance for requested action."), UNKNOWN),
    "403 of a firewall": (403, "<html>Forbidden</html>", UNKNOWN),
    "-1000": (400, refusal(-1000, "An unknown error occurred while processing the request."), UNKNOWN),
    "-1001": (400, refusal(-1001, "Internal error; unable to process your request."), UNKNOWN),
    "-1006": (400, refusal(-1006, "An unexpected response was received from the message bus."), UNKNOWN),
    "-1007": (408, refusal(-1007, "Timeout waiting for response from backend server."), UNKNOWN),
    "-1008": (400, refusal(-1008, "Server is currently overloaded with other requests."), UNKNOWN),
    "duplicate": (400, refusal(-2010, "Duplicate order sent."), UNKNOWN),
    "429": (429, refusal(-1003, "Too much request weight used."), NotSent),
    "418": (418, "<html>teapot</html>", NotSent),
    "-1021": (400, refusal(-1021, "Timestamp for this request is outside of the recvWindow."), NotSent),
    "-2014": (401, refusal(-2014, "API-key format invalid."), Unauthorised),
    "-2015": (401, refusal(-2015, "Invalid API-key, IP, or permissions for action."), Unauthorised),
    "-1022": (400, refusal(-1022, "Signature for this request is not valid."), Unauthorised),
    "funds": (400, refusal(-2010, "Account has insufficient balance for requested action."), FUNDS),
    "lot": (400, refusal(-1013, "Filter failure: LOT_SIZE"), FILTER),
    "tick": (400, refusal(-1013, "Filter failure: PRICE_FILTER"), FILTER),
    "value": (400, refusal(-1013, "Filter failure: NOTIONAL"), FILTER),
    "band": (400, refusal(-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"), FILTER),
    "precision": (400, refusal(-1111, "Precision is over the maximum defined for this asset."), FILTER),
    "characters": (400, refusal(-1100, "Illegal characters found in parameter 'price'."), FILTER),
    "stop passed": (400, refusal(-2010, "Stop price would trigger immediately."), WOULD),
    "post-only": (400, refusal(-2010, "Order would immediately match and take."), WOULD),
    "closed": (400, refusal(-1013, "Market is closed."), CLOSED),
    "-1016": (400, refusal(-1016, "This service is no longer available."), CLOSED),
    "delisted": (400, refusal(-1121, "Invalid symbol."), CLOSED),
    "too many orders": (400, refusal(-1013, "Filter failure: MAX_NUM_ORDERS"), OTHER),
    "unlisted": (400, refusal(-2039, "Something that came later."), OTHER),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_proves_what_it_proves_and_no_more(name: str) -> None:
    status, body, expected = ANSWERS[name]
    async with venue_server() as server, opened(server) as venue:
        await venue.balances()  # after one success ccxt turns -2015 into DDoSProtection
        fault(server, "POST order", "reply", status=status, body=body)
        with pytest.raises(SacdError) as error:
            await venue.create(request())
        if isinstance(expected, RefusalKind):
            assert type(error.value) is VenueRefused
            assert error.value.kind is expected
        else:
            assert type(error.value) is expected
        assert len(asked(server, "POST", "order")) == 1


LOST = {
    "never processed, cut": ({"what": "drop_request"}, 0),
    "never processed, no answer in time": ({"what": "drop_request", "hold_s": 1.0}, 0),
    "processed, cut": ({"what": "drop_reply"}, 1),
    "processed, no answer in time": ({"what": "drop_reply", "hold_s": 1.0}, 1),
    "cut within the body": ({"what": "cut_body"}, 1),
    "half a body": ({"what": "truncated"}, 1),
    "processed, empty": ({"what": "reply", "status": 200, "body": "", "is_processed": True}, 1),
    "processed, 504": ({"what": "reply", "status": 504, "body": "", "is_processed": True}, 1),
    "processed, redirected": (
        {"what": "reply", "status": 307, "headers": {"Location": "/api/v3/order"}, "is_processed": True},
        1,
    ),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_lost_answer_leaves_the_outcome_open_and_nothing_is_sent_again(name: str) -> None:
    values, orders = LOST[name]
    async with venue_server() as server, opened(server, quick_s=0.4) as venue:
        fault(server, "POST order", **values)
        with pytest.raises(UnknownOutcome):
            await venue.create(resting())
        assert len(asked(server, "POST", "order")) == 1
        found = await venue.find(SYMBOL, order_id(0))
        assert (found is not None) == bool(orders)


@pytest.mark.parametrize("name", LOST)
async def test_a_lost_answer_to_a_cancel_leaves_the_outcome_open(name: str) -> None:
    values, _ = LOST[name]
    async with venue_server() as server, opened(server, quick_s=0.4) as venue:
        await venue.create(resting())
        fault(server, "DELETE order", times=None, **values)
        with pytest.raises(UnknownOutcome):
            await venue.cancel(SYMBOL, order_id(0))


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/api/v3", "http://venue.invalid/api/v3", "https://127.0.0.1:{port}/api/v3"],
    ids=["connection refused", "no such name", "no TLS there"],
)
async def test_without_a_connection_it_is_proven_that_nothing_was_sent(address: str) -> None:
    async with venue_server() as server:
        options = server.ccxt_options()
        options["urls"]["api"]["private"] = address.format(port=server.port)
        venue = adapter(options)
        await venue.open()
        with pytest.raises(NotSent):
            await venue.create(request())
        with pytest.raises(NotSent):
            await venue.cancel(SYMBOL, order_id(0))
        await venue.close()
        assert asked(server, "POST", "order") == []


async def test_nobody_follows_a_redirect_with_our_key() -> None:
    reached: list[str] = []

    async def elsewhere(got: web.Request) -> web.Response:
        reached.append(got.method)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    location = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with venue_server() as server, opened(server) as venue:
        for where, call in (
            ("POST order", lambda: venue.create(request())),
            ("DELETE order", lambda: venue.cancel(SYMBOL, order_id(0))),
            ("GET account", venue.balances),
        ):
            fault(server, where, "reply", status=308, headers={"Location": location})
            with pytest.raises(SacdError):
                await call()
    await runner.cleanup()
    assert reached == []


async def test_one_call_never_sends_twice() -> None:
    async with venue_server() as server, opened(server) as venue:
        exchange = venue._calls.exchange
        place = exchange.create_order

        async def eager(*values: Any) -> Any:
            await place(*values)
            return await place(*values)

        exchange.create_order = eager
        with pytest.raises(UnknownOutcome):
            await venue.create(request())
        assert len(asked(server, "POST", "order")) == 1


@pytest.fixture
def marks() -> Iterator[list[str]]:
    seen: list[str] = []
    crash_points.hook = seen.append
    yield seen
    crash_points.hook = None


async def test_only_what_changes_something_is_marked_as_sent_and_once(marks: list[str]) -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.balances()
        assert marks == []
        await venue.create(resting())
        assert marks == ["sent"]
        await venue.find(SYMBOL, order_id(0))
        await venue.cancel(SYMBOL, order_id(0))
        assert marks == ["sent", "sent"]


async def test_the_mark_stands_before_the_answer(marks: list[str]) -> None:
    async with venue_server() as server, opened(server) as venue:
        fault(server, "POST order", "delay", delay_s=0.4, is_processed=True)
        placing = asyncio.ensure_future(venue.create(resting()))
        await asyncio.sleep(0.2)
        assert marks == ["sent"]
        assert not placing.done()
        await placing


DIES = """
    import asyncio, json, os, signal, sys
    from daemon import crash_points
    from tests.daemon.ccxt_venues import SYMBOL, adapter, order_id, resting

    def die(name):
        if name == "sent":
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        venue = adapter(json.loads(sys.argv[1]))
        await venue.open()
        crash_points.hook = die
        await (venue.create(resting()) if sys.argv[2] == "create" else venue.cancel(SYMBOL, order_id(0)))

    asyncio.run(main())
"""


@pytest.mark.parametrize("change", ["create", "cancel"])
async def test_a_process_killed_at_the_mark_has_sent_its_request(change: str) -> None:
    async with venue_server() as server, opened(server) as venue:
        if change == "cancel":
            await venue.create(resting())
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(DIES), json.dumps(server.ccxt_options()), change, cwd=ROOT
        )
        assert await child.wait() == -9
        await asyncio.sleep(0.2)  # the venue may read it after the child has died
        assert len(asked(server, "POST" if change == "create" else "DELETE", "order")) == 1
        found = await venue.find(SYMBOL, order_id(0))
        assert found is not None
        assert found.state == ("open" if change == "create" else "cancelled")
