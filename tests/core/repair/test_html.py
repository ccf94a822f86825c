"""The HTML report of a repair: whole by itself, safe to open, and with all that a person needs."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from pagewarden.contracts import Damage, Pattern
from pagewarden.repair.cutouts import CutFile, CutSummary, CutTable
from pagewarden.repair.html import render
from pagewarden.repair.reports import RepairedTable, RepairReport
from pagewarden.repair.strip import MOST_CELLS, page_strip
from tests.support.repairs import APPLIED, CHECK, FINDINGS, NOTHING, PATTERNS, PLAN, PLANNED, REFUSED, SOUND

HOSTILE = "<script>alert(1)</script><img src=http://x/>\x1b[2J\x1b]0;o\x07\u202egnp\n\"'&{{}}</style>\udcff]]>-->"
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "div", "span", "p", "h1",
    "h2", "h3", "ul", "ol", "li", "dl", "dt", "dd", "code", "pre", "table", "thead", "tbody", "tr", "th", "td",
    "figure", "figcaption", "svg", "path", "rect",
}  # fmt: skip
VOID = {"meta"}
CUT = CutSummary(
    pages=4,
    tables=(CutTable(name="note", rows=12),),
    files=(CutFile(name="app.db-wal", size=4096, why="it belongs to another database", repairer="repair-wal"),),
    show="pagewarden quarantine show /srv/app/app.db 1",
    export="pagewarden quarantine export /srv/app/app.db 1 --to FOLDER",
)


class Page(HTMLParser):
    """The page as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.commands: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.commands.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that has no content."""
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        """Note that a tag ends: the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what a person reads."""
        if "style" not in self.open:
            self.words.append(data)
        if "pre" in self.open:
            self.commands[-1] += data

    @property
    def text(self) -> str:
        """All that a person reads, in one line."""
        return " ".join(" ".join(self.words).split())


def evil() -> RepairReport:
    """A report in which everything that a hostile file could choose is hostile."""
    return replace(
        APPLIED,
        database=f"/srv/{HOSTILE}.db",
        patterns=tuple(
            replace(each, text=HOSTILE, objects=(HOSTILE,) * 30, happened=HOSTILE, prevent=HOSTILE) for each in PATTERNS
        ),
        plan=tuple(replace(each, repairer=HOSTILE, why=HOSTILE, loses=HOSTILE, steps=(HOSTILE,)) for each in PLAN),
        tables=(RepairedTable(name=HOSTILE, rows_expected=None, rows_kept=0),),
        undo=f"pagewarden undo {shlex.quote(f'/srv/{HOSTILE}.db')}",
        why=HOSTILE,
        quarantine=HOSTILE,
        warnings=(HOSTILE,),
        check=replace(
            CHECK,
            checkers=tuple(replace(each, name=HOSTILE, why=HOSTILE) for each in CHECK.checkers),
            findings=tuple(replace(each, kind=HOSTILE, object=HOSTILE, message=HOSTILE) for each in FINDINGS),
        ),
    )


EVIL_CUT = CutSummary(
    pages=1,
    tables=(CutTable(name=HOSTILE, rows=1),),
    files=(CutFile(name=HOSTILE, size=-1, why=HOSTILE, repairer=HOSTILE),),
    show=f"pagewarden quarantine show {shlex.quote(HOSTILE)} 1",
    export="",
)


@pytest.mark.parametrize(
    ("report", "cut"),
    [(PLANNED, None), (APPLIED, CUT), (REFUSED, None), (NOTHING, None), (SOUND, None), (evil(), EVIL_CUT)],
    ids=["planned", "applied", "refused", "nothing", "sound", "evil"],
)
def test_a_page_needs_nothing_and_runs_nothing(report: RepairReport, cut: CutSummary | None) -> None:
    """H29: no script, nothing that is fetched, every tag closed, and no character that a terminal or browser obeys."""
    text = render(report, cut)
    page = Page(text)
    assert page.tags <= ALLOWED
    assert not {name for name in page.attributes if name.startswith("on")} | (
        page.attributes & {"src", "href", "style"}
    )
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", re.sub(r"http://x/", "", text))
    assert text.isascii()
    assert not set(map(ord, text)) & (set(range(32)) - {10})
    assert not set(map(ord, unescape(text))) & {0x202E, 0xDCFF}


def test_a_plan_says_what_is_hurt_what_is_lost_and_what_to_type() -> None:
    """Before anything was done: nothing has been changed, and the command that would."""
    page = Page(render(PLANNED))
    assert "is damaged, and can be repaired; nothing has been changed yet" in page.text
    assert "12 rows leave the database for the quarantine (repair-relations)" in page.text
    assert page.commands == [PLANNED.next]
    for words in ("3 pages of the table note are zeros", "812–814, 1900", "zeroed below", "smartctl", "a1b2c3d4:17"):
        assert words in page.text


def test_what_was_done_says_where_everything_is() -> None:
    """Afterwards: rows per table, what is kept where, how to have it back, verdicts and timings."""
    page = Page(render(APPLIED, CUT))
    assert "damaged becomes sound" in page.text
    assert (
        "3 rows lost; 12 rows kept in the quarantine; how many rows there had been in audit cannot be known"
        in page.text
    )
    assert page.commands == [APPLIED.next, APPLIED.undo, CUT.show, CUT.export]
    assert page.text.index("audit not known 10,231") < page.text.index("note 500,000") < page.text.index("setting 17")
    assert APPLIED.quarantine in page.text
    assert "the original as it was, with its log" in page.text
    assert "the file app.db-wal , 4.0 KiB: it belongs to another database" in page.text
    assert "deep check of the copy 4.10 s" in page.text
    assert "the ledger was damaged" in page.text


def test_a_repair_that_was_refused_says_why() -> None:
    """The database was left as it was, and there is a command to go on with."""
    page = Page(render(REFUSED))
    assert "is damaged, and was left as it was: the repaired copy is still damaged" in page.text
    assert page.commands == [REFUSED.next]
    assert "nothing at hand mends it" in Page(render(NOTHING)).text
    assert "is sound; there is nothing to repair" in Page(render(SOUND)).text
    assert "the repaired copy is /srv/new.db" in Page(render(replace(APPLIED, output="/srv/new.db"))).text


def test_a_page_stays_small_whatever_is_hurt() -> None:
    """H29: a million pages, a hundred thousand findings and names of a megabyte do not make it large."""
    pattern = Pattern(
        damage=Damage.GARBAGE,
        text="x" * 1_000_000,
        findings=(),
        pages=tuple(range(1, 200_001, 2)),
        objects=("y" * 1_000_000,) * 1000,
    )
    report = replace(
        APPLIED,
        patterns=(pattern,) * 3,
        check=replace(CHECK, findings=FINDINGS * 25_000, pages=200_000),
        tables=tuple(RepairedTable(name=f"t{n}", rows_expected=1, rows_kept=1) for n in range(20_000)),
    )
    text = render(report)
    assert len(text) < 600_000
    page = Page(text)
    assert "and 99,900 more findings" in page.text
    assert "and 19,500 more tables" in page.text
    assert "and 99,988 more" in page.text


def test_the_strip_shows_each_hurt_page() -> None:
    """A square for each page of a small database, with what hurts it; several pages to a square of a large one."""
    small = page_strip(100, [(3, "pages"), (100, "index")])
    assert small.count("<rect") == 2
    assert "<title>page 3: pages</title>" in small
    assert small.count("M") == 98
    assert "2 pages of 100 hurt" in small
    large = page_strip(1_000_000, [(1, "header"), (2, "pages"), (1_000_000, "pages")])
    assert large.count("<rect") == 2
    assert large.count("<rect") + large.count("M") <= MOST_CELLS
    assert "each square stands for 1,563 pages" in large
    assert "pages 1–1563: 2 hurt (header, pages)" in large


def test_a_strip_reaches_as_far_as_the_damage() -> None:
    """A page behind the end of the file is shown all the same; without any page there is no picture."""
    assert "1 page of 900 hurt" in page_strip(10, [(900, "truncated")])
    assert page_strip(10, []) == ""
    assert page_strip(0, [(0, "garbage")]) == ""


def test_all_of_a_square_and_little_of_it_look_different() -> None:
    """How much of what a square stands for is hurt can be seen."""
    pages = MOST_CELLS * 20
    strip = page_strip(pages, [(1, "x"), *((n, "x") for n in range(21, 41)), *((n, "x") for n in range(41, 47))])
    assert re.findall(r'<rect class="([a-z ]+)"', strip) == ["hurt few", "hurt", "hurt some"]
