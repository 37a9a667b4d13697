"""Ray: started on this machine, or joined; and one run of jobs on it.

Ray is started quietly: on the loopback interface, without its dashboard and usage statistics, with
a small object store (nothing big travels), and in a folder of its own that is removed at the end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from bitfront.search.config import SearchConfig
from bitfront.search.stopping import Signals, Stop
from bitfront.search.store.leases import host_id
from bitfront.spaces.errors import BitfrontError

if TYPE_CHECKING:
    from bitfront.search.runs import RunFolder
    from bitfront.search.source import Run, Source

# read by Ray when it is imported, when it starts, or by the processes that it starts
ENVIRONMENT: Final = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's own snapshots are never read
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
}
# Ray's switch for systems whose firewall asks: all its processes listen on 127.0.0.1 only. Asked
# for that address ("_node_ip_address"), Ray takes the outer one instead
LOOPBACK: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Ray takes no less than 75 MiB
OBJECT_STORE_BYTES: Final = 80 * 2**20
MAX_FAILURES: Final = 3
CONNECT_S: Final = 5.0
TRAININGS_PER_GPU: Final = 4
_FOLDER: Final = "bf-{host}-{pid}-"


class ClusterError(BitfrontError):
    """Ray is missing, cannot be started, or cannot be joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Ray, ready to train.

    Attributes:
        slots: Trainings at a time.
        cpus: Of Ray's CPUs that one training takes.
        gpus: Of Ray's GPUs that one training takes.
    """

    slots: int
    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """Where a training runs."""
        return "auto" if self.gpus else "cpu"


@contextmanager
def started(config: SearchConfig, signals: Signals) -> Iterator[Cluster]:
    """Start Ray, or join the cluster of ``config.address``; leave it at the end.

    Args:
        config: Workers, threads, GPUs, address.
        signals: Installed again once Ray has taken SIGTERM for itself.

    Raises:
        ClusterError: If that is impossible; one sentence says why.
    """
    settings = {**ENVIRONMENT, "OMP_NUM_THREADS": str(config.threads)}
    is_local = _is_local(config.address)
    if is_local:
        settings.update(LOOPBACK)
    with _environment(settings):
        try:
            ray: Any = import_module("ray")
        except ImportError:
            raise ClusterError("A search needs Ray: pip install 'bitfront[cluster]'.") from None
        _require_listener(config.address)
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=_prefix(os.getpid()), dir=_short_folder()))
        # Ray has read the switch when it was imported, which may have been earlier
        constants: Any = import_module("ray._private.ray_constants")
        former = constants.ENABLE_RAY_CLUSTER
        constants.ENABLE_RAY_CLUSTER = not is_local
        try:
            _init(ray, config, folder)
            signals.install()
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            yield _capacity(ray.cluster_resources(), config)
        finally:
            _end_monitor()
            ray.shutdown()
            constants.ENABLE_RAY_CLUSTER = former
            signals.install()
            shutil.rmtree(folder, ignore_errors=True)


def train_all(run: Run, config: SearchConfig, folder: RunFolder, stop: Stop) -> None:
    """Start Ray, train what a run hands out, and end Ray.

    Raises:
        ClusterError: If Ray cannot be used.
        Exception: What the run raised.
    """
    run.tell("starting")
    signals = Signals(stop)
    try:
        with signals.caught(), started(config, signals) as cluster:
            run.device = cluster.device
            run.begin()
            run_jobs(run, cluster, stop, folder.scratch)
            run.tell("ending")
    except ClusterError:
        # what is interrupted while it starts may fail in any way
        if not stop.is_set:
            raise


def run_jobs(source: Source, cluster: Cluster, stop: Stop, folder: Path) -> None:
    """Train what a source hands out, until it is over or the flag is set.

    Jobs under way when the flag is set are left behind without a further call of the source.

    Args:
        source: Of the jobs.
        cluster: From ``started``.
        stop: Ends the run.
        folder: For Tune's own files; removed at the end.

    Raises:
        ClusterError: If Ray fails.
        Exception: What the source raised, after the end of the run.
    """
    from ray import tune
    from ray.exceptions import RayError
    from ray.tune.error import TuneError

    from bitfront.search.searcher import (
        Abandoned,
        JobCallback,
        JobScheduler,
        JobSearcher,
        Session,
    )
    from bitfront.search.worker import train

    if stop.is_set:
        return
    session = Session(source, stop)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": cluster.cpus, "gpu": cluster.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=JobSearcher(session),
                scheduler=JobScheduler(session),
                num_samples=-1,
                max_concurrent_trials=cluster.slots,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=str(folder),
                callbacks=[JobCallback(session)],
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                verbose=0,
            ),
        )
        tuner.fit()
    except Abandoned:
        pass
    except (RayError, TuneError) as error:
        if session.error is None:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ClusterError(f"Ray failed while training: {reason[:300]}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if session.error is not None:
        raise session.error


def _is_local(address: str | None) -> bool:
    """Whether all of Ray is on this machine's loopback interface."""
    return address is None or address.rpartition(":")[0] in ("127.0.0.1", "localhost")


