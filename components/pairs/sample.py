"""Pairs out of Unicode's locale data: the same date, amount, measure or name as English and as Chinese people write it.

The package Babel (BSD) carries the Common Locale Data Repository, in which people who speak a language have written
down how it says these things. Five kinds of phrases:

    name        languages, territories, currencies, scripts, places of time zones: each once
    list        two to four of those names of one sort, joined as the language joins them
    date        days, times, ranges, "in 3 days"
    measure     an amount of a unit: "2.5 kilometers per hour"
    money       an amount of a currency, its name written out

Order of words, forms of numbers, measure words and names differ, so no copy and no dictionary of words is enough. Names
inside lists are single names too: a name whose own pair is held out may be met in a list.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from components.errors import MachineError
from components.pairs.table import Pair

if TYPE_CHECKING:
    from babel import Locale

Phrase: TypeAlias = Callable[["Locale"], str | None]
_Unit: TypeAlias = Literal["second", "minute", "hour", "day", "week", "month", "year"]

_SHARES = {"list": 0.24, "date": 0.4, "measure": 0.2, "money": 0.16}
_DATES = ("full", "long", "medium")
_SKELETONS = ("yMMMM", "yMMM", "MMMMd", "MMMd", "MMMEd", "yMMMEd", "yQQQQ", "E", "Ed", "Ehm", "hm", "Hm")
_SECONDS: dict[_Unit, int] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
    "year": 365 * 86400,
}
_LENGTHS: tuple[Literal["long", "short"], ...] = ("long", "short")
_STYLES: tuple[Literal["standard", "or"], ...] = ("standard", "or")


def sample_pairs(count: int, seed: int) -> Iterator[Pair]:
    """Pairs from English to Chinese: all names, and drawn phrases up to `count`.

    Raises:
        MachineError: If the extra `sample` is not installed.
    """
    try:
        from babel import Locale
    except ImportError:
        raise MachineError(
            "The sample of pairs needs the package Babel, which is not installed.",
            where="recipe=translate",
            fix="pip install 'headwater[sample]', or give source.pairs=FILE of your own pairs",
        ) from None
    english, chinese = Locale("en"), Locale("zh")
    sorts = _names(english, chinese)
    singles = [Pair("name", *pair) for names in sorts for pair in names]
    drawing = random.Random(seed)
    drawing.shuffle(singles)
    singles = singles[: count // 4]
    yield from singles
    kinds = drawing.choices(list(_SHARES), list(_SHARES.values()), k=count - len(singles))
    for kind in kinds:
        phrase = _list(drawing, sorts) if kind == "list" else _PHRASES[kind](drawing, english)
        source, target = phrase(english), phrase(chinese)
        if source and target:
            yield Pair(kind, _plain(source), _plain(target))


def _names(english: Locale, chinese: Locale) -> list[list[tuple[str, str]]]:
    """Names by sort: English and Chinese, in the order of their codes."""
    tables = ("languages", "territories", "currencies", "scripts")
    sorts = [_shared(getattr(english, table), getattr(chinese, table)) for table in tables]
    zones = {code: zone.get("city") for code, zone in chinese.time_zones.items()}
    places = {code: code.rpartition("/")[2].replace("_", " ") for code, city in zones.items() if city and "/" in code}
    return [*sorts, _shared(places, {code: str(city) for code, city in zones.items()})]


def _shared(english: Mapping[str, str], chinese: Mapping[str, str]) -> list[tuple[str, str]]:
    both = sorted(english.keys() & chinese.keys())
    return [(_plain(english[code]), _plain(chinese[code])) for code in both]


def _plain(text: str) -> str:
    """The text with the spaces of typesetters (narrow, unbreakable) as plain ones."""
    return " ".join(text.replace("\u2009", " ").split())


def _list(drawing: random.Random, sorts: list[list[tuple[str, str]]]) -> Phrase:
    from babel.lists import format_list

    style = drawing.choice(_STYLES)
    chosen = drawing.sample(drawing.choice(sorts), drawing.randint(2, 4))

    def phrase(locale: Locale) -> str:
        side = 0 if locale.language == "en" else 1
        return str(format_list([names[side] for names in chosen], style, locale))

    return phrase


def _date(drawing: random.Random, _: Locale) -> Phrase:
    from babel import dates

    moment = datetime.datetime(1950, 1, 1) + datetime.timedelta(minutes=drawing.randrange(100 * 365 * 1440))
    later = moment.date() + datetime.timedelta(days=drawing.randint(1, 300))
    manner = drawing.choice(("date", "date", "date", "skeleton", "skeleton", "time", "range", "distance"))
    form, skeleton = drawing.choice(_DATES), drawing.choice(_SKELETONS)
    unit, amount = drawing.choice(list(_SECONDS)), drawing.choice((-1, 1)) * drawing.randint(1, 90)

    def phrase(locale: Locale) -> str:
        if manner == "date":
            return str(dates.format_date(moment, form, locale))
        if manner == "skeleton":
            return str(dates.format_skeleton(skeleton, moment, locale=locale))
        if manner == "time":
            return str(dates.format_datetime(moment, "long" if form == "full" else form, locale=locale))
        if manner == "range":
            return str(dates.format_interval(moment.date(), later, "yMMMd", locale=locale))
        size = amount * _SECONDS[unit]
        return str(dates.format_timedelta(size, unit, threshold=1e9, add_direction=True, locale=locale))

    return phrase


def _measure(drawing: random.Random, english: Locale) -> Phrase:
    from babel.units import format_unit

    unit, amount = drawing.choice(sorted(english.unit_display_names)), _amount(drawing)

    def phrase(locale: Locale) -> str | None:
        known = locale._data["unit_patterns"].get(unit, {})
        length = next((length for length in _LENGTHS if "other" in known.get(length, {})), None)
        return str(format_unit(amount, unit, length, locale=locale)) if length else None

    return phrase


def _money(drawing: random.Random, english: Locale) -> Phrase:
    from babel.numbers import format_currency

    currency, amount = drawing.choice(sorted(english.currencies)), _amount(drawing)

    def phrase(locale: Locale) -> str | None:
        if currency not in locale.currencies:
            return None
        return str(format_currency(amount, currency, locale=locale, format_type="name", currency_digits=False))

    return phrase


def _amount(drawing: random.Random) -> float | int:
    whole = int(10 ** drawing.uniform(0, 6))
    return whole if drawing.random() < 0.7 else round(whole + drawing.random(), drawing.choice((1, 2)))


_PHRASES: Mapping[str, Callable[[random.Random, Locale], Phrase]] = {
    "date": _date,
    "measure": _measure,
    "money": _money,
}
