# The built-in subjects: subjects/NAME.so. Static programs hold them, too (rsm_program in CMakeLists.txt).
foreach(name split atomic list)
  add_library(subject.${name} SHARED subject/${name}.c)
  set_target_properties(subject.${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY subjects)
endforeach()
