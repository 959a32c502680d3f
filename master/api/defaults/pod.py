"""Kubernetes' defaults for pods and pod templates; the source of each is the Kubernetes API reference."""

from __future__ import annotations

from common.quantity import parse_quantity
from protos import core_pb2

GRACE_SECONDS = 30
SERVICE_ACCOUNT = "default"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def default_pod(pod: core_pb2.Pod) -> None:
    default_pod_spec(pod.spec)
    # Every namespace's own account, as Kubernetes' ServiceAccount admission sets it: for pods, not for templates.
    pod.spec.serviceAccountName = pod.spec.serviceAccount = pod.spec.serviceAccountName or SERVICE_ACCOUNT
    pod.status.qosClass = qos_class(pod.spec)


def default_pod_spec(spec: core_pb2.PodSpec) -> None:
    spec.restartPolicy = spec.restartPolicy or "Always"
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.schedulerName = spec.schedulerName or "default-scheduler"
    if not spec.HasField("terminationGracePeriodSeconds"):
        spec.terminationGracePeriodSeconds = GRACE_SECONDS
    if not spec.HasField("enableServiceLinks"):
        spec.enableServiceLinks = True
    if not spec.HasField("securityContext"):
        spec.securityContext.SetInParent()
    # The two names are one field, an older and a newer one.
    account = spec.serviceAccountName or spec.serviceAccount
    spec.serviceAccountName = spec.serviceAccount = account
    for container in (*spec.initContainers, *spec.containers):
        _container(container)
        if spec.hostNetwork:
            # What it listens on it has of the node: the scheduler counts host ports, and nothing else.
            for port in container.ports:
                port.hostPort = port.hostPort or port.containerPort
    for volume in spec.volumes:
        _volume(volume.volumeSource)
    for constraint in spec.topologySpreadConstraints:
        constraint.whenUnsatisfiable = constraint.whenUnsatisfiable or "DoNotSchedule"


def add_tolerations(spec: core_pb2.PodSpec, seconds: int) -> None:
    """How long a pod stays bound to a node that is not ready: for pods themselves, not for templates."""
    for key in (NOT_READY, UNREACHABLE):
        if not any(_tolerates(toleration, key) for toleration in spec.tolerations):
            spec.tolerations.add(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=seconds)


def _tolerates(toleration: core_pb2.Toleration, key: str) -> bool:
    return toleration.key in {key, ""} and toleration.effect in {"NoExecute", ""}


def _container(container: core_pb2.Container) -> None:
    if container.image:
        container.imagePullPolicy = container.imagePullPolicy or pull_policy(container.image)
    else:
        container.imagePullPolicy = container.imagePullPolicy or "IfNotPresent"
    container.terminationMessagePath = container.terminationMessagePath or "/dev/termination-log"
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for name in container.resources.limits:
        if name not in container.resources.requests:
            container.resources.requests[name].CopyFrom(container.resources.limits[name])
    for variable in container.env:
        if variable.HasField("valueFrom") and variable.valueFrom.HasField("fieldRef"):
            reference = variable.valueFrom.fieldRef
            reference.apiVersion = reference.apiVersion or "v1"
    for probe, present in (
        (container.livenessProbe, container.HasField("livenessProbe")),
        (container.readinessProbe, container.HasField("readinessProbe")),
        (container.startupProbe, container.HasField("startupProbe")),
    ):
        if present:
            _probe(probe)
    for hook in ("postStart", "preStop"):
        handler: core_pb2.LifecycleHandler = getattr(container.lifecycle, hook)
        if handler.HasField("httpGet"):
            _http(handler.httpGet)


def pull_policy(image: str) -> str:
    """Always for the tag `latest` (also when it is left out), else IfNotPresent; a digest never changes."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in {"", "latest"} else "IfNotPresent"


def _probe(probe: core_pb2.Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    if probe.handler.HasField("httpGet"):
        _http(probe.handler.httpGet)
    if probe.handler.HasField("grpc") and not probe.handler.grpc.HasField("service"):
        probe.handler.grpc.service = ""


def _http(action: core_pb2.HTTPGetAction) -> None:
    action.path = action.path or "/"
    action.scheme = action.scheme or "HTTP"


def _volume(source: core_pb2.VolumeSource) -> None:
    if not source.ListFields():
        source.emptyDir.SetInParent()
    if source.HasField("hostPath") and not source.hostPath.HasField("type"):
        source.hostPath.type = ""
    if source.HasField("secret") and not source.secret.HasField("defaultMode"):
        source.secret.defaultMode = 0o644
    if source.HasField("configMap") and not source.configMap.HasField("defaultMode"):
        source.configMap.defaultMode = 0o644
    if source.HasField("downwardAPI"):
        if not source.downwardAPI.HasField("defaultMode"):
            source.downwardAPI.defaultMode = 0o644
        _downward(source.downwardAPI.items)
    if source.HasField("projected"):
        if not source.projected.HasField("defaultMode"):
            source.projected.defaultMode = 0o644
        for projection in source.projected.sources:
            if projection.HasField("downwardAPI"):
                _downward(projection.downwardAPI.items)


def _downward(items: object) -> None:
    for item in items:  # type: ignore[attr-defined]
        if item.HasField("fieldRef"):
            item.fieldRef.apiVersion = item.fieldRef.apiVersion or "v1"


def qos_class(spec: core_pb2.PodSpec) -> str:
    """Guaranteed when every container's cpu and memory requests equal its limits, BestEffort when none has any."""
    guaranteed, any_amount = bool(spec.containers), False
    for container in (*spec.initContainers, *spec.containers):
        limits, requests = container.resources.limits, container.resources.requests
        for name in ("cpu", "memory"):
            limit = limits[name].value if name in limits else "0"
            request = requests[name].value if name in requests else limit
            try:
                any_amount = any_amount or bool(parse_quantity(limit) or parse_quantity(request))
                equal = parse_quantity(limit) == parse_quantity(request) != 0
            except ValueError:
                # Not a quantity: validation says so.
                equal = False
            guaranteed = guaranteed and equal
    if not any_amount:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
