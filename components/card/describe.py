"""What a card says: the counts of the census, the funnel of the steps, and what their reports tell, as one JSON object.

Every section stands for itself: where a recipe leaves a step out, or a step wrote no report, the section is empty.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.card.census import GROUPS, Census, top_of
from components.card.config import CardConfig
from components.card.funnel import Stage, faults_of, ranked, read_stage
from components.publish import read_json

SCHEMA = 1
COUNTS = ("documents", "tokens", "bytes")
_PII = "pii_"


@dataclass(frozen=True)
class Sources:
    """What the card is written from.

    Attributes:
        path: Artifacts of the steps from pages to documents, in the order of the path.
        tokenizer: Tokenizer artifact.
        tokens: Tokens artifact.
        pack: Artifact of the packing plan.
    """

    path: Mapping[str, Path]
    tokenizer: Path | None = None
    tokens: Path | None = None
    pack: Path | None = None


def describe(config: CardConfig, census: Census, sources: Sources) -> dict[str, object]:
    """All that the card says.

    Args:
        config: Settings of the step.
        census: Census of the final documents.
        sources: Artifacts the other figures are read from.
    """
    stages = [stage for name, folder in sources.path.items() if (stage := read_stage(name, folder))]
    faults = [*faults_of(stages), *_census_faults(census, stages)]
    pii, splits = pii_of(sources.path.get("score")), splits_of(sources.tokens)
    opted_out = sum(count for stage in stages for rule, count in stage.dropped.items() if "opt_out" in rule)
    return {
        "schema": SCHEMA,
        "name": config.name,
        "licence": config.licence,
        "totals": _totals(census, stages, splits, pii, faults),
        "funnel": [stage.to_json() for stage in stages],
        "groups": {name: top_of(census.by(name), config.top) for name in GROUPS},
        "lengths": census.percentiles(),
        "dates": {"first": census.first_date, "last": census.last_date, "months": dict(sorted(census.months.items()))},
        "opt_outs": {"dropped": opted_out, "kept": top_of(_marked(census), config.top)},
        "pii": pii,
        "clusters": _clusters(census),
        "decontamination": _report(sources.path.get("decontaminate")),
        "splits": splits,
        "tokenizer": _tokenizer(sources),
        "packing": _packing(sources.pack),
        "settings": dict(sorted(config.settings.items())),
        "digests": {"documents": census.digest, **_digests(sources)},
        "faults": faults,
    }


def pii_of(score: Path | None) -> dict[str, int]:
    """Pieces of personal data masked, by kind: the columns `pii_...` of the scores, added up."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total: Counter[str] = Counter()
    for path in sorted((score / "scores").glob("shard-*.arrow")) if score is not None else ():
        with pa.OSFile(str(path)) as source:
            schema = pa.ipc.open_file(source).schema
            wanted = [number for number, name in enumerate(schema.names) if name.startswith(_PII)]
            if not wanted:
                continue
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                for name in batch.schema.names:
                    total[name.removeprefix(_PII)] += int(pc.sum(batch.column(name)).as_py() or 0)
    return ranked(+total)


def splits_of(tokens: Path | None) -> dict[str, dict[str, int]]:
    """Documents, tokens and bytes of each split, as the tokens artifact counts them."""
    if not _has(tokens, "meta.json") or tokens is None:
        return {}
    meta = read_json(tokens / "meta.json")
    return {
        name: {count: int(split[count]) for count in COUNTS}
        for name, split in meta.items()
        if isinstance(split, Mapping) and set(COUNTS) <= split.keys()
    }


def _totals(
    census: Census,
    stages: list[Stage],
    splits: Mapping[str, Mapping[str, int]],
    pii: Mapping[str, int],
    faults: list[str],
) -> dict[str, int]:
    first = next((stage for stage in stages if stage.unit == "documents"), None)
    totals = {
        "documents": census.documents,
        "chars": census.chars,
        "languages": len(census.groups["lang"]),
        "hosts": len(census.groups["host"]),
        "read": first.read if first else census.documents,
        "pii": sum(pii.values()),
        "faults": len(faults),
    }
    if splits:
        totals["tokens"] = sum(split["tokens"] for split in splits.values())
    return totals


def _census_faults(census: Census, stages: list[Stage]) -> Iterator[str]:
    """Where the rows of the final documents and the summary beside them disagree."""
    last = stages[-1] if stages and stages[-1].unit == "documents" else None
    if last is None:
        return
    if census.documents != last.kept:
        yield f"{last.step} says it kept {last.kept} documents, but its shards hold {census.documents}"
    if last.chars is not None and census.chars != last.chars:
        yield f"{last.step} says it kept {last.chars} characters, but its shards hold {census.chars}"


def _marked(census: Census) -> dict[str, dict[str, int]]:
    return {mark: counts for mark, counts in census.by("opt_out").items() if mark}


def _clusters(census: Census) -> dict[str, object]:
    """Documents that stand for copies of theirs: how many, and for how many documents."""
    several = {size: count for size, count in census.clusters.items() if size > 1}
    return {
        "of_several": sum(several.values()),
        "documents_stood_for": sum(size * count for size, count in several.items()),
        "largest": max(several, default=1),
    }


def _report(decontaminate: Path | None) -> dict[str, object]:
    """What decontamination says of itself; items are counted, not named."""
    if decontaminate is None or not _has(decontaminate, "report.json"):
        return {}
    return {name: _counted(value) for name, value in read_json(decontaminate / "report.json").items()}


def _counted(value: object) -> object:
    if isinstance(value, list):
        return len(value)
    return {name: _counted(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def _tokenizer(sources: Sources) -> dict[str, object]:
    """Vocabulary and compression over all splits."""
    splits = splits_of(sources.tokens)
    if sources.tokens is None or not splits:
        return {}
    num_bytes, tokens = (sum(split[name] for split in splits.values()) for name in ("bytes", "tokens"))
    told: dict[str, object] = {"vocab_size": read_json(sources.tokens / "meta.json").get("vocab_size")}
    if _has(sources.tokenizer, "tokenizer.json") and sources.tokenizer is not None:
        model = json.loads((sources.tokenizer / "tokenizer.json").read_text(encoding="utf-8")).get("model", {})
        told["model"] = model.get("type")
    return told | {"bytes_per_token": num_bytes / tokens if tokens else 0.0}


def _packing(pack: Path | None) -> dict[str, object]:
    """How rows are made, and what became of every token on the way into them."""
    if pack is None or not _has(pack, "plan.json"):
        return {}
    plan = read_json(pack / "plan.json")
    return {name: plan[name] for name in ("strategy", "length", "group", "repeat", "total") if name in plan}


def _digests(sources: Sources) -> dict[str, str]:
    """SHA-256 of the small files that stand for the tokenizer and the token shards."""
    from components.publish import sha256_of

    files = {"tokenizer": (sources.tokenizer, "tokenizer.json"), "tokens": (sources.tokens, "meta.json")}
    return {name: sha256_of(folder / file) for name, (folder, file) in files.items() if folder and _has(folder, file)}


def _has(folder: Path | None, name: str) -> bool:
    return folder is not None and (folder / name).is_file()
