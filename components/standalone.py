"""Runs one step alone, with no orchestrator: `python -m components.clean --config clean.json --input documents=PATH`.

    python -m components.<step> [--config FILE] [--input NAME=PATH ...] [--output DIR] [key=value ...]

The config comes from a JSON file, then from `key=value` (nested fields by dots, the step's name in front or not). All
is checked against the config dataclass before the step starts. `DIR/output` becomes the artifact, `DIR/scratch` keeps
what an interrupted run saved, `DIR/journal.jsonl` is what the step said, `DIR/metrics.json` what it returned. Ctrl-C or
SIGTERM asks the step to save and end; the same command then goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import json
import shutil
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.context import Metrics, local_context
from components.errors import ConfigError, HeadwaterError, disk_full
from components.publish import publish_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MARK = ".standalone"


def main(step: Callable[..., Metrics], config_type: type[DataclassInstance], argv: Sequence[str] | None = None) -> None:
    """Parses the command line, runs the step, prints its metrics as JSON and exits.

    Args:
        step: The step function.
        config_type: Its config dataclass.
        argv: Arguments after the program's name; those of the process if None.

    Raises:
        SystemExit: Always; 0 done, otherwise the code of the error.
    """
    try:
        metrics = run_alone(step, config_type, sys.argv[1:] if argv is None else argv)
    except (HeadwaterError, OSError) as error:
        known = error if isinstance(error, HeadwaterError) else disk_full(error)
        if known is None:
            raise
        print(f"{step.__name__}: {known}", file=sys.stderr)
        raise SystemExit(known.exit_code) from None
    print(json.dumps(metrics, sort_keys=True))
    raise SystemExit(0)


def run_alone(step: Callable[..., Metrics], config_type: type[DataclassInstance], argv: Sequence[str]) -> Metrics:
    """Does what `main` does, but returns the metrics and raises its errors.

    Raises:
        ConfigError: If the command line or the config does not fit the step.
        HeadwaterError: Whatever the step raises.
    """
    name = step.__name__
    arguments = _parser(step, config_type).parse_intermixed_args(argv)
    known = [parameter.name for parameter in list(inspect.signature(step).parameters.values())[2:]]
    values: dict[str, Any] = _read_config(arguments.config) if arguments.config else {}
    inputs: dict[str, Path] = {}
    for text in arguments.settings:
        key, _, value = _split(text).partition("=")
        if key in known:
            inputs[key] = Path(value)
        else:
            _put(values, key.removeprefix(f"{name}."), value)
    for text in arguments.input:
        key, _, value = _split(text).partition("=")
        inputs[key] = Path(value)
    config = build_config(config_type, values, name)
    _check_inputs(step, inputs)
    folder = _prepare(arguments.output or Path(name))
    context = local_context(name, folder, int(getattr(config, "seed", 0)))
    with _stop_on_signals(folder / "stop"):
        metrics = step(context, config, **inputs)
    publish_json(folder / "metrics.json", metrics)
    return metrics


def build_config(
    config_type: type[DataclassInstance], values: Mapping[str, object], where: str = ""
) -> DataclassInstance:
    """Makes a config out of plain values, checking names and types.

    Args:
        config_type: The dataclass; its fields are of the kinds `components.configuring` lists.
        values: Values by field; nested configs as mappings; text is read as the field's type.
        where: Dotted name of the config, for errors.

    Raises:
        ConfigError: Naming the key, and the nearest one that exists.
    """
    hints = typing.get_type_hints(config_type)
    names = [field.name for field in dataclasses.fields(config_type)]
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            fix = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
            raise ConfigError(f"There is no key {where}.{name}.", f"{where}.{name}", fix)
    return config_type(**{name: _read(value, hints[name], f"{where}.{name}") for name, value in values.items()})


def _read(value: object, hint: Any, key: str) -> object:  # noqa: ANN401  (a type hint)
    """Reads a value as a field's type."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None or value in ("null", "None"):
            return None
        return _read(value, next(option for option in options if option is not types.NoneType), key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build_config(hint, value, key)
    if typing.get_origin(hint) is tuple:
        items = _items(value) if isinstance(value, str) else value
        if isinstance(items, list | tuple):
            return tuple(_read(item, options[0], f"{key}[{index}]") for index, item in enumerate(items))
    elif typing.get_origin(hint) is dict:
        mapping = _json_or(value, None) if isinstance(value, str) else value
        if isinstance(mapping, Mapping):
            return {str(name): _read(item, options[1], f"{key}.{name}") for name, item in mapping.items()}
    elif hint in (bool, int, float, str):
        return _scalar(value, hint, key)
    raise ConfigError(f"{key}={value} is no {_spelt(hint)}.", key, f"give {_spelt(hint)}")


def _scalar(value: object, kind: type, key: str) -> object:
    found = _json_or(value, value) if isinstance(value, str) and kind is not str else value
    if kind is float and isinstance(found, int) and not isinstance(found, bool):
        found = float(found)
    if kind is float and isinstance(found, str) and _is_number(found):
        found = float(found)
    if type(found) is not kind:
        raise ConfigError(f"{key}={value} is no {_spelt(kind)}.", key, f"give {_spelt(kind)}")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _items(text: str) -> list[object]:
    parsed = _json_or(text, None)
    if isinstance(parsed, list):
        return parsed
    bare = text.strip().removeprefix("[").removesuffix("]")
    return [part.strip() for part in bare.split(",") if part.strip()]


def _json_or(text: str, otherwise: object) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


def _spelt(hint: Any) -> str:  # noqa: ANN401  (a type hint)
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(hint, str(hint))


def _parser(step: Callable[..., Metrics], config_type: type[DataclassInstance]) -> argparse.ArgumentParser:
    inputs = ", ".join(parameter.name for parameter in list(inspect.signature(step).parameters.values())[2:])
    parser = argparse.ArgumentParser(
        prog=f"python -m {step.__module__.removesuffix('.step')}",
        description=inspect.getdoc(step),
        epilog=f"inputs: {inputs or 'none'}\n\nconfig:\n{inspect.getdoc(config_type)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="config as JSON")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH", help="an input artifact")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"where to work (default: ./{step.__name__})")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="config fields, over those of the file")
    return parser


