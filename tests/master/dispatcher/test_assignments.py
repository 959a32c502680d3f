"""The index of what nodes run: whatever changes come, each node has its pods and what they use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from master.dispatcher.assignments import AssignmentIndex
from master.dispatcher.references import references
from protos import core_pb2

NODES, NAMES, CONFIGS = ["", "n1", "n2"], ["a", "b", "c"], ["x", "y"]


def pod(name: str, node: str, uses: frozenset[str], uid: str) -> core_pb2.Pod:
    made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name=name, namespace="d", uid=uid))
    made.spec.nodeName = node
    for config in sorted(uses):
        source = made.spec.containers.add(name=config).envFrom.add()
        source.configMapRef.localObjectReference.name = config
    return made


def config(name: str, value: str) -> core_pb2.ConfigMap:
    return core_pb2.ConfigMap(metadata=core_pb2.ObjectMeta(name=name, namespace="d"), data={"v": value})


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("pod"), st.sampled_from(NAMES), st.sampled_from(NODES), st.frozensets(st.sampled_from(CONFIGS))
        ),
        st.tuples(st.just("gone"), st.sampled_from(NAMES)),
        st.tuples(st.just("config"), st.sampled_from(CONFIGS), st.sampled_from("12")),
        st.tuples(st.just("no config"), st.sampled_from(CONFIGS)),
        st.tuples(st.just("relist")),
    ),
    max_size=25,
)


@given(STEPS)
def test_each_node_has_its_pods_and_what_they_use(steps: list[tuple[object, ...]]) -> None:
    index = AssignmentIndex()
    pods: dict[str, core_pb2.Pod] = {}
    configs: dict[str, core_pb2.ConfigMap] = {}
    for number, step in enumerate(steps):
        match step:
            case ("pod", str(name), str(node), frozenset() as uses):
                # A bound pod never moves: another node means another pod of that name.
                old = pods.get(name)
                same = old is not None and old.spec.nodeName in ("", node)
                uid = old.metadata.uid if same and old is not None else f"u{number}"
                if old is not None and not same:
                    index.remove_pod(old)
                pods[name] = pod(name, node, uses, uid)
                index.put_pod(pods[name])
            case ("gone", str(name)) if name in pods:
                index.remove_pod(pods.pop(name))
            case ("config", str(name), str(value)):
                configs[name] = config(name, value)
                index.put_object(configs[name])
            case ("no config", str(name)) if name in configs:
                index.remove_object(configs.pop(name))
            case ("relist",):
                index.reset([*pods.values(), *configs.values()])
    for node in ("n1", "n2"):
        mine = [one for one in pods.values() if one.spec.nodeName == node]
        wanted: dict[str, object] = {f"pod/{one.metadata.uid}": one for one in mine}
        for _, _, name in {reference for one in mine for reference in references(one)}:
            if name in configs:
                wanted[f"configmap/d/{name}"] = configs[name]
        assert dict(index.writer(node).items) == wanted


def test_every_way_to_name_a_configmap_or_secret_is_seen() -> None:
    made = core_pb2.Pod(metadata=core_pb2.ObjectMeta(name="p", namespace="d"))
    made.spec.imagePullSecrets.add(name="pull")
    made.spec.initContainers.add().envFrom.add().secretRef.localObjectReference.name = "from-secret"
    container = made.spec.containers.add()
    container.envFrom.add().configMapRef.localObjectReference.name = "from-config"
    container.env.add(name="A").valueFrom.configMapKeyRef.localObjectReference.name = "key-config"
    container.env.add(name="B").valueFrom.secretKeyRef.localObjectReference.name = "key-secret"
    made.spec.volumes.add().volumeSource.secret.secretName = "volume-secret"
    made.spec.volumes.add().volumeSource.configMap.localObjectReference.name = "volume-config"
    projected = made.spec.volumes.add().volumeSource.projected.sources
    projected.add().secret.localObjectReference.name = "projected-secret"
    projected.add().configMap.localObjectReference.name = "projected-config"
    made.spec.volumes.add().volumeSource.emptyDir.medium = "Memory"
    assert {(kind, name) for kind, space, name in references(made) if space == "d"} == {
        ("Secret", "pull"),
        ("Secret", "from-secret"),
        ("ConfigMap", "from-config"),
        ("ConfigMap", "key-config"),
        ("Secret", "key-secret"),
        ("Secret", "volume-secret"),
        ("ConfigMap", "volume-config"),
        ("Secret", "projected-secret"),
        ("ConfigMap", "projected-config"),
    }


def test_the_last_pod_of_a_node_that_is_gone_takes_its_history_along() -> None:
    index = AssignmentIndex()
    for number in range(50):
        node, uid = f"n-{number}", f"u-{number}"
        index.put_object(config("x", "1"))
        index.put_pod(pod("a", node, frozenset("x"), uid))
        index.forget(node)
        assert index.pods(node), "a node that is gone keeps what it has to stop"
        index.touched.clear()
        index.remove_pod(pod("a", node, frozenset("x"), uid))
        assert index.touched == {node}
        index.forget(node)
    assert not index.nodes() and not index._needs
