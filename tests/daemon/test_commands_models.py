"""`sacd models ...` and `sacd retrain`: with a daemon that answers, one that does not, and none at all."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from daemon import commands_models
from daemon.cli import app
from daemon.control import ControlServer
from daemon.errors import SacdError
from daemon.journal import SqliteJournal
from daemon.journal_file import lock
from daemon.model_life import Cause, Outcome, Swap, of_swapping
from daemon.models import serving_names, set_current
from daemon.models_status import ModelsStatus
from daemon.ports import Record
from tests.daemon.live_places import write_evaluation
from tests.fakes import model_steps as steps
from tests.fakes.clock import ManualClock
from tests.fakes.serving import Place, make_place, write_bundle


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry of three ensembles, the first of which is current, and a configuration that goes by the links."""
    place = make_place(tmp_path)
    for seed in (6, 7):
        write_bundle(registry(place), seed=seed)
    set_current(registry(place), place.model.name)
    place.configure(strategy={"model": str(registry(place) / "current")})
    return place


def registry(place: Place) -> Path:
    return place.root / "models"


def others(place: Place) -> list[str]:
    names = sorted(entry.name for entry in registry(place).iterdir() if not entry.is_symlink())
    return [name for name in names if name != place.model.name]


def run(place: Place, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(place.config)], catch_exceptions=True)


def effect_of(place: Place, *words: str) -> dict[str, Any]:
    done = run(place, *words, "--json")
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def refusal(place: Place, *words: str) -> str:
    """What a verb that is refused says; `daemon.cli.command_line` prints it as one line."""
    done = run(place, *words)
    assert isinstance(done.exception, SacdError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def write_journal(place: Place, records: Sequence[Record]) -> None:
    async def write() -> None:
        path = place.journal()
        path.parent.mkdir(exist_ok=True)
        journal = SqliteJournal.open(path, ManualClock())
        if records:
            await journal.append(records)
        await journal.close()

    asyncio.run(write())


class Daemon:
    """What a running daemon is asked; it answers as a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: dict[str, Any] = {"effect": "done as asked"}
        self.fault: SacdError | None = None

    async def __call__(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((verb, args))
        if self.fault is not None:
            raise self.fault
        return self.answer


@contextmanager
def running(place: Place) -> Iterator[Daemon]:
    """A daemon that listens where the configuration says, in a thread of its own."""
    daemon, loop, ready = Daemon(), asyncio.new_event_loop(), threading.Event()
    server = ControlServer(place.root / "var.sock", daemon)

    async def serve() -> None:
        await server.start()
        ready.set()

    def run_loop() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run_loop)
    thread.start()
    assert ready.wait(10.0)
    try:
        yield daemon
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        loop.close()


# ---- with a daemon ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("models", "rollback"), ("rollback", {})),
        (("models", "pin"), ("pin", {"off": False})),
        (("models", "pin", "--off"), ("pin", {"off": True})),
        (("retrain",), ("retrain", {})),
    ],
)
def test_a_running_daemon_is_asked_and_its_effect_is_told(
    place: Place, words: tuple[str, ...], asked: tuple[str, dict[str, Any]]
) -> None:
    with running(place) as daemon:
        assert run(place, *words).stdout == "done as asked\n"
        assert effect_of(place, *words) == {"effect": "done as asked", "notes": []}
    assert daemon.asked == [asked, asked]
    assert serving_names(registry(place)) == (place.model.name, "")  # the daemon changes the links, nobody else


@pytest.mark.parametrize("verb", ["promote", "shadow"])
def test_an_id_may_be_cut_short_and_the_daemon_hears_all_of_it(place: Place, verb: str) -> None:
    name = others(place)[0]
    write_evaluation(registry(place) / name)
    with running(place) as daemon:
        assert effect_of(place, "models", verb, name[:6])["effect"] == "done as asked"
    assert daemon.asked == [(verb, {"model": name})]


@pytest.mark.parametrize("verb", ["promote", "shadow"])
def test_an_id_that_is_none_is_refused_before_the_daemon_hears_of_it(place: Place, verb: str) -> None:
    with running(place) as daemon:
        assert "no bundle" in refusal(place, "models", verb, "zz")
    assert daemon.asked == []


def test_what_live_trading_would_refuse_is_told_beside_the_effect(place: Place) -> None:
    never, bad = others(place)
    write_evaluation(registry(place) / bad, ready=False, summary="2 of 7 criteria pass")
    with running(place):
        (note,) = effect_of(place, "models", "promote", never)["notes"]
        said = f"{never} was never evaluated: there is no evaluation.json beside its manifest"
        assert note == f"live trading would refuse it: {said}"
        assert "was found not ready" in run(place, "models", "promote", bad).stdout.splitlines()[1]
        (registry(place) / bad / "evaluation.json").write_text("{")
        (note,) = effect_of(place, "models", "shadow", bad)["notes"]
        assert note.startswith("live trading would refuse it: ")
        assert "is not JSON" in note
        write_evaluation(registry(place) / bad)
        assert effect_of(place, "models", "promote", bad)["notes"] == []


def test_a_refusal_of_the_daemon_is_told_as_it_is(place: Place) -> None:
    with running(place) as daemon:
        daemon.fault = SacdError("a retraining runs already: wait for it")
        assert refusal(place, "retrain") == "a retraining runs already: wait for it"


# ---- a daemon that does not answer ------------------------------------------------------------------------------
@contextmanager
def silent(place: Place) -> Iterator[None]:
    """Something that listens and never answers: a daemon that hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(place.root / "var.sock"))
        listener.listen(4)
        yield


