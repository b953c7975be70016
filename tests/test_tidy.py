"""The habits of the house, checked over the sources themselves.

Each exception stands in a table with its reason. A table entry that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

CHECKOUT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = CHECKOUT / "posthouse"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
FUNCTION_LINES_MAX: Final = 70

# Modules that reach the outside world, by what they reach. Only posthouse/host may import them.
OUTSIDE: Final = {
    "clock": {"time", "sched"},
    "disk": {"fcntl", "fileinput", "glob", "io", "mmap", "os", "pathlib", "shutil", "sqlite3", "tempfile"},
    "network": {"http", "select", "selectors", "socket", "socketserver", "ssl", "urllib"},
    "randomness": {"random", "secrets", "uuid"},
    "threads and processes": {"concurrent", "multiprocessing", "queue", "signal", "subprocess", "threading"},
}

# Calls that reach it without one of those modules: built-ins, then methods by their name.
OUTSIDE_BUILTINS: Final = {"open", "input", "print"}
OUTSIDE_METHODS: Final = {
    "connect_accepted_socket",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "now",
    "open_connection",
    "run_in_executor",
    "start_server",
    "to_thread",
    "today",
    "utcnow",
}

# (module, what it may reach): why
MAY_REACH: Final = {
    ("cli/run.py", "signal"): "the command line is the one place that owns the process, so it stops it on signals",
    ("cli/sim.py", "concurrent"): "many seeds run in many processes; none of them is a server",
    ("testing/sim/randomness.py", "random"): "the chance of a simulated world: its seed says all of it",
}

DANGEROUS_CALLS: Final = {"__import__", "eval", "exec"}
DANGEROUS_MODULES: Final = {"marshal", "pickle", "shelve"}

NAMELESS: Final = {"common", "controller", "helper", "helpers", "manager", "misc", "util", "utils"}

# Modules that nobody in the package imports: where a process begins, or what a program of others takes.
ENTRY_POINTS: Final = {
    "posthouse.__main__": "the `posthouse` command",
    "posthouse.store.log.memory": "an engine that who embeds a broker, or tests it, gives as `make_log`",
}

# Modules without a test module of their own: why.
TESTED_ELSEWHERE: Final = {
    "host/clock.py": "an interface; its real form is tests/host/test_real.py",
    "host/disk.py": "an interface; its real forms are tests/host/test_real.py and test_memory.py",
    "host/randomness.py": "an interface; its real form is tests/host/test_real.py",
    "model/client_status.py": "plain values; tests/codec/remoting/bodies/test_client_status.py",
    "model/connection.py": "plain values; tests/codec/remoting/bodies/test_consumers.py",
    "model/group.py": "plain values; tests/codec/remoting/bodies/test_groups.py and test_heartbeat.py",
    "model/heartbeat.py": "plain values; tests/codec/remoting/bodies/test_heartbeat.py",
    "model/limits.py": "numbers; each is tested where it is kept",
    "model/offsets.py": "names of types",
    "model/pull.py": "plain values; tests/broker/test_pull.py",
    "model/question.py": "plain values; tests/endpoint/remoting/test_channel.py",
    "model/registration.py": "plain values; tests/codec/remoting/bodies/test_registration.py",
    "testing/sim/consumers.py": "actors of simulated worlds; tests/sim/test_workload.py",
    "testing/sim/errors.py": "words; tests/sim/test_network.py and test_disk.py",
    "testing/sim/facts.py": "a history put in order; tests/sim/test_checkers.py",
    "testing/sim/faults.py": "each kind of fault: tests/sim/test_world.py",
    "testing/sim/nodes.py": "servers of simulated worlds; tests/sim/test_world.py",
    "testing/sim/operators.py": "actors of simulated worlds; tests/sim/test_workload.py",
    "testing/sim/platter.py": "what a disk holds; tests/sim/test_disk.py",
    "testing/sim/poppers.py": "actors of simulated worlds; tests/sim/test_workload.py",
    "testing/sim/process_disk.py": "the disk seam; tests/sim/test_disk.py",
    "testing/sim/producers.py": "actors of simulated worlds; tests/sim/test_workload.py",
    "testing/sim/progress.py": "checkers of progress; tests/sim/test_checkers.py",
    "testing/sim/stage.py": "an interface; tests/sim/test_workload.py and test_world.py",
    "testing/sim/transport.py": "one end of a connection; tests/sim/test_network.py",
}

# Texts that name somebody's machine or one particular registry. Written in pieces, so that this file has none of them.
PRIVATE: Final = re.compile(
    "|".join(
        (
            r"(?<![\w$}.])/ho" + r"me/[a-z]\w+",
            r"/Us" + r"ers/[A-Za-z]\w+",
            r"(?<![\w$}.])/ro" + r"ot/",
            r"(?<![\w$}.])/wo" + r"rk/\w",
            r"/opt/whe" + r"els",
            r"py" + r"pi\.org|python" + r"hosted\.org",
            r"repo1?\.maven\." + r"(?:apache\.)?org",
            r"registry\.npm" + r"js\.org|proxy\.go" + r"lang\.org|deb\.deb" + r"ian\.org|crates\.io",
        )
    )
)


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _dotted(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that an import statement could bind, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "an import of `.` hides the layer"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _reached(path: Path) -> set[str]:
    """What of the outside world a module touches: names of modules, built-ins and methods."""
    found = {name.split(".")[0] for name in _imported(_tree(path))} & set().union(*OUTSIDE.values())
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in OUTSIDE_BUILTINS:
                found.add(node.func.id)
            elif isinstance(node.func, ast.Attribute) and node.func.attr in OUTSIDE_METHODS:
                found.add(node.func.attr)
    return found


def _annotates(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            if node.returns is not None or any(each.annotation is not None for each in arguments):
                return True
    return False


def _in_tree() -> list[Path]:
    """The files that belong to the project: what git tracks or would track."""
    command = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nobody can say which files belong to it")
    return [path for name in listed.split("\0") if name and (path := CHECKOUT / name).is_file()]


def test_layers_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_host_touches_the_outside_world() -> None:
    reached = {
        (_name(path), what) for path in MODULES if not _name(path).startswith("host/") for what in _reached(path)
    }
    strays = reached - MAY_REACH.keys()
    assert not strays, "give these a Host instead: " + ", ".join(f"{name} uses {what}" for name, what in sorted(strays))
    assert not MAY_REACH.keys() - reached, "an exception in MAY_REACH is no longer needed"


def test_nothing_runs_text_as_code_or_unpickles() -> None:
    for path in MODULES:
        tree = _tree(path)
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        modules = {name.split(".")[0] for name in _imported(tree)}
        assert not called & DANGEROUS_CALLS, f"{_name(path)} calls {called & DANGEROUS_CALLS}"
        assert not modules & DANGEROUS_MODULES, f"{_name(path)} imports {modules & DANGEROUS_MODULES}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_opens_with_its_strategy_and_lazy_annotations(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), "a module opens with a docstring that is its strategy"
    if _annotates(tree):
        assert "__future__.annotations" in set(_imported(tree)), "say `from __future__ import annotations`"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines; cut it where it has a name for a part"


def test_every_module_is_named_for_a_concept() -> None:
    nameless = [_name(path) for path in MODULES if NAMELESS & {path.stem, path.parent.name}]
    assert not nameless, f"these say nothing about what they hold: {nameless}"


def test_every_module_is_used() -> None:
    from posthouse.cli.root import COMMANDS

    used = {f"posthouse.cli.{module}" for module, _, _ in COMMANDS.values()}
    for path in MODULES:
        used |= {name for name in _imported(_tree(path)) if name != _dotted(path)}
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("posthouse."):
                used.add(node.value)  # the lazy tables name their modules as text
    modules = {_dotted(path) for path in MODULES if path.stem != "__init__"}
    unused = modules - used - ENTRY_POINTS.keys()
    assert not unused, f"nobody imports {', '.join(sorted(unused))}"
    assert ENTRY_POINTS.keys() <= modules, "an entry point in the table does not exist"


def test_every_module_has_its_test_module() -> None:
    untested = set()
    for path in MODULES:
        if path.stem != "__init__":
            inside = path.relative_to(PACKAGE)
            folder = Path("sim") if inside.parts[:2] == ("testing", "sim") else inside.parent
            test = CHECKOUT / "tests" / folder / f"test_{path.stem.strip('_')}.py"
            if not test.exists():
                untested.add(_name(path))
    missing = untested - TESTED_ELSEWHERE.keys()
    assert not missing, f"no tests/**/test_<module>.py and no reason in TESTED_ELSEWHERE: {sorted(missing)}"
    assert not TESTED_ELSEWHERE.keys() - untested, "an exception in TESTED_ELSEWHERE is no longer needed"


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in _in_tree():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not a text
        for number, line in enumerate(text.splitlines(), 1):
            if hit := PRIVATE.search(line):
                found.append(f"{path.relative_to(CHECKOUT)}:{number}: {hit.group()}")
    assert not found, "\n".join(found)


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in _in_tree():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
                if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                    broken.append(f"{path.relative_to(CHECKOUT)}: {target}")
    assert not broken, "\n".join(broken)


def test_python_in_documents_is_python() -> None:
    for path in _in_tree():
        if path.suffix == ".md":
            for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
                compile(block, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_commands_in_documents_exist() -> None:
    from posthouse.cli.root import COMMANDS

    unknown = []
    for path in _in_tree():
        if path.suffix == ".md":
            for name in re.findall(r"^\s*(?:\$ )?posthouse ([a-z]+)", path.read_text(encoding="utf-8"), re.M):
                if name not in COMMANDS:
                    unknown.append(f"{path.relative_to(CHECKOUT)}: posthouse {name}")
    assert not unknown, "\n".join(unknown)
