"""What a fault does to one HTTP request, whatever the dialect."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from daemon.ports import Clock
from daemon.testvenue.faults import Fault, What

Act = Callable[[Mapping[str, Any]], object]
Process = Callable[[], Awaitable[web.StreamResponse]]


async def through(
    fault: Fault,
    request: web.Request,
    process: Process,
    *,
    clock: Clock,
    reject: Callable[[str, str, int], web.Response],
    act: Act,
) -> web.StreamResponse:
    """Return the answer to `request` under `fault`.

    process: what would answer it.  reject: words a refusal (code, message, HTTP status).  act: runs a control command.
    """
    early = None if fault.is_processed else await _before(fault, request, clock=clock, reject=reject, act=act)
    if early is not None:
        return early
    return await _after(fault, request, await process(), clock=clock, act=act)


async def _before(
    fault: Fault, request: web.Request, *, clock: Clock, reject: Callable[[str, str, int], web.Response], act: Act
) -> web.Response | None:
    match fault.what:
        case What.DROP_REQUEST:
            return await _cut(fault, request, clock)
        case What.REJECT:
            return reject(fault.code, fault.message, fault.status)
        case What.REPLY:
            return _scripted(fault)
        case What.DELAY:
            await clock.sleep_s(fault.delay_s)
        case What.ACT:
            act(fault.command)
    return None


async def _after(
    fault: Fault, request: web.Request, response: web.StreamResponse, *, clock: Clock, act: Act
) -> web.StreamResponse:
    match fault.what:
        case What.DROP_REPLY:
            return await _cut(fault, request, clock)
        case What.REPLY:
            return _scripted(fault)
        case What.CUT_BODY:
            return await _cut_body(request, response)
        case What.TRUNCATED:
            body = _body(response)
            return web.Response(body=body[: len(body) // 2], status=response.status, content_type="application/json")
        case What.DELAY if fault.is_processed:
            await clock.sleep_s(fault.delay_s)
        case What.ACT if fault.is_processed:
            act(fault.command)
    return response


def _scripted(fault: Fault) -> web.Response:
    headers = {"Content-Type": "application/json", **fault.headers}
    return web.Response(status=fault.status, headers=headers, body=fault.body.encode())


async def _cut(fault: Fault, request: web.Request, clock: Clock) -> web.Response:
    if fault.hold_s:
        await clock.sleep_s(fault.hold_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut_body(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    body = _body(response)
    partial = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    partial.content_length = len(body)
    await partial.prepare(request)
    await partial.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return partial


def _body(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else b""
    return body if isinstance(body, bytes) else b""
