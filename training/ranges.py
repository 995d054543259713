"""One check for the numbers a person may set in training: their kind and their bounds."""

from training.errors import TrainingError


def require(place: str, value: object, low: float, high: float) -> None:
    """Raise TrainingError unless `value` is a number within low .. high, a whole one where both bounds are.

    place: names the value in the message, such as `batch_size`.
    """
    is_whole = isinstance(low, int) and isinstance(high, int)
    kinds, wanted = (int, "a whole number") if is_whole else (int | float, "a number")
    # NaN fails the comparison; the two infinities lie outside.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise TrainingError(f"{place} {value!r}: give {wanted} within {low} .. {high}")
