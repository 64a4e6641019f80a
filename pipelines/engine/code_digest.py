"""Which code a step runs: a digest of its module and of every first-party module that one can import.

Sources are read and parsed, never imported, so that digesting a training step does not load torch. What counts is the
syntax tree without docstrings, comments and layout: rewording a sentence keeps an artifact, changing a number does
not. Imports count wherever they stand, inside functions and type-checking blocks too. First-party is `components` and
the package of the step itself; installed packages are told apart by their versions in the manifest instead. A module
whose name is put together at run time is not seen.

Parsing 160 files takes 0.35 s, most of a plan. What was read off a source is therefore kept in the store under the
hash of its bytes, which makes it 0.03 s; the file may be deleted at any time.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import components
from components.errors import ConfigError
from components.publish import publish_bytes
from pipelines.engine.identity import digest_of_files

FIRST_PARTY = "components"
FORMAT = 1
"""Number of the way in which sources are read; raised when that changes."""


@dataclass(frozen=True)
class CodeDigest:
    """The code of a step.

    Attributes:
        digest: Digest over all files, 64 hex characters.
        files: Digest of each file by its path from the source root, such as "components/clean/rules.py".
    """

    digest: str
    files: Mapping[str, str]

    def changed(self, earlier: Mapping[str, str]) -> list[str]:
        """Files that differ from an earlier digest's, were added or are gone; sorted."""
        names = {*self.files, *earlier}
        return sorted(name for name in names if self.files.get(name) != earlier.get(name))


class Sources:
    """What was read off source files, each of them once, and kept from one process to the next.

    Args:
        kept: JSON file to keep it in; None keeps nothing. A damaged one counts as empty.
    """

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = kept
        self._known: dict[str, tuple[str, list[str]]] = {}
        self._used: dict[str, tuple[str, list[str]]] = {}
        self._read: dict[tuple[Path, str], tuple[str, list[str]]] = {}
        self.digests: dict[str, CodeDigest] = {}  # by module: many steps of a recipe may share one
        if kept is not None and kept.exists():
            self._known = _load(kept)

    def read(self, path: Path, module: str) -> tuple[str, list[str]]:
        """The digest of a source file and the first-party names it may import.

        Raises:
            ConfigError: If it does not parse.
        """
        found = self._read.get((path, module))
        if found is None:
            text = path.read_bytes()
            key = hashlib.sha256(f"{FORMAT} {sys.version_info[:2]} {module}\n".encode() + text).hexdigest()
            found = self._known.get(key) or _parse(text, path, module)
            self._read[path, module] = self._used[key] = found
        return found

    def keep(self) -> None:
        """Writes down what was used, if there is anything new."""
        if self._kept is not None and not self._used.keys() <= self._known.keys():
            publish_bytes(self._kept, json.dumps(self._used).encode())


def code_digest(fn: Callable[..., object], sources: Sources) -> CodeDigest:
    """Digests the code of a step function.

    Raises:
        ConfigError: If a source file is missing or does not parse.
    """
    if fn.__module__ not in sources.digests:
        sources.digests[fn.__module__] = _digest(fn, sources)
    return sources.digests[fn.__module__]


def _digest(fn: Callable[..., object], sources: Sources) -> CodeDigest:
    module = sys.modules[fn.__module__]
    if module.__file__ is None:
        raise ConfigError(f"Module {fn.__module__} has no source file.", fn.__module__, "put the step into a file")
    path = Path(module.__file__).resolve()
    depth = fn.__module__.count(".") + (path.name == "__init__.py")
    closure = {fn.__module__: path, **module_closure(fn.__module__, path.parents[depth], sources)}
    files = {}
    for name, source in closure.items():
        tail = name.replace(".", "/") + ("/__init__.py" if source.name == "__init__.py" else ".py")
        files[tail] = sources.read(source, name)[0]
    return CodeDigest(digest_of_files(files), files)


def module_closure(module: str, root: Path, sources: Sources) -> dict[str, Path]:
    """Source files of a module and of all it can import, by module name.

    Args:
        module: Dotted name, such as "components.clean.step".
        root: Folder that holds the step's own top-level package.
        sources: Reader of the files.
    """
    tops = {module.partition(".")[0]: root, FIRST_PARTY: Path(components.__path__[0]).parent}
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file_of(name, tops)
        if path is not None:
            found[name] = path
            waiting.extend(_parents(name))
            waiting.extend(sources.read(path, name)[1])
    return found


def _load(kept: Path) -> dict[str, tuple[str, list[str]]]:
    try:
        record = json.loads(kept.read_bytes())
        return {key: (str(digest), list(imports)) for key, (digest, imports) in record.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _parse(text: bytes, path: Path, module: str) -> tuple[str, list[str]]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{path.name} does not parse: {error.msg}.", f"{path}:{error.lineno}", "correct it") from None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tops = (FIRST_PARTY, module.partition(".")[0])
    imports = sorted({name for name in _imports(tree, package) if name.partition(".")[0] in tops})
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).hexdigest()[:16], imports


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that may be modules; `from a import b` gives both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                node.body = node.body[1:]


def _file_of(module: str, tops: Mapping[str, Path]) -> Path | None:
    root = tops.get(module.partition(".")[0])
    if root is None:
        return None
    base = root.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return None


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module
