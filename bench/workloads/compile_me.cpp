// Purpose: a source for the compiler to work on: templates and containers of the standard library.
// Who calls it: bench/driver/workloads.py compiles it; it is part of no target and never run.
// Crash rule: not part of the library.
#include <map>
#include <string>
#include <vector>

template <int N>
struct Polygon {
    double side = N;
    double area() const { return side * side * N / 4.0; }
};

template <int N>
void add_all(std::vector<double>& areas) {
    if constexpr (N > 2) {
        areas.push_back(Polygon<N>().area());
        add_all<N - 1>(areas);
    }
}

std::string describe() {
    std::vector<double> areas;
    add_all<60>(areas);
    std::map<std::string, std::vector<double>> by_name;
    for (const double area : areas) {
        const auto add = [&](auto name) { by_name[std::to_string(area) + name].push_back(area); };
        add("shape");
    }
    return by_name.begin()->first;
}
