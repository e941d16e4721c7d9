# Run by cases/bash.py as `bash -eu work.bash FORKS`; every line it prints is computed a second time over there.
set -o pipefail
forks=$1
read -r go # the case holds this back until it has seen the preload in us

sum=$(seq 1 3000 | while read -r i; do ((i % 3 == 0)) && echo $((i * i)); true; done |
    { s=0; while read -r v; do s=$((s + v)); done; echo $s; })
echo "pipeline $sum"

total=0
for ((i = 1; i <= forks; i++)); do total=$((total + $(echo $i))); done
echo "subshells $total"

nest() { if (($1 > 0)); then echo "$( (nest $(($1 - 1))) ) $1"; else echo 0; fi; }
echo "nested $(nest 12)"

echo "procsub $(comm -12 <(seq 2 2 2000 | sort) <(seq 3 3 2003 | sort) | wc -l | tr -d ' ') lines shared"

hash_of() { sha256sum | { read -r h _; echo "$h"; }; }
echo "here $(hash_of <<END
$(for i in 1 2 3 4 5; do cat <<LINE
line $i of here
LINE
done)
END
)"

declare -a pids results
for ((i = 1; i <= 40; i++)); do (exit $((i * 3 % 7))) & pids[i]=$!; done
for ((i = 1; i <= 40; i++)); do
    status=0
    wait "${pids[i]}" || status=$?
    results[i]=$i:$status
done
echo "jobs ${results[*]}"

declare -A table
for ((i = 1; i <= 2000; i++)); do
    key=key$((i * 7919 % 1000))
    table[$key]=$((${table[$key]:-0} + i))
done
echo "table $(for key in "${!table[@]}"; do echo "$key=${table[$key]}"; done | LC_ALL=C sort -t= -k1,1 | hash_of)"

string=abc
for ((i = 0; i < 15; i++)); do string+=$string; done
printf -v reversed '%s' "${string//abc/cba}"
echo "string ${#string} $(printf %s "$reversed" | hash_of)"

coproc adder { s=0; while read -r v; do s=$((s + v)); done; echo $s; }
adder_pid=$adder_PID
# Copies, for bash takes the array away as soon as it notices that the coprocess has ended.
exec 5<&"${adder[0]}" 6>&"${adder[1]}"
exec {adder[1]}>&-
seq 1 100 >&6
exec 6>&-
read -r answer <&5
wait "$adder_pid" || true
echo "coproc $answer"

status=0
trapped=$(trap 'echo cleaned' EXIT; trap 'exit 7' USR1; kill -USR1 $BASHPID; exit 1) || status=$?
echo "trap $status $trapped"

depth() { local text="level $1"; if (($1 > 0)); then depth $(($1 - 1)); else deepest=${#FUNCNAME[@]}; fi; }
depth 1998
echo "deep $deepest"
echo done
