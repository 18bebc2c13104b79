#!/bin/sh
# Debian and Ubuntu split the venv module off Python. Install it where that needs no password, else say what to do.
# usage: install_venv.sh PYTHON VENV
set -eu
python=$1 venv=$2
rm -rf "$venv"
package=python3-venv
if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    root=sudo
else
    echo "make: Python has no venv module; run: sudo apt install $package" >&2
    exit 2
fi
$root apt-get update -qq && $root apt-get install -y -qq "$package" > /dev/null
exec "$python" -m venv "$venv"
