# Compiles the kernels of a job with nvcc. Run by the target `cubins` of CMakeLists.txt with DOTNET, NVCC, SOURCE, OUT, ARCHITECTURES and JOB.
separate_arguments(job UNIX_COMMAND "${JOB}")
execute_process(
  COMMAND ${DOTNET} run -c Release --no-build --project ${SOURCE}/src/Cli -- compile --list ${job}
  OUTPUT_VARIABLE kernels COMMAND_ERROR_IS_FATAL ANY)
file(MAKE_DIRECTORY ${OUT})

# One kernel per line: the file, then its macros.
string(REGEX REPLACE "\n$" "" kernels "${kernels}")
string(REPLACE "\n" ";" kernels "${kernels}")
foreach(kernel IN LISTS kernels)
  separate_arguments(words UNIX_COMMAND "${kernel}")
  list(POP_FRONT words file)
  get_filename_component(name ${file} NAME_WE)
  string(MD5 hash "${kernel}")
  foreach(architecture IN LISTS ARCHITECTURES)
    set(cubin ${OUT}/${name}-${hash}.${architecture}.cubin)
    if(NOT ${cubin} IS_NEWER_THAN ${SOURCE}/kernels/${file})
      execute_process(
        COMMAND ${NVCC} -cubin -arch=${architecture} -std=c++17 -lineinfo ${words} -o ${cubin} ${SOURCE}/kernels/${file}
        COMMAND_ERROR_IS_FATAL ANY COMMAND_ECHO STDOUT)
    endif()
  endforeach()
endforeach()
