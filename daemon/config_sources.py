"""Where configuration comes from: the TOML file, the environment, the credential directory of systemd.

Reads and merges; knows nothing of what the values mean. Secrets are taken from the environment and the credential
directory only, and leave this file in a mapping of their own.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from daemon.config_mistakes import KeyPath, Mistake, every_key, field_at, kind_of, nearest, shown
from daemon.errors import ConfigError
from daemon.redact import MASK, is_secret_name

PREFIX = "SACD_"
CREDENTIAL_PREFIX = "SACD_CREDENTIALS__"
CREDENTIAL_NAMES = (
    "apiKey",
    "secret",
    "password",
    "uid",
    "login",
    "token",
    "twofa",
    "accountId",
    "privateKey",
    "walletAddress",
)
"""What exchanges ask for, as ccxt spells it."""
_USERINFO = re.compile(r"://[^/@\s]*:([^/\s]+)@")
FOREIGN_NAMES = frozenset({"SACD_TEST_DATA", "SACD_TRIALS"})
"""Variables with our prefix that are no configuration. SACD_TEST_DATA: where the tests find recorded candles.
SACD_TRIALS: where training counts its trials."""


@dataclass(slots=True)
class Document:
    """Configuration as written, before its meaning is checked.

    values: nested tables.  origins: the environment variable behind a path.  credentials: ccxt name -> secret.
    variables: those of the environment that hold credentials.  credential_file: what systemd handed over, read or not.
    """

    values: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)
    credential_file: Path | None = None
    mistakes: list[Mistake] = field(default_factory=list)


def read_document(path: Path, environ: Mapping[str, str], model: type[BaseModel]) -> Document:
    """Return what file and environment say, with every mistake of form that was met on the way.

    Raises ConfigError when the file cannot be read or is no TOML: then nothing else can be told.
    """
    document = Document(values=read_toml(path))
    for name in sorted(environ):
        if name.upper().startswith(CREDENTIAL_PREFIX):
            _take_credential(document, name, environ[name])
        elif name.startswith(PREFIX) and name not in FOREIGN_NAMES:
            _override(document, model, name, environ[name])
    _take_credential_file(document, environ)
    for where, table, key in list(_entries(document.values, ())):
        _refuse_secret(document, where, table, key)
    _check_ccxt(document)
    return document


# ---- files -----------------------------------------------------------------------------------------------------
def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises ConfigError naming file, line and column."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name the configuration with --config") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); make it a file this user may read") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; no setting needs that") from None
    except ValueError as error:  # TOMLDecodeError, and integers beyond what Python converts
        raise ConfigError(f'{path}: is not TOML: {error}; write key = value, and text "in quotes"') from None


def read_credentials(path: Path) -> tuple[dict[str, str], list[Mistake]]:
    """Return the secrets in a credential file by ccxt's names, and what is wrong with it, never with a value.

    Raises ConfigError when it cannot be read or is no TOML.
    """
    known = {name.lower(): name for name in CREDENTIAL_NAMES}
    credentials, mistakes = dict[str, str](), list[Mistake]()
    for key, value in read_toml(path).items():
        name = known.get(key.lower())
        if name is not None and isinstance(value, str) and value:
            credentials[name] = value
            continue
        wrong = "is no credential" if name is None else "is not text"
        right = f'write name = "value" with one of: {", ".join(CREDENTIAL_NAMES)}'
        mistakes.append(Mistake(path=(key,), shown=MASK, wrong=wrong, right=right, origin=str(path)))
    return credentials, mistakes


def _is_live(document: Document) -> bool:
    section = document.values.get("daemon")
    return isinstance(section, dict) and section.get("mode") == "live"


def _take_credential_file(document: Document, environ: Mapping[str, str]) -> None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return
    document.credential_file = path = Path(directory, "exchange.toml")
    # In live mode they are read by whoever trades, once the file is known to be tight: see `daemon.credentials`.
    if not _is_live(document) and path.exists():
        credentials, mistakes = read_credentials(path)
        document.credentials = {**credentials, **document.credentials}
        document.mistakes += mistakes


# ---- environment -----------------------------------------------------------------------------------------------
def _take_credential(document: Document, variable: str, value: str) -> None:
    known = {name.lower(): name for name in CREDENTIAL_NAMES}
    name = known.get(variable[len(CREDENTIAL_PREFIX) :].replace("_", "").lower())
    if name is not None and value:
        document.credentials[name] = value
        document.variables.append(variable)
        return
    wrong = "is no credential" if name is None else "is empty"
    right = f"{CREDENTIAL_PREFIX} is followed by one of: {', '.join(CREDENTIAL_NAMES).upper()}"
    document.mistakes.append(Mistake(path=(variable,), shown=MASK, wrong=wrong, right=right))


def _override(document: Document, model: type[BaseModel], variable: str, text: str) -> None:
    path = _path_of(model, variable)
    if path is None:
        right = _nearest_variable(model, variable)
        document.mistakes.append(
            Mistake(path=(variable,), shown=MASK, wrong="is no setting of this program", right=right)
        )
        return
    known = field_at(model, path)
    is_text = known is not None and kind_of(known) in {str, Path, None}
    if _store(document.values, path, text if is_text else _parsed(text)):
        document.origins[path] = variable


def _path_of(model: type[BaseModel], variable: str) -> KeyPath | None:
    parts = tuple(variable[len(PREFIX) :].split("__"))
    plain = tuple(part.lower() for part in parts)
    for path in every_key(model):
        if plain == path:
            return path
        # Below a free table the rest of the name is the key as it stands.
        known = field_at(model, path)
        if plain[: len(path)] == path and known is not None and kind_of(known) is dict:
            return (*path, *parts[len(path) :])
    return None


def _nearest_variable(model: type[BaseModel], variable: str) -> str:
    if is_secret_name(variable):
        return f"a secret is called {CREDENTIAL_PREFIX} and one of: {', '.join(CREDENTIAL_NAMES).upper()}"
    near = nearest(variable.upper(), (f"{PREFIX}{'__'.join(path).upper()}" for path in every_key(model)))
    return f"did you mean {near}?" if near else f"write {PREFIX}SECTION__KEY, or unset it"


def _parsed(text: str) -> object:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if table.keys() == {"value"} else text


def _store(values: dict[str, Any], path: KeyPath, value: object) -> bool:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):  # a mistake of the file, which will be told as such
            return False
    values[path[-1]] = value
    return True


# ---- what must not stand in a file -----------------------------------------------------------------------------
def _entries(values: object, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any], str]]:
    """Yield path, table and key of every entry of nested tables, the inner ones after their table."""
    if isinstance(values, dict):
        for key, value in list(values.items()):
            yield (*path, key), values, key
            yield from _entries(value, (*path, key))
    elif isinstance(values, list):
        for item in values:
            yield from _entries(item, path)


def _refuse_secret(document: Document, path: KeyPath, table: dict[str, Any], key: str) -> None:
    value = table.get(key)
    if is_secret_name(key) and not isinstance(value, bool | None):
        del table[key]
        name = next((name for name in CREDENTIAL_NAMES if name.lower() == key.replace("_", "").lower()), "secret")
        right = f"write it as {name} into the file that exchange.credentials names, which only its owner may read"
        wrong = "is a secret, which must not stand here"
    elif isinstance(value, str) and _has_password(value) and not _is_overridden(document, path):
        table[key] = ""
        right = (
            f"give the whole value as {PREFIX}{'__'.join((*map(str.upper, path[:2]), *path[2:]))} in the environment"
        )
        wrong = "holds a password, which must not stand in a file"
    else:
        return
    document.mistakes.append(Mistake(path=path, shown=MASK, wrong=wrong, right=right))


def _has_password(text: str) -> bool:
    return _USERINFO.search(text) is not None


def passwords_in(values: object) -> tuple[str, ...]:
    """Return the passwords within the URLs of nested tables."""
    texts = (table[key] for _, table, key in _entries(values, ()))
    return tuple(found[1] for text in texts if isinstance(text, str) and (found := _USERINFO.search(text)))


def _is_overridden(document: Document, path: KeyPath) -> bool:
    return any(path[:length] in document.origins for length in range(1, len(path) + 1))


def _check_ccxt(document: Document) -> None:
    exchange = document.values.get("exchange")
    options = exchange.get("ccxt") if isinstance(exchange, dict) else None
    for path, table, key in list(_entries(options, ("exchange", "ccxt"))):
        value = table[key]
        if key == "verbose" and value:
            wrong, right = "makes ccxt print every request with its keys", "remove it"
        elif isinstance(value, float) and not math.isfinite(value):
            wrong, right = "is not a finite number", "write a number"
        elif isinstance(value, str | bool | int | float | dict | list):
            continue
        else:
            wrong, right = f"is a {type(value).__name__}", "write text, a number, true, false, a list or a table"
        del table[key]
        document.mistakes.append(Mistake(path=path, shown=shown(value), wrong=wrong, right=right))
