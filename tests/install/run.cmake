# cmake -DBUILD=<build dir> -DSOURCE=<this folder> -DSCRATCH=<dir> -P run.cmake
# Installs gradtap into a folder of its own, builds an outside project against
# it, and runs what came out.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGN}")
  endif()
endfunction()

file(REMOVE_RECURSE ${SCRATCH})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${SCRATCH}/build -G Ninja -Wno-dev
  -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix -DCMAKE_BUILD_TYPE=Release
  "-DCMAKE_CXX_FLAGS=-Wall -Wextra"
  -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DTorch_DIR=${TORCH_DIR})
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/train)
run(${SCRATCH}/build/ask)
run(${SCRATCH}/prefix/bin/gradtapd --version)
run(${SCRATCH}/prefix/bin/gradtap --version)
file(REMOVE_RECURSE ${SCRATCH})
