"""Figures in pictures of dashboards are written as Grafana writes them; the texts come from its own @grafana/data."""

import pytest

from tests.deploy.figures import graded, written


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (97284096, "bytes", 0, "93 MiB"),
        (52865351680, "bytes", 1, "49.2 GiB"),
        (0.0, "bytes", 0, "0 B"),
        (0.0, "s", None, "0 s"),
        (0.0469, "s", None, "46.9 ms"),
        (0.000123, "s", None, "123 µs"),
        (61.6, "s", 1, "1.0 mins"),
        (5400, "s", 1, "1.5 hours"),
        (200000, "s", 0, "2 days"),
        (3599938, "s", 1, "6.0 weeks"),
        (176929349, "s", 1, "5.6 years"),
        (98003.1944, "locale", 2, "98,003.19"),
        (0.0316, "percentunit", 2, "3.16%"),
        (-0.0241, "percentunit", 1, "-2.4%"),
        (1234, "short", 0, "1 K"),
        (0.7456, "short", 2, "0.75"),
        (3, "none", 0, "3"),
        (12.5, "wps", 1, "12.5 wr/s"),
    ],
)
def test_a_figure_is_written_as_grafana_writes_it(value: float, unit: str, decimals: int | None, text: str) -> None:
    assert written(value, unit, decimals) == text


def test_a_unit_that_nobody_can_write_is_refused() -> None:
    with pytest.raises(ValueError, match="parsec cannot be written yet"):
        written(1.0, "parsec", None)


def test_grades_go_from_green_over_yellow_to_red() -> None:
    assert [graded(value, 0.0, 1.0) for value in (0.0, 0.5, 1.0, 2.0)] == ["#73bf69", "#fade2a", "#f2495c", "#f2495c"]
