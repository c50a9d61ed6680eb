# cmake -DGRADTAP=<sources> -DSOURCE=<this folder> -DSCRATCH=<dir> -P sources.cmake
# Builds outside projects that take gradtap's sources along, the agent alone, and
# runs what came out.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGN}")
  endif()
endfunction()

function(build way)
  file(REMOVE_RECURSE ${SCRATCH}/${way})
  run(${CMAKE_COMMAND} -S ${SOURCE}/${way} -B ${SCRATCH}/${way} -G Ninja -Wno-dev
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
    -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DTorch_DIR=${TORCH_DIR} ${ARGN})
  run(${CMAKE_COMMAND} --build ${SCRATCH}/${way} --target train)
  run(${SCRATCH}/${way}/train)
  file(REMOVE_RECURSE ${SCRATCH}/${way})
endfunction()

build(subdirectory -DGRADTAP_SOURCE=${GRADTAP})
# The sources that are here stand in for those that it would fetch.
build(fetch -DFETCHCONTENT_SOURCE_DIR_GRADTAP=${GRADTAP})
