"""Builds the sample website: the same bytes for the same settings, on any machine.

www/               the files; a folder's own page is its index.html
behaviours.json    {path: {"delay_s": s, "status": n, "headers": {name: value}}}, obeyed by `server.serve`
summary.json       host, pages by kind, bytes of main text by language, versions of the text packages
"""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from components.context import Context, Metrics
from components.publish import publish_json
from components.sample.config import HOST, SampleConfig
from components.sample.markup import SECTIONS, Around, Sheet, bullets, dress

VERSION = 1

_NUM_RELATED = 5
_ROBOTS = f"""User-agent: *
Disallow: /private/
Crawl-delay: 0

Sitemap: http://{HOST}/sitemap.xml
"""


def site(ctx: Context, config: SampleConfig) -> Metrics:
    """Writes the website under `ctx.output`.

    Returns:
        pages (HTML files), text_mb (main text, 10^6 UTF-8 bytes), text_mb_zh.

    Raises:
        MachineError: If the extra `sample` is not installed.
    """
    from components.sample.odd import ODD_LINKS, junk_sheets, near_duplicates, private_pages, troublesome
    from components.sample.sections import content_sheets
    from components.sample.texts import versions

    packages = versions()
    sheets = content_sheets(config, ctx.seed("texts"))
    copies = near_duplicates(sheets, config, ctx.seed("near duplicates"))
    junk = junk_sheets(sheets, config, ctx.seed("junk"))
    lists = _lists([*sheets, *copies, *junk], config)
    draw = random.Random(ctx.seed("related"))
    files = {path: text.encode() for path, text in _dressed(sheets, draw).items()}
    files |= {path: text.encode() for path, text in _dressed([*copies, *junk, *lists], draw).items()}
    duplicates = _duplicates(sheets, files, config, random.Random(ctx.seed("duplicates")))
    odd, behaviours = troublesome(sheets, config)
    private = private_pages(config)
    files |= duplicates | odd | private
    files |= _archive([*copies, *junk], [*duplicates, *ODD_LINKS, *private], config)
    num_pages = sum(b"<html" in content[:200] for content in files.values())
    files |= _for_machines(files, sheets)
    _write(ctx.output / "www", files)
    publish_json(ctx.output / "behaviours.json", behaviours)
    text_bytes = {lang: sum(sheet.text_bytes for sheet in sheets if sheet.lang == lang) for lang in ("en", "zh")}
    kinds = Counter(sheet.section for sheet in sheets)
    kinds |= Counter(near_duplicates=len(copies), duplicates=len(duplicates), junk=len(junk), lists=len(lists))
    publish_json(
        ctx.output / "summary.json",
        {"host": HOST, "pages": num_pages, "kinds": kinds, "text_bytes": text_bytes, "packages": packages},
    )
    ctx.progress(num_pages, num_pages, "pages")
    return {
        "pages": float(num_pages),
        "text_mb": sum(text_bytes.values()) / 1e6,
        "text_mb_zh": text_bytes["zh"] / 1e6,
    }


def file_of(path: str) -> Path:
    """The file below www/ that a URL path stands for."""
    return Path(path.lstrip("/") + ("index.html" if path.endswith("/") else ""))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Plain writes: nothing under a step's output counts before the store has flushed and committed it as a whole."""
    for path, content in files.items():
        target = folder / file_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _dressed(sheets: Sequence[Sheet], draw: random.Random) -> dict[str, str]:
    """Every page with its neighbours and a few recommended pages of its own section."""
    sections: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        sections.setdefault(sheet.section, []).append(sheet)
    pages = {}
    for some in sections.values():
        entries = [(sheet.path, sheet.title) for sheet in some]
        for index, sheet in enumerate(some):
            around = Around(
                previous=entries[index - 1] if index > 0 else None,
                next=entries[index + 1] if index + 1 < len(entries) else None,
                related=tuple(draw.choices(entries, k=_NUM_RELATED)),
            )
            pages[sheet.path] = dress(sheet, around, index)
    return pages


def _lists(sheets: Sequence[Sheet], config: SampleConfig) -> list[Sheet]:
    """The front page and each section's paginated list; an empty section keeps an empty first page."""
    found = [_front()]
    for section, (folder, title, lang) in SECTIONS.items():
        if section != "archive":
            entries = [(sheet.path, sheet.title) for sheet in sheets if sheet.section == section]
            found += _paginated(folder, title, lang, section, entries, config.list_size)
    return found


def _front() -> Sheet:
    entries = [(folder, title) for folder, title, _ in SECTIONS.values()]
    return Sheet("/", "Riverbank", "en", "front", "<p>Welcome to Riverbank. Pick a section.</p>\n" + bullets(entries))


def _paginated(
    folder: str, title: str, lang: str, section: str, entries: Sequence[tuple[str, str]], size: int
) -> list[Sheet]:
    starts = range(0, max(len(entries), 1), size)
    paths = [folder if number == 0 else f"{folder}page-{number + 1}.html" for number in range(len(starts))]
    sheets = []
    for number, start in enumerate(starts):
        numbers = [(path, str(other + 1)) for other, path in enumerate(paths) if abs(other - number) <= 2]
        body = bullets(entries[start : start + size]) + "\n" + bullets(numbers)
        sheets.append(Sheet(paths[number], f"{title} {number + 1}", lang, f"{section} list", body))
    return sheets


def _duplicates(
    sheets: Sequence[Sheet], files: dict[str, bytes], config: SampleConfig, draw: random.Random
) -> dict[str, bytes]:
    chosen = draw.sample(list(sheets), min(config.duplicates, len(sheets)))
    return {f"/mirror/{number:04d}.html": files[sheet.path] for number, sheet in enumerate(chosen, start=1)}


def _archive(sheets: Sequence[Sheet], paths: Sequence[str], config: SampleConfig) -> dict[str, bytes]:
    """The list that leads to everything no section lists."""
    folder, title, lang = SECTIONS["archive"]
    entries = [(sheet.path, sheet.title) for sheet in sheets]
    entries += [(path, path.strip("/")) for path in paths]
    lists = _paginated(folder, title, lang, "archive", entries, config.list_size)
    return {sheet.path: dress(sheet, Around(), 0).encode() for sheet in lists}


def _for_machines(files: dict[str, bytes], sheets: Sequence[Sheet]) -> dict[str, bytes]:
    """robots.txt and the sitemaps: an index of one sitemap for each section, the Chinese ones compressed."""
    maps: dict[str, bytes] = {}
    for section in dict.fromkeys(sheet.section for sheet in sheets):
        some = [sheet for sheet in sheets if sheet.section == section]
        content = _sitemap("urlset", "url", [sheet.path for sheet in some])
        if some[0].lang == "zh":
            maps[f"/sitemaps/{section}.xml.gz"] = gzip.compress(content, mtime=0)
        else:
            maps[f"/sitemaps/{section}.xml"] = content
    index = _sitemap("sitemapindex", "sitemap", list(maps))
    style = b"body { font-family: serif; }\n"
    return {"/robots.txt": _ROBOTS.encode(), "/sitemap.xml": index, "/style.css": style, **maps}


def _sitemap(root: str, entry: str, paths: Sequence[str]) -> bytes:
    rows = "\n".join(f"<{entry}><loc>http://{HOST}{escape(path)}</loc></{entry}>" for path in paths)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{space}">\n{rows}\n</{root}>\n'.encode()
