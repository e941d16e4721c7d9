#!/usr/bin/env bash
# What the documents say of the unit, under a real systemd: the system's and a user's, with clients that go on whatever becomes
# of the daemon. Ends with 1 and a line of what is not as it should be.
# Called by ci/package.sh in a clean system that systemd has booted, as root; our packages are installed.
# shellcheck source=tests/package/expectations.sh
. "$(dirname "${BASH_SOURCE[0]}")/expectations.sh"

fail() { # with what the manager knows
    echo "package: under systemd: $*" >&2
    systemctl --no-pager status "aepd@*" >&2 || true
    journalctl --no-pager -b -u "aepd@*" | tail -40 >&2 || true
    exit 1
}
main_pid() { systemctl show -P MainPID "aepd@$1"; }
restarted() { [ "$(main_pid web)" != 0 ] && [ "$(main_pid web)" != "$1" ] && systemctl is-active --quiet aepd@web; }
has_client() { aep clients --context web | grep -qw "$1"; }
options() { # CONTEXT OPTION...: as the guide says
    mkdir -p /etc/aep
    echo "AEPD_OPTIONS=${*:2}" >"/etc/aep/$1.env"
}
drop_in() { # CONTEXT LINE...
    mkdir -p "/etc/systemd/system/aepd@$1.service.d"
    printf '%s\n' '[Service]' "${@:2}" >"/etc/systemd/system/aepd@$1.service.d/test.conf"
    systemctl daemon-reload
}

# ---- the unit as it is installed
systemd-analyze verify --man=no /usr/lib/systemd/system/aepd@.service || fail "systemd-analyze verify"

# ---- root's context: started, used, in the journal
options web --pool-size 256M
systemctl start aepd@web || fail "the start"
expect "the unit" "$(systemctl is-active aepd@web)" active
expect "the pool's size" "$(aep status --context web --json | grep -c '"bytes": 2[0-9]\{8\}')" 1
# shellcheck disable=SC2016 # the program's
expect "a program" "$(aep run --context web --require -- sh -c 'echo $((6 * 7))')" 42
journalctl -u aepd@web | grep -q "context web made" || fail "nothing in the journal"
aep run --context web --require -- redis-server --port 0 --unixsocket "$socket" --daemonize no --save "" >/tmp/redis.log 2>&1 &
server=$!
wait_for "redis" redis ping
redis set key value >/dev/null

# ---- restarted, killed, stopped: another daemon goes on, and so does the client
before=$(main_pid web)
systemctl restart aepd@web
restarted "$before" || fail "it is the same daemon after a restart"
wait_for "the client, after a restart" has_client "$server"
before=$(main_pid web)
kill -KILL "$before"
wait_for "the next daemon, after a kill" restarted "$before"
wait_for "the client, after a kill" has_client "$server"
drop_in web WatchdogSec=2
systemctl restart aepd@web
before=$(main_pid web)
sleep 5 # longer than the watchdog waits: it must hear the daemon
expect "a daemon that is well" "$(main_pid web)" "$before"
kill -STOP "$before"
wait_for "the watchdog" restarted "$before"
wait_for "the client, after a daemon that hung" has_client "$server"
expect "a value from before all that" "$(redis get key)" value
aep check --context web >/dev/null || fail "aep check"

# ---- stopped: the context stays, the next start goes on; then it is taken down
systemctl stop aepd@web
expect "the program without a daemon" "$(redis get key)" value
[ -e /dev/shm/aep-0-web/context ] || fail "a stop has removed the context"
systemctl start aepd@web || fail "the start"
wait_for "the client, after a stop" has_client "$server"
redis shutdown nosave || true
wait "$server" || true
aep down --context web >/dev/null
wait_for "the unit's end" sh -c '! systemctl is-active --quiet aepd@web'
expect "the unit after aep down" "$(systemctl is-failed aepd@web)" inactive

# ---- what cannot work is said once, and not tried again and again
options wrong --nonsense
systemctl start aepd@wrong 2>/dev/null && fail "options that there are not were accepted"
expect "starts of a wrong command line" "$(systemctl show -P NRestarts aepd@wrong)" 0
journalctl -u aepd@wrong | grep -q -- --nonsense || fail "the journal does not name the option"

# ---- another user's context, by a drop-in
useradd --create-home shop
options shop --pool-size 64M
drop_in shop User=shop
systemctl start aepd@shop
as_shop() { setpriv --reuid shop --regid shop --init-groups --reset-env "$@"; }
# shellcheck disable=SC2016 # the program's
expect "a program of that user" "$(cd / && as_shop aep run --context shop --require -- sh -c 'echo $((6 * 7))')" 42
expect "whose it is" "$(ps -o user= -p "$(main_pid shop)")" shop
(cd / && as_shop aep down --context shop) >/dev/null

# ---- a user's own, by the same unit in the user's own manager, which lingering keeps up
loginctl enable-linger shop
wait_for "the user's manager" systemctl is-active --quiet "user@$(id -u shop)"
own() { (cd / && as_shop env XDG_RUNTIME_DIR="/run/user/$(id -u shop)" "$@"); }
mkdir -p /home/shop/.config/aep
echo "AEPD_OPTIONS=--pool-size 64M" >/home/shop/.config/aep/mine.env
chown -R shop: /home/shop/.config
own systemctl --user start aepd@mine || fail "the start of a user's unit"
# shellcheck disable=SC2016 # the program's
expect "a program in the user's context" "$(own aep run --context mine --require -- sh -c 'echo $((6 * 7))')" 42
own systemctl --user stop aepd@mine
own systemctl --user start aepd@mine
expect "the user's unit" "$(own systemctl --user is-active aepd@mine)" active
own aep down --context mine >/dev/null
expect "left in shared memory" "$(find /dev/shm -name "aep*")" ""
echo "package: under systemd: started, used, restarted, killed, hung, stopped, another user's, a user's own"
