"""Which code a step runs: a digest of its module and of every first-party module that one can import.

Sources are read and parsed, never imported, so that digesting a training step does not load torch. What counts is the
syntax tree without docstrings, comments and layout: rewording a sentence keeps an artifact, changing a number does
not. Imports count wherever they stand, inside functions and type-checking blocks too. First-party is `components` and
the package of the step itself; installed packages are told apart by their versions in the manifest instead. A module
whose name is put together at run time is not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import components
from components.errors import ConfigError
from pipelines.engine.identity import digest_of_files

FIRST_PARTY = "components"


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


@dataclass(frozen=True)
class _Source:
    digest: str
    imports: frozenset[str]


def code_digest(fn: Callable[..., object]) -> CodeDigest:
    """Digests the code of a step function; each source file is read once per process.

    Raises:
        ConfigError: If a source file is missing or does not parse.
    """
    module = sys.modules[fn.__module__]
    if module.__file__ is None:
        raise ConfigError(f"Module {fn.__module__} has no source file.", fn.__module__, "put the step into a file")
    path = Path(module.__file__).resolve()
    depth = fn.__module__.count(".") + (path.name == "__init__.py")
    return _closure(fn.__module__, path, path.parents[depth])


def module_closure(module: str, root: Path) -> dict[str, Path]:
    """Source files of a module and of all it can import, by module name.

    Args:
        module: Dotted name, such as "components.clean.step".
        root: Folder that holds the step's own top-level package.
    """
    tops = {module.partition(".")[0]: root, FIRST_PARTY: Path(components.__path__[0]).parent}
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, tops)
        if path is None or name in found:
            continue
        found[name] = path
        waiting.extend(_parents(name))
        waiting.extend(_read(path, name, path.name == "__init__.py").imports)
    return found


@functools.cache
def _closure(module: str, path: Path, root: Path) -> CodeDigest:
    sources = module_closure(module, root)
    sources.setdefault(module, path)
    files = {}
    for name, source in sources.items():
        tail = name.replace(".", "/") + ("/__init__.py" if source.name == "__init__.py" else ".py")
        files[tail] = _read(source, name, source.name == "__init__.py").digest
    return CodeDigest(digest_of_files(files), files)


@functools.cache
def _read(path: Path, module: str, is_package: bool) -> _Source:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{path.name} does not parse: {error.msg}.", f"{path}:{error.lineno}", "correct it") from None
    package = module if is_package else module.rpartition(".")[0]
    imports = frozenset(_imports(tree, package))
    _drop_docstrings(tree)
    return _Source(hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).hexdigest()[:16], imports)


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
