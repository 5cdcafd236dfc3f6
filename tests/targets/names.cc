// C++ names: a template's method, a namespace, an operator, a lambda. `names SECONDS`
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

static volatile long sink;
static double end;

static bool going_on() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 < end;
}

namespace warehouse {
template <typename T> struct Shelf {
    __attribute__((noinline)) long operator()(const std::vector<T> &things) const {
        while (going_on())
            for (int i = 0; i < 100000; i++)
                sink += static_cast<long>(things.size());
        return sink;
    }
    template <typename U> __attribute__((noinline)) long fill(U more) const {
        long n = (*this)({T(), T()}) + static_cast<long>(more);
        sink += n;
        return n;
    }
};
} // namespace warehouse

int main(int, char **argv) {
    end = std::atof(argv[1]);
    auto run = [](int n) __attribute__((noinline)) {
        long filled = warehouse::Shelf<std::string>().fill(n);
        sink += filled;
        return filled;
    };
    return run(1) == 0;
}
