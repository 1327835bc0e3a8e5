"""The page of a store in a real Chromium without a network: it shows, sorts, filters, and leads to its volumes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.report.integrity.cohort import ReportedStore, ReportedVolume
from sam2ft.report.integrity.findings import findings_of_volumes
from sam2ft.report.integrity.label_findings import findings_of_copies, findings_of_labels
from sam2ft.report.integrity.measure import measured_volume
from sam2ft.report.integrity.render import IntegrityPage, render_integrity
from sam2ft.report.integrity.write import write_integrity_report
from tests.report.integrity.conftest import LABELS, cohort, stored, with_mask

Open = Callable[..., Any]
HOSTILE = "</script><img src=x onerror=alert(1)>"
SECONDS_UNTIL_INTERACTIVE = 4.0
MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve subjects; the spleen of s07 is missing, and the image of s03 is that of s02."""
    folder, volumes = tmp_path_factory.mktemp("store"), cohort(12, seed=3)
    volumes[3] = replace(volumes[3], image_zyx=volumes[2].image_zyx)
    volumes[7] = with_mask(volumes[7], lambda mask: mask.__setitem__(mask == 7, 0))
    split_of = {f"s{number:02d}": split for number, split in enumerate(["val", "test"])}
    write_integrity_report(stored(folder, volumes, split_of).path)
    return folder / "report.html"


def lines(page: Any) -> list[str]:
    shown = "[...document.querySelectorAll('#volumes tbody tr:not([hidden])')]"
    return page.evaluate(f"{shown}.map(row => row.cells[0].textContent.slice(0, 3))")


@pytest.mark.parametrize(
    "settings",
    [
        {"viewport": {"width": 1400, "height": 900}},
        {"viewport": {"width": 1024, "height": 800}, "color_scheme": "dark"},
        {"viewport": {"width": 390, "height": 800}},
    ],
)
def test_every_picture_is_there_and_the_page_is_not_wider_than_the_screen(
    page_file: Path, opened: Open, walk_down: Callable[[Any], None], settings: dict[str, Any]
) -> None:
    page = opened(page_file, **settings)
    for number in range(1, 13):
        page.evaluate(f"document.getElementById('volume-{number}').scrollIntoView()")
        page.wait_for_timeout(20)
    walk_down(page)
    assert page.evaluate("[...document.images].filter(image => image.naturalWidth === 432).length") == 12
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_letters_say_how_the_slices_are_turned(page_file: Path, opened: Open) -> None:
    marks = opened(page_file).evaluate(
        "[...document.querySelector('#volume-1').querySelectorAll('.side')].map(m => m.textContent)"
    )
    assert marks == ["R", "L", "A", "P"]


def test_a_finding_leads_to_the_line_of_its_volume(page_file: Path, opened: Open) -> None:
    page = opened(page_file)
    page.click("#findings a:has-text('s07')")
    page.wait_for_selector("#volume-8.reached")
    assert page.evaluate("document.getElementById('volume-8').cells[2].textContent") == "empty label"


def test_lines_sort_by_what_should_be_looked_at_and_filter_by_split_and_words(page_file: Path, opened: Open) -> None:
    page = opened(page_file)
    page.click("#volumes th button:has-text('To look at')")
    assert set(lines(page)[:2]) == {"s03", "s07"}
    page.fill("#volumes input[type=search]", "empty label")
    assert lines(page) == ["s07"]
    page.click("#volumes button:has-text('Show all')")
    page.locator("#volumes select").nth(1).select_option("val")
    assert lines(page) == ["s00"]


def test_on_paper_all_pictures_are_there(page_file: Path, opened: Open) -> None:
    page = opened(page_file)
    # Nobody has scrolled: a printer does not wait for pictures that load when one does.
    page.wait_for_load_state("load")
    widths = page.evaluate("[...document.images].filter(one => one.src).map(one => one.complete && one.naturalWidth)")
    assert widths == [432] * page.locator("td.drawn img").count() != []
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('td.drawn')).display") == "table-cell"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def many(folder: Path, count: int, name: str = "s{:03d}") -> ReportedStore:
    """A store of `count` volumes that differ in their names alone, and in their block means."""
    store = stored(folder, cohort(1, seed=4))
    (record,) = store.volumes
    one = measured_volume(store)
    volumes = [
        ReportedVolume(
            number,
            replace(record, key=VolumeKey("abdomen", name.format(number), "t1")),
            record.stored,
            replace(one, means=tuple((mean * (number + 7) * (at + 3)) % 65521 for at, mean in enumerate(one.means))),
        )
        for number in range(1, count + 1)
    ]
    return ReportedStore("abdomen", "abdomen", LABELS, volumes)


def rendered(store: ReportedStore, path: Path) -> Path:
    found = (*findings_of_volumes(store), *findings_of_labels(store), *findings_of_copies(store, ()))
    path.write_text(render_integrity(IntegrityPage(store, found, "0" * 64, "now")), "utf-8")
    return path


def test_names_of_the_data_stay_text(tmp_path: Path, opened: Open) -> None:
    store = many(tmp_path, 5, HOSTILE + "{}")
    labels = LabelTable(tuple(Label(label.id, label.name + " <b>", label.interface) for label in LABELS))
    store = replace(store, name=HOSTILE, labels=labels, refused=((HOSTILE, HOSTILE),))
    page = opened(rendered(store, tmp_path / "page.html"))
    assert (
        page.evaluate("document.querySelectorAll('img[src]:not([src^=\"data:image/webp\"]), #volumes b').length") == 0
    )
    assert page.locator("h1").text_content() == HOSTILE


def test_many_labels_share_a_column(tmp_path: Path, opened: Open) -> None:
    store = many(tmp_path, 4)
    more = tuple(Label(number, f"part {number}") for number in range(10, 40))
    page = opened(rendered(replace(store, labels=LabelTable((*LABELS, *more))), tmp_path / "page.html"))
    assert page.evaluate("document.querySelector('#volumes thead tr').cells.length") == 10
    assert page.evaluate("document.getElementById('volume-1').cells[9].textContent.trim()").startswith("4")


@pytest.mark.slow
def test_a_page_of_500_volumes_is_small_and_answers_soon(tmp_path: Path, opened: Open) -> None:
    path = rendered(many(tmp_path, 500), tmp_path / "page.html")
    assert path.stat().st_size < MOST_BYTES
    page = opened(path)
    assert int(page.get_attribute("html", "data-ready")) < 1000 * SECONDS_UNTIL_INTERACTIVE


def test_a_contact_sheet_opens_larger_than_on_the_page_and_says_its_sides(page_file: Path, opened: Open) -> None:
    page = opened(page_file, viewport={"width": 1400, "height": 900})
    place = page.evaluate("location.hash")
    for number in (2, 5):
        page.click(f"#volume-{number} a.picture")
        shown = page.locator("dialog img")
        assert shown.get_attribute("src") == page.locator(f"#volume-{number} .sheet img").get_attribute("src")
        assert shown.bounding_box()["width"] > 1000
        assert "(left R, right L, top A, bottom P)" in page.locator("dialog p").inner_text()
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
    assert page.evaluate("location.hash") == place
