// operator new of a plugin when there is no memory, in a program without a C++ runtime that opens
// it for itself alone (RTLD_LOCAL): the plugin's new-handler is called, std::bad_alloc arrives in
// the plugin, nothrow gives null. Linked as C. Run by CTest through run.sh in all modes; arguments:
// the plugin with the runtime as a library, and with one of its own. Crash rule: check.hpp.
#include <dlfcn.h>

#include "tests/conformance/check.hpp"

static const size_t k_too_big = check::opaque<size_t>(size_t{1} << 60);

static void in_plugin(const char* path) {
    check::begin_case(path);
    void* plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(plugin != nullptr, "%s", dlerror());
    auto throws = reinterpret_cast<int (*)(int, size_t)>(dlsym(plugin, "plugin_throws"));
    auto gives_null =
        reinterpret_cast<int (*)(int, size_t, int)>(dlsym(plugin, "plugin_gives_null"));
    REQUIRE(throws != nullptr && gives_null != nullptr);
    for (int form = 0; form < 4; ++form) {
        const int thrown = throws(form, k_too_big);
        CHECK(thrown == 1003, "form %d: %d", form, thrown);
        const int gave_up = gives_null(form, k_too_big, 0);
        CHECK(gave_up == 1003, "form %d: %d", form, gave_up);
        const int handler_threw = gives_null(form, k_too_big, 1);
        CHECK(handler_threw == 1001, "form %d: %d", form, handler_threw);
    }
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 2, "usage: new_in_plugin PLUGIN...");
    REQUIRE(dlsym(RTLD_DEFAULT, "_ZSt15get_new_handlerv") == nullptr, "this program is C++");
    // One process each: the first one's runtime would serve the second.
    for (int i = 1; i < argc; ++i) CHECK_CHILD(check::run_in_child([&] { in_plugin(argv[i]); }));
    return check::result();
}
