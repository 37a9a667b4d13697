"""The application without a browser: its layout, its callbacks over HTTP, what it lets in."""

import json
import random
import socket
import threading
import urllib.error
import urllib.request

import pytest
from dash.development.base_component import Component

from bitfront.dashboard import ServerError, address_of, bind, create_app, serve
from bitfront.dashboard.routes import read_path, study_path, trial_path
from bitfront.dashboard.views import Views
from bitfront.search.record import TrialState
from bitfront.search.store import UnknownRecord, open_store


@pytest.fixture
def views(store):
    return Views(store, refresh_ms=2000)


@pytest.fixture
def client(store):
    return create_app(store).server.test_client()


def text_of(component):
    """All text of a component, in order."""
    if isinstance(component, Component):
        return text_of(getattr(component, "children", None))
    if isinstance(component, list | tuple):
        return " ".join(filter(None, map(text_of, component)))
    return "" if component is None else str(component)


def found(component, name):
    """The component of an id."""
    if isinstance(component, Component) and getattr(component, "id", None) == name:
        return component
    children = (
        getattr(component, "children", None) if isinstance(component, Component) else component
    )
    for child in children if isinstance(children, list | tuple) else [children]:
        if isinstance(child, Component | list | tuple) and (hit := found(child, name)) is not None:
            return hit
    return None


def seen_of(page):
    return found(page, "seen").data


def post(client, output, inputs, state=(), changed=None):
    """Run a callback over HTTP, as the browser does."""
    single = not output.startswith("..")
    names = [output] if single else output.strip(".").split("...")
    outputs = [dict(zip(("id", "property"), n.rsplit(".", 1), strict=True)) for n in names]
    body = {
        "output": output,
        "outputs": outputs[0] if single else outputs,
        "inputs": [{"id": i, "property": p, "value": v} for i, p, v in inputs],
        "state": [{"id": i, "property": p, "value": v} for i, p, v in state],
        "changedPropIds": [changed or f"{inputs[0][0]}.{inputs[0][1]}"],
    }
    return client.post("/_dash-update-component", json=body)


def open_page(client, path):
    answer = post(
        client,
        "..page.children...shown.data...notice.children..",
        [("url", "pathname", path), ("again", "data", None)],
        [("shown", "data", None)],
    )
    assert answer.status_code == 200
    return json.dumps(answer.json["response"]["page"]["children"])


