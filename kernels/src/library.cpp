// The functions of the shared library: plain C, without Python and PyTorch. This file runs on every x86-64 CPU.
//
// Threads start with a call, take chunks of sequences until none is left, and end with the call: they meet only there,
// and no pool of threads waits beside that of PyTorch. Any number of callers may call at once.
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "layer.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// The build has a copy of lstm.cpp for each set that the compiler knows.
extern const InstructionSet instruction_set_avx2, instruction_set_avxvnni, instruction_set_avx512vnni,
    instruction_set_avx512bf16;

namespace {

#define AVX2 __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
#define AVX512 AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")

// The sets, the best one last, and whether this CPU, and the system that keeps its registers, have what each needs.
const struct { const InstructionSet &set; bool runs; } SETS[] = {
    {instruction_set_avx2, (__builtin_cpu_init(), AVX2)},
#ifdef HAS_avxvnni
    {instruction_set_avxvnni, AVX2 && __builtin_cpu_supports("avxvnni")},
#endif
#ifdef HAS_avx512vnni
    {instruction_set_avx512vnni, AVX512},
#endif
#ifdef HAS_avx512bf16
    {instruction_set_avx512bf16, AVX512 && __builtin_cpu_supports("avx512bf16")},
#endif
};
const int INTERFACE = 3; // changes with the functions below
const int ROWS = 6, CHUNK = 24; // sequences of a tile and at most of a chunk: few, so that they stay in the cache

enum Problem { DONE, NO_MEMORY, NOT_FINITE, UNFIT };

const Functions *functions(int set, int precision) {
    if (set < 0 || set >= (int)std::size(SETS) || precision < 0 || precision >= PRECISIONS) return nullptr;
    const Functions &found = SETS[set].set.functions[precision];
    return found.run && SETS[set].runs ? &found : nullptr;
}

// Sums of larger weights might not be finite, which the limits of the activations would hide.
bool are_small(const float *weights, int64_t count) {
    return std::all_of(weights, weights + count, [](float weight) { return __builtin_fabsf(weight) <= 1e30f; });
}

char *allocate(int64_t bytes) { return (char *)aligned_alloc(64, (bytes + 63) / 64 * 64); }

// Do the work of all chunks in as many threads, each with scratch memory of its own.
template <class Work> int share(int64_t chunks, int64_t threads, int64_t bytes, Work work) {
    std::atomic<int64_t> taken{0};
    std::atomic<bool> failed{false};
    auto take_chunks = [&] {
        char *scratch = allocate(bytes);
        if (!scratch) failed = true;
        for (int64_t chunk; scratch && (chunk = taken++) < chunks;) work(chunk, scratch);
        free(scratch);
    };
    std::vector<std::thread> others;
    try {
        while ((int64_t)others.size() < threads - 1) others.emplace_back(take_chunks);
    } catch (const std::exception &) { // no more threads, or no memory for them: those that started do the work
    }
    take_chunks();
    for (std::thread &other : others) other.join();
    return failed ? NO_MEMORY : DONE;
}

} // namespace

EXPORTED int bandsplit_interface() { return INTERFACE; }
EXPORTED int bandsplit_sets() { return std::size(SETS); }
EXPORTED const char *bandsplit_set_name(int set) { return SETS[set].set.name; }
EXPORTED int bandsplit_set_runs(int set) { return SETS[set].runs; }
EXPORTED int bandsplit_set_has(int set, int precision) { return SETS[set].set.functions[precision].run != nullptr; }

// Pack a layer: weights of the gates (d 4m n+m+1), in the order of FACTORS, with the bias as the last column; those of
// the linear layer (d n m), and its bias (n). The weights are not needed afterwards.
EXPORTED int bandsplit_lstm_pack(int set, int precision, int gru, int n, int m, int groups, float eps, const float *weight,
                                 const float *project, const float *bias, void **packed) {
    const Functions *known = functions(set, precision);
    if (!known || n <= 0 || m <= 0 || groups <= 0 || n % (16 * groups) || m % 16) return UNFIT;
    const bool small = are_small(weight, (int64_t)8 * m * (n + m + 1)) && are_small(project, (int64_t)2 * n * m);
    if (!small || !are_small(bias, n)) return NOT_FINITE;
    Lstm layer{gru, n, m, groups, eps, (Precision)precision, &SETS[set].set, {}, {}, {}, {}, {}};
    Room room{nullptr, 0};
    for (int pass = 0; pass < 2; pass++) { // measure, then pack
        if (pass && !(room = {allocate(room.bytes), 0}).address) return NO_MEMORY;
        Lstm *kept = room.take<Lstm>(1);
        known->pack(layer, room, weight, project, bias);
        if (pass) *kept = layer, *packed = kept;
    }
    return DONE;
}

EXPORTED void bandsplit_free(void *packed) { free(packed); }

