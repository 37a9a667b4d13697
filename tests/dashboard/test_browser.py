"""The dashboard in a browser: Debian's Chromium, or the one of BITFRONT_TEST_CHROMIUM."""

import os
import random
import shutil
import threading

import pytest

from bitfront.dashboard import address_of, bind, create_app
from bitfront.dashboard.data import Snapshots
from bitfront.dashboard.routes import study_path, trial_path
from bitfront.search.record import TrialState
from bitfront.search.store import open_store

CHROMIUM = os.environ.get("BITFRONT_TEST_CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
ROWS = "n => document.querySelectorAll('#trials .ag-center-cols-container .ag-row').length === n"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM, reason="no Chromium: install it or set BITFRONT_TEST_CHROMIUM"
    ),
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def served():
    """Serves stores; returns where."""
    servers = []

    def start(store, **options):
        server = bind(create_app(store, **options), port=0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return address_of(server).rstrip("/")

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


@pytest.fixture
def visit(chromium, served):
    """Opens pages; afterwards none may have called out, or complained in the console."""
    contexts, outside, complaints = [], [], []

    def open_page(home, path="/", viewport=DESKTOP, scheme="light"):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def on_request(request):
            if not request.url.startswith((f"{home}/", "data:", f"blob:{home}")):
                outside.append(request.url)

        def on_console(message):
            # the driver of a software renderer speaks of its performance
            if message.type in ("error", "warning") and "GL Driver Message" not in message.text:
                complaints.append(message.text)

        page.on("request", on_request)
        page.on("websocket", lambda socket: outside.append(socket.url))
        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.goto(home + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert outside == []
    assert complaints == []


@pytest.fixture
def home(served, store):
    return served(store)


def front_points(page):
    """Centres of the drawn points of the front, by trial number."""
    page.wait_for_selector("#front .scatterlayer .trace .point")
    return page.evaluate(
        """() => {
            const plot = document.querySelector('#front .js-plotly-plot');
            const index = plot.data.findIndex(t => t.name === 'Front');
            const uid = plot._fullData[index].uid;
            const trace = plot.querySelector(`.scatterlayer .trace${uid}`);
            const found = {};
            trace.querySelectorAll('.point').forEach((point, i) => {
                const box = point.getBoundingClientRect();
                found[plot.data[index].customdata[i]] =
                    [box.x + box.width / 2, box.y + box.height / 2];
            });
            return found;
        }"""
    )


def column(page, name, count=6):
    """The first cells of a column of the table, from the top."""
    return page.evaluate(
        """([name, count]) => [...document.querySelectorAll(`#trials .ag-cell[col-id="${name}"]`)]
            .map(cell => [cell.closest('.ag-row').getAttribute('row-index'), cell.innerText])
            .sort((a, b) => a[0] - b[0]).slice(0, count).map(pair => pair[1])""",
        [name, count],
    )


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
class TestSizes:
    def test_studies(self, visit, home, seeds, viewport):
        page = visit(home, "/", viewport)
        page.wait_for_selector(".card.study")
        assert page.locator(".card.study").count() == 4
        assert fits(page)
        # markup in a name is text
        assert page.locator(".card.study h2").nth(2).inner_text() == seeds.MARKUP
        assert page.locator("img").count() == 0
        page.get_by_text("digits-melius").click()
        page.wait_for_url(f"{home}/study/digits-melius")
        page.wait_for_selector("#front .scatterlayer")

    def test_click_on_the_front_opens_the_network(self, visit, home, store, viewport):
        page = visit(home, "/study/digits-melius", viewport)
        drawn = front_points(page)
        members = {str(m.number) for m in Snapshots(store).named("digits-melius").front.members}
        assert set(drawn) == members
        number = max(drawn, key=lambda n: drawn[n][0])
        page.mouse.click(*drawn[number])
        page.wait_for_url(f"{home}/study/digits-melius/trial/{number}")
        page.get_by_role("heading", name=f"Trial {number}", exact=True).wait_for()
        page.wait_for_selector("#detail .drawing .tile")
        page.wait_for_selector("#layers .barlayer .point")
        page.wait_for_selector("#curve .scatterlayer .trace")
        assert page.title() == f"digits-melius #{number} · bitfront"
        # the panel came into view
        box = page.locator("#network h2").bounding_box()
        assert 0 <= box["y"] < viewport["height"]
        assert fits(page)
        page.go_back()
        page.wait_for_url(f"{home}/study/digits-melius")
        page.get_by_role("heading", name="Which one to take?").wait_for()
        assert page.locator("#detail").inner_text() == ""

    def test_direct_link_to_a_trial(self, visit, home, store, viewport):
        best = Snapshots(store).named("digits-melius").front.members[0].number
        page = visit(home, trial_path("digits-melius", best), viewport)
        page.get_by_text("Retrained with other seeds").wait_for()
        page.wait_for_selector("#layers .barlayer .point")
        assert "Estimated total" in page.locator("#layers-total").inner_text()
        assert fits(page)

    def test_markup_in_a_name_is_text(self, visit, home, seeds, viewport):
        page = visit(home, study_path(seeds.MARKUP), viewport)
        page.get_by_role("heading", name=seeds.MARKUP).wait_for()
        page.wait_for_selector("#front .scatterlayer")
        assert page.locator("img").count() == 0
        assert page.title() == f"{seeds.MARKUP} · bitfront"
        assert fits(page)


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


class TestTable:
    def test_sorts(self, visit, home, store, study):
        page = visit(home, "/study/digits-melius")
        page.wait_for_selector("#trials .ag-row")
        head = page.locator('#trials .ag-header-cell[col-id="m1"] .ag-header-cell-text')
        head.click()
        page.wait_for_selector('#trials .ag-header-cell[col-id="m1"][aria-sort="ascending"]')
        page.wait_for_timeout(200)
        energies = sorted(t.value("energy") for t in store.points(study.id))
        assert [float(text) for text in column(page, "m1")] == [
            pytest.approx(e, rel=6e-3) for e in energies[:6]
        ]
        head.click()
        page.wait_for_selector('#trials .ag-header-cell[col-id="m1"][aria-sort="descending"]')
        page.wait_for_timeout(200)
        assert float(column(page, "m1")[0]) == pytest.approx(energies[-1], rel=6e-3)

    def test_filters(self, visit, home, store, study):
        page = visit(home, "/study/digits-melius")
        page.wait_for_selector("#trials .ag-row")
        page.locator('#trials .ag-header-cell[col-id="state"] .ag-header-icon').first.click()
        page.locator(".ag-filter input[type=text]").first.fill("failed")
        failed = [t for t in store.points(study.id) if t.state is TrialState.FAILED]
        page.wait_for_function(ROWS, arg=len(failed))
        assert sorted(map(int, column(page, "number"))) == [t.number for t in failed]

    def test_a_row_opens_its_network(self, visit, home):
        page = visit(home, "/study/digits-melius")
        page.wait_for_selector("#trials .ag-row")
        page.locator('#trials .ag-row[row-index="3"] .ag-cell[col-id="state"]').click()
        page.wait_for_url(f"{home}/study/digits-melius/trial/3")
        page.get_by_role("heading", name="Trial 3", exact=True).wait_for()
        page.wait_for_function(
            "() => document.getElementById('network').getBoundingClientRect().top >= 0"
        )


class TestFigures:
    def test_axes_can_be_chosen(self, visit, home):
        page = visit(home, "/study/digits-melius")
        front_points(page)
        page.locator("#x-axis").click()
        page.get_by_role("option", name="Parameters").click()
        page.wait_for_function(
            "() => document.querySelector('#front .js-plotly-plot')"
            "?.layout.xaxis.title.text === 'Parameters'"
        )

    def test_ineligible_trials_on_request(self, visit, home):
        page = visit(home, "/study/digits-melius")
        front_points(page)
        page.get_by_text("Eligible only").click()
        page.wait_for_function(
            "() => document.querySelector('#front .js-plotly-plot')"
            ".data.some(t => t.name === 'Not eligible')"
        )

    def test_another_profile_changes_the_energies(self, visit, home):
        page = visit(home, trial_path("digits-melius", 1))
        page.wait_for_selector("#layers .barlayer .point")
        before = page.locator("#layers-total").inner_text()
        page.locator("#profile").click()
        page.get_by_role("option", name="horowitz45").click()
        page.wait_for_function(
            "t => document.getElementById('layers-total').innerText !== t", arg=before
        )

    def test_published_networks_stand_beside_trials_of_the_same_data(self, visit, home):
        page = visit(home, "/study/large%20images")
        front_points(page)
        assert page.evaluate(
            "() => document.querySelector('#front .js-plotly-plot')"
            ".data.find(t => t.name === 'Published').x.length > 20"
        )

    def test_dark_mode_is_dark(self, visit, home):
        page = visit(home, "/study/digits-melius", scheme="dark")
        front_points(page)
        colour = "e => getComputedStyle(e).%s"
        assert page.locator("body").evaluate(colour % "backgroundColor") == "rgb(17, 22, 28)"
        tick = page.locator("#front .xtick text").first
        assert tick.evaluate(colour % "fill") == "rgb(154, 167, 181)"

    def test_thousands_of_points(self, visit, served, tmp_path, seeds):
        from bitfront.dashboard.figures import MANY

        with open_store(str(tmp_path / "big.db"), create=True) as store:
            study = seeds.fill(store, "big", 3)
            copies(store, study.id, MANY + 300)
            page = visit(served(store), "/study/big")
            page.wait_for_function(
                "() => document.querySelector('#front .js-plotly-plot')?.data"
                "?.some(t => t.name === 'Dominated' && t.type === 'scattergl')"
            )
            page.wait_for_selector("#front .gl-canvas-context, #front .gl-container canvas")
            assert page.get_by_text("WebGL is not supported").count() == 0


def copies(store, study_id, count):
    """Many complete trials, from one that is there."""
    from dataclasses import replace

    chance = random.Random(0)
    old = next(t for t in store.trials(study_id) if t.state is TrialState.COMPLETE)
    energy = old.measurement("energy")
    for number in range(100, 100 + count):
        measured = replace(old.measurement("accuracy"), value=0.5 + 0.3 * chance.random())
        cost = replace(energy, value=0.5 * chance.random() + 0.01, low=None, high=None)
        store.add_trial(study_id, replace(old, number=number, measurements=(measured, cost)))


class TestLive:
    def test_follows_a_running_search(self, visit, served, tmp_path, seeds):
        path = str(tmp_path / "live.db")
        with open_store(path, create=True) as store:
            study = seeds.fill(store, "live", 0)
            lease = store.acquire_lease(study.id)
            with open_store(path, create=False, read_only=True) as reader:
                home = served(reader, refresh_s=0.2)
                page = visit(home, "/study/live")
                page.get_by_text("The front appears with the first complete trial.").wait_for()
                light = (p for p in seeds.proposals(5) if p[2]["energy"].value < 0.1)
                chance = random.Random(0)
                for number in range(3):
                    seeds.add(store, study.id, number, next(light), chance, TrialState.COMPLETE)
                page.get_by_text("3 complete").wait_for()
                page.wait_for_function(ROWS, arg=3)
                front_points(page)
                page.locator('#trials .ag-row[row-index="0"] .ag-cell[col-id="state"]').click()
                page.get_by_role("heading", name="Trial 0", exact=True).wait_for()
                cards = visit(home, "/")
                cards.get_by_text("3 complete").wait_for()
                seeds.add(store, study.id, 3, next(light), chance, TrialState.RUNNING)
                cards.get_by_text("3 complete · 1 running").wait_for()
                page.get_by_text("3 complete · 1 running").wait_for()
                page.wait_for_selector('#trials .ag-row[row-index="3"]')
                store.release_lease(lease)
                page.get_by_text("not running").wait_for()
                cards.get_by_text("not running").wait_for()


class TestProblems:
    def test_a_store_that_is_gone_is_a_sentence(self, visit, served, tmp_path, seeds):
        path = tmp_path / "gone.db"
        with open_store(str(path), create=True) as store:
            seeds.fill(store, "s", 2)
        with open_store(str(path), create=False, read_only=True) as store:
            home = served(store)
            store.close()
            path.unlink()
            page = visit(home, "/study/s")
            page.get_by_role("alert").wait_for()
            assert "gone.db" in page.get_by_role("alert").inner_text()

    def test_a_wrong_path(self, visit, home):
        page = visit(home, "/elsewhere")
        page.get_by_text("There is no such page.").wait_for()
        page.get_by_text("All studies").click()
        page.wait_for_selector(".card.study")

    def test_a_badly_quoted_path(self, visit, home):
        page = visit(home, "/study/%E0%A4%A")
        page.get_by_role("alert").wait_for()
