# The programs by which `rseq-matrix doctor` finds out what holds here: doctor/NAME.
foreach(name behaviour barrier place)
  add_executable(doctor.${name} doctor/${name}.c rseq/allowed_cpus.c)
  set_target_properties(doctor.${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY doctor)
  target_compile_options(doctor.${name} PRIVATE -pthread)
  target_link_libraries(doctor.${name} PRIVATE -pthread)
endforeach()
