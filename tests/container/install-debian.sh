#!/usr/bin/env bash
# Makes a minimal Debian 12 with debootstrap, once, for the tests of the container files. Needs root; half a minute.
set -euo pipefail

target=${XDG_CACHE_HOME:-$HOME/.cache}/msilo-lite/bookworm
[ ! -e "$target/etc/debian_version" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "A Debian of debootstrap's takes root" >&2; exit 1; }
command -v debootstrap >/dev/null || {
    echo "Installing debootstrap" >&2
    { apt-get -qq update && apt-get -qq install --yes --no-install-recommends debootstrap; } >/dev/null
}
mkdir -p "$(dirname "$target")"
exec 9>>"$target.lock"
flock 9 # another run may be at it
[ ! -e "$target/etc/debian_version" ] || exit 0
rm -rf "$target.part"
echo "Making a Debian in $target" >&2
debootstrap --variant=minbase bookworm "$target.part" >"$target.log" 2>&1 || { tail -n 5 "$target.log" >&2; exit 1; }
rm -rf "$target.part"/var/cache/apt/archives/*.deb
mv -T "$target.part" "$target"
