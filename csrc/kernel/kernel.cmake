# The programs that ask the kernel about rseq(2), and what becomes of a program behind a filter: kernel/NAME.
foreach(name calls filtered_thread)
  add_executable(kernel.${name} kernel/${name}.c)
  set_target_properties(kernel.${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY kernel)
  target_compile_options(kernel.${name} PRIVATE -pthread)
  target_link_libraries(kernel.${name} PRIVATE -pthread)
endforeach()
