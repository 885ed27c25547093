# The programs that `rseq-matrix verify` runs a subject in: verify/NAME. A subject is preloaded, so they name no symbol of it.
add_executable(verify.interrupted verify/interrupted.c)
set_target_properties(verify.interrupted PROPERTIES OUTPUT_NAME interrupted RUNTIME_OUTPUT_DIRECTORY verify)
target_compile_options(verify.interrupted PRIVATE -pthread)
target_link_libraries(verify.interrupted PRIVATE -pthread ${CMAKE_DL_LIBS})

add_executable(verify.stress
  verify/stress.c verify/stress_run.c verify/stress_writer.c verify/stress_operation.c rseq/allowed_cpus.c
  verify/stress_share.c verify/stress_threads.c verify/stress_children.c verify/stress_disturb.c verify/stress_collide.c verify/stress_report.c
  verify/supervised.c)
set_target_properties(verify.stress PROPERTIES OUTPUT_NAME stress RUNTIME_OUTPUT_DIRECTORY verify)
target_compile_options(verify.stress PRIVATE -pthread)
target_link_libraries(verify.stress PRIVATE -pthread ${CMAKE_DL_LIBS})

add_executable(verify.history
  verify/history.c verify/history_rounds.c verify/history_operation.c rseq/allowed_cpus.c verify/supervised.c)
set_target_properties(verify.history PROPERTIES OUTPUT_NAME history RUNTIME_OUTPUT_DIRECTORY verify)
target_compile_options(verify.history PRIVATE -pthread)
target_link_libraries(verify.history PRIVATE -pthread ${CMAKE_DL_LIBS})

add_executable(verify.speed verify/speed.c)
set_target_properties(verify.speed PROPERTIES OUTPUT_NAME speed RUNTIME_OUTPUT_DIRECTORY verify)
target_compile_options(verify.speed PRIVATE -pthread)
target_link_libraries(verify.speed PRIVATE -pthread ${CMAKE_DL_LIBS})
