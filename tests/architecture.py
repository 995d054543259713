"""The rules of who may import what, read from the source: `violations(root)` returns every broken one.

Never imports what it reads, so that a wrong arrow is found before it is ever run.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("strategy", "daemon", "training")

# The parts of the standard library that compute and nothing else: no files, sockets, clock, logging, randomness.
PURE = re.compile(
    r"abc|bisect|collections|copy|dataclasses|decimal|enum|fractions|functools|gzip|hashlib|heapq|itertools|json|math"
    r"|numbers|operator|re|string|struct|textwrap|types|typing|unicodedata|zlib"
)
IMPURE_PARTS = re.compile(
    r"gzip\.(open|GzipFile)\b"
    r"|numpy\.(random|load|save|savez|savez_compressed|loadtxt|savetxt|genfromtxt|fromfile|memmap|lib|ctypeslib)\b"
)
IMPURE_BUILTINS = frozenset({"open", "print", "input", "breakpoint"})
RUNS_TEXT = frozenset({"eval", "exec", "compile"})

# Packages whose import name is not the name they are installed by.
IMPORT_NAMES = {"prometheus-client": "prometheus_client"}
OPTIONAL_IN_DAEMON = frozenset({"pyarrow"})
VENUE_ADAPTERS = frozenset({("daemon", "feed_ccxt"), ("daemon", "venue_ccxt"), ("training", "fetch_ccxt")})

# Adapters beside the feeds and brokers, and the modules that may name concrete adapters: app and serving put the daemon
# together, replay and trace put parts of it together for one command, status_text and models_text word what they
# return; contenders and succession put one ensemble in another's place.
SINGLE_ADAPTERS = frozenset(
    {"journal", "metrics", "http", "control", "terminal", "models", "mqtt", "notify", "retrain"}
)
WIRING = re.compile(
    r"(app|__main__|cli|commands?|contenders|models_text|replay|serving|status_text|succession|trace)(_\w+)?"
)
JITTER = re.compile(r"app(_\w+)?|cli")
SEAMS = {
    "feed_": frozenset({"instruments", "events", "close"}),
    "broker_": frozenset({"submit", "on_market", "protect", "close"}),
}

TIME_AND_CHANCE = re.compile(
    r"time|random|secrets|uuid\.uuid[14]|os\.(urandom|times)|asyncio\.sleep"
    r"|datetime\.(datetime\.(now|utcnow|today)|date\.today)"
    r"|numpy\.random\.(?!default_rng$|Generator$|SeedSequence$|PCG64$|BitGenerator$)\w+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Something from elsewhere that a file imports or reads: its full dotted name, and whether only when called."""

    name: str
    line: int
    is_import: bool
    is_lazy: bool
    call: ast.Call | None = None

    def within(self, *modules: str) -> bool:
        return any(self.name == module or self.name.startswith(module + ".") for module in modules)

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


