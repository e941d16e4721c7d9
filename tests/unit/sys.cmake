# What shim/sys does for the process. A raw thread has nothing that a sanitizer could watch it by.
if(NOT AEP_SANITIZE)
  add_executable(unit_sys sys_raw_thread.cpp)
  target_link_libraries(unit_sys PRIVATE aep_shim_sys test_main)
  gtest_discover_tests(unit_sys TEST_PREFIX unit. DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 60)
endif()
