// Purpose: a tree code (after Barnes and Hut): many bodies of about 100 bytes, each an object of
// its
//          own, and an octree of them that is built, walked and freed in each step.
// Who calls it: bench/driver/workloads.py: aep_bench_bodies BODIES STEPS
// Crash rule: nothing outlives the process.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

namespace {

using Vector = std::array<double, 3>;

constexpr double NEAR = 1e-4;    // softening: bodies closer than this do not fly apart
constexpr double OPENING = 0.8;  // a cell seen smaller than this counts as one body
constexpr double STEP = 0.01;
constexpr int DEEPEST = 40;  // below it two bodies are at one place

struct Body {
    Vector position;
    Vector velocity;
    Vector force;
    double mass;
    Body* next;  // in the same cell
};

struct Cell {
    Vector centre;
    double half;
    Vector weighted;  // sum of position * mass, then the centre of mass
    double mass;
    Body* bodies;
    std::array<Cell*, 8> parts;
};

/// An object of its own by malloc, all zero.
template <class Object>
Object* make() {
    void* const memory = std::malloc(sizeof(Object));
    if (memory == nullptr) std::exit(3);
    return new (memory) Object{};
}

double draw() {
    static std::uint64_t state = 11;
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state >> 11U) / 9007199254740992.0;
}

Cell* make_cell(const Vector& centre, double half) {
    Cell* const cell = make<Cell>();
    cell->centre = centre;
    cell->half = half;
    return cell;
}

void insert(Cell* cell, Body* body, int depth);

void into_part(Cell* cell, Body* body, int depth) {
    unsigned which = 0;
    Vector centre = cell->centre;
    for (unsigned axis = 0; axis < 3; ++axis) {
        const bool upper = body->position[axis] >= cell->centre[axis];
        which |= upper ? 1U << axis : 0U;
        centre[axis] += upper ? cell->half / 2 : -cell->half / 2;
    }
    if (cell->parts[which] == nullptr) cell->parts[which] = make_cell(centre, cell->half / 2);
    insert(cell->parts[which], body, depth + 1);
}

/// A cell holds one body, or parts, or at the deepest level any number of bodies.
void insert(Cell* cell, Body* body, int depth) {
    const bool was_empty = cell->mass == 0;
    cell->mass += body->mass;
    for (unsigned axis = 0; axis < 3; ++axis)
        cell->weighted[axis] += body->position[axis] * body->mass;
    if (was_empty || depth == DEEPEST) {
        body->next = cell->bodies;
        cell->bodies = body;
        return;
    }
    if (Body* const only = cell->bodies) {
        cell->bodies = nullptr;
        only->next = nullptr;
        into_part(cell, only, depth);
    }
    into_part(cell, body, depth);
}

void find_centres(Cell* cell) {
    for (double& sum : cell->weighted) sum /= cell->mass;
    for (Cell* const part : cell->parts)
        if (part != nullptr) find_centres(part);
}

void attract(Body* body, const Cell* cell) {
    Vector away;
    double square = NEAR;
    for (unsigned axis = 0; axis < 3; ++axis) {
        away[axis] = cell->weighted[axis] - body->position[axis];
        square += away[axis] * away[axis];
    }
    if (cell->bodies != nullptr || 4 * cell->half * cell->half < OPENING * OPENING * square) {
        const double pull = cell->mass / (square * std::sqrt(square));
        for (unsigned axis = 0; axis < 3; ++axis) body->force[axis] += away[axis] * pull;
        return;
    }
    for (const Cell* const part : cell->parts)
        if (part != nullptr) attract(body, part);
}

void release(Cell* cell) {
    for (Cell* const part : cell->parts)
        if (part != nullptr) release(part);
    std::free(cell);
}

void step(std::vector<Body*>& bodies) {
    double half = 1;
    for (const Body* const body : bodies)
        for (const double at : body->position) half = std::fmax(half, std::fabs(at));
    Cell* const root = make_cell({}, half * 1.001);
    for (Body* const body : bodies) {
        body->next = nullptr;
        insert(root, body, 0);
    }
    find_centres(root);
    // A tenth of the forces a step: the work is to be the tree's more than the arithmetic's.
    for (std::size_t i = 0; i < bodies.size(); i += 10) {
        bodies[i]->force = {};
        attract(bodies[i], root);
    }
    release(root);
    for (Body*& body : bodies) {
        for (unsigned axis = 0; axis < 3; ++axis) {
            body->velocity[axis] += body->force[axis] * STEP;
            body->position[axis] += body->velocity[axis] * STEP;
        }
        // A body moves to memory of its own from time to time, as in a code that balances load.
        if (draw() < 0.1) {
            Body* const moved = make<Body>();
            *moved = *body;
            std::free(body);
            body = moved;
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s BODIES STEPS\n", argv[0]);
        return 2;
    }
    std::vector<Body*> bodies(static_cast<std::size_t>(std::atoi(argv[1])));
    for (Body*& body : bodies) {
        body = make<Body>();
        for (unsigned axis = 0; axis < 3; ++axis) body->position[axis] = 2 * draw() - 1;
        body->mass = 1.0 / static_cast<double>(bodies.size());
    }
    for (int i = 0; i < std::atoi(argv[2]); ++i) step(bodies);
    double sum = 0;
    for (Body* const body : bodies) {
        sum += body->position[0] + body->velocity[1];
        std::free(body);
    }
    std::printf("bodies: %zu, %.9g\n", bodies.size(), sum);
    return 0;
}
