"""Trains a classifier of good and bad texts, and scores every document with it; drops nothing.

    scores/shard-00000.arrow     doc_id and quality (0 to 1), a row per document in the documents' order
    model.safetensors            see `model.py`
    examples.json                what it learned from, and how well it tells held-out examples apart

The step `clean` reads the scores (`clean.min_quality`). A language of which there are too few good documents to learn
from has no scores (NaN), rather than those of a classifier that knows it from junk alone. Nothing is downloaded: good
and bad are what the rules say, or what the given files hold. Counting is done on the stored scores; texts are read only
where examples are, and once more to be scored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics, derive_seed
from components.errors import StepError
from components.quality.config import QualityConfig
from components.shardwise import Part, link_tree, map_in_waves, once, work_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from components.clean.profiles import RuleBook
    from components.quality.model import Model
    from components.score.words import Hashes

VERSION = 1
LEAST_EXAMPLES = 20
HELD_OUT_OF_256 = 26


def quality(
    ctx: Context,
    config: QualityConfig,
    documents: Path,
    rules: Path | None = None,
    positives: Path | None = None,
    negatives: Path | None = None,
) -> Metrics:
    """Scores all documents by how much they read like good ones.

    Args:
        ctx: The step's context.
        config: What it learns from.
        documents: The artifact of the step `score`.
        rules: The rules that tell good from bad, see `components.clean.profiles`; None for those of the package.
        positives: Good texts: JSONL with a field "text" or plain text, a file or a folder; None takes them out of the
            corpus.
        negatives: Bad texts, in the same way.

    Returns:
        positives and negatives (examples), held_out (examples not learned from), auc over those, and mean, the mean
        score of the corpus.

    Raises:
        ConfigError: If the rules are refused.
        StepError: If there are too few examples, or the scores are missing or of other documents.
    """
    from components.clean.profiles import builtin_rules, load_rules
    from components.documents import shard_paths
    from components.publish import publish_json
    from components.score.table import score_path

    rules = rules or builtin_rules()
    shards = shard_paths(documents)
    sides = [score_path(documents, path) for path in shards]
    given = [file for one in (positives, negatives) if one for file in ([one] if one.is_file() else one.rglob("*"))]
    work = work_folder(ctx, VERSION, config, [*shards, *sides, rules, *sorted(given)])
    wanted = (positives is None, negatives is None)
    tasks = [
        _Task(path, side, index, work, config, load_rules(rules), wanted)
        for index, (path, side) in enumerate(zip(shards, sides, strict=True))
    ]
    examples = _corpus_examples(ctx, tasks, config)
    report = once(work / "examples.json", lambda: _fit(examples, positives, negatives, config, work, ctx))
    parts = map_in_waves(ctx, _score_shard, tasks, config.shards_at_once, "shards scored")
    link_tree(work / "tables", ctx.output)
    total = sum(_number(part["documents"]) for part in parts)
    mean = sum(_number(part["sum"]) for part in parts) / max(1.0, total)
    publish_json(ctx.output / "examples.json", report | {"mean": mean})
    metrics = {name: _number(report[name]) for name in ("positives", "negatives", "held_out", "auc")}
    return metrics | {"mean": mean}


@dataclass(frozen=True)
class _Task:
    """One shard.

    Attributes:
        wanted: Whether good and bad examples are taken out of the corpus.
        take: How many of each this shard gives.
    """

    path: Path
    side: Path
    index: int
    work: Path
    config: QualityConfig
    book: RuleBook
    wanted: tuple[bool, bool]
    take: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Example:
    """One text to learn from.

    Attributes:
        key: Its hash, or the id of the document.
        lang: Its language; "" of given texts.
        good: Whether it is a good one.
        words: Hashes of its words.
    """

    key: bytes
    lang: str
    good: bool
    words: Hashes


def _number(value: object) -> float:
    return float(str(value))


def _corpus_examples(ctx: Context, tasks: list[_Task], config: QualityConfig) -> list[Path]:
    """Files of the examples that the corpus gives, in the order of shards: the first ones by id, up to the limit."""
    if not any(task.wanted != (False, False) for task in tasks):
        return []
    counts = map_in_waves(ctx, _count_shard, tasks, config.shards_at_once, "shards counted")
    left = [config.max_examples, config.max_examples]
    chosen = []
    for task, count in zip(tasks, counts, strict=True):
        take = [min(left[side], int(_number(count[name]))) for side, name in enumerate(("good", "bad"))]
        left = [before - now for before, now in zip(left, take, strict=True)]
        if any(take):
            chosen.append(replace(task, take=(take[0], take[1])))
    map_in_waves(ctx, _read_shard, chosen, config.shards_at_once, "shards of examples")
    return [_example_file(task) for task in chosen]


def _labels(task: _Task) -> Iterator[list[str]]:
    """What each document of a shard is an example of, batch by batch; "" for none and for what is not wanted."""
    from components.quality.examples import BAD, GOOD, labels_of
    from components.score.table import iter_scored

    wanted = {GOOD: task.wanted[0], BAD: task.wanted[1]}
    for documents, scores in iter_scored(task.path, task.side):
        labels = labels_of(documents, scores, task.book, task.config, only_bad=not task.wanted[0])
        yield [label if wanted.get(label) else "" for label in labels]


def _count_shard(task: _Task) -> Part:
    def count() -> Part:
        labels = [label for batch in _labels(task) for label in batch]
        return {name: labels.count(name) for name in ("good", "bad")}

    return once(task.work / "counts" / f"{task.index:05d}.json", count)


def _example_file(task: _Task) -> Path:
    return task.work / "examples" / f"{task.index:05d}.arrow"


def _read_shard(task: _Task) -> None:
    """Leaves the examples of a shard in a file: hash, label, hashes of words."""
    from components.documents import iter_shard
    from components.quality.examples import BAD, GOOD
    from components.quality.features import hash_texts

    if _example_file(task).exists():
        return
    left = {GOOD: task.take[0], BAD: task.take[1]}
    rows: list[Example] = []
    labels = (label for batch in _labels(task) for label in batch)
    for document, label in zip(iter_shard(task.path), labels, strict=True):
        if left.get(label, 0):
            left[label] -= 1
            words = hash_texts([document.text], task.config.max_words)[0]
            rows.append(Example(document.doc_id, document.lang, label == GOOD, words))
        if not any(left.values()):
            break
    _write_examples(_example_file(task), rows)


def _write_examples(path: Path, rows: list[Example]) -> None:
    import pyarrow as pa

    from components.publish import publish

    table = pa.table(
        {
            "key": pa.array([row.key for row in rows], pa.binary()),
            "lang": pa.array([row.lang for row in rows], pa.string()),
            "good": pa.array([row.good for row in rows], pa.bool_()),
            "words": pa.array([row.words for row in rows], pa.large_list(pa.uint64())),
        }
    )
    with (
        publish(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as out,
    ):
        out.write_table(table)


def _read_examples(path: Path) -> Iterator[Example]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        columns = [table.column(name).to_pylist() for name in ("key", "lang", "good")]
        words = table.column("words")
        for row, (key, lang, good) in enumerate(zip(*columns, strict=True)):
            yield Example(key, lang, good, words[row].values.to_numpy())


def _fit(
    files: list[Path],
    positives: Path | None,
    negatives: Path | None,
    config: QualityConfig,
    work: Path,
    ctx: Context,
) -> Part:
    """Trains the model on all examples but the held-out ones, and says how well it tells those apart."""
    import numpy as np

    from components.quality.features import features_of
    from components.quality.model import auc, select, train

    examples = [example for file in files for example in _read_examples(file)]
    examples += _given_examples(positives, True, config) + _given_examples(negatives, False, config)
    known = _known_languages(examples)
    if negatives is None:
        examples += _corrupted(examples, config)
    good = np.array([example.good for example in examples], dtype=np.bool_)
    _require_both(good, positives, negatives)
    held_out = np.array([example.key[-1] < HELD_OUT_OF_256 for example in examples])
    features = features_of([example.words for example in examples], config.feature_bits)
    learn, check = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    lessons, order = select(features, learn), ctx.seed("quality/order")
    model = train(lessons, good[learn], config.feature_bits, config.epochs, config.learning_rate, order)
    model.save(work / "tables" / "model.safetensors")
    area = auc(model.score(select(features, check)), good[check])
    return {
        "positives": int(good.sum()),
        "negatives": int((~good).sum()),
        "held_out": len(check),
        "auc": round(area, 6) if area == area else 0.0,
        "languages": known,
    }


def _known_languages(examples: list[Example]) -> list[str]:
    """Languages with enough good examples to be judged by; with given ones, of no known language, all of them."""
    counts = Counter(example.lang for example in examples if example.good)
    return [] if counts[""] else sorted(lang for lang, count in counts.items() if count >= LEAST_EXAMPLES)


def _given_examples(path: Path | None, good: bool, config: QualityConfig) -> list[Example]:
    from components.quality.examples import read_examples
    from components.quality.features import hash_texts

    if path is None:
        return []
    texts = read_examples(path, config.max_examples)
    return [Example(key, "", good, hash_texts([text], config.max_words)[0]) for key, text in texts]


def _corrupted(examples: list[Example], config: QualityConfig) -> list[Example]:
    """Good examples in disorder, as bad ones; one of a held-out example is held out too."""
    from components.quality.features import corrupt

    good = [example for example in examples if example.good]
    share, num_bad = config.corrupted_share, len(examples) - len(good)
    wanted = len(good) if share == 1 else max(int(num_bad * share / (1 - share)), int(len(good) * share))
    return [
        replace(one, good=False, words=corrupt(one.words, derive_seed("quality", config.seed, one.key.hex())))
        for one in good[:wanted]
    ]


def _require_both(good: NDArray[np.bool_], positives: Path | None, negatives: Path | None) -> None:
    counts = {"good": int(good.sum()), "bad": int((~good).sum())}
    for name, given, key in (("good", positives, "positives"), ("bad", negatives, "negatives")):
        if counts[name] < LEAST_EXAMPLES:
            raise StepError(
                f"quality has {counts[name]} {name} examples and needs {LEAST_EXAMPLES}.",
                where=str(given) if given else "the corpus, judged by the rules",
                fix=f"give more texts as {key}, or leave the step out with fewer documents",
            )


def _score_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_score_shard(task))


def _do_score_shard(task: _Task) -> Part:
    import numpy as np

    from components.documents import iter_shard
    from components.publish import read_json
    from components.quality.model import load_model
    from components.score.table import FOLDER, QUALITY, ScoreWriter, batches_of

    model = load_model(task.work / "tables" / "model.safetensors")
    learnt = read_json(task.work / "examples.json")["languages"]
    known = [set(languages) for languages in (task.config.languages, learnt) if languages]  # type: ignore[call-overload]
    total, count = 0.0, 0
    with ScoreWriter(task.work / "tables" / FOLDER / task.path.name, QUALITY) as writer:
        for batch in batches_of(iter_shard(task.path)):
            scores = score_texts(model, [document.text for document in batch], task.config.max_words)
            unknown = [any(document.lang not in languages for languages in known) for document in batch]
            scores[np.array(unknown)] = np.nan
            writer.add([document.doc_id for document in batch], {"quality": scores})
            total, count = total + float(np.nansum(scores)), count + unknown.count(False)
    return {"documents": count, "sum": total}


def score_texts(model: Model, texts: list[str], max_words: int) -> NDArray[np.float64]:
    """The score of each text, 0 to 1."""
    from components.quality.features import features_of, hash_texts

    return model.score(features_of(hash_texts(texts, max_words), model.bits))
