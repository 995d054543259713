import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.venue_ids import ClientIds, IdStyle
from strategy.order import client_order_id, id_prefix

ids_of_orders = st.builds(
    client_order_id,
    st.just("desk"),
    st.just("BTC/USDT"),
    st.integers(0, 4_000_000_000_000),
    st.integers(0, 5_000),
)


def ids(style: IdStyle, instance: str = "desk", *symbols: str) -> ClientIds:
    return ClientIds(instance=instance, symbols=symbols or ("BTC/USDT", "ETH/USDT"), style=style)


@given(ids_of_orders)
def test_where_ours_fit_they_travel_unchanged(client_id: str) -> None:
    table = ids(IdStyle.PLAIN)
    assert table.to_venue(client_id) == client_id
    assert ids(IdStyle.PLAIN).from_venue(client_id) == client_id, "also one this process never sent"


@given(ids_of_orders)
def test_elsewhere_they_are_32_hexadecimal_characters_and_come_back(client_id: str) -> None:
    table = ids(IdStyle.HEX)
    text = table.to_venue(client_id)
    assert re.fullmatch(r"[0-9a-f]{32}", text)
    assert ids(IdStyle.HEX).to_venue(client_id) == text, "the same in every process"
    assert table.from_venue(text) == client_id


@given(st.lists(ids_of_orders, min_size=2, max_size=50, unique=True))
def test_two_orders_never_share_an_id(orders: list[str]) -> None:
    table = ids(IdStyle.HEX)
    assert len({table.to_venue(order) for order in orders}) == len(orders)


@pytest.mark.parametrize("style", IdStyle)
def test_an_order_of_this_instance_that_nobody_here_knows_shows_the_venues_text(style: IdStyle) -> None:
    text = ids(style).to_venue(client_order_id("desk", "BTC/USDT", 0, 1))
    fresh = ids(style)
    assert fresh.is_ours(text)
    assert fresh.from_venue(text) == text


@pytest.mark.parametrize("style", IdStyle)
@pytest.mark.parametrize("text", ["", "x-TKT5PX2F22ecb58eb9074fb1be018c", "web_4711", "s-btcusdt-", "0" * 32])
def test_somebody_elses_order_is_nobodys(style: IdStyle, text: str) -> None:
    table = ids(style)
    assert not table.is_ours(text)
    assert table.from_venue(text) == ""


@pytest.mark.parametrize("style", IdStyle)
def test_another_instance_on_the_same_account_is_somebody_else(style: IdStyle) -> None:
    text = ids(style, "other").to_venue(client_order_id("other", "BTC/USDT", 60_000, 0))
    assert not ids(style).is_ours(text)


def test_a_prefix_alone_is_no_order_of_ours_in_another_symbol() -> None:
    text = client_order_id("desk", "SOL/USDT", 60_000, 0)
    assert text.startswith(id_prefix("desk", "SOL/USDT"))
    assert not ids(IdStyle.PLAIN).is_ours(text)


def test_a_venue_may_show_an_id_with_hyphens_and_capitals() -> None:
    table = ids(IdStyle.HEX)
    text = table.to_venue("s-btcusdt-00000000-1-0").upper()
    shown = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    assert table.from_venue(shown) == "s-btcusdt-00000000-1-0"


def test_the_venues_own_name_of_an_order_is_remembered_per_symbol() -> None:
    table = ids(IdStyle.PLAIN)
    table.link("BTC/USDT", "17", "mine")
    table.link("BTC/USDT", "18", "")
    assert table.linked("BTC/USDT", "17") == "mine"
    assert table.linked("ETH/USDT", "17") == ""
    assert table.linked("BTC/USDT", "18") == ""
    assert table.name_of("mine") == "17"
    assert table.name_of("never seen") == ""


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.venue_ids._KNOWN", 3)
    table = ids(IdStyle.HEX)
    texts = [table.to_venue(f"order-{number}") for number in range(5)]
    assert [table.from_venue(text) for text in texts[2:]] == ["order-2", "order-3", "order-4"]
    assert table.from_venue(texts[0]) == texts[0], "forgotten, but still recognised as ours"
