import numpy as np
import pytest

from strategy.observation import N_OBSERVATION
from training.errors import TrainingError
from training.inputs import INPUTS, mask_of, require_inputs


def test_there_is_a_name_for_every_entry_of_an_observation() -> None:
    assert len(INPUTS) == len(set(INPUTS)) == N_OBSERVATION
    assert INPUTS[-6:] == ("exposure", "unrealised_return", "drawdown", "since_trade", "stop_distance", "may_buy")
    assert INPUTS[0] == "return_1"


def test_a_mask_shows_what_is_named_and_without_names_everything() -> None:
    mask = mask_of(("exposure", "return_1"))
    assert np.flatnonzero(mask).tolist() == [0, N_OBSERVATION - 6]
    assert (mask.dtype, mask.shape) == (np.float32, (N_OBSERVATION,))
    assert set(mask.tolist()) == {0.0, 1.0}
    assert mask_of(()).tolist() == [1.0] * N_OBSERVATION


@pytest.mark.parametrize("names", [(), ("exposure",), INPUTS])
def test_known_names_are_taken(names: tuple[str, ...]) -> None:
    require_inputs(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("above_241",), r"inputs 'above_241': the observation has no such entry; nearest known: above_24"),
        (("exposure", "exposre"), r"inputs 'exposre': the observation has no such entry; nearest known: exposure"),
        (("exposure", 3.0), r"inputs 3\.0: the observation has no such entry"),
        (("exposure", "drawdown", "exposure"), "inputs exposure: it is given twice: give it once"),
        (["exposure"], r"inputs \['exposure'\]: give names such as above_240,exposure, or none for all"),
        ("exposure", "inputs 'exposure': give names such as"),
    ],
    ids=str,
)
def test_other_names_are_refused_with_those_that_were_perhaps_meant(names: object, message: str) -> None:
    with pytest.raises(TrainingError, match=f"^{message}"):
        require_inputs(names)
