"""What boilerplate calls itself: element names, roles, class words, and the phrases it opens with.

Data, so that a new kind of boilerplate is one more word here and no new code. Class words match whole words of the
class and id attributes ("post-share", "shareBar" and "share" are one word "share"; "shareholder" is not). Phrases are
long enough that nobody opens a turn of a conversation with them: "share this page" is one, "share" or "like" are not,
and need none, because such single words are links or buttons and go as those.
"""

from __future__ import annotations

import re

# Never text of the page, whatever they hold. Captions are left out because they stand between paragraphs unrelated.
_INVISIBLE = """
    script style noscript template iframe frame frameset object embed svg math canvas audio video map button select
    option input textarea datalist progress meter head link meta title img figcaption
"""
INVISIBLE = _INVISIBLE.split()
# Landmarks that hold what surrounds the text.
SURROUNDING = ["nav", "footer", "aside", "dialog", "menu"]
SURROUNDING_ROLES = frozenset(
    ("navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog", "menu", "menubar")
)
_CLASS_WORDS_TEXT = """
    nav navbar navi navigation topnav subnav navbox menu submenu breadcrumb breadcrumbs crumb crumbs sidebar aside
    rail footer foot masthead topbar toolbar share sharing shares sharebar sharedaddy social socials bookmark
    bookmarks cookie cookies consent gdpr privacy banner advert advertisement advertising ad ads adsense sponsor
    sponsored promo promotion promos related relatedposts recommend recommended recommendation
    recommendations readmore morelinks newsletter subscribe subscription signup signin login register popup modal
    overlay lightbox pagination pager paging pagenav pagenavi prevnext copyright legal disclaimer imprint
    widgets skip skiplink tags tagcloud categories toc print printfriendly byline authorbox biography postmeta meta
    metadata metabar dateline respond reply replies comments commentlist disqus rating ratings voting votes feedback
    survey captcha outbrain taboola trending popular mostread hotnews noprint screenreader infobox
    caption captions credit credits disclosure authorinfo aboutauthor
"""
_CLASS_WORDS = frozenset(_CLASS_WORDS_TEXT.split())
_CLASS_NAMES = frozenset(("author-box", "author-bio", "comment-form", "sr-only", "visually-hidden"))
_COMMENTS = ("comment", "kommentar", "disqus", "pinglun")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

