"""What a user means by KIND NAME and KIND/NAME."""

from __future__ import annotations

import pytest

from cli import targets
from common.errors import BadRequest
from common.kinds import DAEMON_SET, DEPLOYMENT, JOB, NODE, POD, REPLICA_SET, REPLICATION_CONTROLLER, SERVICE


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["pods"], [(POD, ())]),
        (["po", "a", "b", "a"], [(POD, ("a", "b"))]),
        (["rc,svc"], [(REPLICATION_CONTROLLER, ()), (SERVICE, ())]),
        (["svc,pods", "web"], [(SERVICE, ("web",)), (POD, ("web",))]),
        (["rc/web", "svc/web", "rc/db"], [(REPLICATION_CONTROLLER, ("web", "db")), (SERVICE, ("web",))]),
        (
            ["all"],
            [(kind, ()) for kind in (POD, REPLICATION_CONTROLLER, SERVICE, DAEMON_SET, DEPLOYMENT, REPLICA_SET, JOB)],
        ),
        (["Nodes"], [(NODE, ())]),
    ],
)
def test_parse(args: list[str], expected: list[tuple[object, tuple[str, ...]]]) -> None:
    assert [(target.kind, target.names) for target in targets.parse(args)] == expected


@pytest.mark.parametrize("args", [[], ["nonsense"], ["rc/web", "svc"], ["rc/"], ["/web"], ["a/b/c"], [","], ["sts"]])
def test_what_is_unclear_is_refused(args: list[str]) -> None:
    with pytest.raises(BadRequest):
        targets.parse(args)


def test_one_object() -> None:
    assert targets.one(["rc/web"]) == (REPLICATION_CONTROLLER, "web")
    assert targets.one(["rc", "web"]) == (REPLICATION_CONTROLLER, "web")
    assert targets.one(["web"], default=POD) == (POD, "web")
    with pytest.raises(BadRequest, match="name one object"):
        targets.one(["pods"])
