"""The built site: read as files, and in a real browser that has no network.

The book is built with a toy chapter added, so that widgets, figures and verdicts are there to be tried
however many chapters the book has; and once more with no chapter at all.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
import toys
from sites import ROOT, TOY, Page, add_to_contents, build, copy_book

from lessons_lib import address, board, notebooks

BUILD_LIMIT = 60  # seconds; it takes some 5 alone, and this machine may be busy
PAGE_LIMIT = 2.5e6  # bytes
SCOREBOARD_LIMIT = 1.2e6


# ---------------------------------------------------------------------------------- the site as files


def test_the_book_builds_without_a_warning_and_in_time(site):
    assert site.seconds < BUILD_LIMIT
    names = {path.relative_to(site.html).with_suffix("").as_posix() for path in site.pages}
    for name in ("intro", "schedule", "scoreboard", "errata", "bibliography", "notes/index"):
        assert f"book/{name}" in names


def test_no_page_loads_anything_from_elsewhere(site):
    for path in site.pages:
        page = Page.read(path)
        loaded = page.all("script", "img", "iframe", "source", "audio", "video", "embed", key="src")
        loaded += page.all("link", key="href") + page.all("object", key="data")
        elsewhere = [url for url in loaded if re.match(r"(https?:)?//", url)]
        assert not elsewhere, f"{path.name} loads {elsewhere}"


def test_every_script_is_on_a_page_once_and_thebe_is_on_none(site):
    for path in site.pages:
        times = Counter(urlsplit(source).path for source in Page.read(path).all("script", key="src"))
        assert not [name for name, number in times.items() if number > 1], path.name
        text = re.sub(r"[A-Za-z0-9+/]{200,}", "", path.read_text())  # pictures, whose letters may spell anything
        assert "thebe" not in text.lower().replace("initthebesbt", ""), path.name


def test_the_widget_manager_is_only_where_there_are_widgets(site):
    for path in site.pages:
        page = Page.read(path)
        has_widgets = "application/vnd.jupyter.widget-view+json" in page.all("script", key="type")
        managers = [source for source in page.all("script", key="src") if "embed-amd.js" in source]
        assert len(managers) == has_widgets, path.name


def test_every_link_within_the_site_leads_somewhere(site):
    for path in site.pages:
        for link in Page.read(path).all("a", "link", key="href") + Page.read(path).all("script", "img", key="src"):
            url = urlsplit(link)
            if url.scheme or url.netloc or not url.path:
                continue
            target = (path.parent / unquote(url.path)).resolve()
            assert target.exists(), f"{path.name} links to {link}"


def test_every_picture_has_an_alternative(site):
    for path in site.pages:
        for tag, attributes in Page.read(path).elements:
            if tag == "img" and "logo__image" not in attributes.get("class", ""):  # its title is written below
                alt = attributes.get("alt") or ""
                assert alt and not re.search(r"\.(png|svg|jpe?g)\b", alt), f"{path.name}: {attributes}"


def test_a_chapters_figures_are_fetched_when_they_come_near(site):
    figures = [keys for tag, keys in site.page(TOY).elements if tag == "img" and "_images" in keys.get("src", "")]
    assert figures and all(keys.get("loading") == "lazy" for keys in figures)


def test_pages_are_light(site):
    heavy = {path.name: path.stat().st_size for path in site.pages if path.stat().st_size > PAGE_LIMIT}
    assert not heavy


def test_a_chapter_opens_in_colab_and_downloads_and_a_page_of_prose_does_not(site):
    repository = address.address(ROOT)
    colab = repository.replace("https://github.com", "https://colab.research.google.com/github")
    links = site.page(TOY).all("a", key="href")
    assert f"{colab}/blob/main/{TOY}.ipynb" in links
    (download,) = [link for link in links if link.endswith("toy.ipynb") and not urlsplit(link).scheme]
    assert (site.html / TOY).parent.joinpath(download).resolve().is_file()
    links = site.page("book/intro").all("a", key="href")
    assert repository in links
    assert not [link for link in links if "colab" in link]


# ------------------------------------------------------------------------ what is made from the course


def test_every_paper_has_its_row_with_its_chapter_or_a_word_that_it_is_to_come(site):
    written = {chapter.stem for chapter in board.chapters(site.source)}
    schedule = site.page("book/schedule")
    for part in board.course(site.source):
        for page in (schedule, site.page(f"book/{part['key']}/index")):
            for row in part["rows"]:
                for paper in (row, *row.get("also", ())):
                    assert " ".join(f"{paper['paper']} ({paper['venue']})".replace("'", "’").split()) in page.text
                    assert paper["url"] in page.all("a", key="href")
                is_linked = any(link.endswith(f"{row['chapter']}.html") for link in page.all("a", key="href"))
                assert is_linked == (row["chapter"] in written), row["chapter"]


def test_every_notebook_is_in_the_contents_and_in_the_course():
    contents = set(re.findall(r"book/\S+", (ROOT / "_toc.yml").read_text()))
    homes = {f"book/{row['file']}" for part in board.course(ROOT) for row in part["rows"]}
    for path in ROOT.glob("book/**/*.ipynb"):
        if ".ipynb_checkpoints" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            assert name in homes, f"{name} is not where book/course.yml has a chapter"
            assert name.removesuffix(".ipynb") in contents, f"{name} is not in _toc.yml"


def test_every_paper_is_in_the_bibliography():
    entries = (ROOT / "book" / "references.bib").read_text()
    for row in (row for part in board.course(ROOT) for row in part["rows"]):
        for key in row["cite"]:
            assert f"{{{key}," in entries
        for paper in (row, *row.get("also", ())):
            assert f"url = {{{paper['url']}}}" in entries


def test_the_scoreboard_shows_the_toys_claims_with_their_verdicts(site):
    text = site.page("book/scoreboard").text
    assert "3.10 [2.90, 3.30]; holds above 1; no effect 0" in text
    assert "3.10 [2.90, 3.30] holds when above 1 · no effect: 0 ✓ held measured over 5 seeds" in text
    assert "It is not, on this data. Quantity: norm below 2" in text
    assert "2.5 holds when below 2 ✗ failed computed exactly" in text
    assert "1 of 2 (1 failed)" in site.page("book/w3-foundations/index").text


def test_the_scoreboard_is_a_row_a_claim_each_with_its_drawing_and_is_not_heavy(site):
    page = site.page("book/scoreboard")
    claims = sum(len(chapter.results) for chapter in board.chapters(site.source))
    assert len(page.all("tr", key="data-verdict")) == claims
    assert page.all("svg", key="role") == ["img"] * claims
    assert (site.html / "book" / "scoreboard.html").stat().st_size < SCOREBOARD_LIMIT


def test_the_scoreboards_file_is_its_records_and_links_to_where_each_claim_is_measured(site):
    folder = site.html / "book"
    found = json.loads((folder / "scoreboard.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, json.loads((folder / found["$schema"]).read_text()))
    results = [(chapter, result) for chapter in board.chapters(site.source) for result in chapter.results]
    for row, (chapter, result) in zip(found["claims"], results, strict=True):
        for name in ("recorded", "other_seeds", "together"):  # what other runs say stands beside the record
            row.pop(name, None)
        assert row.pop("begun", "") == chapter.begun(result)
        home = {"chapter": chapter.stem, "part": chapter.part, "link": row["link"]}
        assert row | {"values": list(result.values)} == result.record() | home
    assert "scoreboard.json" in site.page("book/scoreboard").all("a", key="href")
    links = [row["link"] for row in found["claims"]]
    assert links == [link for link in site.page("book/scoreboard").all("a", key="href") if "#claim-" in link]
    pages = {name: site.page(f"book/{name.removesuffix('.html')}") for name in {link.split("#")[0] for link in links}}
    for name, anchor in (link.split("#") for link in links):
        assert [keys.get("id") for _, keys in pages[name].elements].count(anchor) == 1, f"{name}#{anchor}"


def test_a_chapter_without_verdicts_fails_the_build_by_name(site, tmp_path):
    source = copy_book(tmp_path, chapters=False)
    stem = board.course(source)[0]["rows"][0]["chapter"]
    notebook = source / "book" / "w3-foundations" / f"{stem}.ipynb"
    notebooks.write(toys.notebook(toys.PAGE), notebook)
    add_to_contents(source, f"book/w3-foundations/{stem}")
    with pytest.raises(AssertionError, match=f"{stem} holds no verdicts; execute it"):
        build(source)


def test_the_book_builds_without_any_chapter_and_a_new_one_appears_in_every_table(tmp_path, site):
    source = copy_book(tmp_path, chapters=False)
    bare = build(source)
    assert "No chapter has verdicts yet." in bare.page("book/scoreboard").text
    shutil.copy(site.source / f"{TOY}.ipynb", source / f"{TOY}.ipynb")
    shutil.copy(site.source / "book" / "course.yml", source / "book")
    add_to_contents(source, TOY)
    again = build(source)  # over the old one: only what changed is read
    for name in ("schedule", "w3-foundations/index", "intro"):
        links = again.page(f"book/{name}").all("a", key="href")
        assert [link for link in links if link.endswith("toy.html")], name
    assert "A toy chapter" in again.page("book/scoreboard").text


# --------------------------------------------------------------------------------- the site in a browser


# axe takes seconds a page, element by element; of what looks alike, the first few stand for all.
FEWER = """const seen = {};
  const again = kind => seen[kind] || !(seen[kind] = true);
  const each = (what, act) => document.querySelectorAll(what).forEach(act);"""
LESS_CODE = f"""() => {{
  {FEWER}
  each("pre span[class]", e => again(e.className) && e.replaceWith(...e.childNodes));
  each("pre > span[id]", e => e.replaceWith(...e.childNodes));
}}"""
LESS_MATHEMATICS = f"""() => {{
  {FEWER}
  each("mjx-container", e => again(e.parentElement.className) && e.remove());
}}"""
WHOLE = "for (const [node, text] of window.emptied) node.data = text;"
SPARSE = """() => {
  const seen = {}, again = [], looks = new Map([[null, ["", 1]]]);
  const behind = element => {  // the colour behind it, and its opacity with that of all it stands in
    if (!looks.has(element)) {
      const look = getComputedStyle(element), [ground, opacity] = behind(element.parentElement);
      const clear = look.backgroundColor === "rgba(0, 0, 0, 0)";
      looks.set(element, [clear ? ground : look.backgroundColor, opacity * look.opacity]);
    }
    return looks.get(element);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode, look = getComputedStyle(node.parentElement);
    if (!node.data.trim()) continue;
    const kind = [look.color, look.fontSize, look.fontWeight, ...behind(node.parentElement)].join();
    if ((seen[kind] = (seen[kind] ?? 0) + 1) > 3) again.push([node, node.data]);
  }
  for (const [node] of again) node.data = "";
  window.emptied = again;
}"""


def violations(page) -> list[str]:
    """What axe-core finds wrong with a page for readers who do not see it well, or do not use a mouse.

    Contrast in both modes. Leaves a page with less mathematics and code, in dark mode.
    """
    import axe_playwright_python

    page.add_script_tag(path=Path(axe_playwright_python.__file__).parent / "axe.min.js")
    page.add_style_tag(content="* { transition: none !important }")  # or each change of mode takes half a second
    page.evaluate(LESS_CODE)
    # Preloading would fetch style sheets again, by addresses that are wrong for those that import others.
    run = "options => axe.run(document, {resultTypes: ['violations'], preload: false, ...options})"
    found = page.evaluate(run, {"rules": {"color-contrast": {"enabled": False}}})["violations"]
    page.evaluate(LESS_MATHEMATICS)
    for mode in ("light", "dark"):
        page.emulate_media(color_scheme=mode)
        page.wait_for_function("mode => document.documentElement.dataset.theme === mode", arg=mode)
        page.evaluate(SPARSE)
        found += page.evaluate(run, {"runOnly": ["color-contrast"]})["violations"]
        page.evaluate(WHOLE)
    return [f"{rule['id']} ({len(rule['nodes'])}): {rule['nodes'][0]['html'][:200]}" for rule in found]


def test_what_axe_finds_is_what_it_is_shown(visit):
    page = visit(f"{TOY}.html")
    assert not violations(page)
    page = visit(f"{TOY}.html")  # anew: the first one is thinned
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML(
        "beforeend", "<button></button><p style='color: #eee; background: #fff'>Hardly to be seen</p>")"""
    )
    assert {found.split()[0] for found in violations(page)} == {"button-name", "color-contrast"}
    page.close()