# How a boilerplate line opens. Matched against lines of at most OPENING_COLUMNS.
_OPENINGS = re.compile(
    r"""^\W*(?:
      (?:share\ (?:this\ (?:page|article|post|story|on|:)|on\b|via\b)|tweet\ this|(?:follow|like|find)\ us\b
        |sign\ up\ (?:for|to)\ (?:our|the|receive|get)|subscribe\ to\b|subscribe\ (?:now|today)
        |(?:log|sign)\ ?in\ to\ (?:comment|reply|post|continue|your|read)|read\ (?:more|next|also)\W*$
        |see\ also\W*$|skip\ to\ (?:main|content|nav)|(?:back|return)\ to\ (?:the\ )?(?:top|home|list|index)
        |go\ to\ top|leave\ a\ (?:reply|comment)|post\ a\ comment|no\ comments\ yet|loading\W*$
        |related\ (?:articles?|posts?|stories|links|topics|pages|content|news)\b
        |you\ (?:may|might)\ also\ (?:like|be\ int)|more\ (?:stories|articles|posts|news)\b
        |recommended\ for\ you|most\ (?:read|popular|viewed)\W*$
        |popular\ posts|trending\ (?:now|stories|topics)|advertisement\W*$|sponsored\ (?:by|content|links?)
        |copyright\W*\d{4}|(?:\(c\)|©)\ *\d{4}|terms\ (?:of|and)\ (?:use|service|conditions)|privacy\ policy
        |cookie\ (?:policy|settings|preferences|notice)|(?:we|this\ (?:web)?site)\ uses?\ cookies
        |accept\ (?:all\ )?cookies|by\ continuing\ to\ (?:use|browse)|powered\ by\b
        |(?:photo|image|picture|photograph)s?\ ?(?:credits?|courtesy|by)\b|photos?:|(?:photo|credits?)\ ?[:：]
        |(?:about\ the\ author|suggested\ (?:citation|reading)|further\ reading)\W*$
        |(?:posted|published)\ (?:in|by|on|at)\b|filed\ under
        |tags?:|categor(?:y|ies):|(?:previous|next)\ (?:post|article|page|story|chapter)\b|(?:older|newer)\ posts)
      # German, French, Spanish, Portuguese, Italian, Polish, Dutch: related pages, sharing, comments, credits.
      |(?:mehr\ (?:zum\ thema|dazu|lesen)|lesen\ sie\ (?:auch|mehr|hier)|weiterlesen|zum\ weiterlesen|auch\ interessant
        |das\ könnte\ (?:sie|dich)|weitere\ (?:artikel|beiträge|themen|informationen|infos|nachrichten|links)\b
        |weiterführende|verwandte\ \w+|ähnliche\ (?:artikel|beiträge|themen)|neueste\ (?:artikel|beiträge)
        |schon\ gelesen|kommentar(?:e\ geschlossen|\ (?:schreiben|verfassen|abgeben))
        |(?:artikel|beitrag|seite)\ (?:teilen|drucken)
        |(?:foto|fotos|bild|titelbild|beitragsbild|bildnachweis|fotocredit)\s?:|über\ (?:den|die)\ autor|zur\ startseite
        |alle\ rechte\ vorbehalten|empfehlungen\ (?:aus|der|für)|heute\ empfehlen
        |(?:à\ )?lire\ aussi|voir\ aussi|sur\ le\ même\ (?:sujet|thème)|vous\ aimerez|articles?\ (?:liés|similaires)
        |crédits?\ ?(?:photos?)?\s?:|partager\ (?:sur|cet)|tous\ droits\ réservés|abonnez-vous|laisser\ un\ commentaire
        |(?:lea|lee|le[ií]a|leer|veja|ver|saiba)\ (?:también|tamb[eé]m|más|mais)\b
        |te\ puede\ interesar|notas?\ relacionad[ao]s?
        |(?:noticias|notícias|artículos)\ relacionad[ao]s|crédito\s?:|todos\ los\ derechos|todos\ os\ direitos|síguenos
        |leggi\ anche|articoli\ correlati|condividi\b|riproduzione\ riservata|tutti\ i\ diritti
        |(?:czytaj|zobacz)\ (?:też|także|również|więcej)|lees\ ook|deel\ dit)
      |(?:相关|推荐|延伸|热门|热点|精彩|更多|最新|随机|本周|今日)(?:文章|阅读|推荐|新闻|链接|资讯|专题|搜索|话题|排行|评论|视频|帖子)
        (?:[:：]|\W*$)
      |猜你喜欢|相關(?:文章|閱讀|新聞|連結)|推薦(?:閱讀|文章)|延伸閱讀
      |(?:上|下)一(?:篇|页|頁|章|条|條)(?:[:：]|\W*$)|返回(?:首页|顶部|列表|目录|上页|頂部|首頁)
      |(?:版权|版權)(?:所有|声明|聲明|归)|转载(?:请|须|需|自)|轉載(?:請|自)|未经.{0,12}(?:授权|许可|允许)
      |本文(?:来源|转载自|版权)|免(?:责|責)(?:声|聲)明|(?:责任|責任)?(?:编辑|編輯)[:：]|责任编辑|責任編輯|责编[:：]|来源[:：]|來源[:：]
      |(?:栏目|欄目|站内|網站|网站)(?:导航|導航|搜索|搜尋)|(?:您|你)?(?:需要|必须)(?:登录|登錄|登入)
      |发布(?:时间|日期)[:：]|(?:浏览|阅读|点击)(?:次数|量|数)?[:：]\s*\d
      |分享(?:到|至)[:：]?|分享按钮|扫(?:一扫|码|描).{0,4}(?:二维码|关注|下载|分享)|扫描二维码|长按(?:二维码|识别)
      |微信(?:扫一扫|公众号)[:：]|关注我们|打印(?:本页|此页|本文)|收藏(?:本页|本站|此文)|关闭窗口|加入收藏|设为首页
      |发表评论\W*$|我要评论|网友评论\W*$|暂无评论|友情链接|(?:联系|关于)我们\W*$|网站地图|隐私政策|用户协议
      |本(?:网)?站使用.{0,8}cookie|接受.{0,6}cookie
    )""",
    re.VERBOSE,
)
_ANYWHERE = ("版权所有", "版權所有", "icp备", "icp備", "icp证", "icp證", "公网安备", "转载请注明", "轉載請註明")
OPENING_COLUMNS = 90
# What Chinese pages tell about themselves in one line under the headline: two of these in a short line are such a line.
_TOLD = re.compile(
    r"(?:作者|记者|記者|来源|來源|出处|出處|时间|時間|日期|点击|點擊|浏览|瀏覽|阅读|閱讀|次数|次數|点击数|點擊數|人气|人氣|字号|字號|字体|字體"
    r"|编辑|編輯|发布者|發布者|录入|查看|回复|回覆)[:：]"
    r"|发表于|發表於|只看(?:该|該)作者"
)
# Headings that open a list of other pages: what follows up to the next heading goes with them.
_RELATED = re.compile(
    r"""^\W*(?:related\ |you\ (?:may|might)\ also|more\ (?:stories|articles)|recommended\ (?:for|articles)
      |popular\ posts|most\ (?:read|popular|viewed)|see\ also\W*$|read\ (?:more|next)\W*$
      |相关(?:文章|阅读|推荐|新闻|链接)|相關(?:文章|閱讀)|推荐阅读|推薦閱讀|猜你喜欢|热门(?:文章|推荐)|延伸阅读|更多(?:文章|阅读|精彩)
      |友情链接)""",
    re.IGNORECASE | re.VERBOSE,
)


