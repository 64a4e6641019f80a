// Activations and the loss of logits on a CPU in single precision, each gradient in one pass over memory. elementwise.py
// and loss.py call this.
//
// R rows, F gate width, V vocabulary.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "vectors.h"

namespace {

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline Floats load_some(const float *from, int64_t count) {
    Floats value = {};
    std::memcpy(&value, from, count * 4);
    return value;
}

// Calls `each` for every register of [0, size) with its place and number of floats: W, but for the last.
template <typename Each>
inline void registers(int64_t size, Each each) {
    int64_t i = 0;
    for (; i + W <= size; i += W) each(i, W);
    if (i < size) each(i, size - i);
}

inline Floats take(const float *from, int64_t count) { return count == W ? load(from) : load_some(from, count); }
inline void put(float *to, Floats value, int64_t count) {
    if (count == W)
        store(to, value);
    else
        std::memcpy(to, &value, count * 4);
}

// GELU's tanh form is x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float TWICE = 1.5957691216f, CUBIC = 0.044715f;

}  // namespace

extern "C" {

// gate_up [R, 2 F], out [R, F]: silu(gate) up.
void swiglu_forward(const float *gate_up, float *out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *gate = gate_up + 2 * r * width, *up = gate + width;
        float *to = out + r * width;
        registers(width, [=](int64_t i, int64_t count) {
            Floats a = take(gate + i, count);
            put(to + i, a * sigmoid(a) * take(up + i, count), count);
        });
    }
}

// grad [R, F], grads [R, 2 F].
void swiglu_backward(const float *gate_up, const float *grad, float *grads, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *gate = gate_up + 2 * r * width, *up = gate + width, *g = grad + r * width;
        float *to_gate = grads + 2 * r * width, *to_up = to_gate + width;
        registers(width, [=](int64_t i, int64_t count) {
            Floats a = take(gate + i, count), d = take(g + i, count), open = sigmoid(a);
            put(to_up + i, d * a * open, count);
            put(to_gate + i, d * take(up + i, count) * open * (1.0f + a * (1.0f - open)), count);
        });
    }
}

// x, out [N].
void gelu_forward(const float *x, float *out, int64_t size, int threads) {
    const int64_t piece = 4096;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t start = 0; start < size; start += piece)
        registers(std::min(piece, size - start), [=](int64_t i, int64_t count) {
            Floats a = take(x + start + i, count);
            put(out + start + i, a * sigmoid(TWICE * a * (1.0f + CUBIC * a * a)), count);
        });
}

// x, grad, grads [N].
void gelu_backward(const float *x, const float *grad, float *grads, int64_t size, int threads) {
    const int64_t piece = 4096;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t start = 0; start < size; start += piece)
        registers(std::min(piece, size - start), [=](int64_t i, int64_t count) {
            Floats a = take(x + start + i, count), square = CUBIC * a * a, open = sigmoid(TWICE * a * (1.0f + square));
            Floats slope = open + a * open * (1.0f - open) * TWICE * (1.0f + 3.0f * square);
            put(grads + start + i, take(grad + start + i, count) * slope, count);
        });
}

// logits [R, V] become their own gradients, softmax less one at the target; losses [R] are -log p(target).
void cross_entropy(float *logits, const int64_t *targets, float *losses, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *row = logits + r * width, most = row[0];
        Floats best = all(most);
        registers(width, [&](int64_t i, int64_t count) {
            if (count == W) {
                Floats next = load(row + i);
                best = best > next ? best : next;
            } else {
                for (int64_t j = i; j < i + count; j++) most = std::max(most, row[j]);
            }
        });
        for (int i = 0; i < W; i++) most = std::max(most, best[i]);
        float target = row[targets[r]], total = 0;
        Floats sum = {};
        registers(width, [&](int64_t i, int64_t count) {
            Floats value = exponential(take(row + i, count) - all(most));
            put(row + i, value, count);
            if (count == W)
                sum += value;
            else
                for (int64_t j = 0; j < count; j++) total += value[j];
        });
        for (int i = 0; i < W; i++) total += sum[i];
        losses[r] = std::log(total) - (target - most);
        float share = 1.0f / total;
        registers(width, [&](int64_t i, int64_t count) { put(row + i, take(row + i, count) * share, count); });
        row[targets[r]] -= 1.0f;
    }
}
}