class TestPages:
    def test_studies(self, views, seeds):
        page, is_it = views.page(read_path("/"))
        assert is_it
        text = text_of(page)
        for name in ("digits-melius", "fresh", "large images", seeds.MARKUP):
            assert name in text
        assert found(page, "studies-tick").disabled

    def test_no_study_yet(self, tmp_path):
        with open_store(str(tmp_path / "new.db"), create=True) as store:
            page, _ = Views(store, refresh_ms=2000).page(read_path("/"))
        assert "no study yet" in text_of(page)
        assert "bitfront search" in text_of(page)

    def test_study(self, views):
        page, is_it = views.page(read_path("/study/digits-melius"))
        assert is_it
        text = text_of(page)
        assert "All 80 trials are done." in text
        assert "none is comparable with a study on digits" in text
        assert found(page, "x-axis").value == "energy"
        assert found(page, "y-axis").value == "accuracy"
        assert found(page, "feasible").value == ["feasible"]
        assert found(page, "tick").disabled
        assert len(found(page, "trials").rowData) == 80

    def test_study_without_trials(self, views):
        page, _ = views.page(read_path("/study/fresh"))
        seen = seen_of(page)
        panel, detail = views.network(seen, "/study/fresh")
        assert "appears with the first complete trial" in text_of(panel)
        assert detail is None
        figure, _ = views.front(seen, ("energy", "accuracy"), [], "/study/fresh", True)
        assert "No trial" in figure.layout.annotations[0].text

    def test_trial(self, views, study, store):
        page, _ = views.page(read_path("/study/digits-melius"))
        best = max(
            (t for t in store.points(study.id) if t.is_eligible), key=lambda t: t.value("accuracy")
        )
        panel, detail = views.network(seen_of(page), trial_path(study.name, best.number))
        assert "on the front" in text_of(panel)
        text = text_of(detail)
        for title in (
            "Architecture",
            "Energy and operations by layer",
            "Learning curve",
            "Measurements",
            "Decisions",
            "Recipe",
            "Retrained with other seeds",
            "95.2 ± 0.5 %",
            "Exports",
            "verified: 0 of 360 images flipped",
            "Counts",
        ):
            assert title in text

    @pytest.mark.parametrize("state", [s for s in TrialState if s is not TrialState.COMPLETE])
    def test_every_kind_of_trial_can_be_opened(self, views, tmp_path, seeds, state):
        with open_store(str(tmp_path / "new.db"), create=True) as store:
            study = seeds.fill(store, "s", 0)
            if state is TrialState.DUPLICATE:
                from dataclasses import replace

                seeds.add(store, study.id, 0, next(seeds.proposals()), random.Random(0))
                old = store.trial(study.id, 0)
                copy = replace(old, number=1, state=state, duplicate_of=0, finished_at=1e9)
                store.add_trial(study.id, copy)
            elif state is TrialState.INFEASIBLE:
                found = next(seeds.proposals())
                seeds.add(
                    store, study.id, 1, found, random.Random(0), bound=found[2]["energy"].value / 2
                )
            else:
                light = (p for p in seeds.proposals() if p[2]["energy"].value < 0.1)
                seeds.add(store, study.id, 1, next(light), random.Random(0), state)
            views = Views(store, refresh_ms=2000)
            seen = seen_of(views.page(read_path("/study/s"))[0])
            panel, detail = views.network(seen, "/study/s/trial/1")
            assert store.trial(study.id, 1).state is state
            assert "Trial 1" in text_of(panel)
            assert "Decisions" in text_of(detail)
            figure, words = views.layers(seen, "/study/s/trial/1", "boolnet65")
            assert figure.data
            assert "Estimated total" in words

    def test_no_such_trial_study_or_page(self, views):
        seen = seen_of(views.page(read_path("/study/digits-melius"))[0])
        panel, detail = views.network(seen, "/study/digits-melius/trial/999")
        assert "has no trial 999" in text_of(panel)
        assert detail is None
        page, is_it = views.page(read_path("/study/digits-meliu"))
        assert not is_it
        assert "Did you mean 'digits-melius'?" in text_of(page)
        assert "no such page" in text_of(views.page(read_path("/elsewhere"))[0])


class TestNews:
    def test_none_when_nothing_changed(self, views):
        page, _ = views.page(read_path("/study/digits-melius"))
        assert views.news(seen_of(page)) is None
        studies, _ = views.page(read_path("/"))
        assert views.new_cards(found(studies, "studies-seen").data) is None

    def test_a_running_study(self, tmp_path, seeds):
        with open_store(str(tmp_path / "new.db"), create=True) as store:
            study = seeds.fill(store, "s", 10)
            lease = store.acquire_lease(study.id)
            views = Views(store, refresh_ms=2000)
            page, _ = views.page(read_path("/study/s"))
            seen = seen_of(page)
            assert not found(page, "tick").disabled
            assert not found(views.page(read_path("/"))[0], "studies-tick").disabled
            light = (p for p in seeds.proposals(5) if p[2]["energy"].value < 0.1)
            seeds.add(store, study.id, 10, next(light), random.Random(3), TrialState.COMPLETE)
            news = views.news(seen)
            assert not views.has_new_axes(news, seen)
            rows = views.transaction(news, seen)
            assert [r["number"] for r in rows["add"]] == [10]
            members = {m.number for m in news.front.members}
            left = set(seen["front"]) - members
            assert left <= {r["number"] for r in rows["update"]}
            store.release_lease(lease)
            assert not views.news(seen).is_running

    def test_new_axes_are_noticed(self, tmp_path, seeds):
        with open_store(str(tmp_path / "new.db"), create=True) as store:
            study = seeds.fill(store, "s", 0)
            views = Views(store, refresh_ms=2000)
            seen = seen_of(views.page(read_path("/study/s"))[0])
            seeds.add(store, study.id, 0, next(seeds.proposals()), random.Random(0))
            assert views.has_new_axes(views.news(seen), seen)

    def test_a_deleted_study_is_said(self, tmp_path, seeds):
        with open_store(str(tmp_path / "new.db"), create=True) as store:
            study = seeds.fill(store, "s", 1)
            views = Views(store, refresh_ms=2000)
            seen = seen_of(views.page(read_path("/study/s"))[0])
            store.delete_study(study.id)
            with pytest.raises(UnknownRecord, match="'s' has been deleted"):
                views.news(seen)
            # another study gets its id
            seeds.fill(store, "other", 1)
            with pytest.raises(UnknownRecord, match="'s' has been deleted"):
                views.news(seen)