def _require_listener(address: str | None) -> None:
    """Find out in seconds what Ray finds out in minutes.

    Raises:
        ClusterError: If nobody listens at HOST:PORT.
    """
    if address == "auto":
        services: Any = import_module("ray._private.services")
        try:
            address = services.canonicalize_bootstrap_address("auto")
        except Exception as error:
            raise ClusterError(
                "There is no Ray cluster to join on this machine: start one with `ray start "
                "--head`, give HOST:PORT, or no address at all."
            ) from error
    host, _, port = (address or "").rpartition(":")
    if host:
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            raise ClusterError(
                f"The Ray cluster {address} cannot be joined: "
                f"{(error.strerror or str(error)).lower()}."
            ) from error


def _init(ray: Any, config: SearchConfig, folder: Path) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if config.address is not None:
            ray.init(
                address=config.address,
                runtime_env={"py_modules": [str(_package(folder))]},
                **quiet,
            )
            return
        arguments: dict[str, Any] = {"num_cpus": _local_workers(config)}
        if config.gpus_per_trial == 0:
            arguments["num_gpus"] = 0
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            **arguments,
            **quiet,
        )
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if config.address is None:
            raise ClusterError(f"Ray cannot be started on this machine: {reason}.") from error
        raise ClusterError(
            f"The Ray cluster {config.address} cannot be joined: {reason}. It must run the same "
            "version of Ray and Python, and where it checks tokens (RAY_AUTH_MODE=token) this "
            "machine needs the same token."
        ) from error


def _capacity(resources: Mapping[str, float], config: SearchConfig) -> Cluster:
    """Share out what Ray has found.

    Raises:
        ClusterError: If not even one training fits.
    """
    cpus_each = 1 if config.address is None else config.threads
    cpus = floor(resources.get("CPU", 0) / cpus_each)
    gpus = resources.get("GPU", 0.0)
    wanted = config.workers or cpus
    each = config.gpus_per_trial
    if each is None:
        if config.workers is None and gpus:
            wanted = min(wanted, TRAININGS_PER_GPU * int(gpus))
        each = _share(gpus, wanted)
    slots = min(wanted, cpus)
    if each:
        slots = min(slots, int(gpus) * floor(1 / each) if each <= 1 else floor(gpus / each))
    if slots < 1:
        raise ClusterError(
            f"One training takes {cpus_each} CPUs and {each:g} GPUs, but Ray has "
            f"{resources.get('CPU', 0):g} CPUs and {gpus:g} GPUs."
        )
    return Cluster(slots=slots, cpus=cpus_each, gpus=each)


def _share(gpus: float, wanted: int) -> float:
    """GPUs of one training when ``wanted`` of them share all: whole ones, or one among several."""
    if not gpus or not wanted:
        return 0.0
    if gpus >= wanted:
        return float(floor(gpus / wanted))
    return floor(10_000 / ceil(wanted / gpus)) / 10_000


def _local_workers(config: SearchConfig) -> int:
    # a container may have fewer processors than its machine; not every system can tell
    allowed = getattr(os, "sched_getaffinity", None)
    cpus = len(allowed(0)) if allowed else os.cpu_count() or 1
    return config.workers or max(1, cpus // config.threads)


def _end_monitor() -> None:
    """Kill Ray's autoscaler of this process: it scales nothing and takes a second to end."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(part.endswith("autoscaler/_private/monitor.py") for part in child.cmdline()):
                child.kill()


def _package(folder: Path) -> Path:
    """A folder with the whole package, from wherever its parts are installed, for other nodes."""
    import bitfront

    whole = folder / "bitfront"
    whole.mkdir()
    for part in Path(bitfront.__path__[0]).iterdir():
        if part.name != "__pycache__":
            (whole / part.name).symlink_to(part)
    for name in ("spaces", "evaluators", "kernels", "search"):
        module = __import__(f"bitfront.{name}", fromlist=["__path__"])
        link = whole / name
        if not link.exists():
            link.symlink_to(module.__path__[0])
    return whole


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside; a setting of the user's own stays."""
    added = [name for name in settings if name not in os.environ]
    os.environ.update({name: settings[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _prefix(pid: int | str) -> str:
    host = hashlib.sha256(host_id().encode()).hexdigest()[:6]
    return _FOLDER.format(host=host, pid=pid)


def _short_folder() -> str:
    """Where temporary files go; Ray puts sockets there, whose paths must be short."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 24 else "/tmp"


def _sweep() -> None:
    """Remove the folders of drivers on this machine that were killed."""
    for folder in Path(_short_folder()).glob(_prefix("*") + "*"):
        pid = folder.name.split("-")[2]
        try:
            mine = folder.stat().st_uid == os.getuid()
        except OSError:
            continue
        if mine and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
