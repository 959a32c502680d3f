# One image for master, nodes, examples and tests. Works with plain `docker compose up` on an ordinary machine, and with
# scripts/image where neither a registry nor a package index answers (BASE made locally, wheels in .cache/wheels).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
RUN python3 -m venv /opt/sampan
# The lock file always matches, so that COPY is content when .cache/wheels is not there.
COPY requirements.lock requirements-dev.lock .cache/wheels* /wheels/
RUN set -e; cd /wheels; grep '^setuptools==' requirements-dev.lock > build.lock; \
    pip="/opt/sampan/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check"; \
    $pip --no-index --find-links . -r requirements.lock -r build.lock || $pip -r requirements.lock -r build.lock

FROM ${BASE}
RUN command -v ip >/dev/null && command -v iptables >/dev/null && command -v ps >/dev/null || { \
    apt-get update -q && apt-get install -y -q --no-install-recommends iproute2 iptables procps && rm -rf /var/lib/apt/lists/*; }
COPY --from=packages /opt/sampan /opt/sampan
ENV PATH=/opt/sampan/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
COPY pyproject.toml README.md* LICENSE /opt/sampan/src/
COPY protos /opt/sampan/src/protos
COPY common /opt/sampan/src/common
COPY master /opt/sampan/src/master
COPY node_agent /opt/sampan/src/node_agent
COPY proxy /opt/sampan/src/proxy
COPY cli /opt/sampan/src/cli
RUN cd /opt/sampan/src && \
    python -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation . && rm -rf build ./*.egg-info
CMD ["sampan", "--help"]
