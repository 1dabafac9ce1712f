# $1 the cluster, $2 server.lock, $3 the grace period in seconds
trap '' HUP INT TERM    # what ends the hub must not end its watchdog
while read -r _; do :; done    # until the hub is gone
sleep "$3"
exec 9<>"$2" || exit 0
if command -v flock >/dev/null; then
    flock -n 9 || exit 0    # a new hub has the server
else    # no flock(1), as on macOS: ask the new hub's process id instead
    read -r hub <"${2%/*}/hub.lock" && kill -0 "$hub" 2>/dev/null && exit 0
fi
pidfile=$1/postmaster.pid
read -r pid 2>/dev/null <"$pidfile" || exit 0
if [ -r "/proc/$pid/cmdline" ]; then
    tr '\0' '\n' <"/proc/$pid/cmdline"
else
    ps -ww -o command= -p "$pid" | tr ' ' '\n'
fi | grep -Fqx -e "$1" || exit 0
echo "watchdog: the hub is gone, stopping its PostgreSQL (process $pid)" >&2
kill -INT "$pid"
tenths=0
while [ -e "$pidfile" ] && kill -0 "$pid" 2>/dev/null && [ "$tenths" -lt 400 ]; do
    [ "$tenths" -eq 300 ] && kill -QUIT "$pid"
    tenths=$((tenths + 1))
    sleep 0.1
done
