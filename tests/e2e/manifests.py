"""Manifests of the end-to-end tests: a small web server from busybox that says which pod it is."""

from __future__ import annotations

# The beginning of a pod on one node that goes at once; the rest of its spec follows.
PINNED = """
---
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, labels: {app: %(app)s, at: %(node)s}}
spec:
  nodeSelector: {kubernetes.io/hostname: %(node)s}
  terminationGracePeriodSeconds: 1
"""

WEB = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: %(replicas)d
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: sampan-test/busybox:1
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 10m, memory: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 8765}]
"""

PAIR = """
apiVersion: v1
kind: Pod
metadata: {name: pair, labels: {app: pair}}
spec:
  nodeSelector: {kubernetes.io/hostname: %(node)s}
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  containers:
  - name: server
    image: sampan-test/busybox:1
    command: [sh, -c, "hostname > /data/index.html; echo memory > /fast/m; exec httpd -f -p 8080 -h /data"]
    volumeMounts: [{name: shared, mountPath: /data}, {name: fast, mountPath: /fast}]
  - name: client
    image: sampan-test/busybox:1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    volumeMounts: [{name: shared, mountPath: /also, readOnly: true}, {name: fast, mountPath: /fast}]
"""
