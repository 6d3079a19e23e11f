# What the scripts share: where the repository is, where Rust is, and Debian's packages.
# Sourced by them, never run. POSIX shell.

# The repository, wherever the script was called from. `$0` is the script in scripts/ or .ci/.
root=$(cd "$(dirname "$0")/.." && pwd)
# Administrators' programs (sshd, ip, nft, mkfs.ext4) are not on everybody's search path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() {
    printf '\n== %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Finds cargo, also where HOME isn't the home that Rust was installed in: rustup's programs look
# for their toolchains below HOME unless they are told otherwise.
find_rust() {
    if ! command -v cargo >/dev/null 2>&1; then
        owner_home=$(getent passwd "$(id -u)" | cut -d: -f6)
        for place in "${CARGO_HOME:-$HOME/.cargo}/bin" "$owner_home/.cargo/bin" /usr/local/cargo/bin; do
            if [ -x "$place/cargo" ]; then
                PATH=$place:$PATH
                break
            fi
        done
    fi
    command -v cargo >/dev/null 2>&1 || die 'cargo is not installed: see https://rustup.rs'
    cargo_bin=$(dirname "$(command -v cargo)")
    cargo_home=${cargo_bin%/bin}
    if [ -z "${RUSTUP_HOME-}" ] && [ ! -d "$HOME/.rustup" ] && [ -x "$cargo_bin/rustup" ]; then
        for place in "${cargo_home%/*}/.rustup" "${cargo_home%/*}/rustup"; do
            if [ -d "$place" ]; then
                export RUSTUP_HOME="$place"
                break
            fi
        done
        # Its registry cache and configuration are there, too.
        export CARGO_HOME="${CARGO_HOME:-$cargo_home}"
    fi
    cargo --version >/dev/null 2>&1 || die 'cargo does not run: is a default toolchain installed? (rustup default stable)'
    command -v cc >/dev/null 2>&1 || die 'no C compiler: install gcc or clang (Debian: apt-get install gcc libc6-dev)'
    command -v make >/dev/null 2>&1 || die 'no make: install it (Debian: apt-get install make)'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# A program by its name, or a file by its path: modules of PHP are no programs.
is_there() {
    case "$1" in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# install_programs PROGRAM:PACKAGE... installs the Debian packages of the programs that are
# missing; where that can't be done it says what to install and fails.
install_programs() {
    missing=
    for pair in "$@"; do
        if ! is_there "${pair%%:*}"; then
            case " $missing " in
            *" ${pair#*:} "*) ;;
            *) missing="$missing ${pair#*:}" ;;
            esac
        fi
    done
    missing=${missing# }
    [ -n "$missing" ] || return 0
    say "Installing $missing"
    if ! command -v apt-get >/dev/null 2>&1; then
        die "this is no Debian; install what corresponds to these packages yourself: $missing"
    fi
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        die "not root, and sudo asks for a password; run: apt-get install $missing"
    fi
    # Neither a runlevel of 1 nor this policy lets packages start their services: tests start their
    # own, and nobody wants a database server for having run them.
    policy=/usr/sbin/policy-rc.d
    placed=
    if [ ! -e "$policy" ]; then
        placed=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
    fi
    quiet='env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=120 -qq'
    # shellcheck disable=SC2086 # words on purpose
    if ! as_root $quiet install -y --no-install-recommends $missing </dev/null >/dev/null 2>&1; then
        as_root $quiet update </dev/null >&2 ||
            die "Debian's archive can't be reached; install these packages yourself: $missing"
        as_root $quiet install -y --no-install-recommends $missing </dev/null >&2 ||
            die "apt-get failed; install these packages yourself: $missing"
    fi
    if [ -n "$placed" ]; then
        as_root rm -f "$policy"
        trap - EXIT INT TERM
    fi
}
