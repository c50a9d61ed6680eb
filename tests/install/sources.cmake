# cmake -DGRADTAP=<sources> -DSOURCE=<this folder> -DSCRATCH=<dir> -P sources.cmake
# Builds the agent alone: within outside projects that take gradtap's sources along,
# and by itself, installed, with a LibTorch that lies elsewhere. Runs what came out.

include(${CMAKE_CURRENT_LIST_DIR}/outside.cmake)

function(configure from work torch_dir)
  file(REMOVE_RECURSE ${work})
  run(${CMAKE_COMMAND} -S ${from} -B ${work} -G Ninja -Wno-dev
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
    -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DTorch_DIR=${torch_dir} ${ARGN})
endfunction()

function(build way)
  configure(${SOURCE}/${way} ${SCRATCH}/${way} ${TORCH_DIR} ${ARGN})
  run(${CMAKE_COMMAND} --build ${SCRATCH}/${way} --target train)
  run(${SCRATCH}/${way}/train)
  file(REMOVE_RECURSE ${SCRATCH}/${way})
endfunction()

# The LibTorch of Debian once more, in the folder `to`, as one that was unpacked
# there; its Torch_DIR. CMake's files are copied, for they tell by where they lie
# where the rest is. A LibTorch that is not Debian's lies elsewhere as it is.
function(relocate to out)
  if(NOT TORCH_DIR MATCHES "^/usr/(lib/[^/]+)/cmake/Torch$")
    set(${out} ${TORCH_DIR} PARENT_SCOPE)
    return()
  endif()
  set(lib ${CMAKE_MATCH_1})
  file(REMOVE_RECURSE ${to})
  foreach(package ATen Caffe2 Torch)
    file(COPY /usr/${lib}/cmake/${package} DESTINATION ${to}/${lib}/cmake)
  endforeach()
  file(GLOB parts /usr/include/ATen /usr/include/c10 /usr/include/caffe2
    /usr/include/torch /usr/${lib}/libc10*.so* /usr/${lib}/libtorch*.so*
    /usr/${lib}/libshm*.so* /usr/${lib}/libcaffe2*.so*)
  file(MAKE_DIRECTORY ${to}/include)
  foreach(part IN LISTS parts)
    string(REPLACE /usr/ ${to}/ link ${part})
    file(CREATE_LINK ${part} ${link} SYMBOLIC)
  endforeach()
  set(${out} ${to}/${lib}/cmake/Torch PARENT_SCOPE)
endfunction()

# Fails unless the commands that built `folder` name the LibTorch below `prefix`,
# and no other one's libraries, and `program` of them loads it.
function(expect_torch folder program prefix)
  execute_process(COMMAND ninja -C ${folder} -t commands OUTPUT_VARIABLE commands)
  string(FIND "${commands}" " -isystem ${prefix}/include " at)
  if(at EQUAL -1)
    message(FATAL_ERROR "nothing in ${folder} is compiled with ${prefix}/include")
  endif()
  execute_process(COMMAND ldd ${folder}/${program} OUTPUT_VARIABLE loads)
  foreach(library c10 torch_cpu)
    if(NOT loads MATCHES "lib${library}[.]so[^\n]*=>")
      message(FATAL_ERROR "${program} loads no ${library}:\n${loads}")
    endif()
  endforeach()
  string(REGEX MATCHALL "/[^ \n]*/lib(torch|c10)[^ /\n]*[.]so" named
    "${commands} ${loads}")
  foreach(file IN LISTS named)
    cmake_path(IS_PREFIX prefix ${file} NORMALIZE there)
    if(NOT there)
      message(FATAL_ERROR "${folder}/${program}: ${file} is not of the LibTorch in ${prefix}:\n${loads}")
    endif()
  endforeach()
endfunction()

build(subdirectory -DGRADTAP_SOURCE=${GRADTAP})
# The sources that are here stand in for those that it would fetch.
build(fetch -DFETCHCONTENT_SOURCE_DIR_GRADTAP=${GRADTAP})

# Installed, the agent alone, with the LibTorch of a folder.
relocate(${SCRATCH}/torch torch_dir)
string(REGEX REPLACE "/(lib/[^/]+|share)/cmake/Torch$" "" torch ${torch_dir})
configure(${GRADTAP} ${SCRATCH}/alone ${torch_dir}
  -DGRADTAP_BUILD_SERVER=OFF -DGRADTAP_BUILD_TESTS=OFF
  -DGRADTAP_BUILD_EXAMPLES=OFF)
run(${CMAKE_COMMAND} --build ${SCRATCH}/alone)
run(${CMAKE_COMMAND} --install ${SCRATCH}/alone --prefix ${SCRATCH}/prefix)
# A project that wants more than the agent is told that it is not there.
execute_process(COMMAND ${CMAKE_COMMAND} -S ${SOURCE} -B ${SCRATCH}/more -G Ninja
    -Wno-dev -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix -DTorch_DIR=${TORCH_DIR}
  OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE result)
if(result EQUAL 0 OR NOT out MATCHES "no[ \n]+component[ \n]+'client'.*no[ \n]+component[ \n]+'collector'")
  message(FATAL_ERROR "that neither client nor collector is there is not said:\n${out}")
endif()
# Beside another LibTorch in /usr a project of one's own has to say it twice:
# docs/installing.md, "Another LibTorch".
set(ENV{CMAKE_PREFIX_PATH} ${torch})
adopt(${SCRATCH}/adopt ${SCRATCH}/prefix ${torch_dir})
expect_torch(${SCRATCH}/alone agent/libgradtap_agent.so ${torch})
expect_torch(${SCRATCH}/adopt/build regress ${torch})

file(REMOVE_RECURSE ${SCRATCH})
