// A statically linked program ignores LD_PRELOAD: it runs as ever, and so do the preloaded programs
// it starts. Linked with -static; run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include "tests/conformance/population.hpp"

static check::Population<300> s_all;

int main() {
    check::begin();
    check::begin_case("static program");
    s_all.make(1u << 20, 1);
    s_all.renew();
    s_all.check();
    CHECK(system("echo from a dynamic child >/dev/null") == 0);
    CHECK_CHILD(check::run_in_child([] {
        s_all.check();
        s_all.free_all();
    }));
    s_all.check();
    s_all.free_all();
    return check::result();
}
