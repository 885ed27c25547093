# Sourced by scripts/rseq-matrix and scripts/test: makes the virtual environment, once, and sets $environment to it.
# Usage: . scripts/environment.sh; need_environment run|test

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
environment=${RSEQ_MATRIX_VENV:-$root/.venv}

find_python() {
    for python in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        # A minimal Python (Debian's python3-minimal) lacks most of the standard library: it does not count.
        if "$python" -c 'import sys, fcntl, shutil, sysconfig, tempfile; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            return 0
        fi
    done
    echo "rseq-matrix: Python 3.10 or later with its standard library is needed and none was found; install it" \
        "(Debian: apt install python3 python3-venv python3-dev; Fedora: dnf install python3 python3-devel;" \
        "Alpine: apk add python3 python3-dev py3-pip)" >&2
    exit 3
}

# Nothing to do if the environment is newer than everything that is compiled or installed into it. What that is, the
# compiler said (build_extension.py). A file that is gone is an error of find's, which counts as well.
is_current() {
    [ -f "$environment/ready-$1" ] && [ -x "$environment/bin/rseq-matrix" ] && [ -s "$root/build/native/inputs" ] &&
        inputs_are_older_than "$environment/ready-$1"
}

inputs_are_older_than() {
    mark=$1
    set --
    while IFS= read -r path; do
        set -- "$@" "$root/$path"
    done <"$root/build/native/inputs"
    [ -z "$(find "$@" -newer "$mark" -print 2>&1 | head -n 1)" ]
}

need_environment() {
    is_current "$1" && return 0
    find_python
    "$python" "$root/scripts/make_environment.py" "$environment" "$1" || exit
}
