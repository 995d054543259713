"""Faults of the ensemble (rows 53 to 57 of docs/faults.md), before and inside the real daemon."""

import hashlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from strategy.manifest import MANIFEST, BundleManifest
from tests.fakes.serving import write_bundle
from tests.live.rehearsal import SLOW, Rehearsal, Rehearse
from tests.live.test_process_faults import plant

MEMBER = "member-1.safetensors"
Damage = Callable[[Path], None]
Arrays = dict[str, Any]
Change = Callable[[int, Arrays], None]


def _flip(name: str, where: float) -> Damage:
    """Return what changes one bit at a share of a file's length."""

    def damage(model: Path) -> None:
        content = bytearray((model / name).read_bytes())
        content[int(where * (len(content) - 1))] ^= 1
        (model / name).write_bytes(content)

    return damage


def _cut(name: str, share: float) -> Damage:
    def damage(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: int(share * len(content))])

    return damage


DAMAGES: dict[str, Damage] = {
    "manifest gone": lambda model: (model / "manifest.json").unlink(),
    "manifest cut": _cut("manifest.json", 0.5),
    "manifest bit": _flip("manifest.json", 0.5),
    "member gone": lambda model: (model / MEMBER).unlink(),
    "member empty": _cut(MEMBER, 0.0),
    "member cut": _cut(MEMBER, 0.9),
    "bit in the length of its header": _flip(MEMBER, 0.0),
    "bit in its header": _flip(MEMBER, 0.01),
    "bit in its weights": _flip(MEMBER, 0.7),
    "bit in its last byte": _flip(MEMBER, 1.0),
}


def _remade(model: Path, change: Change, **changes: Any) -> Path:
    """Change a bundle's members, let its manifest vouch for them, and return its new place.

    change: of the arrays of one member, given its number.  changes: of what the manifest says of each member.
    """
    manifest = BundleManifest.from_bytes((model / MANIFEST).read_bytes())
    records = []
    for index, record in enumerate(manifest.members):
        arrays = dict(safetensors.numpy.load_file(model / record.file))
        change(index, arrays)
        blob = safetensors.numpy.save(arrays)
        (model / record.file).write_bytes(blob)
        records.append(replace(record, sha256=hashlib.sha256(blob).hexdigest(), **changes))
    manifest = replace(manifest, members=tuple(records))
    (model / MANIFEST).write_bytes(manifest.to_bytes())
    return model.rename(model.with_name(manifest.short_id))


def _serve(house: Rehearsal, model: Path) -> None:
    """Let the next life be given another bundle, which an evaluation calls ready."""
    house.model = model
    house.say_ready()
    house.configure(**house._changes)


def _keep(house: Rehearsal) -> Callable[[], None]:
    """Return what puts the bundle back as it is now."""
    whole = {path: path.read_bytes() for path in house.model.iterdir()}

    def restore() -> None:
        for path, content in whole.items():
            path.write_bytes(content)

    return restore


@pytest.mark.fault(53)
def test_a_damaged_bundle_stops_no_running_daemon_and_no_start_gets_past_it(rehearse: Rehearse) -> None:
    with rehearse() as house:
        restore = _keep(house)
        house.begin()
        house.until_bought(1)
        DAMAGES["bit in its weights"](house.model)
        house.until_bought(2)
        house.until_protected()
        house.end()
        restore()
        requests = len(house.client.audit(kind="request"))
        for name, damage in DAMAGES.items():
            damage(house.model)
            said = len(house.log)
            assert house.begin(is_ready=False).end() == 1, name
            message = house.log[said:]
            assert message.startswith("sacd: "), name
            assert str(house.model) in message, name
            assert "Traceback" not in message, name
            restore()
        assert len(house.client.audit(kind="request")) == requests, "a start that is refused asks the venue nothing"
        assert len(house.stops()) == 1, "what is held stays protected"
        house.finish()


def _poison(index: int, arrays: Arrays) -> None:
    if index == 1:
        name = min(arrays)
        arrays[name] = np.full_like(arrays[name], np.nan)


