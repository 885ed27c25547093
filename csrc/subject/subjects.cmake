# The built-in subjects: subjects/NAME.so. Static programs hold them, too (rsm_program in CMakeLists.txt).
check_c_compiler_flag(-fcf-protection=none RSM_HAS_CF_PROTECTION) # x86-64's
foreach(name split atomic list)
  add_library(subject.${name} SHARED subject/${name}.c)
  set_target_properties(subject.${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY subjects)
  if(RSM_HAS_CF_PROTECTION) # their vfork() and clone() know nothing of shadow stacks
    target_compile_options(subject.${name} PRIVATE -fcf-protection=none)
  endif()
  target_link_options(subject.${name} PRIVATE LINKER:-z,nodelete) # threads' rseq_cs may point into them
endforeach()
