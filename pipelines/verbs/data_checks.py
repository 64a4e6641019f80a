"""What must hold of the artifacts of the data path, checked shard by shard.

Nothing here trusts a summary: rows are counted, ids are compared with their order, with the shard they lie in, and with
the ids of the step before. Of a shard no more is in memory than its ids, 16 bytes a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from components.documents import DOCUMENTS, DROPPED, dropped_paths, shard_of, shard_paths
from components.publish import read_json
from components.shards.format import SPLITS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.bytes_]

SIDE_TABLES = ("scores", "sketches")
"""Tables beside the documents, with a row for each in the same order."""


def documents_faults(artifact: Path) -> Iterator[str]:
    """What is wrong with the document shards and the ledger of an artifact.

    Schema, order of the rows, the shard they lie in, and the counts of `summary.json`.
    """
    kept, dropped = 0, Counter[str]()
    paths, ledgers = shard_paths(artifact), dropped_paths(artifact)
    if [path.name for path in paths] != [path.name for path in ledgers]:
        yield "documents/ and dropped/ have different shards"
    for number, path in enumerate(paths):
        yield from _shard_faults(path, number, len(paths), DOCUMENTS, strictly=True)
        kept += len(read_ids(path))
    for number, path in enumerate(ledgers):
        yield from _shard_faults(path, number, len(ledgers), DROPPED, strictly=False)
        dropped.update(_rules(path))
    yield from _summary_faults(read_json(artifact / "summary.json"), kept, dropped)


def handover_faults(before: Path, after: Path) -> Iterator[str]:
    """Documents that one step kept and the next neither kept nor dropped, or that come from nowhere."""
    import numpy as np

    paths, later = shard_paths(before), shard_paths(after)
    if len(paths) != len(later):  # a step may shard anew; then counts must do
        return
    for path, kept, ledger in zip(paths, later, dropped_paths(after), strict=False):
        given, taken = read_ids(path), np.unique(np.concatenate((read_ids(kept), read_ids(ledger))))
        lost, found = np.setdiff1d(given, taken), np.setdiff1d(taken, given)
        if len(lost):
            yield f"{len(lost)} documents of {path.name} vanished, first {_hex(lost[0])}"
        if len(found):
            yield f"{len(found)} documents of {kept.name} come from nowhere, first {_hex(found[0])}"


def side_faults(artifact: Path, documents: Path) -> Iterator[str]:
    """Tables beside the documents whose rows are not theirs, one for one."""
    import numpy as np

    for table in SIDE_TABLES:
        paths = sorted((artifact / table).glob("shard-*.arrow"))
        if not paths:
            continue
        ids = [read_ids(path) for path in shard_paths(documents)]
        if len(paths) != len(ids):
            yield f"{table}/ has {len(paths)} shards for {len(ids)} of documents"
            continue
        for path, wanted in zip(paths, ids, strict=True):
            if not np.array_equal(read_ids(path), wanted):
                yield f"{table}/{path.name} has other rows than documents/{path.name}"


def tokens_faults(tokens: Path, documents: Path | None) -> Iterator[str]:
    """What is wrong with token shards: hashes, documents that are missing or in two splits, clusters across splits."""
    from components.shards.verify import verify_tokens

    damage = [f"token shard {fault}" for fault in verify_tokens(tokens)]
    yield from damage
    if damage or documents is None:
        return
    clusters: dict[bytes, str] = {}
    for path in shard_paths(documents):
        splits = {
            split: read_ids(tokens / split / path.name) for split in SPLITS if (tokens / split / path.name).exists()
        }
        yield from _split_faults(path, splits)
        yield from _cluster_faults(path, splits, clusters)


def has_ids(path: Path) -> bool:
    """Tells whether the rows of a file know their documents by id."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return "doc_id" in pa.ipc.open_file(source).schema.names


def read_ids(path: Path) -> Ids:
    """The ids of a file, shape [rows], without its other columns."""
    import numpy as np
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        fields = [pa.ipc.open_file(source).schema.get_field_index("doc_id")]
        column = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all().column(0)
        parts = [_as_numpy(chunk) for chunk in column.chunks]
    return np.concatenate([np.empty(0, dtype="S16"), *parts])