class TestHttp:
    def test_markup_is_data(self, client, seeds):
        page = open_page(client, study_path(seeds.MARKUP))
        # a JSON string of a text node: React writes it as text
        assert json.dumps(seeds.MARKUP) in page
        assert "dangerously" not in page
        assert "DangerouslySetInnerHTML" not in page

    def test_index_names_no_other_host(self, client):
        index = client.get("/").get_data(as_text=True)
        assert "<html lang" in index
        assert "http://" not in index
        assert "//cdn" not in index
        assert 'src="https' not in index
        assert 'href="https' not in index

    @pytest.mark.parametrize(
        "path", ["/", "/study/x/trial/1", "/_dash-layout", "/assets/style.css"]
    )
    def test_every_answer_forbids_other_hosts(self, client, path):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "http" not in policy.replace("https", "http").replace("'self'", "")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_no_debugger_and_no_tools(self, client):
        config = client.get("/").get_data(as_text=True)
        assert '"ui":false' in config
        assert '"hot_reload"' not in config
        assert client.get("/_mcp").get_data(as_text=True).startswith("<!DOCTYPE html>")

    def test_a_store_that_broke_is_said(self, tmp_path, seeds):
        path = tmp_path / "new.db"
        with open_store(str(path), create=True) as store:
            seeds.fill(store, "s", 2)
        with open_store(str(path), create=False, read_only=True) as store:
            client = create_app(store).server.test_client()
            store.close()
            path.write_bytes(b"this is no database any more, " * 400)
            page = open_page(client, "/study/s")
            assert "cannot be shown" in page
            assert "new.db" in page
            answer = post(
                client, "hypervolume.figure", [("seen", "data", {"id": 1, "created_at": 0})]
            )
            assert answer.status_code == 200
            notice = answer.json["sideUpdate"]["notice"]
            assert "new.db" in json.dumps(notice)

    def test_a_fault_of_its_own_is_said_and_logged(self, client, caplog):
        answer = post(client, "hypervolume.figure", [("seen", "data", {})])
        assert answer.status_code == 200
        assert "KeyError" in json.dumps(answer.json["sideUpdate"]["notice"])
        assert "Traceback" in caplog.text

    def test_reading_changes_nothing(self, client, filled, study):
        before = filled.read_bytes()
        open_page(client, "/")
        open_page(client, study_path(study.name))
        assert filled.read_bytes() == before


class TestServer:
    @pytest.fixture
    def server(self, store):
        server = bind(create_app(store), port=0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()

    def test_answers_on_loopback(self, server):
        assert address_of(server).startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address_of(server)) as answer:
            assert answer.status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:80", "localhost.evil.example", ""]
    )
    def test_refuses_other_names(self, server, host):
        request = urllib.request.Request(address_of(server), headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 403
        caught.value.close()

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8050"])
    def test_knows_its_own_names(self, server, host):
        request = urllib.request.Request(address_of(server), headers={"Host": host})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def test_a_taken_port_is_one_sentence(self, store):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ServerError, match=f"127.0.0.1:{port} .* another --host or --port"):
                bind(create_app(store), port=port)

    @pytest.mark.parametrize("port", [-1, 65536])
    def test_an_impossible_port(self, store, port):
        with pytest.raises(ServerError, match="must be 0 to 65535"):
            bind(create_app(store), port=port)

    def test_a_host_of_elsewhere(self, store):
        with pytest.raises(ServerError, match="cannot listen on 192.0.2.1:0"):
            bind(create_app(store), host="192.0.2.1", port=0)

    def test_serve_tells_when_it_is_ready_and_ends_by_interrupt(self, store):
        told = []

        def ready(url):
            told.append(url)
            raise KeyboardInterrupt

        serve(create_app(store), port=0, ready=ready)
        assert told[0].startswith("http://127.0.0.1:")
