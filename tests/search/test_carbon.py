"""The energy ledger and the carbon behind it; hardware is faked at the edge of the system."""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.search import counters
from bitfront.search.carbon import EMISSIONS, GRIDS, carbon_g, compared, find_grid, footprint
from bitfront.search.counters import GpuPower, PowerModel, RaplCounter, find_sources, visible
from bitfront.search.meter import NodeEnergyMeter
from bitfront.search.record import EnergyEntry, trial_account
from bitfront.spaces.errors import InvalidValue

NO_NVML = "libnone-of-that-name.so"


class Machine:
    """A machine whose time and load are set by hand."""

    def __init__(self, processors=4):
        self.processors = processors
        self.now_s = 100.0
        self.total_s = 50.0
        self.of_s = {}

    def count(self):
        return self.processors

    def busy_s(self):
        return self.total_s

    def process_s(self, pid):
        return self.of_s.get(pid)

    def clock(self):
        return self.now_s

    def work(self, seconds, used=None, others_s=0.0):
        self.now_s += seconds
        for pid, used_s in (used or {}).items():
            self.of_s[pid] = self.of_s.get(pid, 0.0) + used_s
            self.total_s += used_s
        self.total_s += others_s


def meter_on(machine, *sources):
    return NodeEnergyMeter(sources, times=machine, clock=machine.clock)


def cpu(idle_w=10.0, full_w=50.0):
    return PowerModel("cpu", idle_w=idle_w, full_w=full_w)


def by_account(entries):
    found = {}
    for entry in entries:
        found[entry.account] = found.get(entry.account, 0.0) + entry.kwh * 3.6e6
    return found


# RAPL


def zone(root, name, label, energy_uj, range_uj=1_000_000_000):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


@pytest.fixture
def powercap(tmp_path):
    """Two packages, one with memory, and what must not be counted beside them."""
    root = tmp_path / "powercap"
    zone(root, "intel-rapl:0", "package-0", 999_000_000)
    zone(root, "intel-rapl:0:0", "core", 5)
    zone(root, "intel-rapl:0:1", "dram", 100)
    zone(root, "intel-rapl:1", "package-1", 2_000_000)
    zone(root, "intel-rapl:2", "psys", 7)
    zone(root, "intel-rapl-mmio:0", "package-0", 999_000_000)
    return root


def test_rapl_is_found_and_wraps(powercap):
    sources, unknown = find_sources(powercap, NO_NVML)
    assert [(s.component, s.method) for s in sources] == [("cpu", "measured"), ("dram", "measured")]
    assert unknown == []
    processor, memory = sources
    (powercap / "intel-rapl:1" / "energy_uj").write_text("5000000")
    assert processor.joules(1.0, 0.0) == 3.0
    # 1 J to the end of the range and 2 J beyond
    (powercap / "intel-rapl:0" / "energy_uj").write_text("2000000")
    (powercap / "intel-rapl:0:1" / "energy_uj").write_text("500100")
    assert processor.joules(1.0, 0.0) == 3.0
    assert memory.joules(1.0, 0.0) == 0.5
    assert processor.joules(1.0, 0.0) == memory.joules(1.0, 0.0) == 0.0


def test_without_a_memory_counter_it_is_estimated(powercap):
    shutil.rmtree(powercap / "intel-rapl:0:1")
    sources, _ = find_sources(powercap, NO_NVML)
    assert [(s.component, s.method) for s in sources] == [
        ("cpu", "measured"),
        ("dram", "estimated"),
    ]


@pytest.mark.parametrize("broken", ["", "not a number"])
def test_without_rapl_the_processor_is_estimated(powercap, tmp_path, broken):
    nothing, _ = find_sources(tmp_path / "none", NO_NVML)
    assert [s.method for s in nothing] == ["estimated", "estimated"]
    full_w = (os.cpu_count() or 1) * counters.CPU_FULL_W
    assert nothing[0].joules(2.0, 1.0) == pytest.approx(2 * full_w)
    assert nothing[0].joules(2.0, 0.0) == pytest.approx(2 * full_w * counters.CPU_IDLE_SHARE)
    # one package that cannot be read would leave half of the machine out
    (powercap / "intel-rapl:1" / "energy_uj").write_text(broken)
    sources, _ = find_sources(powercap, NO_NVML)
    assert sources[0].method == "estimated"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to drop root's rights")
def test_rapl_that_only_root_may_read(powercap):
    # pytest's own folders are closed to others
    root = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(powercap, root / "powercap")
        root.chmod(0o755)
        (root / "powercap" / "intel-rapl:0" / "energy_uj").chmod(0o400)
        os.seteuid(65534)
        try:
            sources, _ = find_sources(root / "powercap", NO_NVML)
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(root)
    assert [s.method for s in sources] == ["estimated", "measured"]


# NVML: a library of the driver's name, compiled here