def is_hidden(style: str | None) -> bool:
    """Tells whether an inline style hides the element."""
    return style is not None and _HIDDEN_STYLE.search(style) is not None


NAMED, BOILERPLATE, COMMENTS, COMMENTARY, TEASER = 1, 2, 4, 8, 16
"""What one word of a class or id attribute says, as bits: that there is a name at all, that the element is boilerplate,
that it is readers' comments, that it is not though it sounds so, that it is a foretaste of a text, perhaps another."""


def says(name: str) -> int:
    """What one name of an element, a word of its class or id attribute, says."""
    small = name.lower()
    words = not _CLASS_WORDS.isdisjoint(map(str.lower, _WORDS.findall(name)))
    said = NAMED | BOILERPLATE if words or small in _CLASS_NAMES else NAMED
    if any(word in small for word in _COMMENTS):
        said |= COMMENTS
    if "commentary" in small:
        said |= COMMENTARY
    return said | TEASER if "teaser" in small else said


def opens_boilerplate(line: str, columns: int) -> bool:
    """Tells whether a line of the page, `columns` wide (a hanzi takes two), is a phrase that boilerplate opens with."""
    if columns > 2 * OPENING_COLUMNS:
        return False
    has_hanzi = columns > len(line)
    # In small letters the pattern needs no folding of case, with which it takes three times as long.
    line = line.lower()
    if "all rights reserved" in line or "accept our cookie" in line:
        return True
    if has_hanzi and (any(phrase in line for phrase in _ANYWHERE) or len(_TOLD.findall(line)) > 1):
        return True
    return columns <= OPENING_COLUMNS and _OPENINGS.match(line) is not None


def opens_related(heading: str) -> bool:
    """Tells whether a heading opens a list of other pages."""
    return _RELATED.search(heading) is not None
