# What run.cmake and sources.cmake share; both include it. Wants SOURCE (this
# folder) and LAUNCHER.

# Runs a command; if it fails, so does the test.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGN}")
  endif()
endfunction()

# A program that has not heard of gradtap takes up that of `prefix`: two lines of
# CMake, three of C++. Built in `work`/build, it leaves its steps in the spool.
function(adopt work prefix torch_dir)
  file(REMOVE_RECURSE ${work})
  file(COPY ${SOURCE}/adopt/program/ DESTINATION ${work})
  cmake_path(GET work PARENT_PATH above)
  set(ENV{GIT_CEILING_DIRECTORIES} ${above})
  execute_process(COMMAND git apply --numstat ${SOURCE}/adopt/adopt.diff
    WORKING_DIRECTORY ${work} OUTPUT_VARIABLE lines)
  if(NOT lines STREQUAL "2\t1\tCMakeLists.txt\n3\t1\tregress.cc\n")
    message(FATAL_ERROR "adopt.diff is of other lines than is said:\n${lines}")
  endif()
  run(git -C ${work} apply ${SOURCE}/adopt/adopt.diff)
  run(${CMAKE_COMMAND} -S ${work} -B ${work}/build -G Ninja
    -Wno-dev -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_BUILD_TYPE=Release
    "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"
    -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DTorch_DIR=${torch_dir})
  run(${CMAKE_COMMAND} --build ${work}/build)
  run(${CMAKE_COMMAND} -E env GRADTAP_MODE=offline
    GRADTAP_SPOOL=${work}/spool ${work}/build/regress)
  file(GLOB_RECURSE spooled ${work}/spool/*)
  if(NOT spooled)
    message(FATAL_ERROR "the program that took gradtap up recorded nothing")
  endif()
endfunction()
