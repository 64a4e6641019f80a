"""What a classifier is compared with: always the most frequent label, and a linear model on counted words.

Words are cut as for the variety of replies (`units`): words where a script separates them, single characters where it
does not. The linear model is scikit-learn's logistic regression with its default strength of regularisation, on whether
a run of words occurs, learned from the same texts as the classifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from components.evaluate.statistics import mean, standard_error
from components.evaluate.text_metrics import units


def most_frequent(labels: Sequence[str], count: int) -> list[str]:
    """The most frequent of the labels, `count` times; of equally frequent ones the first by name."""
    counts = Counter(labels)
    return [min(counts, key=lambda label: (-counts[label], label))] * count


def bag_of_words(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], ngrams: int) -> list[str]:
    """What a linear model on counted words says.

    Args:
        texts: To learn from.
        labels: Theirs.
        asked: Texts to label.
        ngrams: Longest run of words that is counted.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counting = CountVectorizer(analyzer=lambda text: _runs(units(text), ngrams), binary=True)
    model = LogisticRegression(max_iter=1000).fit(counting.fit_transform(texts), labels)
    return [str(label) for label in model.predict(counting.transform(asked))]


def lead(ours: Sequence[str], theirs: Sequence[str], labels: Sequence[str]) -> tuple[float, float]:
    """How much more accurate ours is, and the standard error of that: both labelled the same texts, so text by text."""
    gains = [
        float(one == label) - float(other == label) for one, other, label in zip(ours, theirs, labels, strict=True)
    ]
    return mean(gains), standard_error(gains)


def _runs(words: Sequence[str], longest: int) -> list[str]:
    return [
        " ".join(words[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    ]


def accuracy(said: Sequence[str], labels: Sequence[str]) -> float:
    """Share of the texts whose label was said."""
    return sum(one == other for one, other in zip(said, labels, strict=True)) / len(labels)


def macro_f1(said: Sequence[str], labels: Sequence[str]) -> float:
    """Mean over the labels that occur of the harmonic mean of precision and recall; 0 for a label never said right."""
    scores = []
    for label in sorted(set(labels)):
        right = sum(one == other == label for one, other in zip(said, labels, strict=True))
        scores.append(2 * right / (sum(one == label for one in said) + sum(other == label for other in labels)))
    return sum(scores) / len(scores)
