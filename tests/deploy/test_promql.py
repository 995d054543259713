"""The tokenizer that the tests of rules and dashboards rest on."""

import pytest

from tests.deploy.promql import Matcher, Selector, read


def metrics(text: str) -> set[str]:
    return set(read(text).metrics)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("up", {"up"}),
        ("rate(a_total[5m])", {"a_total"}),
        ("sum without (x, y) (a) / ignoring (z) b", {"a", "b"}),
        ("sum(a) by (le)", {"a"}),
        ("a > on (job) group_left () (3 * b + 600) and c unless d == bool 1", {"a", "b", "c", "d"}),
        ("a / on (job) group_left b", {"a", "b"}),
        ("job:a:rate5m offset 1d - 1e3", {"job:a:rate5m"}),
        ('histogram_quantile(0.9, increase(a_bucket{le!="+Inf"}[6h:1m]))', {"a_bucket"}),
        ("predict_linear(a[6h], 4 * 86400) < 100 * 2 ^ 20", {"a"}),
        ("a # and b\n or c", {"a", "c"}),
        ('absent(up{job="not_a_metric"})', {"up"}),
    ],
)
def test_metrics_are_told_from_functions_labels_and_words(text: str, named: set[str]) -> None:
    assert metrics(text) == named


def test_a_selector_names_labels_and_every_alternative_of_their_values() -> None:
    (selector,) = read('a{x="1", y=~"b|c,}", z!="d"}[5m]').selectors
    assert selector == Selector(
        metric="a",
        matchers=(
            Matcher(label="x", operator="=", values=("1",)),
            Matcher(label="y", operator="=~", values=("b", "c,}")),
            Matcher(label="z", operator="!=", values=("d",)),
        ),
    )


def test_labels_of_groupings_and_joins_are_named() -> None:
    assert read("sum by (a) (x) + on (b, c) group_left (d) y").labels == {"a", "b", "c", "d"}


def test_what_is_no_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with no sign"):
        read("a ; b")
