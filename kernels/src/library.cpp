// The functions of the shared library: plain C, without Python and PyTorch. This file runs on every x86-64 CPU.
//
// Threads start with a call, take chunks of sequences until none is left, and end with the call: they meet only there,
// and no pool of threads waits beside that of PyTorch. Any number of callers may call at once.
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <system_error>
#include <thread>
#include <vector>

#include "layer.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// The build has a copy of lstm.cpp for each set that the compiler knows.
extern const InstructionSet instruction_set_avx2, instruction_set_avxvnni, instruction_set_avx512vnni,
    instruction_set_avx512bf16;

namespace {

const InstructionSet *const SETS[] = { // the best one last
    &instruction_set_avx2,
#ifdef HAS_avxvnni
    &instruction_set_avxvnni,
#endif
#ifdef HAS_avx512vnni
    &instruction_set_avx512vnni,
#endif
#ifdef HAS_avx512bf16
    &instruction_set_avx512bf16,
#endif
};
const int INTERFACE = 1; // changes with the functions below
const int ROWS = 6, CHUNK = 24; // sequences of a tile and at most of a chunk: few, so that they stay in the cache

enum Problem { NONE, NO_MEMORY, NOT_FINITE, UNFIT };

// Return whether this CPU, and the system that keeps its registers, have what a set needs.
bool runs(const char *name) {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (!strcmp(name, "avx2")) return avx2;
    if (!strcmp(name, "avxvnni")) return avx2 && __builtin_cpu_supports("avxvnni");
    if (!strcmp(name, "avx512vnni")) return avx512;
    return avx512 && __builtin_cpu_supports("avx512bf16");
}

const Functions *functions(int set, int precision) {
    if (set < 0 || set >= (int)std::size(SETS) || precision < 0 || precision >= PRECISIONS) return nullptr;
    const Functions &found = SETS[set]->functions[precision];
    return found.run && runs(SETS[set]->name) ? &found : nullptr;
}

const Functions &functions(const Lstm &layer) { return layer.set->functions[layer.precision]; }

// Sums of larger weights might not be finite, which the limits of the activations would hide.
bool are_small(const float *weights, int64_t count) {
    return std::all_of(weights, weights + count, [](float weight) { return std::fabs(weight) <= 1e30f; });
}

char *allocate(int64_t bytes) { return (char *)aligned_alloc(64, (bytes + 63) / 64 * 64); }

} // namespace

EXPORTED int bandsplit_interface() { return INTERFACE; }

EXPORTED int bandsplit_sets() { return std::size(SETS); }

EXPORTED const char *bandsplit_set_name(int set) { return SETS[set]->name; }

EXPORTED int bandsplit_set_runs(int set) { return runs(SETS[set]->name); }

EXPORTED int bandsplit_set_has(int set, int precision) { return SETS[set]->functions[precision].run != nullptr; }

// Pack a layer: weights of the gates (d 4m n+m+1), in the order input, forget, output, candidate, with the bias as the
// last column; those of the linear layer (d n m), and its bias (n). The weights are not needed afterwards.
EXPORTED int bandsplit_lstm_pack(int set, int precision, int n, int m, int groups, float eps, const float *weight,
                                 const float *project, const float *bias, void **packed) {
    const Functions *known = functions(set, precision);
    if (!known || n <= 0 || m <= 0 || groups <= 0 || n % (16 * groups) || m % 16) return UNFIT;
    if (!are_small(weight, (int64_t)8 * m * (n + m + 1)) || !are_small(project, (int64_t)2 * n * m) || !are_small(bias, n)) {
        return NOT_FINITE;
    }
    Lstm layer{n, m, groups, eps, (Precision)precision, SETS[set], {}, {}, {}, {}, {}};
    Room room{nullptr, 0};
    room.take<Lstm>(1);
    known->place(layer, room);
    room = {allocate(room.bytes), 0};
    if (!room.address) return NO_MEMORY;
    Lstm *kept = room.take<Lstm>(1);
    known->place(layer, room);
    known->pack(layer, weight, project, bias);
    *kept = layer;
    *packed = kept;
    return NONE;
}

EXPORTED void bandsplit_lstm_free(void *packed) { free(packed); }

// Write y = x + layer(x), at the same places of another array of the same size, in as many threads.
EXPORTED int bandsplit_lstm_run(const void *packed, const float *x, float *y, const int64_t *counts,
                                const int64_t *strides, int64_t steps, int64_t stride, int threads) {
    const Lstm &layer = *(const Lstm *)packed;
    Sequences all{{counts[0], counts[1], counts[2]}, {strides[0], strides[1], strides[2]}, steps, stride};
    const int64_t total = counts[0] * counts[1] * counts[2];
    if (total <= 0 || steps <= 0) return NONE;
    // As many chunks for each thread, of as many tiles, as nearly as possible.
    const int64_t tiles = (total + ROWS - 1) / ROWS;
    threads = (int)std::min<int64_t>(std::max(threads, 1), tiles);
    const int64_t chunks = (tiles * ROWS + (int64_t)CHUNK * threads - 1) / (CHUNK * threads) * threads;
    std::atomic<int64_t> taken{0};
    std::atomic<bool> failed{false};
    auto work = [&] {
        char *scratch = allocate(functions(layer).scratch(layer, CHUNK));
        if (!scratch) failed = true;
        for (int64_t chunk; scratch && (chunk = taken++) < chunks;) {
            const int64_t first = tiles * chunk / chunks * ROWS, end = std::min(tiles * (chunk + 1) / chunks * ROWS, total);
            if (first < end) functions(layer).run(layer, x, y, all, first, (int)(end - first), scratch);
        }
        free(scratch);
    };
    std::vector<std::thread> others;
    try {
        others.reserve(threads);
        while ((int)others.size() < threads - 1) others.emplace_back(work);
    } catch (const std::system_error &) { // no more threads: those that started do the work
    }
    work();
    for (std::thread &other : others) other.join();
    return failed ? NO_MEMORY : NONE;
}

// Multiply rows (rows n) by weights (columns n) as the layers do: the plain sums (rows columns), floats or integers.
EXPORTED int bandsplit_multiply(int set, int precision, const float *inputs, const float *weights, int rows, int n,
                                int columns, void *sums) {
    const Functions *known = functions(set, precision);
    if (!known || n % 16) return UNFIT;
    Room room{nullptr, 0};
    known->multiply(inputs, weights, rows, n, columns, room, nullptr);
    room = {allocate(room.bytes), 0};
    if (!room.address) return NO_MEMORY;
    known->multiply(inputs, weights, rows, n, columns, room, (int32_t *)sums);
    free(room.address);
    return NONE;
}

// Multiply registers that many times; return the number of operations, to time the most that a core can do.
EXPORTED double bandsplit_dots(int set, int precision, int64_t repeats) {
    const Functions *known = functions(set, precision);
    return known ? known->dots(repeats) : 0;
}
