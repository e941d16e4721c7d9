#!/usr/bin/env bash
# What people do with the packages, in a system that has nothing of ours: install, use, upgrade under a program that
# runs, remove, purge. Ends with 1 and a line of what is not as it should be.
# Called by ci/package.sh in a chroot, as its root; /given holds packages, the next version of them, and the tarball.
# shellcheck source=tests/package/expectations.sh
. "$(dirname "${BASH_SOURCE[0]}")/expectations.sh"

files() { # all there is, but for what dpkg and ldconfig keep of their own
    find / -xdev \( -path /given -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /etc/ld.so.cache \) -prune \
        -o -printf '%y %m %u %p\n' | sort
}
runs_on_our_heap() { grep -q "/libaepmalloc.so.1" "/proc/$1/maps"; }

# ---- the tarball, before there is anything of ours
tar -C /opt -xzf /given/aep-*.tar.gz
tree=$(echo /opt/aep-*)
foreign=$(ldd "$tree/bin/aep" "$tree/sbin/aepd" "$tree/lib/aep/aep-completer" |
    sed -n 's/.* => \([^ ]*\) (.*/\1/p' | sort -u | grep -vE "^$tree/|/lib(c|m)\.so\.6$" || true)
expect "libraries of the system that the tree uses" "$foreign" ""
"$tree/bin/aep" run --context tree --require -- grep -q "$tree/lib/.*/libaepmalloc.so.1" /proc/self/maps
"$tree/bin/aep" down --context tree >/dev/null
rm -rf "$tree"
before=$(files)

# ---- install: nothing else has to be fetched, and nothing is started
dpkg -i /given/*.deb >/dev/null
expect "daemons after the installation" "$(pgrep -c aepd || true)" 0
for page in man1/aep.1.gz man7/aep-environment.7.gz man8/aepd.8.gz man3/dsm_send.3.gz; do [ -s "/usr/share/man/$page" ] || fail "no $page"; done
dpkg --verify aep-tools libaepmalloc1 libaepmalloc-dev

# ---- use: a program that knows nothing of it, as root and as a user
aep run --require -- redis-server --port 0 --unixsocket "$socket" --daemonize no --save "" >/tmp/redis.log 2>&1 &
server=$!
wait_for "redis" redis ping
runs_on_our_heap "$server" || fail "redis does not run on our heap"
for i in {1..100}; do redis set "key$i" "$(printf '%*s' $((i * 100)) x)" >/dev/null; done
expect "a value" "$(redis strlen key50)" 5000
expect "its client in the list" "$(aep clients | grep -cw "$server")" 1
aep check >/dev/null
# shellcheck disable=SC2016 # the program's
expect "a user's program" "$(setpriv --reuid 4242 --regid 4242 --clear-groups aep run --context mine -- sh -c 'echo $((6 * 7))')" 42
setpriv --reuid 4242 --regid 4242 --clear-groups aep down --context mine >/dev/null

# ---- develop: what the -dev package has is enough
cd /tmp
cp /usr/share/doc/libaepmalloc-dev/examples/* .
for packed in *.gz; do if [ -e "$packed" ]; then gunzip "$packed"; fi; done
flags=$(pkg-config --cflags --libs aepmalloc)
# shellcheck disable=SC2086 # words
gcc -Wall -Werror reader.c $flags -o reader
mkdir -p examples && cp publish.h examples/
gcc -Wall -Werror -I. preloaded.c publish.c -o preloaded
aep run --require -- ./reader 3 >reader.out &
reader=$!
wait_for "the reader" grep -q waiting reader.out
printf 'a\nb\nc\n' | aep run --require -- ./preloaded >/dev/null
wait "$reader"
expect "what it read" "$(paste -sd' ' reader.out)" "waiting 1: a 2: b 3: c"
readelf -V reader 2>/dev/null | grep -q AEP_1.0 || fail "the program does not say which version of the library it needs"

# ---- completions
completed() { # WORD...: what bash offers for the last one
    bash -c '. /usr/share/bash-completion/completions/aep; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _aep; echo "${COMPREPLY[*]}"' - "$@"
}
expect "bash: commands" "$(completed aep sta)" status
expect "bash: options" "$(completed aep up --pool-s)" --pool-size
expect "bash: contexts" "$(completed aep status --context def)" default
expect "bash: the daemon's options" "$(completed aepd --max-c)" --max-clients
offered() { # WORD...: what zsh's system would be told
    zsh -fc 'compadd() { print -l -- $@ }; _describe() { print -l -- ${(P)2} }; words=("$@"); CURRENT=$#; . /usr/share/zsh/vendor-completions/_aep' - "$@"
}
offered aep "" | grep '^status:' >/dev/null || fail "zsh offers no command"
offered aep up --po | grep -x -- --pool-size >/dev/null || fail "zsh offers no option"
offered aep status --context "" | grep -x default >/dev/null || fail "zsh offers no context"

# ---- upgrade, under a program and a daemon that run
daemon=$(pgrep -x aepd)
dpkg -i /given/next/*.deb >/dev/null
expect "the version now" "$(dpkg-query -W -f '${Version}' aep-tools)" "$(dpkg-deb -f /given/next/aep-tools_*.deb Version)"
expect "the daemon after the upgrade" "$(pgrep -x aepd)" "$daemon"
redis set after upgrade >/dev/null
expect "a value from before" "$(redis strlen key50)" 5000
aep run --require -- true
aep check >/dev/null
kill -TERM "$daemon"
wait_for "the old daemon's end" sh -c "! kill -0 $daemon"
expect "the program without a daemon" "$(redis get after)" upgrade
aep up >/dev/null # the new one goes on
expect "its client with the new daemon" "$(aep clients | grep -cw "$server")" 1
redis set again "$(printf '%100000s' x)" >/dev/null
aep check >/dev/null

# ---- remove, then purge: the program goes on, and nothing of ours is left
redis shutdown nosave || true
wait "$server" || true
aep down >/dev/null
env -i PATH="$PATH" aep run --context none -- true 2>/dev/null && fail "a context was called none"
LD_PRELOAD=libaepmalloc.so.1 redis-server --port 0 --unixsocket "$socket" --daemonize no --save "" >/tmp/redis.log 2>&1 &
server=$!
wait_for "redis" redis ping
dpkg -r libaepmalloc-dev aep-corosync aep-tools libaepmalloc1 >/dev/null
redis set removed "$(printf '%100000s' x)" >/dev/null
expect "a value without the package" "$(redis strlen removed)" 100000
redis shutdown nosave || true
wait "$server" || true
dpkg -P aep-corosync aep-tools >/dev/null
left=$(diff <(echo "$before") <(files) || true)
expect "left behind" "$left" ""
expect "left in shared memory" "$(ls /dev/shm)" ""
expect "left in /run and on the bpffs" "$(ls -d /run/aep* /sys/fs/bpf/* 2>/dev/null || true)" ""
echo "package: installed, used, upgraded, removed and purged in a clean system; nothing is left"
