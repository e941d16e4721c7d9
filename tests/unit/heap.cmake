# The heap: every part of dsm-core/heap and the allocator in shim/.
add_executable(unit_heap base_biased_lock.cpp base_slot_lock.cpp group_arena.cpp patience.cpp heap_adoption.cpp heap_allocator.cpp heap_arena.cpp heap_bits.cpp heap_check.cpp heap_decay.cpp heap_forking.cpp heap_growth.cpp
               heap_ops.cpp heap_page.cpp heap_page_model.cpp heap_repair.cpp heap_size_class.cpp heap_take_back.cpp)
target_link_libraries(unit_heap PRIVATE aep_shim test_main)
gtest_discover_tests(unit_heap TEST_PREFIX unit. DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 300)

# The same sources once more, with the named points in the middle of operations.
file(GLOB heap_point_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/dsm-core/heap/*.cpp
     ${PROJECT_SOURCE_DIR}/dsm-core/op/*.cpp)
add_executable(unit_heap_points heap_points.cpp ${heap_point_sources})
target_compile_definitions(unit_heap_points PRIVATE AEP_CRASH_POINTS=1)
target_link_libraries(unit_heap_points PRIVATE aep_shim test_main)
gtest_discover_tests(unit_heap_points TEST_PREFIX unit. DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 300)
