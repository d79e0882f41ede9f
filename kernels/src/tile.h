// The micro-kernel that all layers share: products of a few rows with packed weights, in one instruction set.
//
// This file is compiled once per instruction set, with other flags each time; everything in it is local to a file. It
// includes no header of the C++ library: code of such headers that one file compiled with AVX-512 could be linked into
// another one.
//
// WORDS. Inputs and weights are 32-bit words, of as many numbers as fit; each precision multiplies word by word and adds
// the products of a word to one 32-bit sum:
//
//     fp32          | number                | float sums     vfmadd231ps
//     bf16          | number    | number    | float sums     vdpbf16ps
//     int8          | n   | n   | n   | n   | integer sums   vpdpbusd
//     int8 on AVX2  | n         | n         | integer sums   vpmaddwd, vpaddd: 16 bits in place of 8, the same integers
//
// REGISTER TILE. The sums of ROWS rows and VECTORS vectors of columns stay in registers for a complete product. For each
// word, the tile loads VECTORS vectors of weights, which serve all rows, and spreads one word of each row over a vector,
// which serves all columns:
//
//                       VECTORS vectors of weights: columns 0 .. 15 | 16 .. 31 | 32 .. 47 | 48 .. 63
//     word of row 0  x       sums 0,0      sums 0,1      sums 0,2      sums 0,3
//     word of row 1  x       sums 1,0      sums 1,1      sums 1,2      sums 1,3
//        ...                                   ...                                      AVX-512: 24 of 32 registers
//     word of row 5  x       sums 5,0      sums 5,1      sums 5,2      sums 5,3          AVX2: 6 x 2 vectors, 12 of 16
//
// So 24 multiplications need 10 loads, and the multipliers are never short of data. Fewer rows are filled up to ROWS.
//
// PACKING. Columns are packed in blocks of four vectors, in the order in which the tile reads them: for each word, a word
// of each column. AVX2 has registers for two vectors: there a block has two parts, one after the other.
//
//     panels:  block 0                                                              | block 1 ...
//              word 0                                | word 1                  | ...
//              vector 0  | vector 1  | ... vector 3  | vector 0 | ...
//              16 words, each of another column
//
// QUANTISATION. An input row has a scale of its own, largest / 127, and so has each column of the weights. vpdpbusd
// multiplies unsigned inputs by signed weights, so inputs are stored with 128 added. This costs nothing: sums start at
// -128 * (sum of the column's weights) instead of 0. Sums of bytes cannot overflow for less than 60,000 inputs.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#include "layer.h"

#define UNROLLED _Pragma("GCC unroll 16") // otherwise arrays of sums live in memory

namespace {

#ifdef __AVX512F__
enum { LANES = 16, VECTORS = 4 };
#else
enum { LANES = 8, VECTORS = 2 };
#endif
enum { ROWS = 6, COLUMNS = 4 * LANES, PARTS = 4 / VECTORS };
const float LEVELS = 127; // integers are from -LEVELS to LEVELS

// Vectors of the compiler: operators work on them lane by lane, and a cast keeps the bits.
typedef float Floats __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), may_alias));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); // anywhere in memory

inline Floats load(const float *at) { return *(const LooseFloats *)at; }
inline void store(float *at, Floats value) { *(LooseFloats *)at = value; }

#ifdef __AVX512F__
inline Floats limited(Floats a, float least, float most) {
    return (Floats)_mm512_min_ps(_mm512_max_ps((__m512)a, _mm512_set1_ps(least)), _mm512_set1_ps(most));
}
inline Ints rounded(Floats a) { return (Ints)_mm512_cvtps_epi32((__m512)a); }
inline Floats reciprocal(Floats a) { // a division takes 16 cycles on some CPUs; this is exact to 1e-7
    const Floats about = (Floats)_mm512_rcp14_ps((__m512)a);
    return about * (2.0f - a * about);
}
#else
inline Floats limited(Floats a, float least, float most) {
    return (Floats)_mm256_min_ps(_mm256_max_ps((__m256)a, _mm256_set1_ps(least)), _mm256_set1_ps(most));
}
inline Ints rounded(Floats a) { return (Ints)_mm256_cvtps_epi32((__m256)a); }
inline Floats reciprocal(Floats a) { return 1.0f / a; }
#endif

