"""The card as Markdown: tables for reading, and the front matter that Hugging Face reads from a data set's page.

What comes from pages (hosts, licences, titles of rules) is escaped in one place, so that no page can write mark-up or
front matter of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from components.card.census import OTHERS

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*[]#|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
    100_000_000: "10M<n<100M",
    1_000_000_000: "100M<n<1B",
}
_SPLITS = "train val test"
_CODE = re.compile(r"[a-z]{2,3}")
_TITLES = {
    "lang": "Languages",
    "script": "Scripts",
    "source": "Sources",
    "host": "Hosts",
    "licence": "Licences",
}


def to_markdown(card: Mapping[str, object]) -> str:
    """The whole card.

    Args:
        card: What `describe` gave, or `card.json` read again.
    """
    return "\n".join([*_front_matter(card), "", *_body(card)]) + "\n"


def _front_matter(card: Mapping[str, object]) -> Iterator[str]:
    """Only words from fixed lists and codes of two or three letters get into it, but for the name, which is quoted."""
    languages = sorted(code for code in _table(_table(card["groups"])["lang"]) if _CODE.fullmatch(code))
    documents = int(str(_table(card["totals"])["documents"]))
    yield "---"
    yield f"pretty_name: {_quoted(str(card['name']))}"
    if languages:
        yield "language:"
        yield from (f"- {_quoted(code)}" for code in languages)  # unquoted, "no" is YAML for false
    yield f"license: {_quoted(str(card['licence']).lower()) if card['licence'] else 'other'}"
    yield "size_categories:"
    yield f"- {next((name for limit, name in _SIZES.items() if documents < limit), '1B<n')}"
    yield "task_categories:"
    yield "- text-generation"
    yield "---"


def _body(card: Mapping[str, object]) -> Iterator[str]:
    totals, groups = _table(card["totals"]), _table(card["groups"])
    yield f"# {_plain(str(card['name']))}"
    yield ""
    tokens = f", {_number(totals['tokens'])} tokens" if "tokens" in totals else ""
    languages, hosts = (
        f"{_number(totals[name])} {name[:-1]}{'s' * (totals[name] != 1)}" for name in ("languages", "hosts")
    )
    yield (
        f"{_number(totals['documents'])} documents, {_number(totals['chars'])} characters{tokens}, "
        f"in {languages} from {hosts}."
    )
    yield from _section("Funnel", ("step", "read", "kept", "dropped by"), _funnel_rows(card["funnel"]))
    for fault in _list(card["faults"]):
        yield f"\n**Does not add up:** {_plain(str(fault))}."
    for name, title in _TITLES.items():
        yield from _section(title, (name, "documents", "characters"), _group_rows(_table(groups[name])))
    yield from _section("Length in characters", ("percentile", "characters"), _lengths(_table(card["lengths"])))
    yield from _section("Splits", ("split", "documents", "tokens", "bytes"), _split_rows(_table(card["splits"])))
    yield from _section("Tokenizer", ("", ""), _pairs(card["tokenizer"]))
    yield from _section("Packing", ("", ""), _pairs(card["packing"]))
    yield from _section("Personal data masked", ("kind", "pieces"), _pairs(card["pii"]))
    yield from _section("Near duplicates", ("", "documents"), _pairs(card["clusters"]))
    yield from _section("Decontamination", ("", ""), _pairs(card["decontamination"]))
    yield from _section("Opt-outs and dates", ("", ""), _facts(card))
    yield from _section("Settings that differ from the defaults", ("key", "value"), _pairs(card["settings"]))
    yield from _section("Digests", ("of", "SHA-256"), _pairs(card["digests"]))


def _section(title: str, header: Sequence[str], rows: Iterator[Sequence[object]]) -> Iterator[str]:
    lines = ["| " + " | ".join(_plain(str(cell)) for cell in row) + " |" for row in rows]
    if lines:
        yield f"\n## {title}\n"
        yield "| " + " | ".join(header) + " |"
        yield "| " + " | ".join("---" for _ in header) + " |"
        yield from lines


def _funnel_rows(stages: object) -> Iterator[Sequence[object]]:
    for stage in _list(stages):
        row = _table(stage)
        ranked = sorted(_table(row["dropped"]).items(), key=lambda item: (-int(str(item[1])), item[0]))
        rules = [f"{rule} {_number(count)}" for rule, count in ranked]
        yield row["step"], _number(row["read"]), _number(row["kept"]), ", ".join(rules)


def _group_rows(table: Mapping[str, object]) -> Iterator[Sequence[object]]:
    for value, counts in ranked_rows(table):
        yield value or "(not said)", _number(counts["documents"]), _number(counts["chars"])


def ranked_rows(table: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    """A table of a card with most documents first and what was added up last: JSON keeps no order of its own."""
    rows = [(value, _table(counts)) for value, counts in table.items()]
    return sorted(rows, key=lambda row: (row[0].startswith(OTHERS), -int(str(row[1]["documents"])), row[0]))


def _lengths(lengths: Mapping[str, object]) -> Iterator[Sequence[object]]:
    for name in sorted(lengths, key=lambda name: int(name[1:])):
        yield name, _number(lengths[name])


def _split_rows(splits: Mapping[str, object]) -> Iterator[Sequence[object]]:
    for name in sorted(splits, key=lambda name: (name not in _SPLITS, _SPLITS.find(name), name)):
        row = _table(splits[name])
        yield name, _number(row["documents"]), _number(row["tokens"]), _number(row["bytes"])


def _facts(card: Mapping[str, object]) -> Iterator[Sequence[object]]:
    opt_outs, dates = _table(card["opt_outs"]), _table(card["dates"])
    yield "dropped because somebody opted out", _number(opt_outs["dropped"])
    kept = sum(int(str(_table(counts)["documents"])) for counts in _table(opt_outs["kept"]).values())
    yield "kept although marked as opted out", _number(kept)
    yield "earliest and latest date of a document", f"{dates['first'] or 'none'} to {dates['last'] or 'none'}"


def _pairs(table: object) -> Iterator[Sequence[object]]:
    for name, value in sorted(_table(table).items()):
        yield from _flat(name, value)


def _flat(name: str, value: object) -> Iterator[Sequence[object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    elif value is not None:
        yield name, _number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"the card holds {value!r} where a table belongs")
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise ValueError(f"the card holds {value!r} where a list belongs")
    return value


def _number(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(str(value)) if not isinstance(value, float) else int(value):,}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.split()).translate(_MARKS)


def _quoted(text: str) -> str:
    """A YAML string in double quotes: JSON's are YAML's too."""
    return json.dumps(" ".join(text.split()))
