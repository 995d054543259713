"""What is said of refits."""

from training.evaluate_recipe import condensed


def test_the_same_note_on_many_refits_is_told_once_with_its_number() -> None:
    short = "refit groups 1 and 3 left 2021-05-02 .. 2021-08-30 out: too short"
    notes = [
        "the refits were shortened",
        "refit fold 1 practised without BTC/USD: too few candles",
        short,
        "refit groups 2 and 4 practised without BTC/USD: too few candles",
        "refit groups 2 and 4 left 2021-09-01 .. 2021-12-30 out: too short",
        "refit groups 2 and 5 left 2022-09-01 .. 2022-12-31 out: too short",
        "refit fold 2 practised without ETH/USD: too few candles",
    ]
    assert condensed(notes) == [
        "the refits were shortened",
        "refit fold 1 practised without BTC/USD: too few candles (and 1 more notes like this)",
        f"{short} (and 2 more notes like this)",
        "refit fold 2 practised without ETH/USD: too few candles",
    ]