def test_a_daemon_that_does_not_answer_is_no_daemon_that_is_not_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_models, "_PATIENCE_S", 0.2)
    with silent(place):
        for verb in (["promote", others(place)[0]], ["rollback"], ["pin"]):
            assert "did not answer" in refusal(place, "models", *verb)
    assert serving_names(registry(place)) == (place.model.name, "")


def test_a_daemon_that_has_the_journal_but_does_not_listen_is_there(place: Place) -> None:
    (place.root / "var").mkdir()
    held = lock(place.journal())
    try:
        said = refusal(place, "models", "promote", others(place)[0])
        assert f"process {os.getpid()} has the journal" in said
        assert "ask again in a moment" in said
    finally:
        os.close(held)
    assert serving_names(registry(place)) == (place.model.name, "")


# ---- without a daemon -------------------------------------------------------------------------------------------
def test_without_a_daemon_promote_sets_the_links_for_the_next_start(place: Place) -> None:
    name = others(place)[0]
    told = effect_of(place, "models", "promote", name[:8])
    assert told["effect"] == (
        f"no sacd is running: {name} is current now in place of {place.model.name}, and serves from the next "
        "`sacd run` on"
    )
    assert "was never evaluated" in told["notes"][0]
    assert serving_names(registry(place)) == (name, place.model.name)
    again = run(place, "models", "promote", name)
    assert again.stdout.splitlines()[0] == f"{name} is current already: nothing changes"
    assert serving_names(registry(place)) == (name, place.model.name)


def test_without_a_daemon_rollback_goes_back_and_back_again(place: Place) -> None:
    assert "no ensemble served before" in refusal(place, "models", "rollback")
    name = others(place)[0]
    set_current(registry(place), name)
    assert f"{place.model.name} is current now in place of {name}" in effect_of(place, "models", "rollback")["effect"]
    assert serving_names(registry(place)) == (place.model.name, name)
    effect_of(place, "models", "rollback")
    assert serving_names(registry(place)) == (name, place.model.name)


def test_the_socket_of_a_killed_daemon_is_no_daemon(place: Place) -> None:
    with silent(place):
        pass
    assert (place.root / "var.sock").exists()
    assert "no sacd is running" in effect_of(place, "models", "promote", others(place)[0])["effect"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("models", "pin"), "a pin is kept by the daemon"),
        (("models", "shadow", "ID"), "trades play money beside an account that trades"),
        (("retrain",), "`sacd train` trains without it"),
    ],
)
def test_what_only_a_daemon_can_do_says_how_to_start_one(place: Place, words: tuple[str, ...], why: str) -> None:
    said = refusal(place, *(others(place)[0] if word == "ID" else word for word in words))
    assert said.startswith(f"{place.root / 'var.sock'}: no sacd is running there, and ")
    assert why in said
    assert "start it with `sacd run`, then ask again" in said


def test_a_configuration_that_names_one_ensemble_for_good_is_told(place: Place) -> None:
    place.configure(strategy={"model": str(place.model)})
    for words in (("models", "promote", others(place)[0]), ("models", "rollback")):
        said = refusal(place, *words)
        assert f"[strategy] model = {place.model} names one ensemble for good" in said
        assert str(registry(place) / "current") in said
    assert serving_names(registry(place)) == (place.model.name, "")


def test_an_ensemble_that_cannot_serve_here_is_not_promoted(place: Place) -> None:
    other_pace = write_bundle(registry(place), seed=8, timeframe="4h").name
    damaged = write_bundle(registry(place), seed=9)
    (damaged / "member-0.safetensors").write_bytes(b"")
    mute = write_bundle(registry(place), seed=10, votes=(0.0, 0.0, 0.0)).name
    assert "trained on 4h candles" in refusal(place, "models", "promote", other_pace)
    assert "member-0.safetensors" in refusal(place, "models", "promote", damaged.name)
    assert mute in refusal(place, "models", "promote", mute)
    assert serving_names(registry(place)) == (place.model.name, "")


def test_of_several_that_begin_alike_none_is_taken(place: Place, tmp_path: Path) -> None:
    for name in ("abcd000000000000", "abcd111111111111"):
        (registry(place) / name).mkdir()
    said = refusal(place, "models", "promote", "abcd")
    assert "abcd000000000000, abcd111111111111" in said


