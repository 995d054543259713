"""kill -9, and losses of power, around every file operation of a swap: the old ensemble serves or the new one."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.models import load_bundle, serving_names, set_current, swap_back
from tests.crash.file_operations import Operation
from tests.crash.swap_nursery import UNSEEN, SwapNursery
from tests.fakes.serving import write_bundle

Links = Mapping[str, str]
DELETED = "0" * 16
"""A bundle that a link still leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A directory of three bundles, whose links are laid as a test wants them."""

    place: Path
    names: Mapping[str, str]

    def lay(self, links: Links) -> None:
        """Let the links be these and no others; targets are letters of bundles, or stand as they are."""
        for path in self.place.iterdir():
            if path.is_symlink():
                path.unlink()
        for link, target in links.items():
            (self.place / link).symlink_to(self.names.get(target, target))

    def links(self) -> Links:
        """Return all links, targets as letters."""
        letters = {name: letter for letter, name in self.names.items()}
        return {link: letters.get(target, target) for link, target in self.targets().items()}

    def targets(self) -> Links:
        """Return all links as they stand."""
        return {path.name: str(path.readlink()) for path in self.place.iterdir() if path.is_symlink()}

    def pair(self) -> tuple[str, str]:
        """Return what serves and what did before, as letters."""
        letters = {name: letter for letter, name in self.names.items()}
        current, previous = serving_names(self.place)
        return letters.get(current, current), letters.get(previous, previous)

    def is_loaded(self) -> bool:
        """Whether `current` leads to a whole bundle of its name."""
        target = self.place / "current"
        return load_bundle(target).manifest.short_id == target.resolve().name


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A change of links: from where, which one, and what must be there after it."""

    life: str
    start: Links
    end: Links
    before: tuple[str, str]
    after: tuple[str, str]
    name: str = ""
    serves_before: bool = True

    def repeat(self, registry: Registry) -> None:
        """Do it again, as somebody would who does not know how far it came; done once, it is not undone."""
        if self.life == "set_current":
            set_current(registry.place, registry.names[self.name])
        elif registry.links() != self.end:
            swap_back(registry.place)


def to_b(start: Links, end: Links, before: tuple[str, str], *, serves_before: bool = True) -> Swap:
    after = (end["current"], end.get("previous", ""))
    return Swap(
        life="set_current", name="b", start=start, end=end, before=before, after=after, serves_before=serves_before
    )


def back(start: Links, end: Links, before: tuple[str, str]) -> Swap:
    return Swap(life="swap_back", start=start, end=end, before=before, after=(end["current"], end["previous"]))


