// What the dispatch (library.cpp) and the code of each instruction set (lstm.cpp, dense.h) know of each other.
#pragma once
#include <stdint.h>

enum Precision { FP32, BF16, INT8, PRECISIONS };

// The packed weights of one product, sums[row][column] = inputs[row] . weights[column]; tile.h draws their layout.
struct Product {
    int words;       // 32-bit words of a row of inputs
    int blocks;      // blocks of COLUMNS columns
    int32_t *panels; // blocks x words x COLUMNS
    int32_t *start;  // what the sums start at, blocks x COLUMNS
    float *scale;    // value of one unit of the sums, if they are integers: blocks x COLUMNS
};

// A bidirectional LSTM or GRU between a normalisation and a linear layer. Each direction d has weights of its own.
struct Lstm {
    int gru;    // whether it is a GRU
    int n, m;   // features, and hidden features of a direction
    int groups; // of the normalisation
    float eps;
    Precision precision;
    const struct InstructionSet *set;
    Product from_input[2], from_output[2], project[2];
    float *bias[2];      // of the gates, in the order of the columns
    float *project_bias; // n, with zeros up to the end of a block
};

// Sequences inside a larger array: sequence (i, j, k) starts at i * strides[0] + j * strides[1] + k * strides[2], and its
// next step is `stride` further. The n features of a step are neighbours.
struct Sequences {
    int64_t counts[3], strides[3];
    int64_t steps, stride;
};

enum Activation { NONE, PRELU, TANH };
enum { MOST_ROWS = 48 }; // of a chunk of linear layers: their outputs stay in the second level of cache

// The weights of a linear layer (sets outputs inputs), bias (sets outputs), and the slopes (outputs) of PRELU, or null.
struct Weights {
    int inputs, outputs, precision, activation;
    const float *weight, *bias, *slope;
};

// A linear layer, packed: outputs = activation(inputs . weights + bias + added) + residual.
struct Dense {
    int inputs, outputs, precision, activation;
    Product product;
    float *bias, *slope; // of the columns, with zeros up to the end of a block
};

// Linear layers one after another. Each of `sets` parts of the rows has weights of its own.
struct Stack {
    const struct InstructionSet *set;
    int sets, layers, mixes; // whether it is a transform-average-concatenate block
    int widest;              // the most inputs or outputs of a layer
    Dense *dense;            // sets x layers
};

// Memory that is measured in a first pass, with no address, and handed out in a second one.
struct Room {
    char *address;
    int64_t bytes;

    template <class T> T *take(int64_t count) {
        T *found = address ? (T *)(address + bytes) : nullptr;
        bytes += (count * (int64_t)sizeof(T) + 63) / 64 * 64;
        return found;
    }
};

// The functions that one instruction set has for a precision; all null if it lacks the instructions.
struct Functions {
    void (*pack)(Lstm &layer, Room &room, const float *weight, const float *project, const float *bias);
    int64_t (*scratch)(const Lstm &layer, int count);
    void (*run)(const Lstm &layer, const float *x, float *y, const Sequences &all, int64_t first, int count, char *scratch);
    Dense (*pack_dense)(const Weights &of, int set, Room &room);
    void (*dense)(const Dense &layer, const float *x, int rows, float *y, const float *added, const float *residual,
                  int32_t *scratch);
    void (*multiply)(const Dense &layer, const float *inputs, int32_t *packed, int32_t *sums);
    double (*dots)(int64_t repeats);
};

struct InstructionSet { const char *name; Functions functions[PRECISIONS]; };
