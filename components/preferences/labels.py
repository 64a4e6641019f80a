"""Pairs out of labels: two Chinese reviews that answer one request, the positive one preferred.

Both are of the same topic (the narrowest that still finds a partner) and of exactly the same number of characters, so
neither subject nor length gives the label away: what is left to learn is the wording. Each review is used once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from components.posttrain.dialogues import Preference, hash_order, user_says
from components.sample.review_requests import Topic, request, topics_of
from components.sample.texts import Review, held_out


def labelled_pairs(reviews: list[Review]) -> list[Preference]:
    """Pairs of reviews; all of them must be of the same part (training or held out)."""
    left = {review.id: review for review in sorted(reviews, key=lambda review: hash_order(review.id))}
    return [pair for topic_of in (_narrowest, _subject, _anything) for pair in _matched(left, topic_of)]


def _narrowest(review: Review) -> Topic:
    return topics_of(review.text)[0]


def _subject(review: Review) -> Topic:
    return Topic(_narrowest(review).subject)


def _anything(_: Review) -> Topic:
    return Topic()


def _matched(left: dict[str, Review], topic_of: Callable[[Review], Topic]) -> Iterator[Preference]:
    """Pairs of equal topic and length out of what is left, which it takes away."""
    groups: dict[tuple[Topic, int], tuple[list[Review], list[Review]]] = defaultdict(lambda: ([], []))
    for review in left.values():
        groups[topic_of(review), len(review.text)][0 if review.positive else 1].append(review)
    for (topic, _), (positive, negative) in groups.items():
        for chosen, rejected in zip(positive, negative, strict=False):
            del left[chosen.id], left[rejected.id]
            yield _pair(topic, chosen, rejected)


def _pair(topic: Topic, chosen: Review, rejected: Review) -> Preference:
    identity = f"{chosen.id}.{rejected.id}"
    asked = request(topic, len(chosen.text), identity, held_out(chosen.id))
    return Preference(identity, "zh", "reviews", user_says(asked), chosen.text, rejected.text, margin=1.0)