def _split(text: str) -> str:
    if "=" not in text:
        raise ConfigError(f'"{text}" is no setting.', "command line", "write key=value")
    return text


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", str(path), "check --config") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}.", str(path), "correct it") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no JSON object.", str(path), 'write {"key": value}')
    return values


def _put(values: dict[str, Any], dotted: str, value: str) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{dotted} goes through {name}, which is no group of keys.", dotted, "set one of the two")
    values[last] = value


def _check_inputs(step: Callable[..., Metrics], inputs: Mapping[str, Path]) -> None:
    given = list(inspect.signature(step).parameters.values())[2:]
    parameters = {parameter.name: parameter for parameter in given if parameter.kind is not parameter.VAR_KEYWORD}
    any_name = len(parameters) < len(given)
    for name, path in inputs.items():
        if name not in parameters and not any_name:
            near = difflib.get_close_matches(name, parameters, n=1)
            fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(parameters) or 'none'}"
            raise ConfigError(f"{step.__name__} has no input {name}.", f"--input {name}={path}", fix)
        if not path.exists():
            raise ConfigError(f"There is nothing at {path}.", f"--input {name}={path}", "check the path")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in inputs:
            raise ConfigError(f"{step.__name__} misses its input {name}.", "command line", f"add --input {name}=PATH")


def _prepare(folder: Path) -> Path:
    """Makes the work folder, or takes up one that an earlier call of ours left unfinished."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(f"{folder} holds other files.", f"--output {folder}", "pass a new or empty folder")
    if (folder / "metrics.json").exists():
        raise ConfigError(f"{folder} holds a finished output.", f"--output {folder}", "delete it, or pass another")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    (folder / "stop").unlink(missing_ok=True)
    if (folder / "output").exists():
        shutil.rmtree(folder / "output")
    return folder


@contextmanager
def _stop_on_signals(stop: Path) -> Iterator[None]:
    """During the block, a first SIGINT or SIGTERM makes the `stop` file, a second one interrupts."""

    def handle(number: int, frame: types.FrameType | None) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
