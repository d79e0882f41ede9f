// The residual layer x + project(BLSTM(standardise(x))), compiled once per instruction set.
//
// A thread takes some sequences through all steps of one direction, then of the other one. Sequences are rows: at each
// step the rows' inputs and last outputs are multiplied by the packed weights, block by block (tile.h).
//
//     take           x -> standardised, in the precision: rows of `input`
//     gates          a block = the four gates of LANES hidden features: | input | forget | output | candidate |
//                    sums of input and of last output -> gates -> cell (in place) and output -> rows of `output[next]`
//     add            y = x + bias + sums of output[next] with `project`; the second direction adds to y
//
//     for each step        everything about these rows stays in the first two levels of cache:
//       for each block       weights of one block: 24 KiB in int8, read from the first level by
//         for each 6 rows      the register tile
//
// Outputs are double-buffered, since all blocks of a step need the last outputs of all hidden features. A row's numbers
// do not depend on the other rows: sequences may be shared among threads in any way, and no bit changes.
//
// ACTIVATIONS. With e(z) = 2^z, sigmoid(z) = 1 / (1 + e(-z log2 e)) and tanh(z) = (1 - e(-2 z log2 e)) / (1 + e(...)).
// The factors -log2 e and -2 log2 e are part of the packed weights. Fractions are added over a common denominator, so
// that a cell and an output need one division each:
//
//     cell   = cell / (1 + ef) + (1 - eg) / ((1 + ei) (1 + eg))        tanh(cell) = (1 - ec) / (1 + ec)
//     output = tanh(cell) / (1 + eo)
//
// The gates of a GRU are | reset | update | candidate's part of input | its part of last output |, and with s for a sum
//     output = (last (1 + ec) + (1 - ec) eu) / ((1 + eu) (1 + ec))           ec = e(s of input + s of last / (1 + er))
#include "dense.h"

