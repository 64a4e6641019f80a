// The norm, activations and the loss of logits on a CPU in single precision, each gradient in one pass over memory, and
// the transpose of a matrix. elementwise.py, loss.py and products.py call this.
//
// R rows, D model width, F gate width, V vocabulary.

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace {

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

// GELU's tanh form is x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float TWICE = 1.5957691216f, CUBIC = 0.044715f;

}  // namespace

extern "C" {

// x, out [R, D], weight [D]; scales [R] are 1 / rms(x).
void rms_norm_forward(const float *x, const float *weight, float *out, float *scales, float eps, int64_t rows,
                      int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * width;
        float *to = out + r * width;
        Floats squares = {};
        registers(width, [&](int64_t i, int64_t count) {
            Floats value = take(from + i, count);
            squares += value * value;
        });
        float scale = scales[r] = 1.0f / std::sqrt(sum(squares) / width + eps);
        registers(width, [=](int64_t i, int64_t count) {
            put(to + i, take(from + i, count) * scale * take(weight + i, count), count);
        });
    }
}

// grad, grads [R, D]. Of the weight's gradient, grad_weights [R / rows_each, D] are the sums over so many rows each: they
// do not depend on the number of threads.
void rms_norm_backward(const float *x, const float *weight, const float *scales, const float *grad, float *grads,
                       float *grad_weights, int64_t rows_each, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t start = 0; start < rows; start += rows_each) {
        float *weights = grad_weights + start / rows_each * width;
        std::fill(weights, weights + width, 0.0f);
        for (int64_t r = start; r < std::min(rows, start + rows_each); r++) {
            const float *from = x + r * width, *g = grad + r * width;
            float *to = grads + r * width, scale = scales[r];
            Floats along = {};
            registers(width, [&](int64_t i, int64_t count) {
                Floats step = take(g + i, count) * take(from + i, count) * scale;
                put(weights + i, take(weights + i, count) + step, count);
                along += step * take(weight + i, count);
            });
            float mean = sum(along) / width * scale;
            registers(width, [=](int64_t i, int64_t count) {
                put(to + i, (take(g + i, count) * take(weight + i, count) - take(from + i, count) * mean) * scale, count);
            });
        }
    }
}

// from [R, D] to [D, R].
void transpose(const float *from, float *to, int64_t rows, int64_t width, int threads) {
    const int64_t each = 64;  // rows whose columns fill whole cache lines of the result
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t start = 0; start < rows; start += each)
        turn(from + start * width, width, to + start, rows, std::min(each, rows - start), width);
}

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
        Floats best = all(most), added = {};
        registers(width, [&](int64_t i, int64_t count) {
            if (count == W)
                best = larger(best, load(row + i));
            else
                for (int64_t j = i; j < i + count; j++) most = std::max(most, row[j]);
        });
        most = std::max(most, maximum(best));
        float target = row[targets[r]], total = 0;
        registers(width, [&](int64_t i, int64_t count) {
            Floats value = exponential(take(row + i, count) - all(most));
            put(row + i, value, count);
            if (count == W)
                added += value;
            else
                for (int64_t j = 0; j < count; j++) total += value[j];
        });
        total += sum(added);
        losses[r] = std::log(total) - (target - most);
        float share = 1.0f / total;
        registers(width, [&](int64_t i, int64_t count) { put(row + i, take(row + i, count) * share, count); });
        row[targets[r]] -= 1.0f;
    }
}
}
