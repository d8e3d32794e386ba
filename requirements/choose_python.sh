#!/bin/sh
# Prints the Python interpreter to set up with, and on stderr why it was chosen.
# Usage: choose_python.sh TORCH_REQUIREMENT [PYTHON]
set -u
torch=$1
given=${2:-}
# mmdet3d and nuscenes-devkit need numpy < 2, which has no wheel for 3.13.
versions='3.12 3.11 3.10'

# A name on the path may be a shim without an interpreter: only running it shows that.
version_of() {
    "$1" -c 'import sys, ensurepip, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

if [ -n "$given" ]; then
    version=$(version_of "$given") || {
        echo "error: PYTHON=$given does not run, or lacks the module venv (Debian: apt-get install python3-venv)" >&2
        exit 2
    }
    case " $versions " in
        *" $version "*) ;;
        *) echo "error: PYTHON=$given is Python $version: 3.10, 3.11 or 3.12 is needed" >&2; exit 2 ;;
    esac
    echo "$given: Python $version, as given by PYTHON=" >&2
    echo "$given"
    exit
fi

newest= newest_version=3.0
for name in python3.12 python3.11 python3.10 python3 python; do
    version=$(version_of "$name") || continue
    case " $versions " in *" $version "*) ;; *) continue ;; esac
    if [ "${version#3.}" -gt "${newest_version#3.}" ]; then
        newest=$name newest_version=$version
    fi
    # A wheel on disk, in a folder that pip's find-links names, saves the download of a CUDA build of gigabytes.
    if "$name" -m pip --disable-pip-version-check install --dry-run --ignore-installed --no-index --no-deps -q \
        "$torch" >/dev/null 2>&1; then
        echo "$name: Python $version, since pip's wheel folder holds $torch for it" >&2
        echo "$name"
        exit
    fi
done
if [ -z "$newest" ]; then
    echo "error: no Python 3.10, 3.11 or 3.12 with the module venv was found: install one" \
        "(Debian: apt-get install python3 python3-venv), or name it with PYTHON=" >&2
    exit 2
fi
echo "$newest: Python $newest_version, the newest of 3.12, 3.11 and 3.10 that runs here" >&2
echo "$newest"
