"""Which requests and messages a fault meets, and when it fires."""

import random

import pytest

from daemon.testvenue.faults import Fault, FaultBox, InvalidFault, What


class Box(FaultBox):
    def __init__(self, seed: int = 0) -> None:
        self.now_s = 0.0
        super().__init__(monotonic_s=lambda: self.now_s, generator=random.Random(seed))

    def hits(self, count: int = 5, method: str = "POST", path: str = "api/v3/order") -> list[bool]:
        return [self.take(method, path, {}) is not None for _ in range(count)]


@pytest.mark.parametrize(
    ("where", "method", "path", "meets"),
    [
        ("POST order", "POST", "api/v3/order", True),
        ("POST order", "POST", "api/v3/order/test", False),
        ("POST order", "GET", "api/v3/order", False),
        ("* order", "DELETE", "api/v3/order", True),
        ("GET *", "GET", "api/v3/time", True),
        ("GET account/apiRestrictions", "GET", "sapi/v1/account/apiRestrictions", True),
        ("POST AddOrder", "POST", "0/private/AddOrder", True),
        ("stream", "stream", "btcusdt@trade", True),
        ("stream btcusdt@*", "stream", "btcusdt@kline_1m", True),
        ("stream btcusdt@*", "stream", "ethusdt@trade", False),
        ("user executionReport", "user", "balanceUpdate", False),
    ],
)
def test_a_fault_meets_what_its_pattern_says(where: str, method: str, path: str, meets: bool) -> None:
    what = What.SILENCE if method in {"stream", "user"} else What.DROP_REPLY
    assert Fault(where=where, what=what).meets(method, path, {}) is meets


def test_having_asks_for_parameters() -> None:
    fault = Fault(where="POST order", what=What.DROP_REPLY, having={"type": "STOP_LOSS*"})
    assert fault.meets("POST", "api/v3/order", {"type": "STOP_LOSS_LIMIT"})
    assert not fault.meets("POST", "api/v3/order", {"type": "MARKET"})
    assert not fault.meets("POST", "api/v3/order", {})


def test_a_fault_fires_once_unless_told_otherwise() -> None:
    box = Box()
    box.add(Fault(where="POST order", what=What.DROP_REPLY))
    assert box.hits() == [True, False, False, False, False]


def test_skip_and_times_count_only_what_matches() -> None:
    box = Box()
    number = box.add(Fault(where="POST order", what=What.DROP_REPLY, skip=1, times=2))
    box.hits(3, "GET")
    assert box.hits() == [False, True, True, False, False]
    assert box.fired(number) == 2


def test_a_fault_with_a_duration_ends() -> None:
    box = Box()
    box.add(Fault(where="POST order", what=What.DROP_REPLY, times=None, seconds=10.0))
    assert box.hits(2) == [True, True]
    box.now_s = 10.0
    assert box.hits(2) == [False, False]


def test_chance_comes_from_the_seed() -> None:
    fault = Fault(where="POST order", what=What.DROP_REPLY, times=None, probability=0.5)
    runs = []
    for seed in (1, 1, 2):
        box = Box(seed)
        box.add(fault)
        runs.append(box.hits(40))
    assert runs[0] == runs[1] != runs[2]
    assert 10 < sum(runs[0]) < 30


def test_a_cleared_fault_is_gone_and_others_stay() -> None:
    box = Box()
    gone = box.add(Fault(where="POST order", what=What.DROP_REPLY, times=None))
    box.add(Fault(where="GET *", what=What.DROP_REPLY, times=None))
    box.clear(gone)
    assert box.hits(1) == [False]
    assert box.hits(1, "GET") == [True]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"where": "order", "what": "drop_reply"}, "METHOD path"),
        ({"where": "POST order", "what": "silence"}, "cannot happen to 'POST order'"),
        ({"where": "user", "what": "drop_reply"}, "cannot happen to 'user'"),
        ({"where": "POST order", "what": "explode"}, "explode"),
        ({"where": "POST order"}, "needs 'what'"),
        ({"where": "POST order", "what": "act"}, "needs a command"),
        ({"where": "POST order", "what": "reject", "is_processed": True}, "never processed"),
        ({"where": "POST order", "what": "reject", "often": 3}, "has no often"),
        ({"where": "POST order", "what": "reject", "probability": 2.0}, "probability=2.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_that_cannot_be_is_refused_with_the_reason(values: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidFault, match=says.replace("(", r"\(")):
        Fault.from_json(values)
