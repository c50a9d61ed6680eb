# Compiles fused_cuda.cu into gradtap_fused: with GRADTAP_CUDA_KERNELS.
#
# By a command of its own: LibTorch's package switches CMake's choice of
# architectures off and puts flags of its own into CMAKE_CUDA_FLAGS, and both
# differ between its versions. The kernels use CUDA's runtime alone, the one that
# LibTorch links.
find_program(GRADTAP_NVCC nvcc
  HINTS ${CUDAToolkit_BIN_DIR} ${CUDA_TOOLKIT_ROOT_DIR}/bin
    $ENV{CUDACXX} $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
if(NOT GRADTAP_NVCC)
  message(FATAL_ERROR "GRADTAP_CUDA_KERNELS: nvcc was not found: set GRADTAP_NVCC to it")
endif()

# The GPUs are those that LibTorch's own extensions would be built for.
set(architectures ${TORCH_CUDA_ARCH_LIST})
if(NOT architectures)
  set(architectures $ENV{TORCH_CUDA_ARCH_LIST})
endif()
set(gencode)
string(REGEX MATCHALL "[0-9]+\\.[0-9]+[a-z]?(\\+PTX)?" architectures "${architectures}")
foreach(architecture IN LISTS architectures)
  string(REGEX MATCH "^([0-9]+)\\.([0-9]+[a-z]?)(\\+PTX)?$" _ "${architecture}")
  set(number ${CMAKE_MATCH_1}${CMAKE_MATCH_2})
  list(APPEND gencode "-gencode=arch=compute_${number},code=sm_${number}")
  if(CMAKE_MATCH_3)
    list(APPEND gencode "-gencode=arch=compute_${number},code=compute_${number}")
  endif()
endforeach()
if(NOT gencode)
  set(gencode -arch=all-major)
endif()
message(STATUS "gradtap: ${GRADTAP_NVCC} ${gencode}")

set(host_flags -fPIC,-fvisibility=hidden)
set(host_compiler)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(host_compiler -ccbin ${CMAKE_CXX_COMPILER})
endif()
set(object ${CMAKE_CURRENT_BINARY_DIR}/fused_cuda.o)
add_custom_command(OUTPUT ${object}
  COMMAND ${GRADTAP_NVCC} -std=c++17 -O3 ${gencode} ${host_compiler}
    -Xcompiler=${host_flags} -I${PROJECT_SOURCE_DIR} -MD -MF ${object}.d
    -c ${CMAKE_CURRENT_SOURCE_DIR}/fused_cuda.cu -o ${object}
  DEPENDS fused_cuda.cu
  DEPFILE ${object}.d
  COMMENT "nvcc: fused_cuda.cu"
  VERBATIM)
target_sources(gradtap_fused PRIVATE ${object})
set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
foreach(cudart CUDA::cudart torch::cudart)
  if(TARGET ${cudart})
    target_link_libraries(gradtap_fused PRIVATE $<BUILD_INTERFACE:${cudart}>)
    break()
  endif()
endforeach()
