"""Once per test session: a Docker Engine for the tests that need one, and which tests run beside which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
# Who started the engine; `make test` starts its own beforehand, under another name.
WHO = "pytest"
NEED_ENGINE = ("docker", "e2e")
NEED_ROOT = ("root", "e2e")
# Under `-n` (pytest-xdist) a group runs in one process, one test after the other; a file is a group, but for these.
# Whole clusters run in two chains, so that no more than two share the machine, and of those that are killed or are
# under load no more than one. The kernel's data plane has a world that is costly to make.
_CHAINS = {
    "e2e/1": ("e2e/test_faults", "e2e/test_cluster", "e2e/test_compose", "e2e/test_drain", "e2e/test_guestbook"),
    "e2e/2": ("e2e/", "harness/"),
    "proxy/nft": ("proxy/nft/",),
}
# Begun first, because they last longest.
_FIRST = (
    "e2e/1",
    "e2e/2",
    "integration/test_kill9",
    "integration/",
    "node_agent/network/",
    "cli/",
    "proxy/",
    "contract/",
)

# A busy machine is no fault of an example, and two runs say the same: SAMPAN_TEST_RANDOM=1 looks for new examples.
settings.register_profile(
    "sampan",
    deadline=None,
    derandomize=not os.environ.get("SAMPAN_TEST_RANDOM"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sampan")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts this in the background has Ctrl-C ignored, and what is started here would inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def group_of(nodeid: str) -> str:
    """The name of the group that a test is in: its chain's, or its file's."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return next((name for name, begins in _CHAINS.items() if file.startswith(begins)), file)


def _rank(item: pytest.Item) -> int:
    group = group_of(item.nodeid)
    return next((number for number, begin in enumerate(_FIRST) if group.startswith(begin)), len(_FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The groups are made of the tests' ids, not of marks: xdist 3.8 does not find those under pytest 9.2."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    # In the order of collection.
    config.option.loadscopereorder = False
    made = LoadScopeScheduling(config, log)
    made._split_scope = group_of
    return made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root (network namespaces): run as root")
    for item in items:
        if any(item.get_closest_marker(name) for name in NEED_ROOT):
            item.add_marker(skip)


def pytest_collection_finish(session: pytest.Session) -> None:
    """After the selection: `-m "not docker"` and `--collect-only` start nothing."""
    if session.config.option.collectonly:
        return
    if any(item.get_closest_marker(name) for item in session.items for name in NEED_ENGINE):
        done = subprocess.run([str(SCRIPTS / "docker-up"), WHO], capture_output=True, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode != 0:
            pytest.exit(f"the selected tests need Docker: {done.stderr.strip()}", returncode=3)


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # The process that started the workers stops the engine, when the last of them has ended.
        return
    subprocess.run([str(SCRIPTS / "docker-down"), WHO], capture_output=True)


@pytest.fixture(scope="session")
def sampan_image() -> str:
    """The name of the image with Sampan and Python in it, built of this tree."""
    done = subprocess.run([str(SCRIPTS / "image")], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return "sampan:dev"