def test_a_reader_who_prefers_the_dark_opens_it_dark(visit):
    for mode in ("light", "dark"):
        assert visit(f"{TOY}.html", mode).evaluate("document.documentElement.dataset.theme") == mode
    assert not visit.wrong


def frame(widget):
    """The picture that a widget shows now."""
    return widget.locator("[aria-live] img:visible")


def move_every_widget(page) -> Counter:
    """Move each slider and menu by keyboard, and see that picture, alternative and label follow; how many of each."""
    moved = Counter()
    for widget in page.locator(".explore").all():
        assert widget.locator("[aria-live=polite]").count() == 1
        for control in widget.locator("[role=slider], select").all():
            kind = "slider" if control.get_attribute("role") == "slider" else "menu"
            before, told = frame(widget).get_attribute("src"), frame(widget).get_attribute("alt")
            control.focus()
            page.keyboard.press("ArrowRight" if kind == "slider" else "ArrowDown")
            changed = f"[src]:not([src='{before}'])"
            widget.locator(f"[aria-live] img{changed}").wait_for(state="visible", timeout=5000)
            assert frame(widget).count() == 1
            assert frame(widget).get_attribute("alt") != told
            if kind == "slider":
                readout = control.locator("xpath=ancestor::*[contains(@class, 'widget-slider')]")
                assert control.get_attribute("aria-label")
                shown = readout.locator(".widget-readout").inner_text()
                page.wait_for_function("([e, text]) => e.ariaValueText === text", arg=[control.element_handle(), shown])
            moved[kind] += 1
    return moved


