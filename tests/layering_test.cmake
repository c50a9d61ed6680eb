# cmake -DROOT=<source dir> -P layering_test.cmake
# Fails if a file includes what its folder may not see, if a folder of the
# table has no file left, or if a file includes both torch and gRPC.

set(torch "[<\"](torch|ATen|c10|caffe2)/")
set(grpc "[<\"](grpc|grpcpp)/|\\.grpc\\.pb\\.h")
set(proto "[<\"]google/protobuf/|\\.pb\\.h")
set(rocksdb "[<\"]rocksdb/")
set(rules  # folder ! only or not ! regex over what follows #include
  "core!only!<[a-z0-9_]+>|<sys/[a-z0-9_]+\\.h>|[<\"](absl|hwy|re2)/|<zstd\\.h>|\"core/"
  "agent/include!only!<[a-z0-9_]+>|<bits/(chrono|shared_ptr|std_function|unique_ptr)\\.h>|[<\"]gradtap/"
  "agent/capture!not!${grpc}|${proto}|absl/log/|${rocksdb}"
  "agent/spool!only!<[a-z0-9_]+>|<(dirent|errno|fcntl|stdio|unistd)\\.h>|<sys/[a-z0-9_]+\\.h>|\"absl/|\"core/|\"agent/(spool/|entry\\.h)"
  "agent/delivery!not!${torch}|${rocksdb}"
  "server!not!${torch}"
  "server/store!not!${grpc}"
  "server/dashboard!only!<[a-z0-9_]+>|\"server/dashboard/"
  "server/http!not!${grpc}|${rocksdb}"
  "client/include!only!<[a-z0-9_]+>|<bits/(chrono|shared_ptr|std_function|unique_ptr)\\.h>|[<\"]gradtap/"
  "client!not!${torch}|${rocksdb}"
  "examples!not!${grpc}|${proto}|${rocksdb}")

# Of the agent the command line sees what delivers a dead process's records, its
# doctor how variables are read, too; nothing else of the client sees any of it.
set(of_agent "\"agent/(spool/|delivery/(grpc_transport|leftover|leftover_drive|ring_folder)\\.h)")
set(of_options "\"agent/options\\.h")

set(bad 0)
macro(includes_of file out)
  file(STRINGS "${file}" _lines REGEX "^[ \t]*#[ \t]*include")
  set(${out})
  foreach(_line IN LISTS _lines)
    string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*" "" _what "${_line}")
    list(APPEND ${out} "${_what}")
  endforeach()
endmacro()

foreach(rule IN LISTS rules)
  string(REGEX MATCH "^([^!]+)!([^!]+)!(.+)$" _ "${rule}")
  set(dir "${CMAKE_MATCH_1}")
  set(mode "${CMAKE_MATCH_2}")
  set(regex "${CMAKE_MATCH_3}")
  file(GLOB_RECURSE files "${ROOT}/${dir}/*.h" "${ROOT}/${dir}/*.cc")
  if(NOT files)  # A renamed folder must not switch its rule off.
    message("no file under ${dir}")
    math(EXPR bad "${bad} + 1")
  endif()
  foreach(file IN LISTS files)
    includes_of("${file}" found)
    foreach(what IN LISTS found)
      if((mode STREQUAL "not" AND what MATCHES "${regex}") OR
         (mode STREQUAL "only" AND NOT what MATCHES "^(${regex})"))
        message("${file}: ${dir} may not have: ${what}")
        math(EXPR bad "${bad} + 1")
      endif()
    endforeach()
  endforeach()
endforeach()

file(GLOB_RECURSE files "${ROOT}/client/*.h" "${ROOT}/client/*.cc")
foreach(file IN LISTS files)
  includes_of("${file}" found)
  foreach(what IN LISTS found)
    if(what MATCHES "^\"agent/" AND NOT (what MATCHES "^${of_agent}" AND
        file MATCHES "/client/cli/(leftovers|cmd_drain|cmd_import|doctor(_[a-z]+)?)\\.") AND
        NOT (what MATCHES "^${of_options}" AND file MATCHES "/client/cli/doctor(_[a-z]+)?\\."))
      message("${file}: the client may not have: ${what}")
      math(EXPR bad "${bad} + 1")
    endif()
  endforeach()
endforeach()

# The peer is injected: of delivery one file knows gRPC.
file(GLOB_RECURSE files "${ROOT}/agent/delivery/*.h" "${ROOT}/agent/delivery/*.cc")
foreach(file IN LISTS files)
  includes_of("${file}" found)
  if(NOT file MATCHES "/grpc_transport\\.cc$" AND found MATCHES "${grpc}")
    message("${file}: gRPC is for grpc_transport.cc")
    math(EXPR bad "${bad} + 1")
  endif()
endforeach()

file(GLOB_RECURSE everything "${ROOT}/agent/*.h" "${ROOT}/agent/*.cc"
  "${ROOT}/tests/*.h" "${ROOT}/tests/*.cc" "${ROOT}/examples/*.cc")
foreach(file IN LISTS everything)
  includes_of("${file}" found)
  if(found MATCHES "${torch}" AND found MATCHES "${grpc}")
    message("${file}: includes both torch and gRPC")
    math(EXPR bad "${bad} + 1")
  endif()
endforeach()

if(bad)
  message(FATAL_ERROR "${bad} include(s) cross a layer")
endif()
