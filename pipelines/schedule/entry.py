"""Schedules as files: `<store>/schedules/<name>/entry.json`, one small JSON object each.

A file rather than a daemon's memory: any number of `headwater schedule serve` processes, and the user's editor, see the
same truth. An entry takes effect from its `since`: adding it again under the same name moves `since` to now, so editing
a cron text never fires a tick that was already past. Removing an entry keeps its tick records as history.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.configuring import require, require_choice
from components.errors import ConfigError, MachineError
from components.publish import publish_json, read_json

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """One schedule.

    Attributes:
        name: Name of the schedule, also of its folder.
        cron: Five fields: minute, hour, day of month, month, day of week.
        tz: IANA time zone in which the cron text is read.
        overrides: Hydra overrides of every run it starts.
        mode: "run" starts a driver on this machine, "submit" sends a job to a Ray cluster.
        address: Dashboard address of that cluster, for mode "submit".
        created: When the name was first added, ISO 8601 in UTC.
        since: From when this version of the entry holds, ISO 8601 in UTC; no tick at or before it fires.

    Raises:
        ConfigError: For a name, cron text, zone or mode that cannot work, with one that does.
    """

    name: str
    cron: str
    tz: str = "UTC"
    overrides: tuple[str, ...] = ()
    mode: str = "run"
    address: str | None = None
    created: str = ""
    since: str = ""

    def __post_init__(self) -> None:
        named = _NAME.fullmatch(self.name) is not None
        require(named, "schedule name", self.name, "must be lower-case letters, digits, dots or dashes", "weekly")
        require_choice("--mode", self.mode, ("run", "submit"))
        _check_zone(self.tz)
        _check_cron(self.cron)

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone of the cron text."""
        return zoneinfo.ZoneInfo(self.tz)

    @property
    def effective(self) -> datetime:
        """The instant of `since`."""
        return datetime.fromisoformat(self.since)


def add(store: Path, entry: Entry, now: datetime) -> Entry:
    """Adds a schedule, or replaces the one of that name from now on.

    Args:
        store: Root folder of the store.
        entry: What to add; its `created` and `since` are set here.
        now: The current instant, with its zone.

    Returns:
        The entry as stored.
    """
    stamp = now.astimezone(UTC).isoformat(timespec="seconds")
    path = _entry_path(store, entry.name)
    created = str(read_json(path).get("created", stamp)) if path.exists() else stamp
    stored = dataclasses.replace(entry, created=created, since=stamp)
    publish_json(path, dataclasses.asdict(stored))
    return stored


def remove(store: Path, name: str) -> None:
    """Removes a schedule; its tick records stay.

    Raises:
        ConfigError: If there is none of that name.
    """
    path = _entry_path(store, name)
    if not path.is_file():
        raise ConfigError(f"there is no schedule '{name}'.", where=str(path), fix=_nearest(name, names(store)))
    path.unlink()


def names(store: Path) -> list[str]:
    """Names of the schedules, sorted."""
    return sorted(path.parent.name for path in store.joinpath("schedules").glob("*/entry.json"))


def load(store: Path, name: str) -> Entry:
    """Reads one schedule.

    Raises:
        ConfigError: If its file was edited into something that cannot work.
    """
    path = _entry_path(store, name)
    fields = {field.name for field in dataclasses.fields(Entry)}
    try:
        values = read_json(path)
        overrides = values.get("overrides", [])
        unknown = sorted(values.keys() - fields)
        if unknown or not isinstance(overrides, list):
            raise ValueError(f"unknown keys {unknown}" if unknown else "overrides is not a list")
        texts = {key: None if value is None else str(value) for key, value in values.items() if key != "overrides"}
        entry = Entry(**{**texts, "name": name, "overrides": tuple(map(str, overrides))})  # type: ignore[arg-type]
        _ = entry.effective
    except (ValueError, TypeError, ConfigError) as error:
        reason = error.what if isinstance(error, ConfigError) else f"{error}."
        fix = f'headwater schedule add {name} --cron "0 3 * * 1"'
        raise ConfigError(f"schedule '{name}' cannot be read: {reason}", where=str(path), fix=fix) from error
    return entry


def folder_of(store: Path, name: str) -> Path:
    """Folder of one schedule: `entry.json` and `ticks/`."""
    return store / "schedules" / name


def _entry_path(store: Path, name: str) -> Path:
    return folder_of(store, name) / "entry.json"


def _check_zone(tz: str) -> None:
    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = sorted(zoneinfo.available_timezones())
        if not known:
            raise MachineError("this machine has no time zone data.", f"--tz {tz}", "pip install tzdata") from error
        raise ConfigError(f"there is no time zone '{tz}'.", f"--tz {tz}", _nearest(tz, known)) from error


def _check_cron(cron: str) -> None:
    from cronsim import CronSim, CronSimError

    where, example = f'--cron "{cron}"', '"minute hour day month weekday": "0 3 * * 1" is Mondays at 03:00'
    if len(cron.split()) != 5:
        raise ConfigError(f"the cron text has {len(cron.split())} fields, not five.", where=where, fix=example)
    try:
        next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ConfigError(f"the cron text cannot be read: {error}.", where=where, fix=example) from error
    except StopIteration:
        raise ConfigError("the cron text names a day that never comes.", where=where, fix=example) from None


def _nearest(name: str, known: Sequence[str]) -> str:
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    if near:
        return f"did you mean {lowered[near[0]]}?"
    return f"one of {', '.join(known[:8])}" if known else "headwater schedule add NAME --cron ..."
