# The programs that `rseq-matrix verify` runs a subject in: verify/NAME. A subject is preloaded, so they name no symbol of it.

# rsm_verify(NAME SOURCES...)
function(rsm_verify name)
  add_executable(verify.${name} ${ARGN})
  set_target_properties(verify.${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY verify)
  target_compile_options(verify.${name} PRIVATE -pthread)
  target_link_libraries(verify.${name} PRIVATE -pthread ${CMAKE_DL_LIBS})
endfunction()

rsm_verify(interrupted verify/interrupted.c)
rsm_verify(speed verify/speed.c)
rsm_verify(stress
  verify/stress/stress.c verify/stress/run.c verify/stress/writer.c verify/stress/operation.c verify/stress/share.c
  verify/stress/thread_workers.c verify/stress/child_workers.c verify/stress/disturb.c verify/stress/find_commit.c
  verify/stress/collide.c verify/stress/report.c verify/supervised.c rseq/allowed_cpus.c)
rsm_verify(history
  verify/history/history.c verify/history/rounds.c verify/history/push_pop.c verify/supervised.c rseq/allowed_cpus.c)
