"""The report page: all of it is there (golden), nothing of a conversation, all of it escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.figures.catalogue import draw
from leray.report import page
from leray.report.judged import card
from leray.report.page import publish, render
from leray.runs import RunFolder

SECTIONS = [
    "verdicts", "weights", "landscape", "methods", "signals", "data", "times", "reproduce",
    "reading",
]  # fmt: skip
VOID = {"meta", "br", "link", "img", "hr", "input"}
ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg><svg onload=alert(1)>",
    "</title></style><script>",
    "{{ 7 * 7 }}",
    "' onmouseover='x",
    "\u202egnp.exe",
    "\ud800\0",
]


class Outline(HTMLParser):
    """The tags with the names of their attributes, the text, and whether the tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text = ""
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def html(written_result, written_details) -> str:
    return render(written_result(), written_details())


def test_sections_in_order(html):
    outline = Outline(html)
    assert [i for i in outline.ids if i in SECTIONS] == SECTIONS
    assert len(outline.ids) == len(set(outline.ids))
    assert html.index('id="verdicts"') > html.index("Use relevance alone: nothing beat it.")


def test_every_fact_is_there(html):
    text = Outline(html).text
    for fact in (
        "refuted", "undecided: not judged", "it lies between 0.50 and 0.70",
        "it is at least 0.01", "about 34 conversations", "0.002 to 0.283",
        "95% interval: jackknife-t, simultaneous over 9 claims",
        "these data have no times", "0.0838", "1.6 × 10⁻¹⁶", "30 days", "0.0099",
        "(never, in 100 draws)", "five signals with BM25", "held out", "recommended",
        "1,192,166", "evidence id misspelt", "Nothing had to be dropped.", "30 min",
        "leray study importance --data jsonl:chats.jsonl --preset quick --seed 7",
        "How to read this page", "see env.json", "none of it is in this page",
    ):  # fmt: skip
        assert fact in text, fact


def test_the_best_of_each_metric_is_bold(html):
    assert html.count("<b>0.570</b>") == 7


def test_nothing_is_loaded(html):
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?://|@import|url\((?!#)", bare)
    tags = Outline(html).tags
    assert not {name for name, *_ in tags} & {"script", "link", "img", "iframe", "image", "base"}
    assert not any(a.startswith("on") or a == "src" for _, *names in tags for a in names)


def test_figures_stand_in_the_page(html):
    names = ("weights", "null", "landscape", "forest", "distributions", "correlations")
    assert [n for n in names if f'<title id="{n}-title">' in html] == list(names)


def test_named_points_of_the_landscape(html):
    assert re.search(r"“optimal” weights</th><td[^>]*>0.100</td><td[^>]*>0.600<", html)
    assert re.search(r"intuitive weights</th>", html) is not None


def test_one_conversation(written_result, written_details):
    text = Outline(render(written_result(one=True), written_details(one=True))).text
    assert "1 conversation" in text
    assert "with one conversation there are none" in text
    assert "it needs at least two conversations" in text
    assert text.count("undecided: not judged") == 4


def test_callbacks_with_several_decay_times(written_result, written_details):
    result = written_result(truth="callback")
    html = render(result, written_details(taus=(600.0, 86400.0, 30 * 86400.0)))
    assert 'id="figure-decay-times"' in html
    assert "callback: a later message takes up a rare word" in html
    assert "no: verdicts are confirmatory" in html


def test_details_may_be_missing(written_result):
    html = render(written_result(), {})
    assert [i for i in Outline(html).ids if i in SECTIONS] == SECTIONS


def test_texts_only_where_asked(html, typeset):
    asked = typeset("c1", "Whose <b>dog</b> is Rex?")
    assert asked.count("Whose &lt;b&gt;dog&lt;/b&gt; is Rex?") > 1
    assert "none of it is in this page" not in asked
    assert "Private. This is here because" not in html


@pytest.fixture(scope="session")
def typeset(written_result, written_details) -> Callable[[str, str], str]:
    """The page with these two strings wherever data, notes and conversations can bring any."""
    pictures = draw(written_result(), written_details())

    def fill(name: str, text: str) -> str:
        result, details = written_result(), written_details()
        result["data"] |= {"name": name, "description": text, "cluster_unit": f"chats {text}"}
        result["data"]["dropped"] = {f"kind {text}": 3}
        result["verdicts"][0] |= {"statement": text, "note": f"n {text}", "method": text}
        result |= {"advice": text, "run": name}
        details["texts"] = [{"conversation": name, "query": text, "relevant": [text, name]}]
        details["config"] = {"data": name}
        details["environment"] = {"platform": text, "packages": {"package": text}}
        return page._typeset(result, details, pictures)

    return fill


@pytest.fixture(scope="session")
def harmless(typeset) -> list[tuple[str, ...]]:
    return Outline(typeset("name", "text")).tags


@settings(max_examples=20, deadline=None)
@given(name=st.text() | st.sampled_from(ATTACKS), text=st.text() | st.sampled_from(ATTACKS))
def test_any_text_is_text(typeset, harmless, name, text):
    """Identity: whatever the strings are, the tags and their attributes stay the same."""
    outline = Outline(typeset(name, text))
    assert outline.tags == harmless
    assert seen(text) in outline.text
    assert seen(name) in outline.text


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_through_the_data(typeset, harmless, attack):
    assert Outline(typeset(attack, attack)).tags == harmless


def seen(text: str) -> str:
    """As UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def test_attacks_through_the_figures(html, written_result, written_details):
    result = written_result()
    result["data"]["name"] = result["table"][0]["method"] = "".join(ATTACKS)
    result["weights"]["p_value_is"] = "".join(ATTACKS)
    assert Outline(render(result, written_details())).tags == Outline(html).tags


def test_a_claim_of_another_ledger_is_shown_without_a_region(written_result):
    row = {**written_result()["verdicts"][0], "claim_hash": "0" * 64}
    shown = card(row, "conversations")
    assert shown["strip"] is None
    assert "not in this ledger" in dict(shown["facts"])["True if"]


def test_publish_writes_the_same_bytes_twice(tmp_path, written_result, written_details):
    files = []
    for name in ("a", "b"):
        folder = RunFolder.create(tmp_path / name, "importance", {"data": "x", "seed": 7})
        with folder:
            publish(folder, written_result(), written_details())
        paths = [folder.path / "report.html", *sorted((folder.path / "figures").glob("*.svg"))]
        files.append({p.name: p.read_bytes() for p in paths})
    assert files[0] == files[1]
    assert {"report.html", "weights.svg", "forest.svg", "landscape.svg"} <= set(files[0])
