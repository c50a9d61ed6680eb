# cmake -DCONFIG=<gradtapConfig.cmake> -DSOURCE=<this folder> -DSCRATCH=<dir> -DVERSION=<of LibTorch> -DABI=<of LibTorch> -P refused.cmake
# Configures an outside project that has found this LibTorch or another one:
# which of them gradtap's package refuses, and what it says.

set(prefix ${SCRATCH}/prefix/lib/cmake/gradtap)
file(REMOVE_RECURSE ${SCRATCH})
file(COPY ${CONFIG} DESTINATION ${prefix})
file(WRITE ${prefix}/gradtap-agent-targets.cmake
  "add_library(gradtap::agent INTERFACE IMPORTED)\n")

function(configure version abi)  # WANTED...: in what it says; none: it succeeds.
  foreach(first ON OFF)
    execute_process(COMMAND ${CMAKE_COMMAND} -S ${SOURCE}/refused -B ${SCRATCH}/build
      -G Ninja --fresh -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix
      -DTorch_DIR=${SOURCE}/refused/torch -DTORCH_FIRST=${first}
      -DTORCH_VERSION=${version} -DTORCH_ABI=${abi}
      OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE result)
    if(ARGN AND result EQUAL 0)
      message(FATAL_ERROR "LibTorch ${version}, ABI ${abi}, first: ${first}, is not refused:\n${out}")
    elseif(NOT ARGN AND NOT result EQUAL 0)
      message(FATAL_ERROR "LibTorch ${version}, ABI ${abi}, first: ${first}, is refused:\n${out}")
    endif()
    string(REGEX REPLACE "[ \n]+" " " out "${out}")  # Messages are wrapped.
    foreach(wanted IN LISTS ARGN)
      string(FIND "${out}" "${wanted}" at)
      if(at EQUAL -1)
        message(FATAL_ERROR "'${wanted}' is not said:\n${out}")
      endif()
    endforeach()
  endforeach()
endfunction()

string(REGEX MATCH "^[0-9]+[.][0-9]+" minor "${VERSION}")
math(EXPR other_abi "1 - ${ABI}")
configure(${VERSION} ${ABI})
configure(${minor}.99 ${ABI})
foreach(other ${minor}9.0 9${VERSION})
  configure(${other} ${ABI} "built with LibTorch ${VERSION};" "found ${other} in"
    "-DTorch_DIR=${SOURCE}/refused/torch")
endforeach()
configure(${VERSION} ${other_abi} "_GLIBCXX_USE_CXX11_ABI=${ABI};"
  "one of ${other_abi} in" "-DTorch_DIR=")
file(REMOVE_RECURSE ${SCRATCH})
