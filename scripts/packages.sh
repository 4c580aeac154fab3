# Sourced by the other scripts: installs Debian and Ubuntu packages whose commands are missing.
# shellcheck shell=bash

# On Debian an ordinary user's PATH lacks the directories of `ip` and `nft`; cargo's may be missing in a fresh shell.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

# install_missing COMMAND=PACKAGE ...   Returns 1, in clear words, when something is missing and cannot be installed.
install_missing() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair##*=}")
    done
    ((${#missing[@]})) || return 0

    echo "Missing packages: ${missing[*]}" >&2
    if ! command -v apt-get >/dev/null; then
        echo "This is no Debian or Ubuntu: install what stands for them here, then run this again." >&2
        return 1
    fi
    local as_root=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "Not root, and there is no sudo. As root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
        [[ -t 0 ]] || as_root+=(-n) # nobody is there to type a password
    fi
    echo "Installing them with apt-get ..." >&2
    "${as_root[@]}" apt-get update -qq >&2 || true # stale lists may still do
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2; then
        echo "apt-get could not install them. By hand, as root: apt-get install ${missing[*]}" >&2
        return 1
    fi
}

# What building ixgate needs besides Rust.
install_build_packages() {
    install_missing cc=gcc ld=binutils make=make || return 1
    if [[ ! -e /usr/include/stdlib.h ]] && command -v apt-get >/dev/null; then
        install_missing no-such-command-libc-headers=libc6-dev || return 1
    fi
    if ! command -v cargo >/dev/null; then
        echo "Rust is missing: install it from https://rustup.rs (this project needs the version in Cargo.toml)." >&2
        return 1
    fi
}

# What the lab needs.
install_lab_packages() {
    install_missing python3=python3 ip=iproute2 wireguard-go=wireguard-go wg=wireguard-tools \
        dig=bind9-dnsutils ping=iputils-ping setpriv=util-linux mount=mount nft=nftables \
        curl=curl openssl=openssl traceroute=traceroute dnsperf=dnsperf echoscu=dcmtk || return 1
    install_strongswan || return 1
    install_lab_servers
}

# strongSwan with its userspace ESP.
install_strongswan() {
    local plugins=/usr/lib/ipsec/plugins wanted=()
    command -v swanctl >/dev/null || wanted+=(no-such-command-swanctl=strongswan-swanctl)
    command -v charon-systemd >/dev/null || wanted+=(no-such-command-charon=charon-systemd)
    command -v pki >/dev/null || wanted+=(no-such-command-pki=strongswan-pki)
    [[ -e $plugins/libstrongswan-kernel-libipsec.so ]] || wanted+=(no-such-command-libipsec=libcharon-extra-plugins)
    [[ -e $plugins/libstrongswan-openssl.so ]] || wanted+=(no-such-command-openssl=libstrongswan-standard-plugins)
    ((${#wanted[@]})) || return 0
    install_missing_server charon-systemd strongswan "${wanted[@]}"
}

# Servers that stand in the networks of the lab.
install_lab_servers() {
    install_missing_server nginx nginx nginx=nginx || return 1
    install_missing_server unbound unbound unbound=unbound || return 1
    install_missing_server named named named=bind9 || return 1
    install_missing_server turnserver coturn turnserver=coturn || return 1
    install_missing_server bird bird bird=bird2
}

# What the tests need besides Rust: an independent dissector for the golden captures.
install_test_packages() {
    install_missing tshark=tshark editcap=wireshark-common
}

# install_missing_server COMMAND UNIT PAIR...   Debian starts a server at once and at every boot, on the machine's own
# ports: not wanted here, where the lab starts its own in namespaces. One that was there before is left as it is.
install_missing_server() {
    local command="$1" unit="$2" new=true
    shift 2
    ! command -v "$command" >/dev/null || new=false
    install_missing "$@" || return 1
    if $new && [[ -d /run/systemd/system ]] && ((EUID == 0)); then
        echo "Switching off the $unit service that the package has started: the lab starts its own." >&2
        systemctl disable --quiet --now "$unit.service" >&2 || true
    fi
}

# The release binary, built when there is a cargo to build it; its path is left in IXGATE.
find_or_build_ixgate() {
    if [[ -n "${IXGATE:-}" ]]; then
        [[ -f "$IXGATE" && -x "$IXGATE" ]] && return 0
        echo "IXGATE names $IXGATE, which is no program: name the binary, or unset IXGATE to have it built." >&2
        return 1
    fi
    local target="${CARGO_TARGET_DIR:-target}"
    if command -v cargo >/dev/null; then
        install_build_packages || return 1
        echo "Building ixgate (release); the first time takes some minutes ..." >&2
        cargo build --release --bin ixgate >&2 || return 1
    fi
    IXGATE="$(realpath -m "$target/release/ixgate")"
    export IXGATE
    if [[ ! -x "$IXGATE" ]]; then
        echo "There is no $IXGATE, and no cargo to build it with: install Rust from https://rustup.rs." >&2
        return 1
    fi
}
