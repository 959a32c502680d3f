"""Rules about probes, hooks, sidecars and termination messages."""

from __future__ import annotations

from typing import Any

import pytest

from common import manifest
from common.manifest import ManifestError
from tests.master.api.test_validation import POD, changed, faults

C, I = "spec.containers.0.", "spec.initContainers.0."  # noqa: E741
SIDECAR = changed(POD, "spec.initContainers", [{"name": "log", "image": "log:1", "restartPolicy": "Always"}])
INIT = changed(POD, "spec.initContainers", [{"name": "log", "image": "log:1"}])
EXEC = {"exec": {"command": ["true"]}}
PROBE = "spec.containers[0].readinessProbe"
LIFE = "spec.containers[0].lifecycle"


def with_header(name: str, value: str) -> dict[str, Any]:
    return {"httpGet": {"port": 80, "httpHeaders": [{"name": name, "value": value}]}}


@pytest.mark.parametrize(
    "document",
    [
        SIDECAR,
        changed(changed(SIDECAR, I + "startupProbe", EXEC), I + "lifecycle", {"preStop": {"sleep": {"seconds": 30}}}),
        changed(POD, C + "readinessProbe", {"grpc": {"port": 1}, "successThreshold": 3}),
        changed(POD, C + "livenessProbe", {"httpGet": {"port": "web", "scheme": "HTTPS"}}),
        changed(POD, C + "lifecycle", {"stopSignal": "SIGQUIT", "postStart": {"httpGet": {"port": 80}}}),
        changed(POD, C + "lifecycle", {"stopSignal": "SIGRTMIN+3"}),
        changed(POD, C + "terminationMessagePath", "/tmp/why"),
    ],
)
def test_the_good_ones_pass_without_a_warning(document: dict[str, Any]) -> None:
    assert faults(document) == {}
    assert manifest.from_manifest(document).warnings == ()


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        (changed(INIT, I + "readinessProbe", EXEC), "spec.initContainers[0].readinessProbe", "no sidecar"),
        (changed(INIT, I + "lifecycle", {"preStop": EXEC}), "spec.initContainers[0].lifecycle", "no sidecar"),
        (changed(INIT, I + "restartPolicy", "OnFailure"), "spec.initContainers[0].restartPolicy", "Always"),
        (changed(POD, C + "restartPolicy", "Always"), "spec.containers[0].restartPolicy", "only on an init container"),
        (changed(POD, C + "readinessProbe", {**EXEC, "periodSeconds": -1}), PROBE + ".periodSeconds", "1 or more"),
        (changed(POD, C + "readinessProbe", {**EXEC, "initialDelaySeconds": -1}), PROBE + ".initialDelaySeconds", "0"),
        (
            changed(POD, C + "readinessProbe", {**EXEC, "terminationGracePeriodSeconds": 3}),
            PROBE + ".terminationGracePeriodSeconds",
            "must not be set on a readiness probe",
        ),
        (changed(POD, C + "readinessProbe", {"grpc": {"port": 0}}), PROBE + ".grpc.port", "1-65535"),
        (changed(POD, C + "readinessProbe", {**EXEC, "grpc": {"port": 1}}), PROBE, "only one of"),
        (
            changed(POD, C + "readinessProbe", {"httpGet": {"port": 80, "path": "/a b"}}),
            PROBE + ".httpGet.path",
            "must not contain spaces",
        ),
        (
            changed(POD, C + "readinessProbe", with_header("A:", "x")),
            PROBE + ".httpGet.httpHeaders[0].name",
            "must be a header's name",
        ),
        (
            changed(POD, C + "readinessProbe", with_header("A", "\n")),
            PROBE + ".httpGet.httpHeaders[0].value",
            "must be one line",
        ),
        (
            changed(POD, C + "lifecycle", {"preStop": {"sleep": {"seconds": 31}}}),
            LIFE + ".preStop.sleep.seconds",
            "must be 0-30 (the pod's terminationGracePeriodSeconds), got 31",
        ),
        (changed(POD, C + "lifecycle", {"postStart": {}}), LIFE + ".postStart", "one of exec, httpGet, sleep"),
        (changed(POD, C + "lifecycle", {"stopSignal": "QUIT"}), LIFE + ".stopSignal", "like SIGTERM"),
        (changed(POD, C + "terminationMessagePath", "why"), "spec.containers[0].terminationMessagePath", "absolute"),
        (
            changed(POD, C + "terminationMessagePolicy", "Logs"),
            "spec.containers[0].terminationMessagePolicy",
            "FallbackToLogsOnError",
        ),
    ],
)
def test_faults(document: dict[str, Any], path: str, words: str) -> None:
    found = faults(document)
    assert path in found, found
    assert words in found[path]


def test_tcp_hooks_are_refused_with_what_to_use() -> None:
    with pytest.raises(ManifestError, match=r"lifecycle.preStop.tcpSocket: does nothing as a hook: use exec, httpGet"):
        manifest.from_manifest(changed(POD, C + "lifecycle", {"preStop": {"tcpSocket": {"port": 80}}}))
