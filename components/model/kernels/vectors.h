// One register of floats, by the vector types of GCC and Clang, and its exponential.
#pragma once

#include <cstdint>

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

}  // namespace
