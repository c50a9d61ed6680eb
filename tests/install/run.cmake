# cmake -DBUILD=<build dir> -DSOURCE=<this folder> -DSCRATCH=<dir> -P run.cmake
# Installs gradtap into a folder of its own, builds an outside project against
# it, and runs what came out.

include(${CMAKE_CURRENT_LIST_DIR}/outside.cmake)

file(REMOVE_RECURSE ${SCRATCH})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${SCRATCH}/build -G Ninja -Wno-dev
  -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix -DCMAKE_BUILD_TYPE=Release
  "-DCMAKE_CXX_FLAGS=-Wall -Wextra"
  -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DTorch_DIR=${TORCH_DIR})
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/train)
run(${SCRATCH}/build/ask)
file(STRINGS ${SCRATCH}/build/CMakeCache.txt collector REGEX "^gradtap_COLLECTOR:")
if(NOT collector STREQUAL "gradtap_COLLECTOR:FILEPATH=${SCRATCH}/prefix/bin/gradtapd")
  message(FATAL_ERROR "the component collector is somewhere else: '${collector}'")
endif()
run(${SCRATCH}/prefix/bin/gradtapd --version)
run(${SCRATCH}/prefix/bin/gradtap --version)

adopt(${SCRATCH}/adopt ${SCRATCH}/prefix ${TORCH_DIR})

# What is not code: pages (where help2man is), completion, service, options,
# documents.
find_program(HELP2MAN help2man)
set(expected etc/gradtap/gradtapd.conf lib/systemd/system/gradtapd.service
  share/bash-completion/completions/gradtap share/zsh/site-functions/_gradtap
  share/doc/gradtap/README.md share/doc/gradtap/client/README.md
  share/doc/gradtap/proto/gradtap/v1/query.proto
  share/doc/gradtap/docs/page.png
  share/doc/gradtap/docs/grafana/gradtap-run.json
  share/doc/gradtap/docs/prometheus/gradtap.rules.yml)
if(HELP2MAN)
  list(APPEND expected share/man/man1/gradtap.1.gz
    share/man/man1/gradtap-series.1.gz share/man/man1/gradtapd.1.gz
    share/man/man1/gradtapd-token-create.1.gz)
endif()
foreach(file IN LISTS expected)
  if(NOT EXISTS ${SCRATCH}/prefix/${file})
    message(FATAL_ERROR "${file} was not installed")
  endif()
endforeach()

# What programs and files send their users to is there.
set(doc ${SCRATCH}/prefix/share/doc/gradtap)
file(READ ${SCRATCH}/prefix/etc/gradtap/gradtapd.conf sent)
execute_process(COMMAND ${SCRATCH}/prefix/bin/gradtap rules --help
  OUTPUT_VARIABLE out)
string(APPEND sent "${out}")
string(REGEX MATCHALL "docs/[a-z]+[.]md in[ #\n]+share/doc/gradtap" named "${sent}")
list(LENGTH named count)
if(NOT count EQUAL 2)
  message(FATAL_ERROR "not two pages are named: ${named}")
endif()
foreach(name IN LISTS named)
  string(REGEX MATCH "docs/[a-z]+[.]md" page "${name}")
  if(NOT EXISTS ${doc}/${page})
    message(FATAL_ERROR "${page} was not installed")
  endif()
endforeach()
# The documents lead to each other; to sources they may.
file(GLOB pages RELATIVE ${doc} ${doc}/docs/*.md)
foreach(page IN LISTS pages)
  file(READ ${doc}/${page} text)
  string(REGEX MATCHALL "\\([A-Za-z0-9_/-]+[.](md|yml|json|png)[)#]" links "${text}")
  foreach(link IN LISTS links)
    string(REGEX REPLACE "[()#]" "" link "${link}")
    if(NOT EXISTS ${doc}/docs/${link})
      message(FATAL_ERROR "${page} leads to ${link}, which was not installed")
    endif()
  endforeach()
endforeach()

# A command of a command has a page of its own: with its options, and without
# gradtapd's examples.
if(HELP2MAN)
  execute_process(
    COMMAND gzip -dc ${SCRATCH}/prefix/share/man/man1/gradtapd-token-create.1.gz
    OUTPUT_VARIABLE page)
  if(NOT page MATCHES "expires.*umask 077" OR
      page MATCHES "alertmanager")
    message(FATAL_ERROR "the page of gradtapd token create:\n${page}")
  endif()
endif()
file(READ ${SCRATCH}/prefix/lib/systemd/system/gradtapd.service service)
if(NOT service MATCHES "ExecStart=${SCRATCH}/prefix/bin/gradtapd --config ${SCRATCH}/prefix/etc/gradtap/gradtapd.conf\n")
  message(FATAL_ERROR "the service starts something else:\n${service}")
endif()
# It is among the calls that are taken away before it.
if(NOT service MATCHES "~@privileged @resources\n.*\nSystemCallFilter=setpriority\n")
  message(FATAL_ERROR "the service may not call setpriority:\n${service}")
endif()

# systemd's own opinion, where it is installed: an option that it does not know is
# a line, and no failure. Of its 0 (closed) to 10 at most 2. Under a systemd that
# has booted: tests/install/booted.
find_program(SYSTEMD_ANALYZE systemd-analyze)
if(SYSTEMD_ANALYZE)
  set(unit ${SCRATCH}/prefix/lib/systemd/system/gradtapd.service)
  execute_process(COMMAND ${SYSTEMD_ANALYZE} verify --man=no ${unit}
    RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT result EQUAL 0 OR NOT out STREQUAL "")
    message(FATAL_ERROR "systemd-analyze verify (${result}):\n${out}")
  endif()
  execute_process(COMMAND ${SYSTEMD_ANALYZE} security --offline=yes --no-pager
      --threshold=20 ${unit}
    RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "systemd-analyze security (${result}):\n${out}")
  endif()
endif()

file(REMOVE_RECURSE ${SCRATCH})
