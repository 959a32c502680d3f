# Chooses the base image, and makes one from the machine's own Debian or Ubuntu mirror where no registry answers.
# Sourced by scripts/image after lib.sh.

BASE_PACKAGES=python3,python3-venv,ca-certificates,iproute2,iptables,procps

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# choose_base: prints the image to build on. Progress goes to stderr: the answer is stdout.
choose_base() {
  local codename
  if [ -n "${SAMPAN_BASE:-}" ]; then
    has_image "$SAMPAN_BASE" || docker pull -q "$SAMPAN_BASE" >&2 || die "SAMPAN_BASE=$SAMPAN_BASE is not here and cannot be pulled"
    echo "$SAMPAN_BASE"
    return
  fi
  codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
  # What is here already is taken without asking any registry.
  for image in "$PUBLIC_BASE" "sampan-base:${codename:-none}"; do
    if has_image "$image"; then
      echo "$image"
      return
    fi
  done
  if timeout 15 docker manifest inspect "$PUBLIC_BASE" >/dev/null 2>&1 && docker pull -q "$PUBLIC_BASE" >&2; then
    echo "$PUBLIC_BASE"
    return
  fi
  say "no registry answers for $PUBLIC_BASE: making a base image from this machine's own mirror (about 45 s, once)" >&2
  make_base "$codename" >&2
  echo "sampan-base:$codename"
}

# mirror_of CODENAME: the first archive in the machine's apt sources that serves this release.
mirror_of() {
  "$VENV/bin/python" - "$1" <<'PY'
import pathlib, re, sys

codename, found = sys.argv[1], []
folder = pathlib.Path("/etc/apt")
for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
    text = file.read_text() if file.is_file() else ""
    if file.suffix == ".sources":
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.+)$", stanza, re.MULTILINE))
            if codename in fields.get("Suites", "").split() and "deb" in fields.get("Types", "").split():
                found += fields.get("URIs", "").split()[:1]
    else:
        found += re.findall(rf"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+{re.escape(codename)}\s", text, re.MULTILINE)
archives = [uri for uri in found if uri.rstrip("/").endswith(("/debian", "/ubuntu", "/ubuntu-ports"))]
print(next(iter(archives + found), ""))
PY
}

make_base() {
  local codename=$1 mirror components=main http_proxy_setting
  is_root || die "no registry answers for $PUBLIC_BASE and only root can make a base image: run this as root, or 'docker pull $PUBLIC_BASE' where a registry answers"
  is_debian || die "no registry answers for $PUBLIC_BASE; load a base image with python3 and name it: SAMPAN_BASE=image"
  have debootstrap || apt_install "making a base image" debootstrap
  mirror=$(mirror_of "$codename")
  [ -n "$mirror" ] || die "no mirror for '$codename' in /etc/apt: name a base image yourself: SAMPAN_BASE=image"
  [ "$(. /etc/os-release && echo "$ID")" = ubuntu ] && components=main,universe
  eval "$(apt-config shell http_proxy_setting Acquire::http::Proxy)"
  [ -n "${http_proxy_setting:-}" ] && export http_proxy="$http_proxy_setting"

  # Not local: the trap runs after this function has returned.
  rootfs=$(mktemp -d "$CACHE/rootfs.XXXXXX")
  trap 'rm -rf "$rootfs"' EXIT
  debootstrap --variant=minbase --components="$components" --include="$BASE_PACKAGES" "$codename" "$rootfs" "$mirror" \
    >"$CACHE/debootstrap.log" 2>&1 9>&- || {
    tail -10 "$CACHE/debootstrap.log"
    die "debootstrap $codename from $mirror failed (whole log: $CACHE/debootstrap.log)"
  }
  tar -C "$rootfs" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc \
    --exclude=./usr/share/man --exclude=./usr/share/locale --exclude='./dev/*' -c . |
    docker import --change 'CMD ["bash"]' - "sampan-base:$codename" >/dev/null
}
