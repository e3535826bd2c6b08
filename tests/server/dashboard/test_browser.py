"""The screen in a browser: during a run, at two widths, light and dark, by keyboard, and without its script.

Needs Chromium (Debian: `apt install chromium`); skipped where there is none. Screenshots are kept where the environment
variable FEDMINET_SCREENSHOTS names a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from server.dashboard.control_routes import Access
from server.dashboard.password import Password, set_password
from server.runs import state_machine
from tests.support.screen import Behaviour, conduct, conducting, created, made_home, served, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
PASSWORD = "a horse, a battery and a staple"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt install chromium"),
]


@dataclass
class Watched:
    """A page, and everything about it that must not be."""

    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def assert_clean(self) -> None:
        """No error on the console, and no request to another host."""
        assert self.errors == []
        assert self.hosts == {"127.0.0.1"}

    def assert_accessible(self) -> None:
        """No violation that axe-core finds of WCAG 2.2 A and AA, and nothing wider than the window."""
        source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(source)
        found: Any = self.page.evaluate(
            "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", list(RULES)
        )
        assert len(found["passes"]) > 5, "axe looked at nothing"
        said = [
            f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
        assert said == []
        wide = self.page.evaluate(
            "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, "the page scrolls sideways"

    def keep(self, name: str) -> None:
        """A screenshot of the whole page, where they are asked for."""
        folder = os.environ.get("FEDMINET_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, *, width: int = 1280, scheme: str = "light", script: bool = True
) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=script,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    watched = Watched(page)
    page.on(
        "console",
        lambda message: watched.errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda failure: watched.errors.append(str(failure)))
    page.on("dialog", lambda dialog: watched.errors.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: watched.hosts.add(urlsplit(request.url).hostname or request.url))
    try:
        yield watched
    finally:
        context.close()


def test_a_run_is_followed_at_both_widths_in_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    home = made_home(tmp_path)
    contract = {"quorum": 2, "deadline_s": 30.0, "retries": 0}
    run = created(home, "followed", rounds=400, participation=contract)
    behaviour = Behaviour(pace_s=0.1, fails={"umr": (3, 4)})
    with served(home) as client, conducting(run, behaviour):
        try:
            wait_until(lambda: run.state.round >= 6)
            for width in WIDTHS:
                for scheme in SCHEMES:
                    with opened(browser, width=width, scheme=scheme) as watched:
                        page = watched.page
                        page.goto(f"{client.base_url}/runs/followed")
                        before = float(page.locator("#progress").get_attribute("value") or 0)
                        page.wait_for_function(
                            "before => document.getElementById('progress').value > before", arg=before
                        )
                        assert page.locator("#connection").inner_text() == "updates live"
                        assert "FM-D207" in page.locator("#quarantine").inner_text()
                        assert page.locator("#curves polyline").count() >= 6
                        page.wait_for_function("() => document.getElementById('spoken').textContent !== ''")
                        watched.assert_accessible()
                        watched.keep(f"running-{width}-{scheme}")
                        watched.assert_clean()
        finally:
            run.transition(state_machine.ended, "failed", "the trial is over")


def test_every_page_of_every_state_is_accessible_and_loads_nothing_else(
    browser: Browser, tmp_path: Path
) -> None:
    home = made_home(tmp_path)
    set_password(home, PASSWORD)
    conduct(created(home, "whole", rounds=24))
    contract = {"quorum": 2, "deadline_s": 1.0, "retries": 0}
    conduct(created(home, "short", rounds=12, participation=contract), Behaviour(fails={"umr": (2, 5)}))
    strict = {"quorum": 3, "deadline_s": 1.0, "retries": 1}
    conduct(
        created(home, "ended", rounds=12, participation=strict),
        Behaviour(silent=frozenset({"fastmri"})),
    )
    waits = created(home, "waits", rounds=5)
    halted = created(home, "halted", rounds=5)
    halted.transition(state_machine.begun)
    halted.transition(state_machine.interrupted, "FM-S504: the run halted waits for room on the disk")
    created(home, "many", sites=[f"site-{letter}" for letter in "abcdefghijk"], rounds=9)
    conduct(created(home, "several", sites=[f"site-{letter}" for letter in "abcdefghijk"], rounds=9))
    paths = ["runs", *(f"runs/{path.name}" for path in sorted(home.runs.iterdir())), "runs/none", "login"]
    with served(home, access=Access(Password.of(home))) as client:
        for width in WIDTHS:
            for scheme in SCHEMES:
                with opened(browser, width=width, scheme=scheme) as watched:
                    for path in paths:
                        watched.page.goto(f"{client.base_url}/{path}")
                        watched.assert_accessible()
                        watched.keep(f"{path.replace('/', '-')}-{width}-{scheme}")
                    watched.page.fill("#password", PASSWORD)
                    watched.page.click("button.primary")
                    watched.page.goto(f"{client.base_url}/runs/{waits.path.name}/control")
                    assert watched.page.locator("button.danger").is_visible()
                    watched.assert_accessible()
                    watched.keep(f"control-{width}-{scheme}")
                    # Chromium itself writes a page that is not there on the console.
                    watched.errors[:] = [error for error in watched.errors if "404" not in error]
                    watched.assert_clean()


def test_the_keyboard_reaches_everything_and_keeps_its_place_through_updates(
    browser: Browser, tmp_path: Path
) -> None:
    home = made_home(tmp_path)
    run = created(home, "keys", rounds=400)
    with served(home) as client, conducting(run, Behaviour(pace_s=0.05)), opened(browser) as watched:
        page = watched.page
        try:
            wait_until(lambda: run.state.round >= 2)
            page.goto(f"{client.base_url}/runs/keys")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "main"
            summary = page.locator("#curves summary")
            summary.focus()
            page.keyboard.press("Enter")
            rows = page.locator("#curves tbody tr")
            first = rows.first.inner_text()
            page.wait_for_function(
                "first => document.querySelector('#curves tbody tr').innerText !== first", arg=first
            )
            assert page.evaluate("document.activeElement.tagName") == "SUMMARY", "the focus stays"
            assert page.locator("#curves details").get_attribute("open") is not None, (
                "and the table stays open"
            )
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) != "none", "the focus is seen"
            page.locator("#pause").focus()
            page.keyboard.press("Enter")
            assert page.locator("#connection").inner_text() == "updates paused"
            shown = page.locator("#progress").get_attribute("value")
            wait_until(lambda: run.state.round > float(shown or 0) + 2)
            page.wait_for_timeout(1200)
            assert page.locator("#progress").get_attribute("value") == shown
            page.keyboard.press("Enter")
            page.wait_for_function(f"() => document.getElementById('progress').value > {shown}")
        finally:
            run.transition(state_machine.ended, "failed", "the trial is over")
        page.wait_for_function(
            "() => document.getElementById('connection').innerText === 'the run has ended'"
        )
        assert "the trial is over" in page.locator("#status").inner_text()
        watched.assert_clean()


def test_the_page_is_whole_without_its_script(browser: Browser, tmp_path: Path) -> None:
    home = made_home(tmp_path)
    conduct(created(home, "plain"))
    with served(home) as client, opened(browser, width=390, script=False) as watched:
        watched.page.goto(f"{client.base_url}/")
        text = watched.page.locator("body").inner_text()
        assert "2 of 2 rounds completed" in text
        assert "UTC" in text
        assert watched.page.locator("noscript a").is_visible()
        assert not watched.page.locator("#pause").is_visible()
        watched.assert_clean()


def test_a_hostile_reason_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run = created(home, "hostile")
    reason = "</p><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
    run.event("reply-refused", round=1, site="sms", code="FM-F401", reason=reason)
    with served(home) as client, opened(browser) as watched:
        watched.page.goto(f"{client.base_url}/runs/hostile")
        run.event("round-abandoned", round=1, breach=reason)
        watched.page.wait_for_function("() => document.getElementById('log').innerText.includes('alert(3)')")
        assert "onerror=alert(2)" in watched.page.locator("#quarantine").inner_text()
        watched.assert_clean()
