# Tests of the pool, the backings and messages (targets unit_pool, unit_pool_tables, unit_pool_root, unit_pool_crash).
# ThreadSanitizer keeps its own memory where the heap window is: only the tables, on ordinary memory, are tested under it.
add_executable(unit_pool_tables pool_tables.cpp)
target_link_libraries(unit_pool_tables PRIVATE dsm_core test_main)
gtest_discover_tests(unit_pool_tables DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 180)

if(NOT AEP_SANITIZE STREQUAL "thread")
  add_executable(unit_pool pool_anonymous.cpp pool_claims.cpp pool_paths.cpp pool_device.cpp pool_exhaustion.cpp pool_files.cpp
    pool_fork.cpp pool_fork_memory.cpp pool_grow.cpp pool_headroom.cpp pool_message.cpp)
  target_link_libraries(unit_pool PRIVATE aep_shim_backing test_main)
  gtest_discover_tests(unit_pool DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 180)

  # Mounts hugetlbfs, makes a memory cgroup, changes root: as root only (ctest -LE root leaves it out).
  # One label that both -L unit and -L root find: a list would not survive the discovery of tests.
  add_executable(unit_pool_root pool_root.cpp)
  target_link_libraries(unit_pool_root PRIVATE aep_shim_backing test_main)
  gtest_discover_tests(unit_pool_root DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit.root TIMEOUT 180)

  # The same sources once more, with the places where the kill test ends a process.
  file(GLOB crash_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/dsm-core/pool/*.cpp ${PROJECT_SOURCE_DIR}/shim/sys/*.cpp
       ${PROJECT_SOURCE_DIR}/shim/backing/*.cpp)
  add_executable(unit_pool_crash pool_crash_points.cpp ${crash_sources})
  target_include_directories(unit_pool_crash PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(unit_pool_crash PRIVATE AEP_CRASH_POINTS=1)
  target_link_libraries(unit_pool_crash PRIVATE test_main)
  gtest_discover_tests(unit_pool_crash DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 300)
endif()