@pytest.mark.fault(54)
@pytest.mark.fault(55)
def test_a_bundle_that_does_not_fit_or_is_poisoned_is_refused_before_the_venue_is_asked(rehearse: Rehearse) -> None:
    with rehearse() as house:
        fitting = house.model
        other, poisoned = write_bundle(house.root / "a", timeframe="1h"), write_bundle(house.root / "b", timeframe="1m")
        refused = {other: "trained on 1h candles", _remade(poisoned, _poison): "not finite"}
        for model, words in refused.items():
            _serve(house, model)
            said = len(house.log)
            assert house.begin(is_ready=False).end() == 1, words
            assert words in house.log[said:]
        assert house.client.audit(kind="request") == []
        _serve(house, fitting)
        house.begin()
        house.until_bought(1)
        house.finish()


@pytest.mark.fault(55)
def test_votes_that_are_no_numbers_hold_are_told_and_are_never_traded(rehearse: Rehearse) -> None:
    with rehearse() as house:
        plant(house, {"what": "poison"})
        life = house.begin()
        house.so(lambda: "are not finite numbers" in house.log, "it is told")
        house.so(lambda: len(house.entries("decision")) > 40, "candles are decided on all the same")
        assert {payload["why"] for payload in house.entries("decision") if payload["observation"]} == {"no_votes"}
        assert house.venue_orders() == []
        assert life.kill(signal.SIGTERM) == 0


def _thousandfold(_index: int, arrays: Arrays) -> None:
    for name in arrays:
        arrays[name] = arrays[name] * np.float32(1_000.0)


@pytest.mark.fault(56)
def test_an_ensemble_that_always_shouts_stays_in_its_box_is_counted_and_told(rehearse: Rehearse) -> None:
    with rehearse() as house:
        steady = write_bundle(house.root / "models", timeframe="1m", votes=(2.0, 0.1, 0.1))
        _serve(house, _remade(steady, _thousandfold, clip_mean=None, use_sde=False))
        house.begin()
        house.so(lambda: house.logged("votes_saturated"), "it is told after 24 candles")
        votes = np.array([payload["votes"] for payload in house.entries("decision") if payload["votes"]])
        assert (votes == 1.0).all()
        assert all(payload["exposure"] <= 0.5 + 1e-3 for payload in house.entries("decision"))
        house.finish()


@pytest.mark.fault(57)
def test_a_decision_that_took_too_long_buys_nothing(rehearse: Rehearse) -> None:
    # Two thirds of a candle are left for the order to be looked at: else the next decision would withdraw it.
    with rehearse(live={"decision_age_s": 12.0}, speed=SLOW) as house:
        seconds = 20.0 / house.speed
        plant(house, {"what": "block", "in": "strategy.policy:Ensemble.act", "seconds": seconds, "times": 2})
        house.begin()
        house.so(lambda: house.decided() and house.reports(house.decided()[0], "not_found"), "the first one is left")
        late = house.decided()[0]
        (ended,) = house.reports(late, "not_found")
        assert "too old to be sent" in ended["detail"]
        house.until_bought(1)
        assert house.sent(late) == []
        house.finish()


def _turn_the_last_round(index: int, arrays: Arrays) -> None:
    if index == 2:
        last = max(name for name in arrays if name.endswith("bias"))
        arrays[last] = arrays[last] * np.array([-1.0, 1.0, 1.0], np.float32)


@pytest.mark.fault(57)
def test_members_of_opposite_minds_buy_nothing(rehearse: Rehearse) -> None:
    with rehearse(strategy={"disagreement_limit": 0.3}) as house:
        divided = write_bundle(house.root / "models", timeframe="1m", votes=(2.0, 1.0, 1.0))
        _serve(house, _remade(divided, _turn_the_last_round))
        house.begin()
        house.so(lambda: len(house.reasons()) >= 3, "three decisions")
        assert set(house.reasons()) == {"disagreement"}
        assert house.venue_orders() == []
        house.finish()
