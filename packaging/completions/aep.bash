# bash completion of aep and aepd. Commands and options are what --help says; contexts are the user's own.
_aep() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]} command="" i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; ++i)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then # a program and its arguments
            if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); fi
            return
        fi
        if [[ -z $command && ${COMP_WORDS[i]} != -* ]]; then command=${COMP_WORDS[i]}; fi
    done
    if [[ ${program##*/} == aepd ]]; then command=""; fi
    case $before in
    --context)
        mapfile -t COMPREPLY < <(cd /dev/shm && compgen -G "aep-$UID-$word*" | sed "s/^aep-$UID-//")
        return
        ;;
    --provider) mapfile -t COMPREPLY < <(compgen -W "auto kernel ebpf rollback none" -- "$word") && return ;;
    --membership) mapfile -t COMPREPLY < <(compgen -W "auto lock manual corosync" -- "$word") && return ;;
    --coherent) mapfile -t COMPREPLY < <(compgen -W "yes no" -- "$word") && return ;;
    --pool-caches) mapfile -t COMPREPLY < <(compgen -W "auto coherent cxl" -- "$word") && return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "debug info warning error off" -- "$word") && return ;;
    --pool | --socket | --directory | --image | --library | --log-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames
        return
        ;;
    esac
    if [[ -z $command && ${program##*/} == aep && $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("$program" --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "$("$program" ${command:+"$command"} --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*' | sort -u) --" -- "$word")
    fi
}
complete -F _aep aep aepd
