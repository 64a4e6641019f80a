// Registers of floats, by the vector types of GCC and Clang: their exponential, and loops and transposition by them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace {

#ifdef __AVX512F__
constexpr int W = 16;
#else
constexpr int W = 8;
#endif

typedef float Floats __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(W * 4), aligned(4), may_alias));

inline Floats load(const float *from) { return *reinterpret_cast<const Floats *>(from); }
inline void store(float *to, Floats value) { *reinterpret_cast<Floats *>(to) = value; }
inline Floats all(float value) { return value - Floats{}; }

// e^x within two units in the last place; 0 below -87, e^88 above 88. What is not a number stays so.
inline Floats exponential(Floats x) {
    const Floats magic = all(12582912.0f);  // added, it leaves the nearest whole number in the last bits
    Ints tiny = x < all(-87.0f);
    x = tiny ? all(-87.0f) : x;
    x = x > all(88.0f) ? all(88.0f) : x;
    Floats shifted = x * 1.44269504f + magic;
    Floats whole = shifted - magic;
    Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats value = all(1.9875691500e-4f);
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * rest * rest + rest + 1.0f;
    Ints power = ((Ints)shifted - (Ints)magic + 127) << 23;
    value *= (Floats)power;
    return tiny ? Floats{} : value;
}

// The register with its columns taken from elsewhere: those that lie D further in blocks of 2 D, and back.
template <int D, size_t... I>
inline Floats swapped(Floats x, std::index_sequence<I...>) {
#ifdef __clang__
    return __builtin_shufflevector(x, x, (I ^ D)...);
#else
    return __builtin_shuffle(x, Ints{(int32_t)(I ^ D)...});
#endif
}

// One number from all of a register, by halves.
template <int D = W / 2, typename Both>
inline float folded(Floats x, Both both) {
    x = both(x, swapped<D>(x, std::make_index_sequence<W>()));
    if constexpr (D > 1)
        return folded<D / 2>(x, both);
    else
        return x[0];
}
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline float sum(Floats x) {
    return folded(x, [](Floats a, Floats b) { return a + b; });
}
inline float maximum(Floats x) { return folded(x, larger); }

// Calls `each` for every register of [0, size) with its place and number of floats: W, but for the last.
template <typename Each>
inline void registers(int64_t size, Each each) {
    int64_t i = 0;
    for (; i + W <= size; i += W) each(i, W);
    if (i < size) each(i, size - i);
}

// So many floats of a register; the others are zero.
inline Floats take(const float *from, int64_t count) {
    if (count == W) return load(from);
    Floats value = {};
    std::memcpy(&value, from, count * 4);
    return value;
}
inline void put(float *to, Floats value, int64_t count) {
    if (count == W)
        store(to, value);
    else
        std::memcpy(to, &value, count * 4);
}

// Of two rows whose distance is D, blocks of D columns change places across the diagonal: what either row becomes.
template <int D, bool SECOND, size_t... I>
inline Floats exchanged(Floats a, Floats b, std::index_sequence<I...>) {
    constexpr int from = SECOND ? D : 0;
#ifdef __clang__
    return __builtin_shufflevector(a, b, ((I & D) ? W + I - D + from : I + from)...);
#else
    return __builtin_shuffle(a, b, Ints{(int32_t)((I & D) ? W + I - D + from : I + from)...});
#endif
}

template <int D>
inline void exchange(Floats *rows) {
    constexpr auto columns = std::make_index_sequence<W>();
    for (int i = 0; i < W; i++) {
        if (i & D) continue;
        Floats a = rows[i], b = rows[i + D];
        rows[i] = exchanged<D, false>(a, b, columns);
        rows[i + D] = exchanged<D, true>(a, b, columns);
    }
    if constexpr (D > 1) exchange<D / 2>(rows);
}

// from [rows, columns] to [columns, rows]; the next row begins so many floats later.
inline void turn(const float *from, int64_t from_row, float *to, int64_t to_row, int64_t rows, int64_t columns) {
    const int64_t whole_rows = rows - rows % W, whole_columns = columns - columns % W;
    for (int64_t r = 0; r < whole_rows; r += W) {
        for (int64_t c = 0; c < whole_columns; c += W) {
            Floats block[W];
            for (int i = 0; i < W; i++) block[i] = load(from + (r + i) * from_row + c);
            exchange<W / 2>(block);
            for (int i = 0; i < W; i++) store(to + (c + i) * to_row + r, block[i]);
        }
        for (int64_t c = whole_columns; c < columns; c++)
            for (int i = 0; i < W; i++) to[c * to_row + r + i] = from[(r + i) * from_row + c];
    }
    for (int64_t r = whole_rows; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) to[c * to_row + r] = from[r * from_row + c];
}

}  // namespace
