# Sourced by the scripts here. Sets $checkout, $environment (the virtual environment's folder)
# and defines provision [EXTRA]. Needs a Python of 3.11 or newer with pip; nothing else.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
environment=${MOP_VENV:-$checkout/.venv}
case $environment in /*) ;; *) environment=$PWD/$environment ;; esac

# Prints the first Python that is new enough and can make virtual environments.
find_python() {
    local candidate
    for candidate in "$environment/bin/python" python3 python3.14 python3.13 python3.12 \
        python3.11 python; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
            </dev/null >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "${0##*/}: no Python 3.11 or newer with venv and ensurepip was found on PATH" \
        "(on Debian and Ubuntu: apt-get install python3-venv)" >&2
    return 1
}

provision() {
    local python
    python=$(find_python) || exit 1
    "$python" "$checkout/scripts/_provision.py" "$environment" "$@" </dev/null || exit $?
}