namespace {

const float A = -LOG2_E, B = -2 * LOG2_E, FACTORS[2][4] = {{A, A, A, B}, {A, A, B, B}}; // of gates: LSTM, GRU
template <class P> struct Layer {
    typedef typename P::Element Element;

    // Take room, and if it has an address pack weights of the gates (d 4m n+m+1), of the linear layer (d n m) and its bias.
    static void pack(Lstm &layer, Room &room, const float *weight, const float *project, const float *bias) {
        const int n = layer.n, m = layer.m;
        for (int d = 0; d < 2; d++) {
            place<P>(layer.from_input[d], room, n, 4 * m);
            place<P>(layer.from_output[d], room, m, 4 * m);
            place<P>(layer.project[d], room, m, n);
            layer.bias[d] = room.take<float>(4 * m);
        }
        layer.project_bias = room.take<float>(n + COLUMNS);
        if (!room.address) return;
        const float *const factors = FACTORS[layer.gru], unit = P::INTEGERS ? 1 / LEVELS : 1; // outputs are in -1 .. 1
        for (int d = 0; d < 2; d++) {
            for (int column = 0; column < 4 * m; column += LANES) {
                const int gate = column % COLUMNS / LANES, feature = column / COLUMNS * LANES;
                const float *rows[LANES], *last[LANES];
                for (int lane = 0; lane < LANES; lane++) {
                    rows[lane] = weight + ((int64_t)(4 * d + gate) * m + feature + lane) * (n + m + 1);
                    last[lane] = rows[lane] + n;
                    layer.bias[d][column + lane] = last[lane][m] * factors[gate];
                }
                pack_columns<P>(layer.from_input[d], column, rows, factors[gate], 1);
                pack_columns<P>(layer.from_output[d], column, last, factors[gate], unit);
            }
            pack_rows<P>(layer.project[d], project + (int64_t)d * n * m, n, unit);
        }
        for (int j = 0; j < n; j++) layer.project_bias[j] = bias[j];
    }

    const Lstm &layer;
    const float *x;
    float *y;
    const Sequences &all;
    int count, rows; // sequences, and with those that fill the last tile
    ptrdiff_t input_stride, output_stride;
    int64_t *start;     // of each sequence
    float *mean, *rstd; // rows x groups
    float *standard;    // n: a row of inputs
    float *scale;       // of each row of inputs
    int32_t *input, *output[2];
    float *cell;
    Ints *sums[2];

    Layer(const Lstm &layer, const float *x, float *y, const Sequences &all, int count)
        : layer(layer), x(x), y(y), all(all), count(count), rows((count + ROWS - 1) / ROWS * ROWS),
          input_stride(row_stride<P>(layer.n)), output_stride(row_stride<P>(layer.m)) {}

    void take_room(Room &room) {
        start = room.take<int64_t>(rows);
        mean = room.take<float>(rows * layer.groups);
        rstd = room.take<float>(rows * layer.groups);
        standard = room.take<float>(layer.n);
        scale = room.take<float>(rows);
        input = room.take<int32_t>(rows * input_stride);
        for (int i = 0; i < 2; i++) output[i] = room.take<int32_t>(rows * output_stride);
        cell = room.take<float>(rows * layer.m);
        for (int i = 0; i < 2; i++) sums[i] = room.take<Ints>(ROWS * 4);
    }

    static int64_t scratch(const Lstm &layer, int count) {
        static const Sequences none{};
        Room room{nullptr, 0};
        Layer(layer, nullptr, nullptr, none, count).take_room(room);
        return room.bytes;
    }

    static void run(const Lstm &layer, const float *x, float *y, const Sequences &all, int64_t first, int count,
                    char *scratch) {
        Layer chunk(layer, x, y, all, count);
        Room room{scratch, 0};
        chunk.take_room(room);
        for (int r = 0; r < count; r++) {
            const int64_t q = first + r, j = q / all.counts[2];
            chunk.start[r] = j / all.counts[1] * all.strides[0] + j % all.counts[1] * all.strides[1] +
                             q % all.counts[2] * all.strides[2];
            for (int g = 0; g < layer.groups; g++) chunk.measure(r, g);
        }
        fill_zero<P>(chunk.input, chunk.rows * chunk.input_stride);
        for (int r = 0; r < chunk.rows; r++) chunk.scale[r] = 0;
        for (int d = 0; d < 2; d++) chunk.run_direction(d);
        for (int r = 0; r < count; r++) chunk.show_nan(r);
    }

    // Sum a function of the features of a group over all steps, in double precision.
    template <class Function> double sum(int r, int g, Function of) const {
        const int size = layer.n / layer.groups;
        double total = 0;
        for (int64_t t = 0; t < all.steps; t++) {
            const float *at = x + start[r] + t * all.stride + g * size;
            Floats part{};
            for (int j = 0; j < size; j += LANES) part += of(load(at + j));
            for (int lane = 0; lane < LANES; lane++) total += part[lane];
        }
        return total;
    }

    void measure(int r, int g) {
        const double size = (double)all.steps * (layer.n / layer.groups);
        const float middle = (float)(sum(r, g, [](Floats a) { return a; }) / size);
        const double square = sum(r, g, [middle](Floats a) { return (a - middle) * (a - middle); }) / size;
        mean[r * layer.groups + g] = middle;
        rstd[r * layer.groups + g] = (float)(1 / __builtin_sqrt(square + layer.eps));
    }

    // A NaN or an infinity makes the mean or the deviation of its sequence one, and with them all of the layer's output.
    // Integers and limited exponents would hide that.
    void show_nan(int r) {
        float sound = 0;
        for (int i = r * layer.groups; i < (r + 1) * layer.groups; i++) sound += 0 * mean[i] + 0 * rstd[i];
        if (sound == 0) return;
        for (int64_t t = 0; t < all.steps; t++) {
            for (int j = 0; j < layer.n; j++) y[start[r] + t * all.stride + j] = __builtin_nanf("");
        }
    }

    void run_direction(int d) {
        fill_zero<P>(output[0], rows * output_stride);
        fill_zero<P>(output[1], rows * output_stride);
        memset(cell, 0, sizeof(float) * rows * layer.m);
        for (int64_t step = 0; step < all.steps; step++) {
            const int64_t at = (d ? all.steps - 1 - step : step) * all.stride;
            int32_t *const last = output[step % 2], *const next = output[1 - step % 2];
            for (int r = 0; r < count; r++) take(r, at);
            for (int block = 0; block < layer.from_input[d].blocks; block++) {
                for (int r = 0; r < rows; r += ROWS) {
                    multiply_block<P>(layer.from_input[d], block, input + r * input_stride, input_stride, sums[0]);
                    multiply_block<P>(layer.from_output[d], block, last + r * output_stride, output_stride, sums[1]);
                    gates(d, block, r, next);
                }
            }
            for (int block = 0; block < layer.project[d].blocks; block++) {
                for (int r = 0; r < rows; r += ROWS) {
                    multiply_block<P>(layer.project[d], block, next + r * output_stride, output_stride, sums[0]);
                    for (int i = 0; i < ROWS && r + i < count; i++) add(d, block, r, i, at);
                }
            }
        }
    }

    void take(int r, int64_t at) {
        const float *from = x + start[r] + at;
        const int size = layer.n / layer.groups;
        for (int g = 0, j = 0; g < layer.groups; g++) {
            const float middle = mean[r * layer.groups + g], factor = rstd[r * layer.groups + g];
            for (; j < (g + 1) * size; j += LANES) *(Floats *)(standard + j) = (load(from + j) - middle) * factor;
        }
        scale[r] = pack_row<P>(input + r * input_stride, standard, layer.n);
    }

    // Turn the sums of a block into cells and outputs: two loops of short chains, of which a CPU overlaps several rows.
    void gates(int d, int block, int r, int32_t *next) {
        const Floats *bias = (const Floats *)layer.bias[d] + 4 * block;
        float *cells = cell + (int64_t)r * layer.m + block * LANES;
        auto sum = [&](int gate, int i) {
            const Floats from_input = value<P>(layer.from_input[d], block, gate, sums[0][4 * i + gate], scale[r + i]);
            return from_input + (value<P>(layer.from_output[d], block, gate, sums[1][4 * i + gate], 1) + bias[gate]);
        };
        auto keep = [&](int i, Floats h) {
            P::narrow((Element *)(next + (r + i) * output_stride) + block * LANES, P::INTEGERS ? h * LEVELS : h);
        };
        for (int i = 0; layer.gru && i < ROWS; i++) {
            const Floats reset = reciprocal(1.0f + exp2(sum(0, i))), update = exp2(sum(1, i));
            const Floats candidate = exp2(sum(2, i) + sum(3, i) * reset), both = (1.0f + update) * (1.0f + candidate);
            Floats &h = *(Floats *)(cells + i * layer.m);
            keep(i, h = (h * (1.0f + candidate) + (1.0f - candidate) * update) * reciprocal(both));
        }
        for (int i = 0; !layer.gru && i < ROWS; i++) {
            const Floats into = 1.0f + exp2(sum(0, i)), forget = 1.0f + exp2(sum(1, i)), candidate = exp2(sum(3, i));
            const Floats both = into * (1.0f + candidate);
            Floats &c = *(Floats *)(cells + i * layer.m);
            c = (c * both + (1.0f - candidate) * forget) * reciprocal(both * forget);
        }
        for (int i = 0; !layer.gru && i < ROWS; i++) {
            const Floats c = exp2(*(Floats *)(cells + i * layer.m) * (-2 * LOG2_E));
            keep(i, (1.0f - c) * reciprocal((1.0f + c) * (1.0f + exp2(sum(2, i)))));
        }
    }

    void add(int d, int block, int r, int i, int64_t at) {
        const int64_t place = start[r + i] + at;
        for (int v = 0, j = block * COLUMNS; v < 4 && j < layer.n; v++, j += LANES) {
            const Floats found = value<P>(layer.project[d], block, v, sums[0][4 * i + v], 1);
            store(y + place + j, d ? load(y + place + j) + found : load(x + place + j) + (load(layer.project_bias + j) + found));
        }
    }
};

// Multiply ROWS rows of inputs as the layers do: the plain sums (ROWS, columns of all blocks), for tests.
template <class P> void multiply(const Dense &layer, const float *inputs, int32_t *packed, int32_t *sums) {
    const ptrdiff_t stride = row_stride<P>(layer.inputs);
    Ints found[ROWS * 4];
    for (int r = 0; r < ROWS; r++) pack_row<P>(packed + r * stride, inputs + r * layer.inputs, layer.inputs);
    for (int block = 0; block < layer.product.blocks; block++) {
        multiply_block<P>(layer.product, block, packed, stride, found);
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            sums[(i / COLUMNS * layer.product.blocks + block) * COLUMNS + i % COLUMNS] = ((int32_t *)found)[i];
        }
    }
}

