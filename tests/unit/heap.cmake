# The heap: every part of dsm-core/heap and the allocator in shim/.
add_executable(unit_heap group_arena.cpp heap_adoption.cpp heap_allocator.cpp heap_arena.cpp heap_bits.cpp heap_check.cpp heap_decay.cpp heap_forking.cpp
               heap_ops.cpp heap_page.cpp heap_repair.cpp heap_size_class.cpp heap_take_back.cpp)
target_link_libraries(unit_heap PRIVATE aep_shim test_main)
gtest_discover_tests(unit_heap TEST_PREFIX unit. DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 300)
