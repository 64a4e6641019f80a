"""Which texts are kept: prose and talk in both languages; and which are not: junk of every kind."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from components.clean.config import CleanConfig
from components.clean.decide import decide
from components.clean.profiles import Rule, RuleBook, builtin_rules, load_rules, with_thresholds
from components.score.normalise import normalise
from components.score.statistics import measure

BOOK = load_rules(builtin_rules())

PROSE_EN = """The river rose two metres in one night, and by morning the lower street was under water.
Nobody was hurt. The baker carried his flour upstairs, bag by bag, until the lights went out.
Engineers say the new wall held. What failed was the old gate behind the mill, built in 1911."""
TALK_EN = """hey
hi how are you?
good and you
not bad, just got back from class
oh nice what are you studying?
biology, it is a lot of work but I like it
haha yeah I bet
do you have any plans for the weekend?
no not really, maybe a movie"""
PROSE_ZH = """昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。
没有人受伤。面包师傅把面粉一袋一袋扛上楼，一直扛到停电。
工程师说，新修的堤坝经受住了考验，出问题的是磨坊后面那座老闸门。"""
TALK_ZH = """你好
你好，最近怎么样？
挺好的，你呢？
还不错，就是工作有点忙。
周末有什么打算吗？
没有，可能在家看书。
那一起去爬山吧
好啊，几点？"""
REVIEW_ZH = (
    "房间很干净，服务员态度也很好~~早餐种类多，就是离地铁站有点远，走路要十五分钟。总的来说值这个价，下次还会来住的。"
)
CLASSIC_ZH = (
    "环滁皆山也。其西南诸峰，林壑尤美，望之蔚然而深秀者，琅琊也。山行六七里，渐闻水声潺潺，而泻出于两峰之间者，酿泉也。"
)
NUMBERS_EN = """In 1911 the town had 4,200 people; by 1950 it had 9,800, and in 2020 the count was 31,450.
That is 1.8 percent a year. Of the 12,300 homes, 640 stand empty, most of them built before 1960."""

_SPAM_EN = "cheap best buy online discount free shipping watches loans casino bonus deal sale price now click"
SPAM_EN = _SPAM_EN.split()
_SPAM_ZH = "低价 代办 发票 贷款 优惠 免费 促销 正品 包邮 点击 领取 红包 减肥 增高"
SPAM_ZH = _SPAM_ZH.split()
draw = random.Random(11)
JUNK = {
    "keyword spam, English": ("en", " ".join(draw.choices(SPAM_EN, k=400))),
    "keyword spam, Chinese, commas": ("zh", "，".join(draw.choices(SPAM_ZH, k=300))),
    "keyword spam, Chinese, no commas": ("zh", "".join(draw.choices(SPAM_ZH, k=300))),
    "machine lines, English": ("en", "\n".join(["Error 0x80004005 while reading record, please try again."] * 40)),
    "machine lines, Chinese": ("zh", "\n".join(["系统繁忙，请稍后再试，错误代码一零零八六。"] * 40)),
    "counted lines": ("en", "\n".join(f"Page {n} of the archive of the site of the month" for n in range(90))),
    "one phrase over and over": ("en", "buy it now " * 80),
    "one phrase over and over, Chinese": ("zh", "不错不错" * 60),
    "UTF-8 read as Latin-1": ("zh", PROSE_ZH.encode().decode("latin-1")),
    "UTF-8 read as GBK": ("zh", PROSE_ZH.encode().decode("gbk", "replace")),
    "list of links": ("en", "\n".join(f"http://example.org/archive/page/{n}.html" for n in range(40))),
    "menu": ("en", "\n".join(["Home", "News", "Sport", "Shop", "About", "Help", "Login", "Cart"] * 8)),
    "menu, Chinese": ("zh", "\n".join(f"{a}{b}" for a in "新闻体育财经科技" for b in "网站")),
    "a table of numbers": ("en", "\n".join(f"{n} {n * 17} {n * n} 0.{n}" for n in range(60))),
    "symbols": ("en", "=== >>> ### | | | $$$ ~~~ ^^^ *** {{{ }}} " * 12),
    "shouting marks": ("zh", "真的吗？？？！！！……，，，。。。！！！？？？" * 6),
    "stub": ("en", "Nothing here yet."),
    "stub, Chinese": ("zh", "暂无内容。"),
    "list of names": ("en", " ".join(f"Aard{a}vark{b}" for a in "bcdfghjk" for b in "lmnpqrst")),
}


def judge(lang: str, text: str, config: CleanConfig | None = None) -> tuple[str, str, str]:
    config = config or CleanConfig(languages=())
    numbers = pa.RecordBatch.from_pylist([measure(normalise(text))])
    row = {"source": "web", "lang": lang, "licence": "", "opt_out": ""}
    verdicts = decide(numbers, pa.RecordBatch.from_pylist([row]), with_thresholds(BOOK, config), config)
    return verdicts.rules[0], verdicts.values[0], verdicts.thresholds[0]


def verdict(lang: str, text: str) -> str:
    return judge(lang, text)[0] or "kept"


@pytest.mark.parametrize("text", [PROSE_EN, TALK_EN, NUMBERS_EN, PROSE_EN * 1 + "\n" + TALK_EN])
def test_english_prose_and_talk_are_kept(text: str) -> None:
    assert verdict("en", text) == "kept"


@pytest.mark.parametrize("text", [PROSE_ZH, TALK_ZH, REVIEW_ZH, CLASSIC_ZH])
def test_chinese_prose_talk_and_classics_are_kept(text: str) -> None:
    assert verdict("zh", text) == "kept"


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_dropped(kind: str) -> None:
    assert verdict(*JUNK[kind]) != "kept"


def test_a_breach_tells_rule_value_and_threshold() -> None:
    assert judge("en", "Nothing here yet.") == ("min_chars", "17", "100")


def test_chinese_lengths_are_scaled() -> None:
    assert verdict("zh", "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里，没有人受伤，大家都在家里。") == "kept"
    assert judge("zh", "昨天夜里河水涨了两米。") == ("min_chars", "11", "40")


@pytest.mark.parametrize(("lang", "text"), [("en", PROSE_EN), ("zh", PROSE_ZH), ("ja", PROSE_ZH), ("de", PROSE_EN)])
def test_one_high_length_drops_every_language(lang: str, text: str) -> None:
    rule, _, threshold = judge(lang, text, CleanConfig(languages=(), min_chars=100_000))
    assert (rule, threshold) == ("min_chars", "40000" if lang in ("zh", "ja") else "100000")


def test_rules_that_are_switched_off_drop_nothing() -> None:
    names = {rule.name for rules in BOOK.profiles.values() for rule in rules}
    config = CleanConfig(languages=(), thresholds=dict.fromkeys(names, "off"))
    assert all(judge(lang, text, config)[0] == "" for lang, text in JUNK.values())


def test_every_rule_says_what_it_is_against() -> None:
    assert all(len(rule.why) > 3 for rules in BOOK.profiles.values() for rule in rules)


@pytest.mark.parametrize("lang", ["en", "zh", "ja", "de"])
def test_every_language_has_a_length_and_a_repetition_rule(lang: str) -> None:
    names = [rule.name for rule in rules_of(BOOK, lang)]
    assert names.index("min_chars") < names.index("max_repeated_ngram_share")


def rules_of(book: RuleBook, lang: str) -> list[Rule]:
    return list(book.profiles[book.profile_of("web", lang, {})])
