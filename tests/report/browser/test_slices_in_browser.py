"""Slices to scroll in a real Chromium without a network: keyboard, slider, swipe, overlays, links, and phones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOSTILE = "<img src=x onerror=document.title='hacked'>"
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def written(sweep: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep(tmp_path_factory.mktemp("slices"), 3)


def shown(page: Any) -> str:
    """File of the slice that is visible; every layer is of the same slice, and loaded."""
    images = "[...document.querySelectorAll('.volume:not([hidden]) figure img')]"
    loaded = f"{images}.filter(i => i.checkVisibility()).every(i => i.complete && i.naturalWidth)"
    page.locator(".volume:not([hidden]) figure").scroll_into_view_if_needed()
    while not page.evaluate(loaded):  # the time limit of the test ends it
        page.wait_for_timeout(20)
    files = page.evaluate(f"{images}.map(i => i.src.split('/').at(-1))")
    assert {name.partition(".")[0] for name in files} == {files[0].partition(".")[0]}
    assert [name.rpartition(".")[2] for name in files] == ["jpg", "svg", "svg", "svg"]
    return files[0]


def layers(page: Any) -> list[bool]:
    return page.evaluate(
        "[...document.querySelectorAll('.volume:not([hidden]) .layer')].map(one => one.checkVisibility())"
    )


def test_keys_buttons_and_slider_change_the_slice_and_its_numbers(written: Path, opened: Open) -> None:
    page = opened(written)
    figure = page.locator(".volume:not([hidden]) figure")
    figure.scroll_into_view_if_needed()
    assert shown(page) == "volume-0-0011.jpg"  # the lowest mean of its labels
    figure.focus()
    figure.press("Home")
    assert shown(page) == "volume-0-0000.jpg"
    for key, expected in (
        ("ArrowDown", 1),
        ("ArrowRight", 2),
        ("PageDown", 7),
        ("ArrowUp", 6),
        ("End", 11),
        ("End", 11),
    ):
        figure.press(key)
        assert shown(page) == f"volume-0-{expected:04d}.jpg"
    page.get_by_role("button", name="Previous slice").click()
    assert shown(page) == "volume-0-0010.jpg"
    page.get_by_role("slider", name="slice").fill("3")
    assert shown(page) == "volume-0-0003.jpg"
    words = page.locator(".volume:not([hidden]) .numbers").inner_text()
    assert "slice 3 (counted from 0 to 19)" in words
    assert "0.900" in words
    assert "missed" not in words
    figure.press("ArrowUp")
    assert "missed" in page.locator(".volume:not([hidden]) .numbers").inner_text()


def test_overlays_are_switched_by_keys_and_boxes_for_all_volumes(written: Path, opened: Open) -> None:
    page = opened(written)
    assert layers(page) == [True, True, False]
    page.locator(".volume:not([hidden]) figure").press("3")
    page.get_by_label("prediction (2)").uncheck()
    assert layers(page) == [True, False, True]
    page.get_by_label("Volume", exact=True).select_option(index=1)
    assert shown(page).startswith("volume-1-")
    assert layers(page) == [True, False, True]
    page.locator(".volume:not([hidden]) figure").press("1")
    assert layers(page) == [False, False, True]


def test_overlays_lie_upon_the_picture(written: Path, opened: Open) -> None:
    """Each layer shows its own third of the SVG file, as large as the picture."""
    page = opened(written)
    shown(page)
    page.get_by_label("errors (3)").check()  # scrolls to it, so before anything is measured
    for number, layer in enumerate(("reference", "prediction", "errors")):
        frame, image, overlay = (
            page.locator(f".volume:not([hidden]) {name}").evaluate(
                "one => { const r = one.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }"
            )
            for name in ("figure", ".base", f".layer.{layer} img")
        )
        assert frame == pytest.approx(image, abs=0.6)
        assert overlay[2:] == pytest.approx([image[2], 3 * image[3]], abs=1)
        assert overlay[1] == pytest.approx(image[1] - number * image[3], abs=1)


def test_a_case_leads_to_its_slice_in_its_volume(written: Path, opened: Open) -> None:
    page = opened(written)
    page.locator("#case-2 a.to-slice").click()
    page.locator("#volume-2.reached").wait_for()
    assert shown(page) == "volume-1-0001.jpg"
    assert page.locator("#case-4 a.to-slice").count() == 0


def test_a_finger_scrolls_on_a_phone_where_nothing_is_wider_than_the_screen(written: Path, opened: Open) -> None:
    page = opened(written, viewport={"width": 390, "height": 844}, has_touch=True)
    figure = page.locator(".volume:not([hidden]) figure")
    figure.scroll_into_view_if_needed()
    figure.press("Home")
    box = figure.bounding_box()
    x, y = box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 5):
        page.mouse.move(x - 30 * step, y)
    page.mouse.up()
    assert shown(page) == "volume-0-0004.jpg"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_every_volume_shows_its_worst_slice(written: Path, chromium: Any) -> None:
    context = chromium.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.locator(".volume").count() == page.locator(".volume:visible").count() == 3
    assert page.locator(".volume .base").first.get_attribute("src").endswith("volume-0-0011.jpg")
    context.close()


def test_hostile_names_stay_text(sweep: Callable[..., Path], tmp_path: Path, opened: Open) -> None:
    page = opened(sweep(tmp_path, 2, hostile=HOSTILE))
    page.get_by_label("Volume", exact=True).select_option(index=1)
    assert HOSTILE in page.locator(".volume:not([hidden]) h3").inner_text()
    assert page.title() != "hacked"
