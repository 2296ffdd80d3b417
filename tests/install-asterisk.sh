#!/usr/bin/env bash
# Unpacks a real Asterisk for the tests, once, into a folder of the user's own. Does nothing when it is there; remove the
# folder to get the Asterisk of today.
#
# Debian 12 and 13 have no package of it, Debian sid has. Its packages are only unpacked, never installed: this machine's
# apt fetches them, with its proxies, certificates and keys but with lists and a state of its own, and the tests start
# the program by the loader and the libraries beside it. So it needs no root and no chroot, and changes nothing else.
# Where sid cannot be had it says so, loudly, and fails only with MSILO_REQUIRE_ASTERISK=1, for sid is not ours to keep.
set -euo pipefail

target=${MSILO_ASTERISK_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/msilo-lite/asterisk}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

complete() { [ -x "$target/usr/sbin/asterisk" ]; }

give_up() {
    cat >&2 <<MISSING

  *** Asterisk is missing: $1
  *** Tests that need it are skipped. It would be unpacked into $target

MISSING
    [ "${MSILO_REQUIRE_ASTERISK:-}" != 1 ] || {
        echo "MSILO_REQUIRE_ASTERISK=1: this is a failure." >&2
        exit 1
    }
    exit 0
}

# The mirrors that this machine uses for Debian, and Debian's own.
mirrors() {
    { # shellcheck disable=SC2016 # apt fills it in
        apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null || true
        echo http://deb.debian.org/debian/
    } | awk '!seen[$0]++'
}

# An apt that shares nothing with this machine's but how to reach the network and whom to trust.
write_apt_conf() {
    mkdir -p "$work"/apt/{state/lists/partial,cache/archives/partial,log}
    : >"$work/apt/status"
    cat >"$work/apt/sources.list" <<SOURCES
deb [signed-by=$keyring] $1 sid main
SOURCES
    cat >"$work/apt/apt.conf" <<CONF
Dir::State "$work/apt/state";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Dir::Log "$work/apt/log";
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Keep-Downloaded-Packages "true";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
CONF
}

fetch() { apt-get -c "$work/apt/apt.conf" --quiet --yes "$@"; }

download() {
    local mirror
    for mirror in $(mirrors); do
        rm -rf "$work/apt"
        write_apt_conf "$mirror"
        echo "== $mirror"
        ! { fetch update && fetch install --download-only asterisk; } || return 0
    done
    return 1
}

unpack() {
    local package options=(--no-same-owner --keep-directory-symlink --exclude './usr/share/doc/*'
        --exclude './usr/share/locale/*' --exclude './usr/share/man/*')
    mkdir "$work/root"
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$work/root" "${options[@]}" || return 1
    done
}

# It must start here: a kernel or a processor can be too old for sid.
starts() {
    local libraries loader
    libraries=$(dirname "$(dirname "$(echo "$work"/root/usr/lib/*/asterisk/modules)")")
    loader=$(echo "$libraries"/ld-linux*)
    "$loader" --library-path "$libraries" "$work/root/usr/sbin/asterisk" -V
}

! complete || exit 0
[ ! -e "$target" ] || give_up "$target exists and holds none"
for tool in apt-get dpkg-deb flock tar; do
    command -v $tool >/dev/null || give_up "$tool is not here; this works on Debian and its relatives"
done
[ -r $keyring ] || give_up "$keyring is not here (apt-get install debian-archive-keyring)"
if ! mkdir -p "$(dirname "$target")" || ! : >>"$target.lock"; then
    give_up "$(dirname "$target") cannot be written"
fi

exec 9>>"$target.lock"
flock 9 # another run may be at it
! complete || exit 0
work=$target.part
rm -rf "$work" # what an interrupted run left
mkdir "$work"
trap 'rm -rf "$work"' EXIT

echo "Unpacking Asterisk for the tests into $target" >&2
failed=
{
    download || failed="Debian sid cannot be had, or does not fit together, today"
    [ -n "$failed" ] || unpack || failed="its packages cannot be unpacked"
    [ -n "$failed" ] || starts || failed="it does not start on this machine"
} >"$work/log" 2>&1
if [ -n "$failed" ]; then
    tail -n 20 "$work/log" >&2
    give_up "$failed"
fi
mv -T "$work/root" "$target"