# ---- the list ---------------------------------------------------------------------------------------------------
def course(place: Place) -> list[Record]:
    """The ensembles of the registry by the journal: the current one serves, the first other one is in shadow."""
    old, new = place.model.name, others(place)[0]
    trained = steps.trained(Outcome.CANDIDATE, told=steps.report(7.0, steps.criterion("unseen", "90 days")))
    return [
        steps.found(old),
        steps.requested(),
        Record(kind="model", payload={**trained.payload, "candidate": new}),
        steps.shadowed(new),
        Record(kind="shadow", payload=steps.compared(old=old, new=new)),
    ]


def test_without_a_journal_only_the_registry_is_shown(place: Place) -> None:
    told = effect_of(place, "models", "list")
    assert (told["status"], told["history"]) == (None, [])
    roles = {row["id"]: row["roles"] for row in told["models"]}
    assert roles == {place.model.name: ["current"], others(place)[0]: [], others(place)[1]: []}
    text = run(place, "models", "list").stdout
    assert "incumbent" not in text
    assert "gate" not in text
    assert not place.journal().exists()


def test_a_journal_without_a_step_says_nothing_of_the_ensembles(place: Place) -> None:
    write_journal(place, [])
    told = effect_of(place, "models", "list")
    assert (told["status"], told["history"]) == (None, [])


def test_without_a_daemon_the_journal_says_where_the_ensembles_stand(place: Place) -> None:
    write_journal(place, course(place))
    told = effect_of(place, "models", "list")
    assert {row["id"]: row["roles"] for row in told["models"]} == {
        place.model.name: ["incumbent"],
        others(place)[0]: ["candidate"],
        others(place)[1]: [],
    }
    assert told["status"]["shadow"]["decisions"] == 31
    assert [(row["origin"], row["standing"]) for row in told["history"]] == [
        ("found", "serves"),
        ("schedule", "shadow"),
    ]
    text = run(place, "models", "list").stdout
    assert "31 of about 200 decisions, candidate ahead by 0.4 basis points" in text
    assert "1 of 1 passed" in text


def test_an_ensemble_that_a_link_names_and_that_does_not_serve_is_told(place: Place) -> None:
    first, second = others(place)
    write_journal(place, [*course(place), steps.serves(first, place.model.name)])
    set_current(registry(place), second)
    roles = {row["id"]: row["roles"] for row in effect_of(place, "models", "list")["models"]}
    assert roles == {first: ["incumbent"], second: ["current"], place.model.name: ["previous"]}


def test_a_running_daemon_says_what_its_journal_cannot(place: Place) -> None:
    write_journal(place, course(place))
    life = steps.life_after(*(record for record in course(place) if record.kind == "model"))
    status = ModelsStatus.of(life, None, horizon=200, next_retrain_ms=steps.at(14), progress="member 3 of 5")
    with running(place) as daemon:
        daemon.answer = {"models": status.to_json()}
        assert effect_of(place, "models", "list")["status"] == status.to_json()
        assert "member 3 of 5" in run(place, "models", "list").stdout
        assert daemon.asked[0] == ("status", {})


def test_when_the_daemon_does_not_answer_its_journal_is_shown_and_that_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(place, course(place))
    monkeypatch.setattr(commands_models, "_LOOK_S", 0.2)
    with silent(place):
        done = run(place, "models", "list", "--json")
    assert json.loads(done.stdout)["status"]["shadow"]["decisions"] == 31
    assert "did not answer" in done.stderr
    assert "shown is what its journal says" in done.stderr


def test_a_swap_that_was_begun_changes_no_role(place: Place) -> None:
    swap = Swap(old=place.model.name, new=others(place)[0], cause=Cause.PROVED, detail="")
    write_journal(place, [*course(place), of_swapping(swap, 0)])
    roles = {row["id"]: row["roles"] for row in effect_of(place, "models", "list")["models"]}
    assert (roles[place.model.name], roles[others(place)[0]]) == (["incumbent"], ["candidate"])


def test_the_registry_tells_what_an_ensemble_was_trained_on_and_what_cannot_be_used(place: Place) -> None:
    damaged = others(place)[1]
    (registry(place) / damaged / "member-0.safetensors").write_bytes(b"")
    rows = {row["id"]: row for row in effect_of(place, "models", "list")["models"]}
    trained = json.loads((place.model / "manifest.json").read_text(encoding="utf-8"))["training"]
    whole = rows[place.model.name]
    assert [whole[key] for key in ("members", "symbols", "from_ms", "until_ms", "steps", "fault")] == [
        3, trained["symbols"], trained["start_ms"], trained["end_ms"], trained["steps"], None
    ]  # fmt: skip
    assert [rows[damaged][key] for key in ("members", "symbols", "from_ms", "until_ms", "steps")] == [
        None, [], None, None, None
    ]  # fmt: skip
    assert "member-0.safetensors" in rows[damaged]["fault"]
    assert run(place, "models", "list").exit_code == 0
