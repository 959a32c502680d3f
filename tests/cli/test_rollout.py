"""`rollout` and `rolling-update` against a real master without nodes: what they change, and what they refuse."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cli.calling import Sampan

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {kubernetes.io/change-cause: IMAGE}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: IMAGE}]}
"""
CONTROLLER = """
apiVersion: v1
kind: ReplicationController
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: "web:1"}, {name: b, image: "web:1"}]}
"""
DAEMON = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: logs}
spec:
  selector: {matchLabels: {app: logs}}
  template:
    metadata: {labels: {app: logs}}
    spec: {containers: [{name: app, image: "logs:1"}]}
"""

File = Callable[[str], str]


def revisions(sampan: Sampan, count: int) -> None:
    """Waits until a Deployment has this many ReplicaSets."""
    kept(sampan, "rs", count)


def kept(sampan: Sampan, kind: str, count: int) -> None:
    limit = time.monotonic() + 60
    while len(sampan("get", kind, "-o", "name")[1].splitlines()) < count:
        assert time.monotonic() < limit, f"the {kind} do not come"
        time.sleep(0.02)


def test_revisions_and_the_way_back(sampan: Sampan, file: File) -> None:
    sampan("apply", "-f", file(DEPLOYMENT.replace("IMAGE", "'web:1'")))
    revisions(sampan, 1)
    code, _, err = sampan("rollout", "undo", "deployment/web")
    assert code == 1 and "has no earlier revision" in err
    sampan("apply", "-f", file(DEPLOYMENT.replace("IMAGE", "'web:2'")))
    revisions(sampan, 2)
    lines = [line.split() for line in sampan("rollout", "history", "deploy", "web")[1].splitlines()]
    assert lines == [["deployment.apps/web"], ["REVISION", "CHANGE-CAUSE"], ["1", "web:1"], ["2", "web:2"]]
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    for dry_run, note in (("client", " (dry run)"), ("server", " (server dry run)")):
        assert (
            sampan("rollout", "undo", "deploy/web", f"--dry-run={dry_run}")[1]
            == f"deployment.apps/web rolled back{note}\n"
        )
    assert sampan("get", "deploy", "web", "-o", image)[1] == "web:2"
    assert sampan("rollout", "undo", "deploy/web")[1] == "deployment.apps/web rolled back\n"
    assert sampan("get", "deploy", "web", "-o", image)[1] == "web:1"
    code, out, _ = sampan("rollout", "undo", "deploy/web", "--to-revision=1")
    assert code == 1 or "skipped rollback" in out
    code, out, _ = sampan("rollout", "status", "deployment/web", "--no-watch")
    assert code == 0 and out.startswith("Waiting for deployment")
    code, _, err = sampan("rollout", "status", "deployment/web", "--revision=77")
    assert code == 3 and "desired revision (77) is different from the running revision" in err
    code, _, err = sampan("rollout", "status", "deployment/none")
    assert code == 1 and "not found" in err


def test_pausing(sampan: Sampan, file: File) -> None:
    sampan("apply", "-f", file(DEPLOYMENT.replace("IMAGE", "'web:1'")))
    assert sampan("rollout", "resume", "deploy/web")[0] == 1
    assert sampan("rollout", "pause", "deploy/web")[1] == "deployment.apps/web paused\n"
    code, _, err = sampan("rollout", "restart", "deploy/web")
    assert code == 1 and "is paused" in err
    assert sampan("rollout", "resume", "deploy")[1] == "deployment.apps/web resumed\n"
    assert sampan("rollout", "restart", "deploy", "-l", "app=none")[1] == ""
    sampan("rollout", "restart", "deploy/web")
    stamp = "jsonpath={.spec.template.metadata.annotations}"
    assert "kubectl.kubernetes.io/restartedAt" in sampan("get", "deploy", "web", "-o", stamp)[1]


REFUSED = [
    ("rollout pause ds/logs", "only Deployments can be paused"),
    ("rollout undo ds/logs", "has no earlier revision"),
    ("rollout history ds/logs --revision=7", "has no revision 7"),
    ("rollout restart rc/web", "replicationcontrollers have no rollouts: name one of Deployment, DaemonSet"),
    ("rollout status svc/web", "services have no rollouts"),
    ("rolling-update web", "say what is new"),
    ("rolling-update web --image=a -f b", "say what is new"),
    ("rolling-update deploy/web --image=web:2", "rolling-update is for ReplicationControllers"),
    ("rolling-update web --image=web:2", "say which container: --image=CONTAINER=web:2, one of a, b"),
    ("rolling-update web --image=c=web:2", 'no container "c" in rc/web: it has a, b'),
    ("rolling-update web -f OTHER", 'is of "other", not of "web"'),
    ("rolling-update web -f DAEMON", "must hold one ReplicationController, has 0"),
]


def test_a_daemon_set_goes_back_to_an_earlier_template(sampan: Sampan, file: File) -> None:
    sampan("apply", "-f", file(DAEMON))
    kept(sampan, "controllerrevisions", 1)
    sampan("set", "image", "ds/logs", "app=logs:2")
    kept(sampan, "controllerrevisions", 2)
    lines = [line.split() for line in sampan("rollout", "history", "ds/logs")[1].splitlines()]
    assert lines[1:] == [["REVISION", "CHANGE-CAUSE"], ["1", "<none>"], ["2", "<none>"]]
    assert "logs:1" in sampan("rollout", "history", "ds/logs", "--revision=1")[1]
    assert sampan("rollout", "undo", "ds/logs")[1] == "daemonset.apps/logs rolled back\n"
    assert sampan("get", "ds", "logs", "-o", "jsonpath={.spec.template.spec.containers[0].image}")[1] == "logs:1"
    for _ in range(300):
        rows = [line.split()[:1] for line in sampan("rollout", "history", "ds/logs")[1].splitlines()[2:]]
        if rows == [["2"], ["3"]]:
            break
    assert rows == [["2"], ["3"]], "the first template is the newest"
    assert "daemonset/logs" in sampan("get", "controllerrevisions")[1]
    found = sampan("get", "controllerrevisions", "-o", "jsonpath={.items[*].data.spec.template.$patch}")[1]
    assert found == "replace replace"
    assert "skipped rollback" in sampan("rollout", "undo", "ds/logs", "--to-revision=3")[1]


def test_what_is_refused(sampan: Sampan, file: File) -> None:
    sampan("apply", "-f", file(CONTROLLER.replace("NAME", "web")))
    sampan("apply", "-f", file(DAEMON))
    for line, words in REFUSED:
        path = file(DAEMON if "DAEMON" in line else CONTROLLER.replace("NAME", "other"))
        code, _, err = sampan(*(path if word in ("DAEMON", "OTHER") else word for word in line.split()))
        assert code == 1 and words in err, (line, err)


def test_a_rolling_update_of_a_controller_is_asked_for(sampan: Sampan, file: File) -> None:
    sampan("apply", "-f", file(CONTROLLER.replace("NAME", "web")))
    code, out, err = sampan("rolling-update", "web", "--image=b=web:2", "--no-wait")
    assert (code, out) == (0, "replicationcontroller/web rolling update begun\n"), err
    assert sampan("get", "rc", "web", "-o", "jsonpath={.spec.template.spec.containers[1].image}")[1] == "web:2"
    assert "sampan.dev/rolling-update" in sampan("get", "rc", "web", "-o", "yaml")[1]
    code, out, err = sampan("rolling-update", "rc/web", "-f", file(CONTROLLER.replace("NAME", "web")), "--timeout=1s")
    assert code == 3 and "timed out waiting for its rollout" in err


def test_apply_waits(sampan: Sampan, file: File) -> None:
    manifest = DEPLOYMENT.replace("IMAGE", "'web:1'")
    code, out, err = sampan("apply", "-f", file(manifest), "--wait", "--timeout=1s")
    assert code == 3 and "deployment.apps/web created" in out and "timed out" in err
    empty = manifest.replace("replicas: 2", "replicas: 0")
    code, out, err = sampan("apply", "-f", file(empty), "--wait", "--timeout=90s")
    assert code == 0 and out.endswith('deployment "web" successfully rolled out\n'), err