DRIVER = """
#include <string.h>
static unsigned long long energy = 1000000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) {
    *h = (void *)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetUUID(void *h, char *uuid, unsigned n) {
    strncpy(uuid, "GPU-0", n); uuid[4] += (char)(unsigned long)h - 1; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *mj) {
    if (h != (void *)1) return 3;
    *mj = energy; energy += 2500; return 0; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *mw) {
    if (h == (void *)3) return 3;
    *mw = 300500; return 0; }
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "nvml.c").write_text(DRIVER)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return str(library)


def test_gpus_are_counted_sampled_or_unknown(driver, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sources, unknown = find_sources(tmp_path, driver)
    found = {s.component: s for s in sources[2:]}
    assert {name: s.method for name, s in found.items()} == {
        "gpu:GPU-0": "measured",
        "gpu:GPU-1": "estimated",
    }
    assert [u.component for u in unknown] == ["gpu:GPU-2"]
    assert found["gpu:GPU-0"].joules(1.0, 0.0) == 2.5
    assert isinstance(found["gpu:GPU-1"], GpuPower)
    assert found["gpu:GPU-1"].joules(2.0, 0.0) == 601.0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    sources, unknown = find_sources(tmp_path, driver)
    assert [s.component for s in sources[2:]] == ["gpu:GPU-1"]
    assert unknown == []


def test_visible_devices(driver):
    devices = counters.Nvml(driver).devices()
    for chosen, kept in (
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        ("GPU-1,GPU-1", [1]),
        ("7", []),
    ):
        assert visible(devices, chosen) == [devices[i] for i in kept]


# the ledger


def test_energy_goes_to_who_worked():
    machine = Machine()
    meter = meter_on(machine, cpu())
    meter.attach("trial/1", 11)
    meter.attach("trial/2", 12)
    # 4 processors x 1 s, 2 s busy: 10 + 40 / 2 = 30 J
    machine.work(1.0, {11: 1.0, 12: 0.5}, others_s=0.5)
    assert by_account(meter.drain()) == pytest.approx(
        {"trial/1": 15.0, "trial/2": 7.5, "overhead": 7.5}
    )
    meter.detach("trial/2")
    machine.work(1.0, {11: 4.0})
    meter.sample()
    assert by_account(meter.drain()) == pytest.approx({"trial/1": 50.0, "overhead": 0.0})
    meter.detach("trial/1")
    machine.work(2.0)
    meter.sample()
    assert by_account(meter.drain()) == pytest.approx({"overhead": 20.0})
    assert meter.node_kwh * 3.6e6 == pytest.approx(100.0)
    assert by_account(meter.totals()) == pytest.approx(
        {"trial/1": 65.0, "trial/2": 7.5, "overhead": 27.5}
    )


def test_a_process_works_for_one_account():
    machine = Machine()
    meter = meter_on(machine, cpu())
    meter.attach("trial/1", 11)
    machine.work(1.0, {11: 1.0})
    # the same worker takes the next trial, as actors that are used again do
    meter.attach("trial/2", 11)
    machine.work(1.0, {11: 1.0})
    meter.detach("trial/1")
    assert by_account(meter.totals()) == pytest.approx(
        {"trial/1": 20.0, "trial/2": 20.0, "overhead": 0.0}
    )


def test_a_process_that_is_gone_uses_nothing():
    machine = Machine()
    meter = meter_on(machine, cpu())
    meter.attach("trial/1", 99)
    machine.work(1.0, others_s=2.0)
    assert by_account(meter.drain()) == pytest.approx({"overhead": 30.0})


def test_a_gpu_is_shared_by_its_trials(driver, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sources, _ = find_sources(tmp_path, driver)
    machine = Machine()
    meter = meter_on(machine, *sources[2:])
    machine.work(1.0, others_s=1.0)
    meter.attach("trial/1", 11, ["GPU-1"])
    meter.attach("trial/2", 12, ["GPU-1"])
    machine.work(2.0)
    meter.sample()
    energies = {(e.account, e.method): e.kwh * 3.6e6 for e in meter.totals()}
    assert energies == pytest.approx(
        {
            ("overhead", "measured"): 5.0,
            ("overhead", "estimated"): 300.5,
            ("trial/1", "estimated"): 300.5,
            ("trial/2", "estimated"): 300.5,
        }
    )


def test_a_counter_that_is_lost_is_unknown_from_then_on(powercap, caplog):
    machine = Machine()
    meter = meter_on(machine, RaplCounter("cpu", [powercap / "intel-rapl:1"]))
    assert meter.components == {"cpu": "measured"}
    (powercap / "intel-rapl:1" / "energy_uj").write_text("3000000")
    machine.work(1.0)
    meter.sample()
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    machine.work(1.0)
    meter.sample()
    assert meter.components == {"cpu": "unknown"}
    assert "cpu is no longer counted" in caplog.text
    machine.work(1.0)
    meter.sample()
    assert meter.node_kwh * 3.6e6 == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 5.0),
            st.lists(st.floats(0.0, 3.0), min_size=4, max_size=4),
            st.floats(0.0, 3.0),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_accounts_sum_to_the_machine_whatever_the_workers(steps):
    """The same load, carried by one worker, by two or by four, is the same energy."""
    totals = []
    for workers in (0, 1, 2, 4):
        machine = Machine()
        meter = meter_on(machine, cpu(), PowerModel("dram", idle_w=3.0, full_w=3.0))
        drained = []
        for step, (seconds, used, others_s, which) in enumerate(steps):
            if workers and which < workers:
                meter.attach(trial_account(step), which)
            load = {}
            for i, used_s in enumerate(used):
                load[i % workers if workers else i] = (
                    load.get(i % workers if workers else i, 0) + used_s
                )
            machine.work(seconds, load, others_s)
            drained += meter.drain()
        meter.stop()
        drained += meter.drain()
        node_j = meter.node_kwh * 3.6e6
        assert sum(by_account(meter.totals()).values()) == pytest.approx(node_j, rel=1e-6)
        assert by_account(drained) == pytest.approx(by_account(meter.totals()), rel=1e-6)
        assert all(e.kwh >= 0 for e in drained)
        totals.append(node_j)
    assert totals == pytest.approx([totals[0]] * 4, rel=1e-6)


def test_the_real_machine_in_a_thread():
    code = "while True: pass"
    worker = subprocess.Popen([sys.executable, "-c", code])
    try:
        with NodeEnergyMeter(interval_s=0.02) as meter:
            meter.attach("trial/0", worker.pid)
            time.sleep(0.3)
            meter.detach("trial/0")
    finally:
        worker.kill()
        worker.wait()
    energies = by_account(meter.totals())
    assert energies["trial/0"] > 0
    assert sum(energies.values()) == pytest.approx(meter.node_kwh * 3.6e6, rel=1e-6)
    assert set(meter.components) >= {"cpu", "dram"}
    stopped = meter.node_kwh
    time.sleep(0.05)
    assert meter.node_kwh == stopped, "the thread has ended"
    with pytest.raises(RuntimeError, match="started once"):
        meter.start()


# carbon


def test_carbon():
    assert carbon_g(2.0, "FRA") == 112.0
    assert carbon_g(2.0, "fra", pue=1.5) == 168.0
    assert carbon_g(1.0) == GRIDS["WORLD"].g_per_kwh == 475.0
    assert carbon_g(3.0, 100.0) == carbon_g(3.0, "100") == 300.0
    assert carbon_g(0.0, 0) == 0.0
    given_by_user = find_grid(12.5)
    assert (given_by_user.name, given_by_user.year) == ("given", None)
    assert all(g.year and g.source and g.g_per_kwh > 0 for g in GRIDS.values())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"grid": "Mars"}, "must be one of SWE, FRA, .* but is 'Mars'"),
        ({"grid": -1.0}, "from 0"),
        ({"grid": "nan"}, "from 0"),
        ({"pue": 0.9}, "pue must be at least 1"),
        ({"pue": math.nan}, "pue must be at least 1"),
        ({"kwh": -1.0}, "kwh must be"),
        ({"kwh": math.inf}, "kwh must be"),
    ],
)
def test_wrong_carbon(arguments, match):
    with pytest.raises(InvalidValue, match=match):
        carbon_g(**{"kwh": 1.0, **arguments})


def test_the_scale_is_the_published_one():
    assert [round(e.kg / 0.45359237) for e in EMISSIONS] == [1984, 11023, 36156, 126000, 626155]
    assert compared(9.0).startswith("0.0010 % of a flight New York")
    assert compared(0.0).startswith("0 % of a flight")
    assert compared(1e-5).startswith("0.0000000011 % of")
    assert compared(90_000.0).startswith("10 % of a flight")
    assert compared(900_000.0).startswith("18 % of an average human's year (5,000 kg CO2e)")
    assert compared(20_000 * EMISSIONS[-1].kg).startswith("2,000 % of a Transformer")


def test_the_footprint_of_a_ledger():
    ledger = [
        EnergyEntry(account="overhead", kwh=1.0, method="estimated"),
        EnergyEntry(account="trial/0", kwh=2.0, method="measured"),
        EnergyEntry(account="trial/1", kwh=1.0, method="measured"),
    ]
    found = footprint(ledger, "SWE", 1.25)
    assert (found.kwh, found.overhead_kwh, found.measured) == (4.0, 1.0, 0.75)
    assert found.grams == pytest.approx(4 * 1.25 * 40.7)
    assert (found.grid.name, found.pue) == ("SWE", 1.25)
    assert footprint([]).kwh == footprint([]).measured == 0.0