struct Fp32 {
    typedef float Element;
    static constexpr bool INTEGERS = false;
    static constexpr int PER_WORD = 1, ZERO = 0;
    static void dot(Ints &sums, Ints inputs, Ints weights) {
        sums = (Ints)((Floats)sums + (Floats)inputs * (Floats)weights);
    }
    static void narrow(Element *to, Floats value) { *(Floats *)to = value; }
    typedef float Weight;
    static Weight weight(float value) { return value; }
};

#ifdef __AVX512BF16__
struct Bf16 {
    typedef uint16_t Element;
    static constexpr bool INTEGERS = false;
    static constexpr int PER_WORD = 2, ZERO = 0;
    static void dot(Ints &sums, Ints inputs, Ints weights) { // as assembly: GCC 12 copies sums around the intrinsic
        asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(inputs), "v"(weights));
    }
    static void narrow(Element *to, Floats value) { *(__m256bh *)to = _mm512_cvtneps_pbh((__m512)value); }
    typedef uint16_t Weight;
    static Weight weight(float value) {
        uint32_t bits;
        memcpy(&bits, &value, 4);
        return (Weight)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
};
#endif

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
struct Int8 {
    typedef uint8_t Element;
    static constexpr bool INTEGERS = true;
    static constexpr int PER_WORD = 4, ZERO = 128;
    static void dot(Ints &sums, Ints inputs, Ints weights) {
#ifdef __AVX512VNNI__
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(inputs), "v"(weights));
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(inputs), "x"(weights));
#endif
    }
    static void narrow(Element *to, Floats value) {
        typedef uint8_t Bytes __attribute__((vector_size(LANES), may_alias));
        *(Bytes *)to = __builtin_convertvector(rounded(value) + ZERO, Bytes);
    }
    typedef int8_t Weight;
    static Weight weight(float value) { return (Weight)__builtin_lrintf(value); }
};
#else
struct Int8 {
    typedef int16_t Element;
    static constexpr bool INTEGERS = true;
    static constexpr int PER_WORD = 2, ZERO = 0;
    static void dot(Ints &sums, Ints inputs, Ints weights) {
        sums += (Ints)_mm256_madd_epi16((__m256i)inputs, (__m256i)weights);
    }
    static void narrow(Element *to, Floats value) {
        typedef int16_t Shorts __attribute__((vector_size(2 * LANES), may_alias));
        *(Shorts *)to = __builtin_convertvector(rounded(value), Shorts);
    }
    typedef int16_t Weight;
    static Weight weight(float value) { return (Weight)__builtin_lrintf(value); }
};
#endif

// Compute the sums of ROWS rows, `stride` words apart, with one part of a block.
template <class P>
void tile(const int32_t *rows, ptrdiff_t stride, const Ints *panel, const Ints *start, int words, Ints *sums) {
    Ints sum[ROWS][VECTORS];
    UNROLLED for (int r = 0; r < ROWS; r++) {
        UNROLLED for (int v = 0; v < VECTORS; v++) sum[r][v] = start[v];
    }
    const int32_t *middle = rows + 3 * stride; // two addresses and a stride reach six rows
    for (int k = 0; k < words; k++, rows++, middle++, panel += VECTORS) {
        Ints weights[VECTORS];
        UNROLLED for (int v = 0; v < VECTORS; v++) weights[v] = panel[v];
        UNROLLED for (int r = 0; r < ROWS; r++) {
            const Ints inputs = Ints{} + (r < 3 ? rows[r * stride] : middle[(r - 3) * stride]);
            UNROLLED for (int v = 0; v < VECTORS; v++) P::dot(sum[r][v], inputs, weights[v]);
        }
    }
    UNROLLED for (int r = 0; r < ROWS; r++) {
        UNROLLED for (int v = 0; v < VECTORS; v++) sums[4 * r + v] = sum[r][v];
    }
}

// Compute the sums of ROWS rows with a block: ROWS x 4 vectors.
template <class P>
void multiply_block(const Product &product, int block, const int32_t *rows, ptrdiff_t stride, Ints *sums) {
    const int words = product.words;
    const Ints *panels = (const Ints *)product.panels + (int64_t)block * words * 4;
    const Ints *start = (const Ints *)product.start + block * 4;
    for (int part = 0; part < PARTS; part++) {
        const int v = part * VECTORS;
        tile<P>(rows, stride, panels + (int64_t)v * words, start + v, words, sums + v);
    }
}