def test_every_page_opens_without_an_error_and_asks_nobody_else_and_its_widgets_move(site, visit):
    # One test, since opening a page is what takes long.
    for path in site.pages:
        page = visit(path.relative_to(site.html).as_posix())
        assert page.locator("mjx-merror").count() == 0, path.name
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, summary, [role=slider], select, a[href]")]
            .filter(e => e.checkVisibility({visibilityProperty: true}))
            .filter(e => !((e.innerText ?? e.textContent).trim() || e.ariaLabel || e.title || e.labels?.length
                           || e.querySelector("img[alt]")))
            .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert not unnamed, f"{path.name}: {unnamed}"
        moved = move_every_widget(page)
        assert bool(moved) == ("widget-view+json" in path.read_text()), path.name
        if path.stem == "toy":
            assert moved == {"slider": 1, "menu": 1}
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} scrolls sideways"
        assert not (found := violations(page)), f"{path.name}: {found}"
        page.close()
    assert not visit.wrong


def test_on_a_phone_a_figure_keeps_a_size_that_can_be_read_and_scrolls_in_its_box(visit):
    page = visit("book/w3-foundations/large-batch.html")
    page.set_viewport_size({"width": 360, "height": 740})
    figure = page.locator("#fig-large-threshold")
    assert figure.locator("img").bounding_box()["width"] > 500
    assert figure.bounding_box()["width"] < 360
    caption = figure.locator("figcaption").bounding_box()
    assert caption["x"] >= 0 and caption["x"] + caption["width"] <= 360


