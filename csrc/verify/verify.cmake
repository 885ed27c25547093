# The programs that `rseq-matrix verify` runs a subject in: verify/NAME. A subject is preloaded, so they name no symbol of it.
add_executable(verify.interrupted verify/interrupted.c)
set_target_properties(verify.interrupted PROPERTIES OUTPUT_NAME interrupted RUNTIME_OUTPUT_DIRECTORY verify)
target_compile_options(verify.interrupted PRIVATE -pthread)
target_link_libraries(verify.interrupted PRIVATE -pthread ${CMAKE_DL_LIBS})
