# bash completion of gradtap and gradtapd. What there is, they say themselves:
# commands and options come from --help, names of runs from the collector, which
# has a second to answer.

_gradtap_commands() {
  "$1" --help 2>/dev/null |
    sed -n '/^S\(ubcommands\|UBCOMMANDS\):/,/^$/s/^  \([a-z][a-z-]*\)  .*/\1/p'
}

# Options of a program and command, with those words where one takes some.
_gradtap_options() {
  "$@" --help 2>/dev/null |
    sed -n 's/^ \{2,10\}\(-[a-zA-Z], *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p'
}

# The words of `option` if its help lists them: table|json|csv.
_gradtap_words() {
  local option=$1
  shift
  "$@" --help 2>/dev/null |
    sed -n "s/^ \{2,10\}\(-[a-zA-Z], *\)\{0,1\}$option \([a-z]*\(|[a-z]*\)\{1,\}\)\( .*\)\{0,1\}$/\2/p" | tr '|' '\n'
}

_gradtap_runs() {
  "$@" --timeout 1 --output csv runs 2>/dev/null | sed -n '2,$s/,.*//p' |
    grep -v '"'
}

_gradtap() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]}
  local previous=${COMP_WORDS[COMP_CWORD - 1]} command= i
  local -a connection=()
  COMPREPLY=()
  # bash takes a colon for a word's end: --collector gpu7:7317 is three words.
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      -c | --collector)
        connection=(--collector "${COMP_WORDS[i + 1]}")
        if [[ ${COMP_WORDS[i + 2]-} == : ]]; then
          connection[1]+=:${COMP_WORDS[i + 3]-}
          i=$((i + 2))
        fi
        i=$((i + 1))
        ;;
      -o | --output | --timeout | --tls-ca | --tls-cert | --tls-key | --token-file)
        i=$((i + 1))
        ;;
      -*) ;;
      *)
        command=${COMP_WORDS[i]}
        break
        ;;
    esac
  done
  local -a asked=("$program" ${command:+"$command"})
  local words
  case $previous in
    -o) previous=--output ;;
  esac
  if [[ $previous == --* ]]; then
    words=$(_gradtap_words "$previous" "${asked[@]}")
    if [[ -n $words ]]; then
      COMPREPLY=($(compgen -W "$words" -- "$cur"))
      return
    fi
    case $previous in
      *-file | *-dir | --tls-ca | --tls-cert | --tls-key | --rules | --config)
        COMPREPLY=($(compgen -f -- "$cur"))
        return
        ;;
    esac
  fi
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$(_gradtap_options "${asked[@]}")" -- "$cur"))
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$(_gradtap_commands "$program")" -- "$cur"))
  else
    # What it takes besides options: a run, a file, or nothing that is known.
    local help IFS=$'\n'
    help=$("${asked[@]}" --help 2>/dev/null)
    if [[ $help == *$'\n  RUN'* ]]; then
      COMPREPLY=($(compgen -W "$(_gradtap_runs "$program" "${connection[@]}")" -- "$cur"))
    fi
    if [[ $help == *$'\n  FILE'* || $help == *$'\n  DIR'* ]]; then
      COMPREPLY+=($(compgen -f -- "$cur"))
    fi
  fi
}

complete -F _gradtap gradtap gradtapd
