#!/usr/bin/env bash
# Debian's Chromium and Orthanc, which tests of the viewers need beside the Python packages of the `dev` extra
# (`playwright` drives Chromium, `axe-playwright-python` holds the accessibility rules).
# Ends well in any case: where nothing can be installed those tests are skipped, and this says why.
set -u
packages=(chromium fonts-dejavu-core nginx-light openssl orthanc orthanc-dicomweb systemd)
packages+=(libegl1 libgl1 libfontconfig1 libglib2.0-0 libxkbcommon0) # for Slicer's views and Qt from PyPI

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "viewers: no apt-get here, so ${missing[*]} are not installed; tests that need them are skipped"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "viewers: not root, so ${missing[*]} are not installed; as root: apt-get install ${missing[*]}"
    exit 0
fi
# Debian starts Orthanc when it is installed, on all addresses of the machine; the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if apt-get update -qq >"$log" 2>&1 &&
    apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    echo "viewers: installed ${missing[*]}"
else
    echo "viewers: apt-get could not install ${missing[*]}; tests that need them are skipped"
    tail -3 "$log"
fi
rm -f "$log"
exit 0
