// Purpose: named places where a test kills the process. With -DAEP_CRASH_POINTS (the kill tests) a
//          hook is called there. With -DAEP_CRASH_NOTES (the image) a point is one nop whose
//          address and name stand in the section .aep_points of the file, which is never loaded: a
//          debugger stops a thread there. Else nothing.
// Who calls it: every operation with more than one step that others can see.
// Crash rule: this is how crash rules are tested: what the sources promise holds at each of these
//             places.
//
// Each folder lists its points in one array, and a point that is not in the list does not compile,
// so that a test can visit all of them and fail if one is never reached.
#pragma once

#if defined(AEP_CRASH_POINTS) || defined(AEP_CRASH_NOTES)

namespace aep {

void this_crash_point_is_not_in_the_list_of_its_folder();  // never defined

consteval const char* known_crash_point(const char* name, const auto& list) {
    for (const char* known : list) {
        const char* a = name;
        const char* b = known;
        while (*a != '\0' && *a == *b) {
            ++a;
            ++b;
        }
        if (*a == *b) return known;
    }
    this_crash_point_is_not_in_the_list_of_its_folder();
    return nullptr;
}

}  // namespace aep
#endif

#if defined(AEP_CRASH_NOTES)

// Address (8 bytes), then the name, zero-terminated.
#define AEP_CRASH_POINT(list, name)                                                              \
    do {                                                                                         \
        [[maybe_unused]] constexpr const char* aep_point = ::aep::known_crash_point(name, list); \
        asm volatile(                                                                            \
            "990: nop\n\t.pushsection .aep_points,\"\",@progbits\n\t.quad 990b\n\t"              \
            ".asciz \"" name "\"\n\t.popsection");                                               \
    } while (false)

#elif defined(AEP_CRASH_POINTS)

namespace aep {
/// Called at every point with its name. Null: nothing happens.
inline void (*crash_point_hook)(const char* name) = nullptr;
}  // namespace aep

#define AEP_CRASH_POINT(list, name)                                                 \
    do {                                                                            \
        constexpr const char* aep_point = ::aep::known_crash_point(name, list);     \
        if (::aep::crash_point_hook != nullptr) ::aep::crash_point_hook(aep_point); \
    } while (false)

#else
#define AEP_CRASH_POINT(list, name) static_cast<void>(0)
#endif
