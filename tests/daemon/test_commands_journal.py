import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from daemon.commands_journal import add_journal_verbs
from daemon.errors import SacdError
from daemon.journal_reader import verify
from tests.daemon.journals import write


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    add_journal_verbs(made)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    write(path, 5)
    return path


def call(app: typer.Typer, *arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_backup_says_where_and_how_many(app: typer.Typer, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    assert call(app, "backup", "--journal", str(path), "--to", str(target)) == f"{target}: 5 entries, all sound\n"
    told = json.loads(call(app, "backup", "--journal", str(path), "--json"))
    assert told["entries"] == 5
    assert told["head"] == verify(path).head
    assert Path(told["path"]).parent == tmp_path / "backups"


def test_restore_says_what_is_lost_and_how_to_go_on(app: typer.Typer, path: Path, tmp_path: Path) -> None:
    call(app, "backup", "--journal", str(path))
    path.write_bytes(b"")
    told = call(app, "restore", "--journal", str(path))
    assert "restored 5 entries from" in told
    assert "0 entries are lost, the former journal lies at" in told
    assert "a live one with `sacd run --accept-recovery`" in told
    assert verify(path).entries == 5
    told = json.loads(call(app, "restore", "--journal", str(path), "--json"))
    assert (told["entries"], told["lost"], told["is_done"]) == (5, 0, True)


def test_restore_takes_the_file_it_is_given(app: typer.Typer, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    call(app, "backup", "--journal", str(path), "--to", str(target))
    assert f"from {target}" in call(app, "restore", str(target), "--journal", str(path))
    with pytest.raises(SacdError, match="there is no such file: name a backup"):
        call(app, "restore", str(tmp_path / "none"), "--journal", str(path))
