"""Main text and title of pages as sites build them, English and Chinese, against what a reader would copy out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.reading import read_html

ENGLISH = [
    "The river rose two metres in one night, and by morning the lower street was under water.",
    "Nobody was hurt. The baker carried his flour upstairs, bag by bag, until the lights went out.",
    "Engineers say the new wall held. What failed was the old gate behind the mill, built in 1911.",
]
CHINESE = [
    "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。",
    "没有人受伤。面包师傅把面粉一袋一袋扛上楼，一直扛到停电。",
    "工程师说，新修的堤坝经受住了考验，出问题的是磨坊后面那座一九一一年建的老闸门。",
]


def paragraphs(texts: list[str]) -> str:
    return "".join(f"<p>{text}</p>\n" for text in texts)


ENGLISH_MODERN = f"""<!DOCTYPE html><html><head><title>High water in the lower street - The Daily Reed</title>
<meta property="og:title" content="High water"><script>var a = "not text";</script><style>p {{}}</style></head><body>
<header><a href="/">The Daily Reed</a><nav><ul><li><a href="/news">News</a></li><li><a href="/sport">Sport</a></li></ul>
</nav></header><div class="cookie-consent"><p>We use cookies to make your visit better. Accept all cookies?</p>
<button>Accept</button></div><main><div class="breadcrumb"><a href="/">Home</a> &gt; <a href="/news">News</a></div>
<article><h1>High water in the lower street</h1><div class="byline">By A. Miller</div>{paragraphs(ENGLISH)}
<h2>What comes next</h2><ul><li>The gate is replaced in May.</li><li>The wall gets another half metre.</li></ul>
<figure><img src="x.jpg"><figcaption>Photo: The Daily Reed</figcaption></figure></article>
<div class="share-buttons">Share this page: <a href="#f">Facebook</a> <a href="#x">X</a></div>
<section class="related"><h3>You may also like</h3><ul><li><a href="/1">Another flood</a></li></ul></section></main>
<aside><h3>Most read</h3><ol><li><a href="/2">A cat in a tree</a></li></ol></aside>
<footer><p>Copyright 2024 The Daily Reed. All rights reserved.</p></footer></body></html>"""

CHINESE_DIV = f"""<html><head><meta charset="utf-8"><title>下街涨水了_河岸晚报</title></head><body>
<div id="top"><a href="/">河岸晚报</a> <span>人人都看的报纸</span></div>
<div class="menu"><ul><li><a href="/a">首页</a></li><li><a href="/b">新闻</a></li>
<li><a href="/c">体育</a></li></ul></div>
<div id="page"><div class="crumb"><a href="/">首页</a> &gt; <a href="/b">新闻</a></div>
<div class="content"><h1>下街涨水了</h1><p>来源：河岸晚报</p>{paragraphs(CHINESE)}<p>责任编辑：李四</p>
<p>版权声明：本文未经许可不得转载。</p></div>
<div class="pager">上一篇：<a href="/1">天晴了</a> 下一篇：<a href="/2">下雪了</a></div>
<p>扫描二维码，关注我们的公众号</p><h3>相关文章</h3>
<ul><li><a href="/3">再次涨水</a></li><li>水退了 <a href="/4">详细</a></li></ul></div>
<div class="footer">版权所有 河岸晚报 京ICP备00000000号 | <a href="/about">关于我们</a></div></body></html>"""

CHINESE_TABLE = f"""<html><head><title>下街涨水了</title></head><body><table width=100%><tr><td class=left>
<a href=/a>首页</a><br><a href=/b>新闻</a><br><a href=/c>体育</a></td><td><h1>下街涨水了</h1>
{"<br>".join(CHINESE)}</td></tr><tr><td colspan=2>版权所有 河岸晚报 未经许可不得转载</td></tr></table></body></html>"""


def lines_of(html: str) -> list[str]:
    return read_html(html).text.split("\n")


def test_an_english_article_comes_out_as_headline_paragraphs_and_list() -> None:
    items = ["What comes next", "The gate is replaced in May.", "The wall gets another half metre."]
    assert lines_of(ENGLISH_MODERN) == ["High water in the lower street", *ENGLISH, *items]


def test_a_chinese_article_in_nested_blocks_comes_out_without_what_surrounds_it() -> None:
    assert lines_of(CHINESE_DIV) == ["下街涨水了", *CHINESE]


def test_a_chinese_article_in_a_layout_table_comes_out_line_by_line() -> None:
    assert lines_of(CHINESE_TABLE) == ["下街涨水了", *CHINESE]


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>High water - The Daily Reed</title>", "<h1>High water</h1>", "High water"),
        ("<title>High water in spring - The Daily Reed</title>", "", "High water in spring"),
        ("<title>下街涨水了_河岸晚报</title>", "", "下街涨水了"),
        ("<title>Reed</title><meta property='og:title' content='High water'>", "", "High water"),
        ("", "<h1>High  \n water</h1>", "High water"),
        ("", "", ""),
    ],
)
def test_the_title_is_the_pages_and_not_the_sites(head: str, body: str, title: str) -> None:
    html = f"<html><head>{head}</head><body>{body}{paragraphs(ENGLISH)}</body></html>"
    assert read_html(html).title == title


@pytest.mark.parametrize(
    "markup",
    [
        "<dl><dt>Ann</dt><dd>Hello there.</dd><dt>Ben:</dt><dd>Hi! Like it here?</dd><dt>Ann</dt><dd>Yes.</dd></dl>",
        "<ol><li><b>Ann:</b> Hello there.</li><li><b>Ben:</b> Hi! Like it here?</li><li><b>Ann:</b> Yes.</li></ol>",
        "<ul><li>Ann: Hello there.</li><li>Ben: Hi! Like it here?</li><li>Ann: Yes.</li></ul>",
        "<p>Ann: Hello there.</p><p>Ben: Hi! Like it here?</p><p>Ann: Yes.</p>",
        "<div>Ann: Hello there.<br>Ben: Hi! Like it here?<br>Ann: Yes.</div>",
        "<div class=reply>Ann: Hello there.</div><div class=reply>Ben: Hi! Like it here?</div>"
        "<div class=reply>Ann: Yes.</div>",
    ],
)
def test_a_conversation_comes_out_one_turn_a_line_however_it_is_marked_up(markup: str) -> None:
    html = f"<body><nav><a href=/>Home</a></nav><h1>Small talk</h1>{markup}<footer>Copyright 2024</footer></body>"
    assert lines_of(html) == ["Small talk", "Ann: Hello there.", "Ben: Hi! Like it here?", "Ann: Yes."]


def test_a_chinese_conversation_keeps_its_one_word_turns() -> None:
    html = "<body><h2>问候</h2><p>你好</p><p>嗯</p><p>登录了吗？</p><p>分享给我吧</p><p>首页</p><p>再见</p></body>"
    assert lines_of(html) == ["问候", "你好", "嗯", "登录了吗？", "分享给我吧", "首页", "再见"]


@pytest.mark.parametrize(
    "turn", ["Like what?", "Follow me!", "Share it with Ben.", "Print?", "Home.", "Cookies, please."]
)
def test_a_turn_that_opens_with_a_word_of_boilerplate_is_still_a_turn(turn: str) -> None:
    assert lines_of(f"<body><p>Where were you?</p><p>{turn}</p><p>I see.</p></body>")[1] == turn


def test_cells_of_a_row_stand_in_one_line() -> None:
    rows = "<tr><th>City</th><th>Rain</th></tr><tr><td>Bern</td><td>80 mm</td></tr>"
    html = f"<body>{paragraphs(ENGLISH)}<table>{rows}</table></body>"
    assert lines_of(html)[-2:] == ["City | Rain", "Bern | 80 mm"]


def test_preformatted_text_keeps_its_lines_and_indentation() -> None:
    html = f"<body>{paragraphs(ENGLISH)}<pre>\nfor x in y:\n    print(x)  \n</pre><p>It is\n  done.</p></body>"
    assert lines_of(html)[-3:] == ["for x in y:", "    print(x)", "It is done."]


def test_whitespace_and_entities_are_read_as_a_browser_shows_them() -> None:
    html = "<body><p>Fish&nbsp;&amp;\n\t chips &lt;3<b> and</b> <i>peas</i>&#33; They are served hot.</p></body>"
    assert lines_of(html) == ["Fish & chips <3 and peas! They are served hot."]
    assert lines_of("<body><p>They are  served   cold.</p></body>") == ["They are served cold."]


def test_links_inside_a_paragraph_stay_and_lists_of_links_go() -> None:
    prose = "The <a href=/w>wall</a> held, and so did the <a href=/b>bridge</a>, says the town."
    links = "".join(f"<li><a href=/{i}>Story number {i}</a></li>" for i in range(20))
    assert lines_of(f"<body><p>{prose}</p>{paragraphs(ENGLISH)}<ul>{links}</ul></body>") == [
        "The wall held, and so did the bridge, says the town.",
        *ENGLISH,
    ]


LEAD = "Two metres of water in one night: how the lower street came through, and what the town does about the old gate."


@pytest.mark.parametrize(
    "lead", [f"<p class=lead>{LEAD}</p>", f"<h2>{LEAD}</h2>", f"<div class=teaser-text>{LEAD}</div>"]
)
def test_the_lead_between_headline_and_text_comes_along_and_the_byline_does_not(lead: str) -> None:
    head = f"<div class=head><h1>High water</h1><p>By A. Miller, 5 March</p>{lead}</div>"
    html = f"<body><div class=page>{head}<div class=body>{paragraphs(ENGLISH * 3)}</div></div></body>"
    assert lines_of(html) == ["High water", LEAD, *ENGLISH * 3]


def test_a_teaser_of_another_page_stays_out() -> None:
    teaser = f"<div class=teaser><a href=/2>Another flood, and this time in the upper street too</a><p>{LEAD}</p></div>"
    assert lines_of(f"<body><main>{paragraphs(ENGLISH)}{teaser}</main></body>") == ENGLISH


REMARKS = [f"Remark number {n}: my cellar was dry all night, and I can tell you why that was so." for n in range(40)]


def test_comments_under_an_article_go_even_where_they_are_most_of_the_page() -> None:
    comments = "".join(f"<li class=comment><p>{text}</p></li>" for text in REMARKS)
    html = f"<body><article>{paragraphs(ENGLISH * 3)}</article><ol class=comment-list>{comments}</ol></body>"
    assert lines_of(html) == ENGLISH * 3


def test_comments_that_are_all_a_page_has_are_its_text() -> None:
    comments = "".join(f"<div class=comment><p>{text}</p></div>" for text in REMARKS)
    assert lines_of(f"<body><h1>Cellars</h1><div class=thread>{comments}</div></body>") == ["Cellars", *REMARKS]


def test_a_short_post_keeps_the_talk_under_it() -> None:
    comments = "".join(f"<div class=comment><p>{text}</p></div>" for text in REMARKS)
    html = f"<body><h1>Cellars</h1><div class=post>{paragraphs(ENGLISH)}</div><div class=thread>{comments}</div></body>"
    assert lines_of(html) == ["Cellars", *ENGLISH, *REMARKS]


@pytest.mark.parametrize(
    "line",
    [
        "Foto: A. Miller",
        "Photo credit: A. Miller",
        "Lesen Sie auch: Hochwasser im Norden",
        "À lire aussi : la crue du siècle",
        "Lea también: la crecida del río",
        "信息来源：市政府　发布时间：2024-03-05　浏览次数：12",
        "您需要登录后才可以回帖",
        "责任编辑：王小桥",
    ],
)
def test_a_line_that_speaks_about_the_page_goes(line: str) -> None:
    assert lines_of(f"<body>{paragraphs(ENGLISH)}<p>{line}</p></body>") == ENGLISH


def test_hidden_elements_are_not_text() -> None:
    hidden = "<p hidden>a secret</p><p style='display: none'>another</p><p aria-hidden=true>a third</p>"
    assert lines_of(f"<body>{paragraphs(ENGLISH)}{hidden}</body>") == ENGLISH


@pytest.mark.parametrize(
    ("between", "lines"),
    [("<div></div>", 2), ("<div class=x><p></p></div>", 2), ("<div hidden></div>", 1), ("<span></span>", 1)],
)
def test_an_empty_block_ends_a_line_unless_it_is_hidden(between: str, lines: int) -> None:
    first, second = "The first half of what is said here,", "and the second half of it."
    text = f"{first}\n{second}" if lines == 2 else f"{first} {second}"
    assert lines_of(f"<body>{paragraphs(ENGLISH)}{first} {between}{second}") == [*ENGLISH, *text.split("\n")]


def test_a_page_that_calls_its_own_text_boilerplate_is_believed_to_have_text() -> None:
    html = (
        f"<body><div class='print share'>{paragraphs(ENGLISH)}</div><div class=menu><p>Menu of today</p></div></body>"
    )
    assert lines_of(html) == ENGLISH


def test_an_article_is_text_whatever_else_it_calls_itself() -> None:
    html = f"<body><div>{paragraphs(ENGLISH)}</div><{{0}} class=promo><p>{LEAD}</p></{{0}}></body>"
    assert lines_of(html.format("article")) == [*ENGLISH, LEAD]
    assert lines_of(html.format("section")) == ENGLISH


def test_a_page_whose_text_stands_in_an_aside_is_not_empty() -> None:
    hidden = "<script>var words = 'not text';</script><style>p { color: red }</style>"
    assert lines_of(f"<body><aside>{hidden}{paragraphs(ENGLISH)}</aside></body>") == ENGLISH


def test_a_page_of_links_alone_has_no_text() -> None:
    links = "".join(f"<li><a href=/{i}>word{i}</a></li>" for i in range(50))
    assert read_html(f"<body><ul>{links}</ul></body>").text == ""


TAGS = ["p", "div", "a href=x", "li", "ul", "table", "td", "h1", "pre", "br", "nav", "article", "b", "dl", "dd", "svg"]
PIECE = st.one_of(
    st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag.split()[0]}>" for tag in TAGS]),
    st.sampled_from(
        ["<!--", "-->", "<![CDATA[", "&#xD800;", "&#0;", "<", "\x00", "\x1e", "</body>", "<template>", "<plaintext>"]
    ),
    st.text(max_size=12),
)


@given(st.lists(PIECE, max_size=60).map("".join))
def test_any_soup_of_tags_is_read_without_a_crash_and_as_clean_lines(html: str) -> None:
    main = read_html(html)
    main.text.encode()
    main.title.encode()
    assert all(line == line.rstrip("\n") for line in main.text.split("\n"))
    assert read_html(html) == main


def test_names_are_judged_alike_in_any_company() -> None:
    alone = {name: _says_boilerplate(name) for name in ("post", "share-bar", "story2", "comments7")}
    assert alone == {"post": False, "share-bar": True, "story2": False, "comments7": True}
    assert _says_boilerplate("post story2 share-bar")
    assert not _says_boilerplate("post story2")


def test_a_commentary_is_no_comments_wherever_its_name_stands() -> None:
    filler = "".join(
        f"<p>Paragraph {n} of the article says something long enough to count as prose.</p>" for n in range(12)
    )
    own = "<p>What is said here is part of the text, whoever wrote it, and should be kept.</p>"
    page = "<body><main>{}<div class='{}'>{}</div></main></body>"
    assert "whoever wrote it" in read_html(page.format(filler, "commentary kommentar", own)).text
    assert "whoever wrote it" not in read_html(page.format(filler, "kommentar", own)).text


def _says_boilerplate(own_class: str) -> bool:
    prose = "".join(f"<p>Sentence number {n}, long enough to count as prose on this page.</p>" for n in range(6))
    marked = f"<div class='{own_class}'><p>A line within the element whose names are judged.</p></div>"
    return "within the element" not in read_html(f"<body>{prose}{marked}{prose}</body>").text
