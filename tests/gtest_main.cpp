// Purpose: main() of every GoogleTest binary: enters the tests' world, and says what could not be
//          tested here.
// Who calls it: the loader; linked by target test_main instead of GTest::gtest_main.
// Crash rule: enters the world by exec, before anything is done.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

/// ctest and ci/test.sh know this exit code: nothing was tested.
constexpr int CANNOT_RUN = 77;

/// Starts this program again by world.sh, unless it runs in that world already.
void enter_world(int argc, char** argv) {
    if (getenv("AEP_TEST_WORLD") != nullptr) return;
    static char program[4096];
    if (readlink("/proc/self/exe", program, sizeof program - 1) > 0) {
        static char world[] = AEP_TEST_WORLD_SH;
        std::vector<char*> words = {world, program};
        words.insert(words.end(), argv + 1, argv + argc);
        words.push_back(nullptr);
        execv(world, words.data());
    }
    std::perror("the world of the tests, " AEP_TEST_WORLD_SH);
    _exit(2);
}

/// Prints a line for each test that was skipped, and counts what was not.
class CannotRun : public testing::EmptyTestEventListener {
  public:
    bool anything_ran() const { return ran_ != 0 || skipped_ == 0; }

  private:
    void OnTestStart(const testing::TestInfo&) override { reason_ = "no reason is given"; }
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.skipped()) reason_ = result.message();
    }
    void OnTestEnd(const testing::TestInfo& test) override {
        const bool skipped = test.result()->Skipped();
        (skipped ? skipped_ : ran_) += 1;
        if (!skipped) return;
        if (reason_.rfind("Skipped\n", 0) == 0) reason_.erase(0, std::strlen("Skipped\n"));
        std::printf("CANNOT RUN: %s.%s: %s\n", test.test_suite_name(), test.name(),
                    reason_.c_str());
    }

    int ran_ = 0;
    int skipped_ = 0;
    std::string reason_;
};

}  // namespace

int main(int argc, char** argv) {
    // The build asks for the names of the tests: it needs no world for that.
    const bool lists = argc > 1 && std::strncmp(argv[1], "--gtest_list_tests", 18) == 0;
    if (!lists) enter_world(argc, argv);
    testing::InitGoogleTest(&argc, argv);
    auto* cannot_run = new CannotRun;
    testing::UnitTest::GetInstance()->listeners().Append(cannot_run);  // it owns it now
    const int result = RUN_ALL_TESTS();
    return result == 0 && !cannot_run->anything_ran() ? CANNOT_RUN : result;
}
