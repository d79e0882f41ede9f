// Linear layers with activations, on the micro-kernel of tile.h. A few rows at a time go through all layers of a stack
// (library.cpp): what is between the layers stays in the second level of cache. Bias, the part of the channels' mean,
// activation and residual are added while the sums are in registers.
#pragma once
#include "tile.h"

namespace {

const float LOG2_E = 1.44269504f;
const float FURTHEST = 40; // three factors of 1 + 2^40 have a product, and a sigmoid of 1e-12 is 0

// Return 2^z to 1e-7, z limited to -40 .. 40.
inline Floats exp2(Floats z) {
    z = limited(z, -FURTHEST, FURTHEST);
    const Ints whole = rounded(z);
    const Floats f = z - __builtin_convertvector(whole, Floats); // -0.5 .. 0.5
    Floats power = 0.00132647272f * f + 0.00967151264f;          // the best polynomial with 1 at 0
    power = power * f + 0.0555073374f;
    power = power * f + 0.240222421f;
    power = power * f + 0.693146978f;
    power = power * f + 1.0f;
    return (Floats)((Ints)power + (whole << 23)); // added to the exponent
}

// Pack weights (columns inputs), and zeros up to the end of the last block.
template <class P> void pack_rows(Product &product, const float *weights, int columns, float unit) {
    const int inputs = product.words * P::PER_WORD;
    for (int column = 0; column < product.blocks * COLUMNS; column += LANES) {
        const float *rows[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            rows[lane] = column + lane < columns ? weights + (int64_t)(column + lane) * inputs : nullptr;
        }
        pack_columns<P>(product, column, rows, 1, unit);
    }
}

inline Floats activated(int kind, Floats z, Floats slope) {
    if (kind == PRELU) return z > 0.0f ? z : z * slope;
    if (kind == NONE) return z;
    const Floats e = exp2(z * (-2 * LOG2_E));
    return z == z ? (1.0f - e) * reciprocal(1.0f + e) : z; // the limits of exp2 would hide a NaN
}

// Take room for a linear layer, and pack the weights of one of its sets if it has an address.
template <class P> Dense pack_dense(const Weights &of, int set, Room &room) {
    Dense layer{of.inputs, of.outputs, of.precision, of.activation, {}, nullptr, nullptr};
    place<P>(layer.product, room, of.inputs, of.outputs);
    const int columns = layer.product.blocks * COLUMNS;
    layer.bias = room.take<float>(columns);
    layer.slope = room.take<float>(columns);
    if (!room.address) return layer;
    const int64_t first = (int64_t)set * of.outputs;
    pack_rows<P>(layer.product, of.weight + first * of.inputs, of.outputs, 1);
    for (int j = 0; j < columns; j++) {
        layer.bias[j] = j < of.outputs ? of.bias[first + j] : 0;
        layer.slope[j] = j < of.outputs && of.slope ? of.slope[j] : 0;
    }
    return layer;
}

// Compute a linear layer of at most MOST_ROWS rows, which are neighbours in all arrays.
template <class P>
void dense(const Dense &layer, const float *x, int rows, float *y, const float *added, const float *residual,
           int32_t *packed) {
    const ptrdiff_t stride = row_stride<P>(layer.inputs);
    float scale[MOST_ROWS];
    Ints sums[ROWS * 4];
    for (int r = 0; r < rows; r++) scale[r] = pack_row<P>(packed + r * stride, x + r * layer.inputs, layer.inputs);
    fill_zero<P>(packed + rows * stride, (ROWS - 1) * stride);
    for (int block = 0; block < layer.product.blocks; block++) {
        for (int first = 0; first < rows; first += ROWS) {
            multiply_block<P>(layer.product, block, packed + first * stride, stride, sums);
            for (int r = first; r < first + ROWS && r < rows; r++) {
                for (int v = 0; v < 4 && block * COLUMNS + v * LANES < layer.outputs; v++) {
                    const int j = block * COLUMNS + v * LANES, at = r * layer.outputs + j;
                    Floats z = value<P>(layer.product, block, v, sums[4 * (r - first) + v], scale[r]);
                    z += load(layer.bias + j);
                    if (added) z += load(added + at);
                    z = activated(layer.activation, z, load(layer.slope + j));
                    if (residual) z += load(residual + at);
                    if (j + LANES <= layer.outputs) store(y + at, z);
                    else memcpy(y + at, &z, sizeof(float) * (layer.outputs - j));
                }
            }
        }
    }
}

} // namespace