def _as_numpy(chunk: pa.Array) -> Ids:
    import numpy as np

    data = np.frombuffer(chunk.buffers()[1], dtype="S16") if len(chunk) else np.empty(0, dtype="S16")
    return data[chunk.offset : chunk.offset + len(chunk)].copy()


def _shard_faults(path: Path, number: int, num_shards: int, schema: pa.Schema, strictly: bool) -> Iterator[str]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        found = pa.ipc.open_file(source).schema
    name = f"{path.parent.name}/{path.name}"
    if not found.equals(schema):
        missing = ", ".join(sorted(set(schema.names) ^ set(found.names))) or "other types"
        yield f"{name} has another schema than this version writes ({missing})"
    ids = read_ids(path)
    if len(ids) and not bool((ids[:-1] < ids[1:] if strictly else ids[:-1] <= ids[1:]).all()):
        yield f"{name} is not in the order of its ids"
    elif any(shard_of(_bytes(ids[end]), num_shards) != number for end in (0, -1) if len(ids)):
        yield f"{name} holds documents of another shard"


def _summary_faults(summary: Mapping[str, object], kept: int, dropped: Counter[str]) -> Iterator[str]:
    told = summary.get("dropped")
    rules = {str(rule): int(count) for rule, count in told.items() if count} if isinstance(told, Mapping) else {}
    if summary.get("kept") != kept:
        yield f"summary.json says that {summary.get('kept')} documents were kept, the shards hold {kept}"
    if rules != dict(dropped):
        wrong = sorted(rule for rule in rules.keys() | dropped.keys() if rules.get(rule, 0) != dropped[rule])
        yield f"summary.json and the ledger differ on {', '.join(wrong)}"
    if summary.get("read") != kept + dropped.total():
        yield f"{summary.get('read')} were read, but {kept} kept and {dropped.total()} dropped"


def _rules(path: Path) -> dict[str, int]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        fields = [DROPPED.get_field_index("rule")]
        column = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all().column(0)
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}


def _split_faults(path: Path, splits: Mapping[str, Ids]) -> Iterator[str]:
    import numpy as np

    ids = read_ids(path)
    together = np.concatenate([np.empty(0, dtype="S16"), *splits.values()])
    if len(np.unique(together)) != len(together):
        yield f"documents of {path.name} are in two splits"
    if len(lost := np.setdiff1d(ids, together)):
        yield f"{len(lost)} documents of {path.name} are in no split, first {_hex(lost[0])}"
    if len(found := np.setdiff1d(together, ids)):
        yield f"{len(found)} documents of {path.name} in the splits come from nowhere, first {_hex(found[0])}"


def _cluster_faults(path: Path, splits: Mapping[str, Ids], clusters: dict[bytes, str]) -> Iterator[str]:
    """Near duplicates on both sides; `clusters` remembers the split of each cluster met, one entry a cluster."""
    names = {_bytes(doc_id): split for split, ids in splits.items() for doc_id in ids.tolist()}
    for doc_id, cluster in _clustered(path):
        split = names.get(doc_id, "")
        if clusters.setdefault(cluster, split) != split:
            yield f"cluster {cluster.hex()} is in {clusters[cluster]} and in {split}"


def _clustered(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Documents of a shard that belong to a cluster of several, with its name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with pa.memory_map(str(path)) as source:
        schema = pa.ipc.open_file(source).schema
        names = [name for name in ("doc_id", "cluster") if name in schema.names]
        fields = [schema.get_field_index(name) for name in names]
        table = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all()
    if "cluster" in names:
        table = table.filter(pc.greater(pc.binary_length(table.column("cluster")), 0))
        yield from zip(table.column("doc_id").to_pylist(), table.column("cluster").to_pylist(), strict=True)


def _bytes(doc_id: bytes) -> bytes:
    """An id out of NumPy, which leaves out zeros at its end."""
    return bytes(doc_id).ljust(16, b"\0")


def _hex(doc_id: bytes) -> str:
    return _bytes(doc_id).hex()