DONE = {"current": "b", "previous": "a"}
SWAPS: Mapping[str, Swap] = {
    "the first of all": to_b({}, {"current": "b"}, ("", ""), serves_before=False),
    "the second": to_b({"current": "a"}, DONE, ("a", "")),
    "a third": to_b({"current": "a", "previous": "c"}, DONE, ("a", "c")),
    "the former one by its name": to_b({"current": "a", "previous": "b"}, DONE, ("a", "b")),
    "the one that serves": to_b(DONE, DONE, ("b", "a")),
    "after one that somebody deleted": to_b(
        {"current": DELETED, "previous": "c"}, {"current": "b", "previous": "c"}, (DELETED, "c"), serves_before=False
    ),
    "after a change that never took effect": to_b(
        {"current": "a", "previous": "b", ".current.new": "c", ".previous.new": "a"}, DONE, ("a", "b")
    ),
    "after a change that did": to_b({"current": "a", "previous": "b", ".previous.new": "c"}, DONE, ("a", "c")),
    "the same once more, after it took effect": to_b(
        {"current": "b", "previous": "c", ".previous.new": "a"}, DONE, ("b", "a")
    ),
    "back": back({"current": "a", "previous": "b"}, DONE, ("a", "b")),
    "back, after a change that never took effect": back(
        {"current": "a", "previous": "b", ".current.new": "c", ".previous.new": "a"}, DONE, ("a", "b")
    ),
    "back, after a change that did": back({"current": "a", "previous": "c", ".previous.new": "b"}, DONE, ("a", "b")),
    "back once more, after it took effect": back(
        {"current": "b", "previous": "b", ".previous.new": "a"}, DONE, ("b", "a")
    ),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    place = tmp_path_factory.mktemp("registry")
    return Registry(place=place, names={x: write_bundle(place, seed=i, members=1).name for i, x in enumerate("abc")})


@pytest.fixture(scope="module")
def nursery() -> Iterator[SwapNursery]:
    with SwapNursery() as nursery:
        yield nursery


@pytest.fixture(params=SWAPS)
def swap(request: pytest.FixtureRequest) -> Swap:
    return SWAPS[request.param]


def uninterrupted(nursery: SwapNursery, registry: Registry, swap: Swap) -> Sequence[Operation]:
    registry.lay(swap.start)
    assert registry.pair() == swap.before
    made = nursery.live(swap.life, registry.place, registry.names.get(swap.name, ""))
    assert registry.links() == swap.end
    assert registry.pair() == swap.after
    return made


def old_or_new(registry: Registry, swap: Swap) -> bool:
    """Return whether it has happened; nothing between the two can be."""
    pair = registry.pair()
    assert pair in {swap.before, swap.after}
    assert registry.links().get("current", "") == pair[0], "whoever follows the link finds the same"
    if pair != swap.before or swap.serves_before:
        assert registry.is_loaded()
    return pair == swap.after


def repeated(registry: Registry, swap: Swap) -> None:
    swap.repeat(registry)
    assert registry.links() == swap.end, "as if it had never been interrupted, and nothing is left over"
    assert registry.is_loaded()


@pytest.mark.fault(42)
def test_killed_around_any_file_operation_the_old_or_the_new_one_serves_and_a_repeat_ends_alike(
    nursery: SwapNursery, registry: Registry, swap: Swap
) -> None:
    made = uninterrupted(nursery, registry, swap)
    happened = []
    for index, side in itertools.product(range(len(made)), ("before", "after")):
        registry.lay(swap.start)
        nursery.die(swap.life, registry.place, registry.names.get(swap.name, ""), side, index)
        happened.append(old_or_new(registry, swap))
        repeated(registry, swap)
    assert happened == sorted(happened), "once it has happened it stays"
    assert happened[-1]
    assert happened[0] == (swap.before == swap.after)


# ---- losses of power --------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Disk:
    """What of the links outlasts a loss of power: what was synced does, of the rest any part."""

    links: dict[str, str]
    unsynced: list[Operation] = field(default_factory=list)
    synced: set[str] = field(default_factory=set)
    """Paths of everything that was synced while all that came before it was on disk."""

    def take(self, operation: Operation, registry: Path) -> None:
        match operation.call, operation.arguments:
            case "fsync", (place,) if place == str(registry):
                for waiting in self.unsynced:
                    _apply(self.links, waiting)
                self.unsynced.clear()
                self.synced.add(place)
            case "fsync", (place,):
                self.synced.add(place)
            case (("symlink" | "replace" | "unlink"), _):
                self.unsynced.append(operation)
            case "open", _:
                pass
            case _:
                raise AssertionError(f"{operation}: nobody has said what a loss of power does to it")

    def outcomes(self) -> Iterator[dict[str, str]]:
        """Yield every state of the links that power may leave if it fails now."""
        for count in range(len(self.unsynced) + 1):
            for kept in itertools.combinations(self.unsynced, count):
                links = dict(self.links)
                for operation in kept:
                    _apply(links, operation)
                yield links


def _apply(links: dict[str, str], operation: Operation) -> None:
    names = [Path(argument).name for argument in operation.arguments]
    match operation.call:
        case "symlink":
            links[names[1]] = names[0]
        case "replace" if names[0] in links:  # else what it renames was lost as well
            links[names[1]] = links.pop(names[0])
        case "unlink":
            links.pop(names[0], None)


def parts(bundle: Path) -> set[str]:
    return {str(bundle), *(str(path) for path in bundle.iterdir())}


@pytest.mark.fault(42)
def test_when_power_fails_after_any_file_operation_the_old_or_the_new_one_serves_and_a_repeat_ends_alike(
    nursery: SwapNursery, registry: Registry, swap: Swap
) -> None:
    made = uninterrupted(nursery, registry, swap)
    registry.lay(swap.start)
    disk = Disk(links=dict(registry.targets()))
    states = 0
    for operation in made:
        disk.take(operation, registry.place)
        for links in disk.outcomes():
            registry.lay(links)
            if old_or_new(registry, swap):
                assert parts(registry.place / links["current"]) <= disk.synced or swap.before == swap.after
            repeated(registry, swap)
            states += 1
    assert states > len(made) or swap.start == swap.end, "some operation was not on disk at once"
    assert disk.unsynced == [], "what was promised is on disk"
    registry.lay(disk.links)
    assert registry.links() == swap.end


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", ["a third", "after a change that did"])
def test_a_repeat_puts_on_disk_what_a_killed_life_had_not_synced(
    name: str, nursery: SwapNursery, registry: Registry
) -> None:
    swap = SWAPS[name]
    made = uninterrupted(nursery, registry, swap)
    for count in range(len(made) + 1):
        registry.lay(swap.start)
        disk = Disk(links=dict(registry.targets()))
        for operation in made[:count]:
            disk.take(operation, registry.place)
        *_, all_of_it = disk.outcomes()
        registry.lay(all_of_it)  # as the killed life left it, and the machine, which runs on, shows it
        for operation in nursery.live(swap.life, registry.place, registry.names[swap.name]):
            disk.take(operation, registry.place)
        assert disk.unsynced == []
        assert disk.links == registry.targets()
        assert registry.links() == swap.end


def test_without_its_syncs_a_loss_of_power_would_mix_the_old_and_the_new_pair(
    nursery: SwapNursery, registry: Registry
) -> None:
    swap = SWAPS["a third"]
    made = [operation for operation in uninterrupted(nursery, registry, swap) if operation.call != "fsync"]
    registry.lay(swap.start)
    disk = Disk(links=dict(registry.targets()))
    for operation in made:
        disk.take(operation, registry.place)
    pairs = set()
    for links in disk.outcomes():
        registry.lay(links)
        pairs.add(registry.pair())
    assert pairs - {swap.before, swap.after}


def test_a_file_that_is_changed_past_the_watched_calls_is_noticed(nursery: SwapNursery, tmp_path: Path) -> None:
    assert nursery.end("unwatched", tmp_path) == UNSEEN
