"""Which metrics, labels and values an expression of Prometheus names: a tokenizer, for it has no parser to import."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>0x[0-9a-fA-F]+|\d[\d.]*(?:e[+-]?\d+)?[a-z]*(?:\d+[a-z]+)*)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<matcher>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){}\[\],@:])""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"})
_BEFORE_LABELS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """What a selector demands of a label. values: the alternatives of a regular expression, each for itself."""

    label: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A metric as an expression asks for it."""

    metric: str
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """All that an expression names. labels: those that it groups, joins or sums by."""

    selectors: tuple[Selector, ...]
    labels: frozenset[str]

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(selector.metric for selector in self.selectors)


def read(text: str) -> Expression:
    """Return what an expression names. Raises ValueError for a sign that no expression has."""
    tokens = _Tokens(text)
    selectors, labels = [], set[str]()
    while (token := tokens.take()) is not None:
        kind, word = token
        if kind != "name" or word.lower() in _WORDS:
            if word == "[":
                while tokens.take() != ("matcher", "]"):
                    pass
        elif word.lower() in _BEFORE_LABELS:
            labels.update(tokens.names())
        elif not tokens.is_call():
            selectors.append(Selector(metric=word, matchers=tuple(tokens.matchers())))
    return Expression(selectors=tuple(selectors), labels=frozenset(labels))


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = list(_split(text))
        self._next = 0

    def take(self) -> tuple[str, str] | None:
        if self._next == len(self._tokens):
            return None
        self._next += 1
        return self._tokens[self._next - 1]

    def _sees(self, word: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next] == ("matcher", word)

    def is_call(self) -> bool:
        """Tell whether the name before is that of a function or an aggregation: `sum(`, `sum by (...) (`."""
        follows = self._tokens[self._next] if self._next < len(self._tokens) else ("", "")
        return follows == ("matcher", "(") or follows in {("name", "by"), ("name", "without")}

    def names(self) -> Iterator[str]:
        """Take a list of labels, where there is one."""
        if not self._sees("("):
            return
        while (token := self.take()) not in {None, ("matcher", ")")}:
            if token[0] == "name":
                yield token[1]

    def matchers(self) -> Iterator[Matcher]:
        """Take what stands in braces, where there are any."""
        if not self._sees("{"):
            return
        self.take()
        while (token := self.take()) not in {None, ("matcher", "}")}:
            if token == ("matcher", ","):
                continue
            operator, value = self.take(), self.take()
            plain = value[1][1:-1]
            values = tuple(plain.split("|")) if operator[1] in {"=~", "!~"} else (plain,)
            yield Matcher(label=token[1], operator=operator[1], values=values)


def _split(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at : at + 20]!r} begins with no sign of PromQL")
        at = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()
