"""A local image registry on a harness's fabric, for engines that all pull the same image from it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from tests.harness import Hosts, eventually, run
from tests.harness.images import archive_of
from tests.harness.process import Process

# The hosts' engines speak plain HTTP to any address of any harness's fabric.
ENGINE_OPTIONS = ("--insecure-registry", "10.213.0.0/16")
PORT = 5000


@contextlib.asynccontextmanager
async def registry(hosts: Hosts, image: str) -> AsyncIterator[str]:
    """Serves `image` and yields the name under which every host can pull it.

    Raises FileNotFoundError when Debian's docker-registry is not installed.
    """
    if shutil.which("docker-registry") is None:
        raise FileNotFoundError("no docker-registry on this machine: apt-get install docker-registry")
    folder: Path = hosts.addresses.state / "registry"
    folder.mkdir()
    address = f"{hosts.addresses.test_address}:{PORT}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {accesslog: {disabled: true}, level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    process = Process("registry", ["docker-registry", "serve", str(config)], folder=folder)
    process.start()
    try:

        async def answers() -> bool:
            return await run(["curl", "-sf", f"http://{address}/v2/"]) != ""

        await eventually(answers, within=15, what="the registry answers")
        name = f"{address}/{image.rpartition('/')[2]}"
        first = hosts[0]
        await archive_of(image)
        await first.docker("tag", image, name)
        await first.docker("push", "-q", name)
        await first.docker("rmi", name)
        yield name
    finally:
        await process.kill()
