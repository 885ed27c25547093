# The programs that ask the kernel about rseq(2), and a program behind a filter: explain/NAME.
foreach(name calls filtered_thread)
  add_executable(explain.${name} explain/${name}.c)
  set_target_properties(explain.${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY explain)
  target_compile_options(explain.${name} PRIVATE -pthread)
  target_link_libraries(explain.${name} PRIVATE -pthread)
endforeach()