class _Uses(ast.NodeVisitor):
    """Collects the uses of one file, with local names resolved to what they stand for."""

    def __init__(self, package: str) -> None:
        self.found: list[Use] = []
        self._package = package
        self._known: dict[str, str] = {}
        self._depth = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)
            name = alias.asname or alias.name.partition(".")[0]
            self._known[name] = alias.name if alias.asname else name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parents = self._package.split(".")
        base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        for alias in node.names:
            self._add(f"{module}.{alias.name}", node.lineno)
            self._known[alias.asname or alias.name] = f"{module}.{alias.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_later(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_later(node)

    def visit_If(self, node: ast.If) -> None:
        only_types = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        self._depth += only_types
        for child in node.body:
            self.visit(child)
        self._depth -= only_types
        self.visit(node.test)
        for child in node.orelse:
            self.visit(child)

    def visit_Call(self, node: ast.Call) -> None:
        name = self._resolve(node.func)
        if name in {"importlib.import_module", "__import__", "builtins.__import__"}:
            target = node.args[0] if node.args else None
            literal = target.value if isinstance(target, ast.Constant) else None
            self._add(literal if isinstance(literal, str) else "?", node.lineno)
        elif name is not None:
            self.found.append(Use(name=name, line=node.lineno, is_import=False, is_lazy=self._depth > 0, call=node))
            for child in [*node.args, *(keyword.value for keyword in node.keywords)]:
                self.visit(child)
            return
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._resolve(node)
        if name is None:
            self.generic_visit(node)
        else:
            self.found.append(Use(name=name, line=node.lineno, is_import=False, is_lazy=self._depth > 0))

    def _visit_later(self, node: ast.AST) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def _add(self, name: str, line: int) -> None:
        self.found.append(Use(name=name, line=line, is_import=True, is_lazy=self._depth > 0))

    def _resolve(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            builtin = node.id if node.id in IMPURE_BUILTINS | RUNS_TEXT | {"__import__"} else None
            return self._known.get(node.id, builtin)
        if isinstance(node, ast.Attribute):
            base = self._resolve(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None


def uses(path: Path, root: Path) -> list[Use]:
    """Return all uses of `path`, imports first, so that a name imported below its use is known as well."""
    visitor = _Uses(".".join(path.relative_to(root).parent.parts))
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
        visitor.visit(node)
    visitor.found.clear()
    visitor.visit(tree)
    return visitor.found


# ---- one rule, one function: yields what is wrong with one use in one file ----
def packages_point_inwards(use: Use, package: str, _module: str) -> Iterator[str]:
    """training -> strategy <- daemon, and nothing of ours needs the tests."""
    allowed = {package, "strategy"}
    if use.is_import and use.within(*PACKAGES, "tests", "benchmarks") and use.top not in allowed:
        yield f"{package} imports {use.top}"


def imports_are_known(use: Use, package: str, _module: str) -> Iterator[str]:
    """A name that is only known at run time could be anything."""
    if package == "training":
        return
    if use.is_import and use.name == "?":
        yield "import of a name that is not written out"
    if not use.is_import and use.name in RUNS_TEXT:
        yield f"{use.name} runs text as code"


def strategy_is_pure(use: Use, package: str, _module: str) -> Iterator[str]:
    """NumPy and the computing part of the standard library; values in, values out."""
    if package != "strategy":
        return
    if use.is_import and use.top not in {"numpy", *PACKAGES, "?"} and not PURE.fullmatch(use.top):
        yield f"strategy imports {use.top}, which is not pure"
    if IMPURE_PARTS.match(use.name):
        yield f"strategy uses {use.name}, which is not pure"
    if not use.is_import and use.name in IMPURE_BUILTINS:
        yield f"strategy calls {use.name}"


def daemon_stays_small(use: Use, package: str, _module: str) -> Iterator[str]:
    """The daemon imports what its lock holds: no torch, no pandas, no Stable-Baselines3, no Gymnasium."""
    if package != "daemon" or not use.is_import or use.top in {*PACKAGES, "tests", "benchmarks", "?"}:
        return
    if use.top in sys.stdlib_module_names or use.top in runtime_imports():
        return
    if use.top not in OPTIONAL_IN_DAEMON:
        yield f"daemon imports {use.top}, which is not among its dependencies"
    elif not use.is_lazy:
        yield f"daemon imports {use.top} when it starts; it is optional, so import it where it is used"


def ccxt_stays_in_its_place(use: Use, package: str, module: str) -> Iterator[str]:
    """ccxt costs seconds and tens of megabytes: three files know it, and only once they are needed."""
    if not use.is_import or use.top != "ccxt":
        return
    if (package, module) not in VENUE_ADAPTERS:
        yield "ccxt outside daemon/feed_ccxt.py, daemon/venue_ccxt.py and training/fetch_ccxt.py"
    elif not use.is_lazy:
        yield "ccxt imported at module level"


def the_scheduler_stays_in_its_place(use: Use, package: str, module: str) -> Iterator[str]:
    """APScheduler reads the clock itself: one file knows it, and decides by the time that it is given."""
    if use.is_import and use.top == "apscheduler" and (package, module) != ("daemon", "schedule"):
        yield "apscheduler outside daemon/schedule.py"


def time_and_chance_come_from_outside(use: Use, package: str, module: str) -> Iterator[str]:
    """Same journal, same outcome: only daemon/clock.py reads the time, sleeps or draws; generators carry a seed.

    The jitter of pauses is no outcome: where the daemon is put together a generator is made for it, and handed in like
    everything else.
    """
    if package not in {"strategy", "daemon"} or (package, module) == ("daemon", "clock"):
        return
    if package == "daemon" and JITTER.fullmatch(module) and use.name in {"random", "random.Random"}:
        return
    if (package, module) == ("daemon", "testvenue") and use.name in {"random", "random.Random"}:
        # The rehearsal venue plays at chance, from a seed that its user gives.
        if use.call is not None and not (use.call.args or use.call.keywords):
            yield "random.Random without a seed"
        return
    if TIME_AND_CHANCE.fullmatch(use.name) or use.within("time", "random", "secrets"):
        gives_way = use.name == "asyncio.sleep" and use.call is not None and ast.unparse(use.call).endswith("sleep(0)")
        if not gives_way:
            yield f"{use.name} outside daemon/clock.py"
    if use.name == "numpy.random.default_rng" and use.call is not None and not (use.call.args or use.call.keywords):
        yield "numpy.random.default_rng without a seed"


USE_RULES = (
    packages_point_inwards,
    imports_are_known,
    strategy_is_pure,
    daemon_stays_small,
    ccxt_stays_in_its_place,
    the_scheduler_stays_in_its_place,
    time_and_chance_come_from_outside,
)


def runtime_imports() -> frozenset[str]:
    """Return the import names of the dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in project["dependencies"]]
    # pydantic's core and NumPy's own parts come with them
    return frozenset(IMPORT_NAMES.get(name, name) for name in names) | {"pydantic_core"}


def adapters(root: Path) -> frozenset[str]:
    """Return the adapters of the daemon: the named ones, and each feed_*, broker_* file that offers a whole seam."""
    found = {
        name for name in SINGLE_ADAPTERS if any(root.glob(f"daemon/{name}.py")) or (root / "daemon" / name).is_dir()
    }
    for path in root.glob("daemon/*_*.py"):
        for prefix, seam in SEAMS.items():
            if path.name.startswith(prefix) and any(seam <= methods for methods in _methods(path)):
                found.add(path.stem)
    return frozenset(found)


def _methods(path: Path) -> Iterator[set[str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}


def adapter_faults(use: Use, module: str, known: frozenset[str]) -> Iterator[str]:
    """Adapters know the seams, not each other; only where everything is put together are concrete ones named."""
    if not use.is_import or not use.within(*(f"daemon.{name}" for name in known)):
        return
    target = use.name.split(".")[1]
    if target == module or WIRING.fullmatch(module):
        return
    who = "adapter" if module in known else "module"
    yield f"{who} daemon.{module} imports adapter daemon.{target}"


def violations(root: Path) -> list[str]:
    """Return every broken rule under `root` as `file:line: what is wrong`."""
    known = adapters(root)
    found = []
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        where = path.relative_to(root)
        if path.name == "__init__.py" and path.read_text(encoding="utf-8"):
            found.append(f"{where}:1: __init__.py is not empty")
        package = where.parts[0]
        module = where.with_suffix("").parts[1]
        for use in uses(path, root):
            faults = [fault for rule in USE_RULES for fault in rule(use, package, module)]
            if package == "daemon":
                faults.extend(adapter_faults(use, module, known))
            found.extend(f"{where}:{use.line}: {fault}" for fault in faults)
    return sorted(set(found))