// Return the values of a vector of sums, whose row of inputs has a scale.
template <class P> inline Floats value(const Product &product, int block, int vector, Ints sums, float row_scale) {
    if (!P::INTEGERS) return (Floats)sums;
    return __builtin_convertvector(sums, Floats) * (((const Floats *)product.scale)[block * 4 + vector] * row_scale);
}

// Return the distance between rows of `elements` elements, in words: whole cache lines, an odd number of them, so that
// rows do not compete for the same places of the cache.
template <class P> inline ptrdiff_t row_stride(int elements) { return (elements / P::PER_WORD + 15) / 16 * 16 | 16; }

// Write a row of n inputs, and return its scale: NaN if one is not finite, since integers would hide it.
template <class P> inline float pack_row(int32_t *to, const float *row, int n) {
    float scale = 1, inverse = 1;
    if (P::INTEGERS) {
        Ints largest{}; // bits of positive floats have their order, and those of a NaN are the largest
        for (int j = 0; j < n; j += LANES) {
            const Ints size = (Ints)load(row + j) & 0x7fffffff;
            largest = size > largest ? size : largest;
        }
        int32_t bits = 0;
        for (int lane = 0; lane < LANES; lane++) bits = largest[lane] > bits ? largest[lane] : bits;
        float most;
        memcpy(&most, &bits, 4);
        scale = (most + 0 * most) / LEVELS;
        inverse = most > 0 ? LEVELS / most : 0;
    }
    for (int j = 0; j < n; j += LANES) P::narrow((typename P::Element *)to + j, load(row + j) * inverse);
    return scale;
}

template <class P> void fill_zero(int32_t *to, int64_t words) {
    typename P::Element *element = (typename P::Element *)to;
    for (int64_t i = 0; i < words * P::PER_WORD; i++) element[i] = (typename P::Element)P::ZERO;
}

template <class P> void place(Product &product, Room &room, int inputs, int columns) {
    product.words = inputs / P::PER_WORD;
    product.blocks = (columns + COLUMNS - 1) / COLUMNS;
    product.panels = room.take<int32_t>((int64_t)product.blocks * product.words * COLUMNS);
    product.start = room.take<int32_t>(product.blocks * COLUMNS);
    product.scale = room.take<float>(product.blocks * COLUMNS);
}

// Pack a vector of columns, whose weights are rows, each multiplied by a factor; `unit` is the value of one unit of the
// inputs, if known. A column without weights has zeros.
template <class P>
void pack_columns(Product &product, int column, const float *const *rows, float factor, float unit) {
    const int block = column / COLUMNS, vector = column % COLUMNS / LANES, part = vector / VECTORS;
    const int words = product.words;
    int32_t *to = product.panels + (int64_t)block * words * COLUMNS +
                  ((int64_t)part * words * VECTORS + vector % VECTORS) * LANES;
    float inverse[LANES];
    int32_t total[LANES] = {};
    for (int lane = 0; lane < LANES; lane++) {
        float most = 0;
        for (int i = 0; rows[lane] && i < words * P::PER_WORD; i++) {
            const float size = __builtin_fabsf(rows[lane][i]);
            most = size > most ? size : most;
        }
        inverse[lane] = most > 0 ? LEVELS / most : 0;
        product.scale[column + lane] = P::INTEGERS ? most / LEVELS * factor * unit : 1;
    }
    for (int k = 0; k < words; k++, to += VECTORS * LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            typename P::Weight word[P::PER_WORD] = {};
            for (int i = 0; rows[lane] && i < P::PER_WORD; i++) {
                word[i] = P::weight(rows[lane][k * P::PER_WORD + i] * (P::INTEGERS ? inverse[lane] : factor));
                if (P::INTEGERS) total[lane] += (int32_t)word[i];
            }
            memcpy(to + lane, word, 4);
        }
    }
    for (int lane = 0; lane < LANES; lane++) product.start[column + lane] = P::INTEGERS ? -P::ZERO * total[lane] : 0;
}

} // namespace
