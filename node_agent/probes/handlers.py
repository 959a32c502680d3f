"""One probe or hook action against one running container; what comes of it is an `Outcome`, never an exception."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from common.errors import NotFound, SampanError
from node_agent.runtime.seam import Refused, Runtime
from node_agent.runtime.stdio import HttpAnswer, HttpRequest, ReachError, Stdio
from protos.core_pb2 import Container, ExecAction, HTTPGetAction, IntOrString, ProbeHandler

# Kubernetes' figures: what is kept of a command's output, and redirects followed.
_OUTPUT_BYTES = 10 * 1024
_REDIRECTS = 10
# A prefix that access logs are filtered by.
_USER_AGENT = "kube-probe/sampan"


class Verdict(enum.Enum):
    """WARNING counts as well; ERROR counts neither way: the question could not be put."""

    WELL = "succeeded"
    WARNING = "warning"
    FAILED = "failed"
    ERROR = "errored"


@dataclass(frozen=True)
class Outcome:
    """`message` is for the event; empty where all is well."""

    verdict: Verdict
    message: str = ""


WELL = Outcome(Verdict.WELL)


@dataclass(frozen=True)
class Target:
    """Who is asked: the running container `id`, and its pod's address."""

    id: str
    container: Container
    ip: str


@dataclass
class Lingering:
    """The command of a timed-out exec that could not be ended: one probe has one of these."""

    stdio: Stdio | None = field(default=None)


class Handlers:
    """Asks containers of one runtime; shared by all pods of a node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def probe(
        self, target: Target, handler: ProbeHandler, timeout: float, lingering: Lingering | None = None
    ) -> Outcome:
        """The answer to one question, FAILED when there is none within `timeout` seconds."""
        what = _Late()
        try:
            if handler.HasField("exec"):
                return await self.run(target, handler.exec, timeout, lingering or Lingering())
            async with asyncio.timeout(timeout):
                if handler.HasField("httpGet"):
                    return await self._http(target, handler.httpGet, what)
                if handler.HasField("tcpSocket"):
                    host = handler.tcpSocket.host or target.ip
                    port = port_number(handler.tcpSocket.port, target.container)
                    what.words = f"dial tcp {host}:{port}: i/o timeout"
                    await self._runtime.reach.tcp(host, port)
                elif handler.HasField("grpc"):
                    what.words = f"timeout: health rpc did not complete within {timeout:g}s"
                    await self._runtime.reach.grpc(target.ip, handler.grpc.port, handler.grpc.service)
                return WELL
        except TimeoutError:
            return Outcome(Verdict.FAILED, what.words)
        except ReachError as error:
            return Outcome(Verdict.FAILED, str(error))
        except SampanError as error:
            return Outcome(Verdict.ERROR, str(error))

    async def run(
        self, target: Target, action: ExecAction, timeout: float | None, lingering: Lingering | None = None
    ) -> Outcome:
        """A command in the container, for so many seconds at most (None: without a limit)."""
        slot = lingering or Lingering()
        output = bytearray()
        try:
            if slot.stdio is not None and not await slot.stdio.ended():
                return Outcome(Verdict.FAILED, "command timed out: that of an earlier probe has not ended yet")
            slot.stdio = None
            try:
                async with asyncio.timeout(timeout):
                    async with self._runtime.exec(target.id, tuple(action.command)) as stdio:
                        slot.stdio = stdio
                        async for _, piece in stdio:
                            output += piece[: _OUTPUT_BYTES - len(output)]
                        code = await stdio.exit_code()
            except TimeoutError:
                return Outcome(Verdict.FAILED, f'command timed out: "{" ".join(action.command)}" after {timeout:g}s')
        except Refused as error:
            return Outcome(Verdict.FAILED, str(error))
        except SampanError as error:
            return Outcome(Verdict.ERROR, str(error))
        slot.stdio = None
        text = output.decode("utf-8", "replace").strip()
        return WELL if code == 0 else Outcome(Verdict.FAILED, text or f"command exited with code {code}")

    async def _http(self, target: Target, action: HTTPGetAction, late: _Late) -> Outcome:
        request = http_request(action, target)
        for _ in range(_REDIRECTS + 1):
            answer = await self.get(request, late)
            if not (300 <= answer.status < 400 and answer.location):
                break
            following = redirected(request, answer.location)
            if following is None:
                return Outcome(Verdict.WARNING, f"Probe terminated redirects, it leads to {answer.location}")
            request = following
        else:
            return Outcome(Verdict.FAILED, f'Get "{url_of(request)}": stopped after {_REDIRECTS} redirects')
        if 200 <= answer.status < 400:
            return WELL
        return Outcome(Verdict.FAILED, f"HTTP probe failed with statuscode: {answer.status}")

    async def get(self, request: HttpRequest, late: _Late | None = None) -> HttpAnswer:
        """One request. Raises ReachError that names the URL."""
        url = url_of(request)
        if late is not None:
            late.words = f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        try:
            return await self._runtime.reach.http(request)
        except ReachError as error:
            raise ReachError(f'Get "{url}": {error}') from None


@dataclass
class _Late:
    """What a user reads when no answer comes."""

    words: str = "no answer in time"


def http_request(action: HTTPGetAction, target: Target) -> HttpRequest:
    """The request of an httpGet action. Raises NotFound for a port name the container does not have; pure."""
    host = action.host or target.ip
    port = port_number(action.port, target.container)
    path = action.path or "/"
    return HttpRequest(
        tls=action.scheme.upper() == "HTTPS",
        host=host,
        port=port,
        path=path if path.startswith("/") else f"/{path}",
        headers=tuple(_headers((header.name, header.value) for header in action.httpHeaders)),
    )


def _headers(given: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Those of the action, and the usual two unless it has its own; an empty one of these two leaves it out."""
    given = list(given)
    names = {name.lower() for name, _ in given}
    for name, value in (("User-Agent", _USER_AGENT), ("Accept", "*/*")):
        if name.lower() not in names:
            yield name, value
    for name, value in given:
        if value or name.lower() not in ("user-agent", "accept"):
            yield name, value


def redirected(request: HttpRequest, location: str) -> HttpRequest | None:
    """The request a redirect asks for; None when it leads to another host, where a probe does not go; pure."""
    try:
        to = urlsplit(urljoin(url_of(request), location))
        port = to.port or (443 if to.scheme == "https" else 80)
    except ValueError:
        return None
    if to.scheme not in ("http", "https") or to.hostname != request.host.lower():
        return None
    path = (to.path or "/") + (f"?{to.query}" if to.query else "")
    return HttpRequest(to.scheme == "https", request.host, port, path, request.headers)


def url_of(request: HttpRequest) -> str:
    return f"{'https' if request.tls else 'http'}://{request.host}:{request.port}{request.path}"


def port_number(port: IntOrString, container: Container) -> int:
    """A port by number or by its name in the container. Raises NotFound; pure."""
    if port.type == 0:
        return port.intVal
    for offered in container.ports:
        if offered.name == port.strVal:
            return offered.containerPort
    raise NotFound(f"couldn't find port: {port.strVal} (container {container.name} has no port of this name)")
