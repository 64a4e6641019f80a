"""The look of the sample website: one page's main part inside what every page of a real site carries along.

Header, navigation, breadcrumbs, cookie notice, share buttons, related links, newsletter box and footer, in English and
in Chinese. Three layouts take turns, because sites are built in many ways: semantic elements, nested blocks with
telling class names, and a table of the old kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from components.sample.config import HOST

NUM_LAYOUTS = 3


@dataclass(frozen=True)
class Sheet:
    """One HTML page before it is dressed.

    Attributes:
        path: URL path, "/talk/0001.html".
        title: Its headline.
        lang: "en" or "zh"; decides the boilerplate.
        section: Name of the section it belongs to.
        body: HTML of the main part, without the headline.
        text_bytes: UTF-8 bytes of the text worth keeping; 0 for lists and junk.
    """

    path: str
    title: str
    lang: str
    section: str
    body: str
    text_bytes: int = 0


@dataclass(frozen=True)
class Around:
    """What stands around a page: its neighbours and what the site recommends beside it, as (path, title)."""

    previous: tuple[str, str] | None = None
    next: tuple[str, str] | None = None
    related: tuple[tuple[str, str], ...] = ()


SECTIONS = {
    "talk": ("/talk/", "Conversations", "en"),
    "help": ("/help/", "Questions and answers", "en"),
    "news": ("/zh/news/", "新闻", "zh"),
    "digest": ("/zh/digest/", "每日要闻", "zh"),
    "reviews": ("/zh/reviews/", "顾客点评", "zh"),
    "chat": ("/zh/chat/", "问答", "zh"),
    "archive": ("/archive/", "Archive", "en"),
}

_WORDS = {
    "en": {
        "site": "Riverbank",
        "slogan": "People talking to people since 2018",
        "home": "Home",
        "cookie": "We use cookies to make this site better. By continuing to browse you accept our cookie policy.",
        "accept": "Accept all cookies",
        "share": "Share this page:",
        "networks": "Facebook,X,Reddit,E-mail,Print",
        "related": "You may also like",
        "previous": "Previous page",
        "next": "Next page",
        "letter": "Sign up for our newsletter and never miss a story. No spam, unsubscribe at any time.",
        "footer": "Copyright Riverbank. All rights reserved. Terms of use | Privacy policy | Contact us | Advertise",
        "members": "Members' area",
    },
    "zh": {
        "site": "河岸网",
        "slogan": "人人都在说",
        "home": "首页",
        "cookie": "本网站使用 Cookie 以改善您的浏览体验。继续浏览即表示您同意我们的 Cookie 政策。",
        "accept": "全部接受",
        "share": "分享到：",
        "networks": "微信,微博,QQ空间,豆瓣,打印",
        "related": "相关文章",
        "previous": "上一篇",
        "next": "下一篇",
        "letter": "扫描二维码，关注我们的公众号，第一时间获取最新资讯。",
        "footer": "版权所有 河岸网 未经许可不得转载 | 关于我们 | 联系我们 | 隐私政策 | 网站地图 | 责任编辑：河岸",
        "members": "会员专区",
    },
}


def dress(sheet: Sheet, around: Around, layout: int) -> str:
    """The whole HTML document of a page. `layout` picks one of `NUM_LAYOUTS` (any number will do)."""
    words = _WORDS[sheet.lang]
    parts = {
        "header": _header(words),
        "nav": _navigation(words),
        "crumbs": _crumbs(sheet, words),
        "main": f"<h1>{escape(sheet.title)}</h1>\n{sheet.body}",
        "share": _share(words),
        "turn": _turn(around, words),
        "related": _related(around, words),
        "footer": _footer(words),
    }
    body = _LAYOUTS[layout % NUM_LAYOUTS].format_map(parts)
    lang = {"en": "en", "zh": "zh-CN"}[sheet.lang]
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(sheet.title)} - {words['site']}</title>\n"
        f'<meta name="description" content="{words["slogan"]}">\n'
        f'<link rel="canonical" href="http://{HOST}{escape(sheet.path)}">\n'
        '<link rel="stylesheet" href="/style.css">\n'
        "<script>window.visits = (window.visits || 0) + 1;</script>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def anchor(path: str, title: str) -> str:
    """A link."""
    return f'<a href="{escape(path)}">{escape(title)}</a>'


def bullets(entries: Sequence[tuple[str, str]]) -> str:
    """A list of links, given as (path, title)."""
    return "<ul>\n" + "\n".join(f"<li>{anchor(path, title)}</li>" for path, title in entries) + "\n</ul>"


def _header(words: dict[str, str]) -> str:
    return (
        f'<a class="logo" href="/">{words["site"]}</a> <span class="slogan">{words["slogan"]}</span>\n'
        f'<div class="cookie-banner" role="dialog"><p>{words["cookie"]}</p><button>{words["accept"]}</button></div>'
    )


def _navigation(words: dict[str, str]) -> str:
    entries = [("/", words["home"]), *((path, title) for path, title, _ in SECTIONS.values())]
    return bullets([*entries, ("/private/", words["members"])])


def _crumbs(sheet: Sheet, words: dict[str, str]) -> str:
    trail = anchor("/", words["home"])
    if sheet.section in SECTIONS:
        path, title, _ = SECTIONS[sheet.section]
        trail += f" &gt; {anchor(path, title)}"
    return trail


def _share(words: dict[str, str]) -> str:
    buttons = " ".join(
        f'<a class="button" href="#share-{i}">{n}</a>' for i, n in enumerate(words["networks"].split(","))
    )
    return f'<div class="share-buttons">{words["share"]} {buttons}</div>'


def _turn(around: Around, words: dict[str, str]) -> str:
    pairs = (("previous", around.previous), ("next", around.next))
    found = [f"{words[name]}: {anchor(*target)}" for name, target in pairs if target]
    return f'<div class="pager">{" | ".join(found)}</div>' if found else ""


def _related(around: Around, words: dict[str, str]) -> str:
    return f"<h3>{words['related']}</h3>\n{bullets(around.related)}" if around.related else ""


def _footer(words: dict[str, str]) -> str:
    partner = '<a href="https://www.example.org/partner">example.org</a>'
    return f'<p class="newsletter">{words["letter"]}</p>\n<p class="copyright">{words["footer"]} | {partner}</p>'


_LAYOUTS = (
    "<header>{header}</header>\n<nav>{nav}</nav>\n<div class='breadcrumbs'>{crumbs}</div>\n"
    "<main>\n<article>\n{main}\n</article>\n{share}\n{turn}\n</main>\n"
    "<aside>{related}</aside>\n<footer>{footer}</footer>",
    "<div id='top'>{header}</div>\n<div class='menu'>{nav}</div>\n<div id='page'>\n<div class='crumb'>{crumbs}</div>\n"
    "<div class='content'>\n{main}\n</div>\n<div class='social'>{share}</div>\n{turn}\n"
    "<div class='sidebar'>{related}</div>\n</div>\n<div id='bottom' class='footer'>{footer}</div>",
    "<table width='100%'>\n<tr><td colspan='2' class='banner'>{header}</td></tr>\n<tr><td class='left'>{nav}</td>\n"
    "<td class='middle'>\n<small>{crumbs}</small>\n{main}\n{share}\n{turn}\n<hr>\n{related}\n</td></tr>\n"
    "<tr><td colspan='2' class='foot'>{footer}</td></tr>\n</table>",
)
