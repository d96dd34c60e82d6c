#!/bin/sh
# A package of another release of Debian, taken apart into a folder and not installed: for headers that this one lacks.
#
#     sh tools/newer_headers.sh libonnxruntime-dev trixie .peers/onnxruntime
#
# apt fetches and checks it with this machine's own archive and keys, and with lists of its own.
set -eu
package=$1 suite=$2 folder=$3
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $codename" | head -n 1)
[ -n "$archive" ] || { echo "no archive of Debian among apt's sources" >&2; exit 1; }
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
mkdir -p "$room/state/lists/partial" "$room/cache/archives/partial" "$room/etc" "$folder"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main" > "$room/etc/sources.list"
apt() {
  apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$room/etc/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State="$room/state" -o Dir::Cache="$room/cache" "$@"
}
apt update
(cd "$room" && apt download "$package")
dpkg -x "$room/$package"_*.deb "$folder"