def test_the_page_does_not_jump_while_a_widget_moves(visit):
    page = visit(f"{TOY}.html")
    height = page.evaluate("document.body.scrollHeight")
    page.evaluate(
        """() => { window.least = Infinity;
        new MutationObserver(() => { window.least = Math.min(window.least, document.body.scrollHeight); })
        .observe(document.body, {subtree: true, childList: true}); }"""
    )
    before = frame(page.locator(".explore")).get_attribute("src")
    page.locator("[role=slider]").focus()
    page.keyboard.press("ArrowRight")
    page.locator(f".explore [aria-live] img:not([src='{before}'])").wait_for(state="visible")
    assert page.evaluate("window.least") >= height


def test_on_paper_and_without_scripts_all_frames_stand_in_for_the_widget(visit):
    page = visit(f"{TOY}.html")
    details = page.locator("details.explore-all")
    page.emulate_media(media="print")
    assert not page.locator(".explore").is_visible()
    assert details.get_attribute("open") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert details.locator("img").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert details.get_attribute("open") is None

    page = visit(f"{TOY}.html", scripts=False)
    page.locator("details.explore-all summary").click()
    assert page.locator("details.explore-all img").is_visible()


def test_mathematics_is_set_in_prose_and_in_the_verdicts(visit):
    page = visit(f"{TOY}.html")
    assert page.locator("article p mjx-container").count() == 1
    page.wait_for_selector("table.claims mjx-container")


