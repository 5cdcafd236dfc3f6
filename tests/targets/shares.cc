// Four kinds of work in C++: templates, virtual calls, a tree, strings. See phases.h.
#include "phases.h"
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define PHASE __attribute__((noinline, noclone))

static volatile long sink;

template <typename Work> static inline long long for_a_while(Work work) {
    long long start = thread_nanos(), length = phase_length();
    do
        work();
    while (thread_nanos() - start < length);
    return thread_nanos() - start;
}

struct Shape {
    virtual ~Shape() = default;
    virtual long area() const = 0;
};
struct Square : Shape {
    long side;
    explicit Square(long side) : side(side) {}
    PHASE long area() const override { return side * side; }
};

PHASE static long long sorting() {
    std::vector<int> numbers(2000);
    return for_a_while([&] {
        for (auto &n : numbers)
            n = static_cast<int>(chance(1000000));
        std::sort(numbers.begin(), numbers.end());
        sink += numbers[0];
    });
}

PHASE static long long virtual_calls() {
    std::vector<std::unique_ptr<Shape>> shapes;
    for (int i = 0; i < 100; i++)
        shapes.push_back(std::make_unique<Square>(i));
    return for_a_while([&] {
        for (int i = 0; i < 50; i++)
            for (auto &shape : shapes)
                sink += shape->area();
    });
}

PHASE static long long tree() {
    std::map<int, int> numbers;
    return for_a_while([&] {
        for (int i = 0; i < 200; i++)
            numbers[static_cast<int>(chance(5000))]++;
    });
}

PHASE static long long strings() {
    return for_a_while([] {
        std::string text;
        for (int i = 0; i < 200; i++)
            text += std::to_string(i);
        sink += static_cast<long>(text.size());
    });
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    static const struct {
        const char *name;
        long long (*run)();
        unsigned weight;
    } phases[] = {{"sorting", sorting, 50}, {"virtual_calls", virtual_calls, 30}, {"tree", tree, 15}, {"strings", strings, 5}};
    long long spent[4] = {0}, total = 0;
    while (total < seconds * 1e9) {
        unsigned at = chance(100), n = 0;
        while (at >= phases[n].weight)
            at -= phases[n++].weight;
        long long nanos = phases[n].run();
        spent[n] += nanos;
        total += nanos;
    }
    for (int n = 0; n < 4; n++)
        printf("%s %lld\n", phases[n].name, spent[n]);
    return 0;
}
