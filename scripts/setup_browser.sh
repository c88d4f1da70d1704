#!/bin/sh
# See that there is a Chromium, which the tests of the report look at its pages with.
#
# Where none is found it is installed, if this is Debian's apt-get and root; else this says what to do. Either way
# the setup goes on: without a browser those tests are skipped, and fail only where CI=true.
set -eu

say() { printf 'codeczoo: %s\n' "$@"; }

browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name"; then
            return 0
        fi
    done
    return 1
}

if browser >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "no browser found: installing chromium, for the tests of the report"
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
        >/dev/null && browser >/dev/null; then
        exit 0
    fi
    say "that failed" >&2
fi
say "no browser: the tests of the report in one will be skipped" \
    "on Debian, as root: apt install chromium" >&2
