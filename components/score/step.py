"""Normalises texts, masks personal data and stores every statistic of every document; decides nothing.

    documents/, dropped/, summary.json     see components.documents; dropped are only documents without any text
    scores/                                see components.score.table
    masked.json                            {"email": n, ...}: what was masked, by kind

Scores are made once, here, and the step `clean` decides by them alone: moving a threshold reads no text again (as in
Dolma, where taggers write attributes and a mixer decides). Shards are worked on side by side, documents in batches of
bounded size, and the scores of a document depend on that document alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.score.config import ScoreConfig
from components.shardwise import Part, link_tree, map_in_waves, metrics_of, once, work_folder

if TYPE_CHECKING:
    from components.documents import Document, ShardWriter
    from components.score.phrases import Phrases
    from components.score.table import ScoreWriter

VERSION = 1


def score(ctx: Context, config: ScoreConfig, documents: Path, toxic: Path | None = None) -> Metrics:
    """Computes the statistics of all documents.

    Args:
        ctx: The step's context.
        config: What is masked.
        documents: A documents artifact.
        toxic: A list of words and phrases, one a line, UTF-8; the statistic `toxic_word_share` counts them. None comes
            with the package.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages, and masked, the pieces of
        personal data that were replaced.

    Raises:
        StepError: If there is no document to read, none has a text, or the list cannot be read.
    """
    from components.documents import shard_paths, write_summary
    from components.publish import publish_json

    shards = shard_paths(documents)
    lists = [] if toxic is None else [_list_file(toxic)]
    work = work_folder(ctx, VERSION, config, [*shards, *lists])
    tasks = [_Task(path, index, work, config, lists[0] if lists else None) for index, path in enumerate(shards)]
    parts = map_in_waves(ctx, _score_shard, tasks, config.shards_at_once, "shards")
    link_tree(work / "tables", ctx.output)
    summary = write_summary(ctx.output, parts)
    if not summary["kept"]:
        raise StepError(
            f"score was given {summary['read']} documents with a text in them: none.",
            where="the documents of the step before",
            fix="look at that step's summary.json for what it dropped",
        )
    masked: Counter[str] = Counter()
    for part in parts:
        masked.update(part["masked"])  # type: ignore[call-overload]  # a table of counts, by _do_score_shard
    publish_json(ctx.output / "masked.json", dict(sorted(masked.items())))
    return metrics_of(summary) | {"masked": float(masked.total())}


@dataclass(frozen=True)
class _Task:
    """One shard to score, and the folder its results go to."""

    path: Path
    index: int
    work: Path
    config: ScoreConfig
    toxic: Path | None


def _score_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_score_shard(task))


def _do_score_shard(task: _Task) -> Part:
    from components.documents import ShardWriter, iter_shard
    from components.score.table import FOLDER, ScoreWriter, batches_of

    toxic = read_list(task.toxic) if task.toxic else None
    tables, masked = task.work / "tables", Counter[str]()
    side = tables / FOLDER / f"shard-{task.index:05d}.arrow"
    with ShardWriter(tables, task.index) as writer, ScoreWriter(side) as scores:
        for batch in batches_of(iter_shard(task.path)):
            _score_batch(batch, task.config, toxic, writer, scores, masked)
    return writer.part | {"masked": dict(masked)}


def _score_batch(
    batch: list[Document],
    config: ScoreConfig,
    toxic: Phrases | None,
    writer: ShardWriter,
    scores: ScoreWriter,
    masked: Counter[str],
) -> None:
    """Writes a batch of documents and their scores."""
    import numpy as np

    from components.documents import Dropped
    from components.score.names import PII_KINDS
    from components.score.normalise import normalise, without_faults
    from components.score.pii import mask
    from components.score.statistics import measure_batch

    ready: list[tuple[Document, str, Counter[str]]] = []
    for document in batch:
        text, counts = mask(normalise(document.text), config.mask)
        if text.strip():
            ready.append((document, text, counts))
        else:
            writer.drop(Dropped(document.doc_id, document.url, "empty", "0", "1"))
    numbers = measure_batch([text for _, text, _ in ready], toxic)
    for kind in PII_KINDS:
        numbers[f"pii_{kind}"] = np.array([counts[kind] for _, _, counts in ready], dtype=np.float64)
    scores.add([document.doc_id for document, _, _ in ready], numbers)
    for document, text, counts in ready:
        title, _ = mask(normalise(document.title), config.mask)
        writer.keep(replace(document, text=without_faults(text), title=without_faults(title)))
        masked.update(counts)


def read_list(path: Path) -> Phrases:
    """Reads a list of words and phrases, one a line; lines that begin with "#" are comments.

    Raises:
        StepError: If it is no UTF-8 text.
    """
    from components.score.phrases import make_phrases

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise StepError(f"The list of words {path.name} is no UTF-8 text.", str(path), "save it as UTF-8") from None
    return make_phrases({0: (line for line in lines if line.strip() and not line.startswith("#"))})


def _list_file(path: Path) -> Path:
    """The one file of an input that may be a file or a folder with one file."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    if len(files) != 1:
        raise StepError(f"The list of words is {len(files)} files.", str(path), "give one text file, a phrase a line")
    return files[0]