// Multiply registers: the most that this core can do. Returns the number of operations.
template <class P> double dots(int64_t repeats) {
    enum { SUMS = 4 * VECTORS };
    Ints sum[SUMS] = {}, inputs{}, weights{};
    UNROLLED for (int i = 0; i < SUMS; i++) asm("" : "+v"(sum[i])); // as if each were another number
    for (int64_t repeat = 0; repeat < repeats; repeat++) {
        asm("" : "+v"(inputs), "+v"(weights)); // as if they changed
        UNROLLED for (int i = 0; i < SUMS; i++) P::dot(sum[i], inputs, weights);
    }
    UNROLLED for (int i = 0; i < SUMS; i++) asm volatile("" : : "v"(sum[i]));
    return 2.0 * repeats * SUMS * LANES * P::PER_WORD;
}

template <class P> constexpr Functions functions() {
    return {Layer<P>::pack, Layer<P>::scratch, Layer<P>::run, pack_dense<P>, dense<P>, multiply<P>, dots<P>};
}

} // namespace

// The build gives this file a name, such as "avx2", and with it a symbol.
extern const InstructionSet INSTRUCTION_SET;
#ifdef __AVX512BF16__
const InstructionSet INSTRUCTION_SET = {INSTRUCTION_SET_NAME, {functions<Fp32>(), functions<Bf16>(), functions<Int8>()}};
#else
const InstructionSet INSTRUCTION_SET = {INSTRUCTION_SET_NAME, {functions<Fp32>(), {}, functions<Int8>()}};
#endif
