"""What makes the sample website a website: copies, junk, forbidden pages and pages that misbehave.

How a path misbehaves (delay, status, headers) is data: `behaviours.json`, which the server obeys.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from components.sample.config import SampleConfig
from components.sample.markup import Around, Sheet, bullets, dress
from components.sample.sections import paragraphs

Behaviours = dict[str, dict[str, object]]

_SPAM_WORDS = {
    "en": "cheap best buy online discount free shipping watches loans casino bonus deal sale price now click",
    "zh": "低价 代办 发票 贷款 优惠 免费 促销 正品 包邮 加微信 点击 领取 红包 减肥 增高",
}
_SPAM = {lang: words.split() for lang, words in _SPAM_WORDS.items()}
_MACHINE_LINE = {
    "en": "Error 0x80004005 while reading record, please try again later.",
    "zh": "系统繁忙，请稍后再试，错误代码 10086。",
}
_MEMBERS_TEXT = "This part of the site is for members only. A crawler that reads this has not obeyed robots.txt."


def near_duplicates(sheets: Sequence[Sheet], config: SampleConfig, seed: int) -> list[Sheet]:
    """Copies of content pages below /print/ with a paragraph gone and a line added."""
    draw = random.Random(seed)
    long_enough = [sheet for sheet in sheets if sheet.body.count("\n") >= 12]
    chosen = draw.sample(long_enough, min(config.near_duplicates, len(long_enough)))
    return [_edited(sheet, number, draw) for number, sheet in enumerate(chosen, start=1)]


def _edited(sheet: Sheet, number: int, draw: random.Random) -> Sheet:
    lines = sheet.body.split("\n")
    ordinary = [index for index, line in enumerate(lines) if line.startswith("<p>")]
    del lines[draw.choice(ordinary)]
    lines.append({"en": "<p>This is the print version.</p>", "zh": "<p>本页为打印版。</p>"}[sheet.lang])
    return replace(sheet, path=f"/print/{number:04d}.html", body="\n".join(lines), text_bytes=0)


def junk_sheets(sheets: Sequence[Sheet], config: SampleConfig, seed: int) -> list[Sheet]:
    """Pages no corpus wants, `config.junk` of each kind, English and Chinese in turn."""
    draw = random.Random(seed)
    found = []
    for number in range(1, config.junk + 1):
        lang = "en" if number % 2 else "zh"
        for kind, body in (
            ("offers", _keyword_spam(lang, draw)),
            ("tags", _link_farm(sheets, draw)),
            ("garbled", _mojibake(sheets, draw)),
            ("log", paragraphs([_MACHINE_LINE[lang]] * draw.randint(40, 80))),
            ("stub", paragraphs([{"en": "Nothing here yet.", "zh": "暂无内容。"}[lang]])),
        ):
            found.append(Sheet(f"/{kind}/{number:04d}.html", f"{kind} {number}", lang, "archive", body))
    return found


def _keyword_spam(lang: str, draw: random.Random) -> str:
    glue = " " if lang == "en" else "，"
    return paragraphs([glue.join(draw.choices(_SPAM[lang], k=60)) for _ in range(12)])


def _link_farm(sheets: Sequence[Sheet], draw: random.Random) -> str:
    chosen = draw.choices(sheets, k=120)
    return bullets([(sheet.path, word) for sheet, word in zip(chosen, draw.choices(_SPAM["en"], k=120), strict=True)])


def _mojibake(sheets: Sequence[Sheet], draw: random.Random) -> str:
    """Chinese text whose UTF-8 bytes were once read as Latin-1 or as GBK."""
    chinese = [sheet for sheet in sheets if sheet.lang == "zh" and sheet.section != "chat"] or list(sheets)
    codec = draw.choice(("latin-1", "gbk"))
    lines = [line for line in draw.choice(chinese).body.split("\n") if line.startswith("<p>")]
    garbled = [line[3:-4].encode().decode(codec, errors="replace") for line in lines]
    return "\n".join(f"<p>{escape(line)}</p>" for line in garbled)


def private_pages(config: SampleConfig) -> dict[str, bytes]:
    """Pages below /private/, linked from every page and forbidden by robots.txt."""
    sheets = [
        Sheet(f"/private/{number:04d}.html", f"Members {number}", "en", "private", paragraphs([_MEMBERS_TEXT]))
        for number in range(1, config.private + 1)
    ]
    index = Sheet("/private/", "Members", "en", "private", bullets([(sheet.path, sheet.title) for sheet in sheets]))
    return {sheet.path: dress(sheet, Around(), 0).encode() for sheet in [index, *sheets]}


def troublesome(sheets: Sequence[Sheet], config: SampleConfig) -> tuple[dict[str, bytes], Behaviours]:
    """Pages that misbehave, each wearing the text of an ordinary page of the site.

    Returns:
        The files (not every path has one: "/odd/missing.html" is linked and answers 404) and the behaviours.
    """
    chinese = next((sheet for sheet in sheets if sheet.lang == "zh"), sheets[0])
    plain = sheets[0]
    undeclared: dict[str, object] = {"headers": {"Content-Type": "text/html"}}
    gbk = dress(replace(chinese, path="/odd/gbk.html"), Around(), 1).replace('charset="utf-8"', 'charset="gb2312"')
    broken = dress(replace(plain, path="/odd/broken-bytes.html"), Around(), 0).encode()
    files = {
        "/odd/gbk.html": gbk.encode("gbk", errors="xmlcharrefreplace"),
        "/odd/broken-bytes.html": broken.replace(b"<p>", b"<p>\xff\xfe\xc3(\xe4\xb8 ", 3),
        **{
            path: dress(replace(plain, path=path), Around(), 0).encode()
            for path in ("/odd/slow.html", "/odd/busy.html", "/odd/moved-here.html", "/odd/etag.html")
        },
        "/odd/picture": b"\x89PNG\r\n\x1a\n",
    }
    behaviours: Behaviours = {
        "/odd/gbk.html": undeclared,
        "/odd/broken-bytes.html": undeclared,
        "/odd/slow.html": {"delay_s": config.slow_s},
        "/odd/error.html": {"status": 500},
        "/odd/busy.html": {"status": 503, "times": 1, "headers": {"Retry-After": "0"}},
        "/odd/moved.html": {"status": 301, "headers": {"Location": "/odd/moved-here.html"}},
        "/odd/loop-1.html": {"status": 302, "headers": {"Location": "/odd/loop-2.html"}},
        "/odd/loop-2.html": {"status": 302, "headers": {"Location": "/odd/loop-1.html"}},
        "/odd/inside.html": {"status": 302, "headers": {"Location": "http://169.254.169.254/latest/meta-data/"}},
        "/odd/etag.html": {"headers": {"ETag": '"riverbank-1"', "Last-Modified": "Thu, 03 May 2018 01:38:01 GMT"}},
        "/odd/picture": {"headers": {"Content-Type": "image/png"}},
    }
    return files, behaviours


# Linked from the archive although no file stands behind some of them.
ODD_LINKS = (
    "/odd/gbk.html",
    "/odd/broken-bytes.html",
    "/odd/slow.html",
    "/odd/busy.html",
    "/odd/error.html",
    "/odd/missing.html",
    "/odd/moved.html",
    "/odd/loop-1.html",
    "/odd/inside.html",
    "/odd/etag.html",
    "/odd/picture",
)