// Write y = x + layer(x), at the same places of another array of the same size, in as many threads.
EXPORTED int bandsplit_lstm_run(const void *packed, const float *x, float *y, const int64_t *counts,
                                const int64_t *strides, int64_t steps, int64_t stride, int threads) {
    const Lstm &layer = *(const Lstm *)packed;
    const Functions &known = layer.set->functions[layer.precision];
    Sequences all{{counts[0], counts[1], counts[2]}, {strides[0], strides[1], strides[2]}, steps, stride};
    const int64_t total = counts[0] * counts[1] * counts[2];
    if (total <= 0 || steps <= 0) return DONE;
    // As many chunks for each thread, of as many tiles, as nearly as possible.
    const int64_t tiles = (total + ROWS - 1) / ROWS;
    threads = (int)std::min<int64_t>(std::max(threads, 1), tiles);
    const int64_t chunks = (tiles * ROWS + (int64_t)CHUNK * threads - 1) / (CHUNK * threads) * threads;
    return share(chunks, threads, known.scratch(layer, CHUNK), [&](int64_t chunk, char *scratch) {
        const int64_t first = tiles * chunk / chunks * ROWS, end = std::min(tiles * (chunk + 1) / chunks * ROWS, total);
        if (first < end) known.run(layer, x, y, all, first, (int)(end - first), scratch);
    });
}

// Pack a stack of linear layers. One that mixes channels is transform, average, concatenate: it has the layer of each
// channel, that of the mean of their outputs, and the two parts of the last one, of the mean and of each.
EXPORTED int bandsplit_stack_pack(int set, int sets, int layers, int mixes, const Weights *weights, void **packed) {
    Stack stack{&SETS[set].set, sets, layers, mixes, 0, nullptr};
    for (const Weights *of = weights; of < weights + layers; of++) {
        const int64_t columns = (int64_t)sets * of->outputs;
        if (!functions(set, of->precision) || of->inputs % 16 || of->outputs % (mixes ? 16 : 1)) return UNFIT;
        if (!are_small(of->weight, columns * of->inputs) || !are_small(of->bias, columns)) return NOT_FINITE;
        stack.widest = std::max({stack.widest, of->inputs, of->outputs});
    }
    Room room{nullptr, 0};
    for (int pass = 0; pass < 2; pass++) { // measure, then pack
        if (pass && !(room = {allocate(room.bytes), 0}).address) return NO_MEMORY;
        Stack *kept = room.take<Stack>(1);
        stack.dense = room.take<Dense>((int64_t)sets * layers);
        for (int i = 0; i < sets * layers; i++) {
            const Weights &of = weights[i % layers];
            const Dense dense = functions(set, of.precision)->pack_dense(of, i / layers, room);
            if (pass) stack.dense[i] = dense;
        }
        if (pass) *kept = stack, *packed = kept;
    }
    return DONE;
}

// Map x (groups channels rows inputs) to y (groups channels rows outputs); group g has the weights of set g % sets.
EXPORTED int bandsplit_stack_run(const void *packed, const float *x, float *y, int64_t groups, int channels, int64_t rows,
                                 int threads) {
    const Stack &stack = *(const Stack *)packed;
    const int64_t pieces = (rows + MOST_ROWS - 1) / MOST_ROWS, chunks = groups * pieces, most = MOST_ROWS * stack.widest;
    const int64_t words = (MOST_ROWS + 16) * (stack.widest + 32); // of the packed rows, those that fill a tile included
    return share(chunks, std::min<int64_t>(threads, chunks), 4 * (words + (channels + 1) * most), [&](int64_t chunk, char *scratch) {
        float *const each = (float *)scratch + words, *const mean = each + channels * most;
        const int64_t group = chunk / pieces, row = chunk % pieces * MOST_ROWS, first = group * channels * rows + row;
        const int count = (int)std::min<int64_t>(MOST_ROWS, rows - row);
        const Dense *const layers = stack.dense + group % stack.sets * stack.layers, *const end = layers + stack.layers;
        auto apply = [&](const Dense *layer, const float *from, float *to, const float *added, const float *residual) {
            stack.set->functions[layer->precision].dense(*layer, from, count, to, added, residual, (int32_t *)scratch);
        };
        if (!stack.mixes) { // a layer packs its rows before it writes outputs, so that it may write in place
            for (const Dense *layer = layers; layer < end; layer++) {
                const float *from = layer == layers ? x + first * layer->inputs : mean;
                apply(layer, from, layer == end - 1 ? y + first * layer->outputs : mean, nullptr, nullptr);
            }
            return;
        }
        const int64_t size = (int64_t)count * layers->outputs, n = layers->inputs;
        for (int c = 0; c < channels; c++) apply(layers, x + (first + c * rows) * n, each + c * size, nullptr, nullptr);
        for (int64_t i = 0; i < size; i++) {
            mean[i] = each[i];
            for (int c = 1; c < channels; c++) mean[i] += each[c * size + i];
            mean[i] /= (float)channels;
        }
        apply(layers + 1, mean, mean, nullptr, nullptr);
        apply(layers + 2, mean, mean, nullptr, nullptr);
        for (int c = 0; c < channels; c++) {
            const int64_t at = (first + c * rows) * n;
            apply(layers + 3, each + c * size, y + at, mean, x + at);
        }
    });
}

// Multiply six rows by the first weights of a stack: the plain sums (6, columns of all blocks), floats or integers.
EXPORTED int bandsplit_stack_multiply(const void *packed, const float *inputs, int32_t *sums) {
    const Stack &stack = *(const Stack *)packed;
    int32_t *rows = (int32_t *)allocate(4 * ROWS * (stack.widest + 32));
    if (rows) stack.set->functions[stack.dense->precision].multiply(*stack.dense, inputs, rows, sums);
    free(rows);
    return rows ? DONE : NO_MEMORY;
}

// Multiply registers that many times; return the number of operations, to time the most that a core can do.
EXPORTED double bandsplit_dots(int set, int precision, int64_t repeats) {
    const Functions *known = functions(set, precision);
    return known ? known->dots(repeats) : 0;
}
