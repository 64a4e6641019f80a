"""The chosen blocks as plain lines and as light Markdown."""

from __future__ import annotations

import pytest

from components.extract.reading import read_html

PROSE = "<p>The river rose two metres in one night, and by morning the lower street was under water.</p>"
PAGE = f"""<body><main><h1>High water</h1>{PROSE}<h2>What to do</h2><ul><li>Carry the flour upstairs.</li>
<li>Then wait:<ul><li>for the <b>boat</b></li></ul></li></ul><pre><code>def level(gauge):
    return gauge.read()
</code></pre>
<table><tr><th>Hour</th><th>Level</th></tr><tr><td>6</td><td>2.1 m</td></tr></table>{PROSE}</main></body>"""


def test_plain_text_is_a_line_for_each_part_with_code_as_it_stands() -> None:
    prose = PROSE[3:-4]
    assert read_html(PAGE).text.split("\n") == [
        "High water",
        prose,
        "What to do",
        "Carry the flour upstairs.",
        "Then wait:",
        "for the boat",
        "def level(gauge):",
        "    return gauge.read()",
        "Hour | Level",
        "6 | 2.1 m",
        prose,
    ]


def test_markdown_marks_headings_items_code_and_tables() -> None:
    prose = PROSE[3:-4]
    assert read_html(PAGE, form="markdown").text.split("\n\n") == [
        "# High water",
        prose,
        "## What to do",
        "- Carry the flour upstairs.\n- Then wait:\n  - for the boat",
        "```\ndef level(gauge):\n    return gauge.read()\n```",
        "Hour | Level\n6 | 2.1 m",
        prose,
    ]


@pytest.mark.parametrize("form", ["plain", "markdown"])
def test_both_forms_hold_the_same_words(form: str) -> None:
    words = read_html(PAGE, form=form).text.replace("#", " ").replace("```", " ").replace("-", " ").split()
    assert words == read_html(PAGE).text.split()


def test_a_fence_inside_code_does_not_end_the_code() -> None:
    text = read_html(f"<body>{PROSE}<pre>```\nx\n```</pre></body>", form="markdown").text
    assert text.endswith("~~~~\n```\nx\n```\n~~~~")
