#!/bin/sh
# Purpose: has pacemaker cut a machine off, unless it has done so already: the fence command of aepd --fence pacemaker.
# Usage: aep-fence-pacemaker NODE GENERATION HOST SECONDS LIMIT
#        NODE is corosync's and pacemaker's id of the machine, HOST its name if pacemaker has none for it, SECONDS how long ago it may
#        have been fenced at most, LIMIT how many seconds fencing may take. It ends with 0 only if pacemaker has reported it as fenced.
# Called by tools/daemon/fence.cpp; by people to see what it would come to. Installed as lib/aep/aep-fence-pacemaker.
# Crash rule: it keeps nothing; what pacemaker has begun goes on without it, and counts when it is run again.
set -u
node=$1 host=$3 seconds=$4 limit=$5

name=$(crm_node --name-for-id="$node")
name=${name:-$host}

# Whatever has fenced it counts, also people's word for it (stonith_admin --confirm); only "on" says nothing. All events are looked
# at: without --verbose there is one, which need not be the last.
now=$(date +%s)
stonith_admin --history "$name" --verbose --output-as=xml | sed -n '
    /<fence_event .*status="success"/{
        / action="on"/d
        s/.* completed="\([^"]*\)".*/\1/p
    }' | {
    while read -r completed; do
        [ $((now - $(date -d "$completed" +%s))) -gt "$seconds" ] || exit 0
    done
    exit 1
} && exit 0

case $(crm_attribute --type=crm_config --name=stonith-action --query --quiet --default=reboot) in
off | poweroff) action=--fence ;;
*) action=--reboot ;;
esac
exec stonith_admin "$action" "$name" --tolerance="${seconds}s" --timeout="$limit"
