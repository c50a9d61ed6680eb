# bash completion of gradtap and gradtapd. What there is, they say themselves:
# commands and options come from --help, names of runs from the collector, which
# has a second to answer. compgen -W expands what it is given, $(...) too: from a
# collector it gets names that are names.

# Of the help text $1: names of commands; options; what follows option $2 (FILE,
# table|json|csv); the words of such an enumeration.
_gradtap_commands() {
  sed -n '/^S\(ubcommands\|UBCOMMANDS\):/,/^$/s/^  \([a-z][a-z-]*\)  .*/\1/p' <<< "$1"
}

_gradtap_options() {
  sed -n 's/^ \{2,10\}\(-[a-zA-Z], *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p' <<< "$1"
}

_gradtap_value() {
  sed -n "s/^ \{2,10\}\(-[a-zA-Z], *\)\{0,1\}$2 \([^ ][^ ]*\).*/\2/p" <<< "$1" |
    head -n 1
}

_gradtap_words() {
  grep -x '[a-z]*\(|[a-z]*\)\{1,\}' <<< "$1" | tr '|' '\n'
}

_gradtap_runs() {
  "$@" --timeout 1 --output csv runs 2>/dev/null | sed -n '2,$s/,.*//p' |
    grep -x '[A-Za-z0-9._-]*'
}

_gradtap() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} previous= i
  local word value help known
  local -a words=() asked=("$program") connection=()
  COMPREPLY=()
  # bash takes = and : for words: --tokens=F is three of them, gpu7:7317 too, and
  # --steps -9: has no other half.
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      =) ;;
      : | ::)
        ((${#words[@]})) || continue
        words[-1]+=${COMP_WORDS[i]}
        if ((i + 1 < COMP_CWORD)) && [[ ${COMP_WORDS[i + 1]} != -* ]]; then
          words[-1]+=${COMP_WORDS[++i]}
        fi
        ;;
      *) words+=("${COMP_WORDS[i]}") ;;
    esac
  done
  [[ $cur == = ]] && cur=

  # Which command it is, and what it was told of the collector. `help` is the
  # command's own, `known` has those of the commands above it, too.
  help=$("$program" --help 2>/dev/null)
  known=$help
  for ((i = 0; i < ${#words[@]}; ++i)); do
    word=${words[i]}
    case $word in
      -c) word=--collector ;;
      -o) word=--output ;;
    esac
    case $word in
      --tls) connection+=("$word") ;;
      -*[!a-z-]*) ;;  # No option; sed would take it for something else.
      -*)
        [[ -n $(_gradtap_value "$known" "$word") ]] || continue
        if ((++i == ${#words[@]})); then
          previous=$word
          break
        fi
        value=${words[i]}
        case $word in
          --collector | --tls-* | --token-file)
            connection+=("$word" "${value/#\~\//$HOME/}")
            ;;
        esac
        ;;
      *)
        _gradtap_commands "$help" | grep -Fqxe "$word" || continue
        asked+=("$word")
        help=$("${asked[@]}" --help 2>/dev/null)
        known+=$'\n'$help
        ;;
    esac
  done

  if [[ -n $previous ]]; then
    value=$(_gradtap_value "$known" "$previous")
    COMPREPLY=($(compgen -W "$(_gradtap_words "$value")" -- "$cur"))
    case $previous,$value in
      --*-dir,* | *,FILE | *,DIR | *,PATH)
        COMPREPLY=($(compgen -f -- "$cur"))
        ;;
    esac
  elif [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$(_gradtap_options "$help")" -- "$cur"))
  elif words=($(_gradtap_commands "$help")) && ((${#words[@]})); then
    COMPREPLY=($(compgen -W "${words[*]}" -- "$cur"))
  else
    # What it takes besides options: a run, a file, or nothing that is known.
    local IFS=$'\n'
    if [[ $help == *$'\n  RUN'* ]]; then
      COMPREPLY=($(compgen -W "$(_gradtap_runs "$program" "${connection[@]}")" -- "$cur"))
    fi
    if [[ $help == *$'\n  FILE'* || $help == *$'\n  DIR'* ]]; then
      COMPREPLY+=($(compgen -f -- "$cur"))
    fi
  fi
}

complete -F _gradtap gradtap gradtapd
