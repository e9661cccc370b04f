#!/bin/sh
# Prepares NVRTC, the CUDA run-time compiler, in `.nvrtc/` at the repository root, where the tests and the `kernels` command look for it.
# It needs no GPU. The two Debian packages are taken from the mirror this machine's apt already uses, with a list directory of their own,
# and unpacked: nothing is installed and no setting of the system changes. Where that is impossible the script says why and exits 0,
# because everything that needs NVRTC skips without it.
#
#   eng/get-nvrtc.sh [--force]
set -u

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
target="$root/.nvrtc"
suite=trixie
packages="libnvrtc12 libnvrtc-builtins12.4"

cannot() { echo "NVRTC not prepared: $1. Set KERNELS_NVRTC to a libnvrtc.so to use one you have." >&2; exit 0; }

if [ "${1:-}" != --force ] && [ -n "$(find "$target" -name 'libnvrtc.so.*' 2>/dev/null | head -n 1)" ]; then
    echo "NVRTC is already in $target"
    exit 0
fi
for tool in apt-get dpkg find mktemp; do
    command -v "$tool" >/dev/null 2>&1 || cannot "this machine has no $tool"
done
[ "$(dpkg --print-architecture)" = amd64 ] || cannot "only amd64 is supported"

# The main archive among the configured sources; the security archive does not hold these packages.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u | grep -E '/debian/?$' | head -n 1)
if [ -z "$mirror" ]; then
    # A new machine has read no package lists yet, and apt names only what it has lists of: look into its sources.
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -vE '^[[:space:]]*#' | grep -oE 'https?://[^[:space:]]+/debian/?([[:space:]]|$)' | head -n 1 | tr -d '[:space:]')
fi
[ -n "$mirror" ] || cannot "apt has no Debian archive configured"

work=$(mktemp -d) || cannot "no temporary directory"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/download" "$work/etc"
# apt drops to its own user for downloads and must be able to enter.
chmod -R a+rX,a+w "$work"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=""
[ -r "$keyring" ] && signed="[signed-by=$keyring]"
echo "deb $signed $mirror $suite main non-free" >"$work/etc/sources.list"

# Runs apt-get on the list directory of this script alone.
own_apt() {
    (cd "$work/download" && apt-get -qq \
        -o Dir::Etc::sourcelist="$work/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives" \
        -o Acquire::Languages=none -o Acquire::Retries=2 -o Acquire::http::Timeout=60 "$@")
}

echo "Fetching $packages ($suite, non-free)"
own_apt update >"$work/log" 2>&1 || cannot "the package lists could not be read: $(tail -n 1 "$work/log")"
# shellcheck disable=SC2086 # two package names
own_apt download $packages >"$work/log" 2>&1 || cannot "the packages could not be downloaded: $(tail -n 1 "$work/log")"

rm -rf "$target"
mkdir -p "$target"
for package in "$work"/download/*.deb; do
    dpkg -x "$package" "$target" || { rm -rf "$target"; cannot "$package could not be unpacked"; }
done
echo "NVRTC is in $target"
