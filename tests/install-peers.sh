#!/usr/bin/env bash
# Installs the real SIP peers that the tests talk to, and tools they judge by, as Debian packages, when one is missing.
#
# Does nothing when all are there. Where it cannot install (no apt-get, neither root nor sudo) it says
# what is missing, loudly, and fails only with MSILO_REQUIRE_PEERS=1, as in CI.
set -euo pipefail

packages=(
    kamailio kamailio-sqlite-modules kamailio-extra-modules kamailio-presence-modules kamailio-tls-modules
    sip-tester baresip-core groff-base systemd binutils faketime gcc python3-dev
    libpython3.11  # of which Debian's own Python has no need, and PyInstaller has
)

# One file per package stands for it, so that a peer built by hand counts as well.
probe_of() {
    case $1 in
        kamailio) echo kamailio ;;
        kamailio-sqlite-modules) echo db_sqlite.so ;;
        kamailio-extra-modules) echo uuid.so ;;
        kamailio-tls-modules) echo tls.so ;;
        kamailio-presence-modules) echo pua_reginfo.so ;;
        sip-tester) echo sipp ;;
        baresip-core) echo baresip ;;
        groff-base) echo groff ;;
        systemd) echo systemd-analyze ;;
        binutils) echo objcopy ;;
        faketime) echo faketime ;;
        gcc) echo gcc ;;
        python3-dev) echo Python.h ;;
        libpython3.11) echo libpython3.11.so.1.0 ;;
    esac
}

present() {
    case $1 in
        libpython*) PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -F "$1" ;;
        Python.h) compgen -G "/usr/include/python3*/Python.h" ;;
        *.so) compgen -G "/usr/*lib*/kamailio/modules/$1" || compgen -G "/usr/lib/*/kamailio/modules/$1" \
            || compgen -G "/usr/local/lib*/kamailio/modules/$1" ;;
        *) PATH=$PATH:/usr/local/sbin:/usr/sbin command -v "$1" ;;
    esac >/dev/null
}

find_missing() {
    missing=()
    local package
    for package in "${packages[@]}"; do
        present "$(probe_of "$package")" || missing+=("$package")
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }
}

install_missing() {
    local kamailio_unit=
    # Debian would start and enable a Kamailio on port 5060 of every address: the tests want the program only.
    if [ -d /run/systemd/system ] && [[ " ${missing[*]} " == *" kamailio "* ]]; then
        kamailio_unit=kamailio.service
        as_root systemctl mask --quiet $kamailio_unit
    fi
    local status=0
    as_root apt-get update || status=$?
    [ $status != 0 ] || as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" || status=$?
    if [ -n "$kamailio_unit" ]; then
        as_root systemctl unmask --quiet $kamailio_unit
        as_root systemctl disable --quiet $kamailio_unit || true # not there when the installation failed
    fi
    return $status
}

find_missing
[ ${#missing[@]} != 0 ] || exit 0

if can_install; then
    echo "Installing SIP peers for the tests: ${missing[*]}" >&2
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    install_missing >"$log" 2>&1 || tail -n 20 "$log" >&2
    find_missing
    [ ${#missing[@]} != 0 ] || exit 0
fi

cat >&2 <<MISSING

  *** SIP peers are missing: ${missing[*]}
  *** On Debian: apt-get install ${missing[*]}

MISSING
if [ "${MSILO_REQUIRE_PEERS:-}" = 1 ]; then
    echo "MSILO_REQUIRE_PEERS=1: this is a failure." >&2
    exit 1
fi
echo "  *** Tests that need them are skipped." >&2
