#!/bin/sh
# The tests of the dashboard look at it in headless Chromium. Nothing to do where it is; else install Debian's packages
# where that needs no password, or say what to do.
# usage: install_chromium.sh
set -eu
if command -v chromium > /dev/null && command -v chromedriver > /dev/null; then
    exit 0
fi
packages="chromium chromium-driver"
if ! command -v apt-get > /dev/null; then
    echo "make: no chromium and chromedriver here; install both by hand" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    root=sudo
else
    echo "make: the tests of the dashboard need Chromium; run: sudo apt install $packages" >&2
    exit 1
fi
# A fresh container has no package lists yet.
apt-cache show $packages > /dev/null 2>&1 || $root apt-get update -qq
$root apt-get install -y -qq --no-install-recommends $packages > /dev/null
