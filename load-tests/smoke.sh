#!/usr/bin/env bash
# Runs every load script for some seconds against a hub of its own: a free port, a temporary data
# directory, demo data. Fails if a threshold fails, or if the hub logged a fault or a panic.
#
#   load-tests/smoke.sh [the hub's program]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hub=${1:-${CARGO_TARGET_DIR:-target}/debug/hub}
k6=$(command -v k6 || echo "$PWD/.tools/bin/k6")
for program in "$hub" "$k6"; do
    if [ ! -x "$program" ]; then
        echo "smoke: $program is not there (make build k6)" >&2
        exit 1
    fi
done

work=$(mktemp -d)
pid=
stop() {
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
        kill -TERM "$pid"
        wait "$pid" || true
    fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Nothing of the caller's configuration: this hub is nobody's.
env -u DATABASE_URL -u REDIS_URL -u HUB_CONFIG -u JWT_SECRET \
    HUB_LISTEN=127.0.0.1:0 DATA_DIR="$work/data" BCRYPT_COST=10 LOG_LEVEL=warn LOG_FORMAT=text \
    "$hub" serve --demo >"$work/out" 2>"$work/log" &
pid=$!

# The welcome is printed after the demo data were loaded.
for _ in $(seq 1200); do
    url=$(sed -n 's/^Klear Karma Hub serves on //p' "$work/out")
    [ -z "$url" ] || break
    if ! kill -0 "$pid" 2>/dev/null; then
        echo "smoke: the hub did not start" >&2
        cat "$work/log" >&2
        exit 1
    fi
    sleep 0.1
done
if [ -z "$url" ]; then
    echo "smoke: the hub was not ready within 120 s" >&2
    cat "$work/log" >&2
    exit 1
fi
echo "smoke: a hub at $url"

failed=()
run() { # script, then NAME=value…
    local script=$1
    shift
    # Nothing of a K6_… or of ours from the caller: the smoke test is always the same.
    env -i PATH="$PATH" HOME="${HOME:-/}" BASE_URL="$url" SLACK="${SLACK:-4}" "$@" \
        "$k6" run --quiet --no-usage-report "load-tests/$script.js" || failed+=("$script")
}
run connect CONNECTIONS=60 VUS=6 RAMP=2s DURATION=4s PING_EVERY=1s
run chat VUS=5 RATE=4 DURATION=6s
run availability WATCHERS=40 VUS=4 RATE=4 RAMP=2s DURATION=5s
run booking VUS=8 SLOTS=15 ROUND_MS=200

if grep -E 'ERROR|panicked' "$work/log" >&2; then
    failed+=("the hub's log (above)")
fi
kill -TERM "$pid"
if ! wait "$pid"; then
    failed+=("the hub's end")
fi
pid=

if [ ${#failed[@]} -gt 0 ]; then
    printf 'smoke: FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "smoke: all load scripts are fine"
