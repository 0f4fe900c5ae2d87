# The CUDA backend: whether it is built, and for which GPUs. Without a toolkit src/backend/no_cuda/ stands in for it.
# The runtime is linked statically and the driver is found at run time, so that one program runs with and without a GPU.

# The compute capability of the GPU that is there, as an architecture ("89", "90a"), or 90a.
function(halftone_default_cuda_architecture result)
  set(${result} 90a PARENT_SCOPE)
  find_program(NVIDIA_SMI nvidia-smi)
  if(NVIDIA_SMI)
    execute_process(COMMAND ${NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE found
                    RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed AND found MATCHES "^([0-9]+)\\.([0-9]+)")
      set(capability ${CMAKE_MATCH_1}${CMAKE_MATCH_2})
      string(REPLACE 90 90a capability ${capability})
      set(${result} ${capability} PARENT_SCOPE)
    endif()
  endif()
endfunction()

string(TOLOWER "${HALFTONE_CUDA}" HALFTONE_CUDA)
if(NOT HALFTONE_CUDA MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "HALFTONE_CUDA: expected auto, on or off, found '${HALFTONE_CUDA}'")
endif()
set(HALFTONE_BUILD_CUDA OFF)
if(NOT HALFTONE_CUDA STREQUAL "off")
  # nvcc is rarely on the PATH where the toolkit is
  find_program(HALFTONE_NVCC nvcc HINTS ${CUDAToolkit_ROOT}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
  if(HALFTONE_NVCC)
    if(NOT HALFTONE_CUDA_ARCHITECTURES)
      halftone_default_cuda_architecture(HALFTONE_CUDA_ARCHITECTURES)
    endif()
    # the architectures are given as flags: CMake 3.25 does not know all of their names
    set(CMAKE_CUDA_ARCHITECTURES OFF)
    set(CMAKE_CUDA_COMPILER ${HALFTONE_NVCC})
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that this compiler takes it
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    # the formats' constexpr functions run on the device as they are
    add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
    find_package(CUDAToolkit REQUIRED)
    foreach(architecture ${HALFTONE_CUDA_ARCHITECTURES})
      add_compile_options(
        "$<$<COMPILE_LANGUAGE:CUDA>:--generate-code=arch=compute_${architecture},code=sm_${architecture}>")
    endforeach()
    set(HALFTONE_BUILD_CUDA ON)
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${HALFTONE_CUDA_ARCHITECTURES}")
  elseif(HALFTONE_CUDA STREQUAL "on")
    message(FATAL_ERROR "HALFTONE_CUDA is on, but there is no nvcc on the PATH, below CUDA_PATH or in /usr/local/cuda")
  endif()
endif()