def test_search_finds_a_page(visit):
    page = visit("search.html?q=equivariance")
    page.wait_for_selector("#search-results li a")
    assert "w4-foundations/index.html" in " ".join(
        link.get_attribute("href") for link in page.locator("#search-results li a").all()
    )
    assert not visit.wrong


def shown(page) -> list[str]:
    """The verdicts of the scoreboard's rows that can be seen."""
    return page.locator("tr[data-verdict]:visible").evaluate_all("rows => rows.map(row => row.dataset.verdict)")


def test_the_scoreboard_is_filtered_by_keyboard_and_the_address_says_how(site, visit):
    found = board.chapters(site.source)
    counts, claims = board.tally(found), sum(len(chapter.results) for chapter in found)
    page = visit("book/scoreboard.html")
    said = page.locator(".board-filters [role=status]")
    assert said.inner_text() == f"{claims} claims"
    page.locator("button[data-value=failed]").focus()
    page.keyboard.press("Space")
    assert set(shown(page)) == {"failed"}
    assert said.inner_text() == f"{counts['failed']} of {claims} claims"
    assert page.url.endswith("scoreboard.html#verdict=failed")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("button[data-value=undecided][aria-pressed=true]").count() == 1
    assert said.inner_text() == f"{counts['failed'] + counts['undecided']} of {claims} claims"
    assert page.url.endswith("#verdict=failed,undecided")
    page.emulate_media(media="print")
    assert len(shown(page)) == claims  # paper has no buttons to press
    page.emulate_media(media="screen")
    page.get_by_role("button", name="Show all").focus()
    page.keyboard.press("Enter")
    assert len(shown(page)) == claims
    assert page.url.endswith("scoreboard.html")
    assert page.evaluate("document.activeElement.dataset.filter") == "week"
    assert not visit.wrong


def test_a_link_to_a_part_of_the_scoreboard_shows_that_part(site, visit):
    failed = sum(
        (chapter.part, result.claim.evidence, result.verdict) == ("w3-foundations", "exact", "failed")
        for chapter in board.chapters(site.source)
        for result in chapter.results
    )
    page = visit("book/scoreboard.html#week=w3-foundations&evidence=exact&verdict=failed")
    assert failed and len(shown(page)) == failed
    assert page.locator("section h2:visible").count() == 1  # parts and chapters without a row are gone with them
    page.evaluate("location.hash = 'toy-C1'")  # hidden: a link to it brings it back
    page.wait_for_function("document.querySelector('#toy-C1').checkVisibility()")
    page.evaluate("location.hash = 'verdict=held'")
    page.wait_for_function("!document.querySelector('#toy-C2').checkVisibility()")
    page.evaluate("location.hash = 'toy-C1'")  # in sight: the filter stays
    page.wait_for_timeout(100)
    assert set(shown(page)) == {"held"}
    assert len(shown(visit("book/scoreboard.html#verdict=maybe&else"))) == page.locator("tr[data-verdict]").count()
    assert not visit.wrong


def test_without_scripts_the_scoreboard_is_whole_and_has_no_dead_buttons(visit):
    page = visit("book/scoreboard.html#verdict=failed", scripts=False)
    assert len(shown(page)) == page.locator("tr[data-verdict]").count() > 0
    assert page.locator("button[data-filter]:visible").count() == 0


def test_on_a_phone_the_scoreboards_rows_are_cards_that_fit(visit):
    page = visit("book/scoreboard.html")
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        """() => [...document.querySelectorAll("tr[data-verdict] *")]
        .filter(e => e.getBoundingClientRect().right > 360).map(e => e.outerHTML.slice(0, 100))"""
    )
    assert not wide
