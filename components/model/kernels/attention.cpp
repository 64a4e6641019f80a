// Self-attention on a CPU in single precision: FlashAttention's blocks (2205.14135, 2307.08691), products written out.
//
// Each query sees one interval of keys. That says causal rows, packed documents and both together, and a block that
// no query sees is not computed. Heads are turned by their positions as they are copied, so that turned queries and
// keys are never stored for the backward pass; of the scores, only the logarithm of each row's sum is.
//
// Heads lie side by side, [B, T, H + 2 K, C]: queries, keys, values. B batch, T tokens (queries), S keys, H query heads,
// K key-value heads, C width of a head, up to 256. attention_cpu.py calls this.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "vectors.h"

namespace {

// ROWS of two registers are summed at a time, which leaves registers for both factors.
constexpr int ROWS = W == 16 ? 8 : 6;
constexpr int TILE = 64;     // queries and keys of a block
constexpr int STAIR = 16;    // queries of a block that see as many of its keys
constexpr int WIDEST = 256;  // of a head

// rows x (2 W) of out (+)= a b: a's element (m, k) is a[m * by_row + k * by_step], b is [steps, ldb].
template <int M, int N>
inline void piece(const float *a, int64_t by_row, int64_t by_step, const float *b, int64_t ldb, int steps, float *out,
                  int64_t ldo, bool add) {
    Floats sums[M][N];  // in registers only where every loop over it is unrolled early
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int n = 0; n < N; n++) sums[m][n] = Floats{};
    for (int k = 0; k < steps; k++) {
        Floats row[N];
#pragma GCC unroll 2
        for (int n = 0; n < N; n++) row[n] = load(b + k * ldb + n * W);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            Floats value = all(a[m * by_row + k * by_step]);
#pragma GCC unroll 2
            for (int n = 0; n < N; n++) sums[m][n] += value * row[n];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int n = 0; n < N; n++) {
            float *to = out + m * ldo + n * W;
            store(to, add ? load(to) + sums[m][n] : sums[m][n]);
        }
}

template <int N>
inline void strip(const float *a, int64_t by_row, int64_t by_step, const float *b, int64_t ldb, float *out, int64_t ldo,
                  int rows, int steps, bool add) {
    int m = 0;
    for (; m + ROWS <= rows; m += ROWS)
        piece<ROWS, N>(a + m * by_row, by_row, by_step, b, ldb, steps, out + m * ldo, ldo, add);
    for (; m + 4 <= rows; m += 4)
        piece<4, N>(a + m * by_row, by_row, by_step, b, ldb, steps, out + m * ldo, ldo, add);
    for (; m < rows; m++) piece<1, N>(a + m * by_row, by_row, by_step, b, ldb, steps, out + m * ldo, ldo, add);
}

void product(const float *a, int64_t by_row, int64_t by_step, const float *b, int64_t ldb, float *out, int64_t ldo,
             int rows, int columns, int steps, bool add) {
    int n = 0;
    for (; n + 2 * W <= columns; n += 2 * W) strip<2>(a, by_row, by_step, b + n, ldb, out + n, ldo, rows, steps, add);
    for (; n < columns; n += W) strip<1>(a, by_row, by_step, b + n, ldb, out + n, ldo, rows, steps, add);
}

struct Shape {
    int64_t batch, length, heads, kv_heads, width;
    int64_t angles_row;           // floats from the angles of a row to those of the next: 0 where rows share them
    const int32_t *first, *last;  // [B, T] each: a query sees the keys first <= s < last
    const float *cos, *sin;       // [T, C / 2] or [B, T, C / 2]; null without rotary positions
    float scale;
    int64_t row() const { return (heads + 2 * kv_heads) * width; }  // floats from a token's heads to the next token's
    int64_t wide() const { return (width + 15) / 16 * 16; }        // of a copied head: whole registers
    int64_t tiles() const { return (length + TILE - 1) / TILE; }
    int64_t padded() const { return tiles() * TILE; }
};

// One head of one row, turned by its positions and scaled: [T, C], padded by zeros to whole tiles and registers.
void pack(const Shape &s, int64_t b, const float *heads, float *out, bool turned, float scale) {
    const int64_t half = s.width / 2, wide = s.wide();
    for (int64_t t = 0; t < s.length; t++) {
        const float *x = heads + t * s.row();
        float *y = out + t * wide;
        if (turned && s.cos) {
            const float *c = s.cos + b * s.angles_row + t * half, *d = s.sin + b * s.angles_row + t * half;
            registers(half, [=](int64_t i, int64_t count) {
                Floats first = take(x + i, count), second = take(x + half + i, count);
                Floats cos = take(c + i, count) * scale, sin = take(d + i, count) * scale;
                put(y + i, first * cos - second * sin, count);
                put(y + half + i, second * cos + first * sin, count);
            });
        } else {
            registers(s.width, [=](int64_t i, int64_t count) { put(y + i, take(x + i, count) * scale, count); });
        }
        if (wide > s.width) std::fill(y + s.width, y + wide, 0.0f);
    }
    std::fill(out + s.length * wide, out + s.padded() * wide, 0.0f);
}

// The gradient of `pack`.
void unpack(const Shape &s, int64_t b, const float *grads, float *out, bool turned, float scale) {
    const int64_t half = s.width / 2;
    for (int64_t t = 0; t < s.length; t++) {
        const float *x = grads + t * s.wide();
        float *y = out + t * s.row();
        if (turned && s.cos) {
            const float *c = s.cos + b * s.angles_row + t * half, *d = s.sin + b * s.angles_row + t * half;
            registers(half, [=](int64_t i, int64_t count) {
                Floats first = take(x + i, count), second = take(x + half + i, count);
                Floats cos = take(c + i, count) * scale, sin = take(d + i, count) * scale;
                put(y + i, first * cos + second * sin, count);
                put(y + half + i, second * cos - first * sin, count);
            });
        } else {
            registers(s.width, [=](int64_t i, int64_t count) { put(y + i, take(x + i, count) * scale, count); });
        }
    }
}

// [T, C] to tiles of [C, TILE].
void transpose_tiles(const Shape &s, const float *from, float *to) {
    for (int64_t tile = 0; tile < s.tiles(); tile++)
        turn(from + tile * TILE * s.wide(), s.wide(), to + tile * TILE * s.wide(), TILE, TILE, s.wide());
}

// The keys that a block of queries sees: some of its queries, and all of them.
struct Seen {
    const int32_t *first, *last;
    int64_t lowest, highest, inner_first, inner_last;
    Seen(const Shape &s, int64_t b, int64_t start, int64_t rows)
        : first(s.first + b * s.length + start), last(s.last + b * s.length + start) {
        lowest = *std::min_element(first, first + rows);
        highest = *std::max_element(last, last + rows);
        inner_first = *std::max_element(first, first + rows);
        inner_last = *std::min_element(last, last + rows);
    }
    bool whole(int64_t start) const { return inner_first <= start && start + TILE <= inner_last; }
};

// How much of a block is computed: of each STAIR of queries the keys up to the last that it or one before it sees, in
// whole registers. Under a causal rule that leaves out most of what is hidden on the diagonal.
struct Stairs {
    int rows, columns[TILE / STAIR];
    Stairs(const Seen &seen, int64_t start, int64_t rows) : rows((int)rows) {
        int most = 0;
        for (int r = 0; r < rows; r += STAIR) {
            int64_t last = *std::max_element(seen.last + r, seen.last + std::min<int64_t>(r + STAIR, rows)) - start;
            most = std::max(most, (int)std::clamp<int64_t>((last + 15) / 16 * 16, 0, TILE));
            columns[r / STAIR] = most;
        }
    }
    int of(int64_t row) const { return columns[row / STAIR]; }
    // Calls `each` with the first of some queries, their number and that of the keys they see.
    template <typename Each>
    void across(Each each) const {
        for (int r = 0, next; r < rows; r = next) {
            for (next = r + STAIR; next < rows && of(next) == of(r);) next += STAIR;
            each(r, std::min(next, rows) - r, of(r));
        }
    }
    // Calls `each` with the first of some keys, their number and the first query that sees them.
    template <typename Each>
    void down(Each each) const {
        for (int r = 0, done = 0; r < rows; r += STAIR) {
            if (of(r) > done) each(done, of(r) - done, r);
            done = of(r);
        }
    }
};

// Puts -inf where a query of the block does not see a key of the tile.
void hide(const Seen &seen, int64_t start, int64_t rows, float *scores) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = std::clamp<int64_t>(seen.first[r] - start, 0, TILE);
        int64_t to = std::clamp<int64_t>(seen.last[r] - start, from, TILE);
        std::fill(scores + r * TILE, scores + r * TILE + from, -INFINITY);
        std::fill(scores + r * TILE + to, scores + (r + 1) * TILE, -INFINITY);
    }
}

void forward_head(const Shape &s, int64_t b, const float *queries, const float *keys_t, const float *values,
                  float *out, int64_t out_row, float *log_sum) {
    alignas(64) float scores[TILE * TILE], mixed[TILE * WIDEST], top[TILE], total[TILE];
    const int64_t C = s.wide();
    for (int64_t start = 0; start < s.length; start += TILE) {
        int64_t rows = std::min<int64_t>(TILE, s.length - start);
        Seen seen(s, b, start, rows);
        std::fill(top, top + TILE, -INFINITY);
        std::fill(total, total + TILE, 0.0f);
        bool begun = false;
        for (int64_t tile = seen.lowest / TILE; tile * TILE < seen.highest; tile++) {
            Stairs stairs(seen, tile * TILE, rows);
            stairs.across([&](int r, int some, int columns) {
                product(queries + (start + r) * C, C, 1, keys_t + tile * TILE * C, TILE, scores + r * TILE, TILE, some,
                        columns, C, false);
            });
            if (!seen.whole(tile * TILE)) hide(seen, tile * TILE, rows, scores);
            for (int64_t r = 0; r < rows; r++) {
                const int columns = stairs.of(r);
                float *row = scores + r * TILE;
                if (columns == 0) continue;
                Floats best = load(row);
                for (int j = W; j < columns; j += W) best = larger(best, load(row + j));
                float most = std::max(top[r], maximum(best));
                if (most == -INFINITY) {
                    std::fill(row, row + columns, 0.0f);
                    continue;
                }
                Floats shift = all(most), added = Floats{};
                for (int j = 0; j < columns; j += W) {
                    Floats value = exponential(load(row + j) - shift);
                    store(row + j, value);
                    added += value;
                }
                float shrink = std::exp(top[r] - most);
                total[r] = total[r] * shrink + sum(added);
                if (begun && shrink != 1.0f)
                    for (int64_t c = 0; c < C; c++) mixed[r * C + c] *= shrink;
                top[r] = most;
            }
            stairs.across([&](int r, int some, int columns) {
                product(scores + r * TILE, TILE, 1, values + tile * TILE * C, C, mixed + r * C, C, some, C, columns, begun);
            });
            begun = true;
        }
        for (int64_t r = 0; r < rows; r++) {
            float share = 1.0f / total[r];
            float *to = out + (start + r) * out_row;
            for (int64_t c = 0; c < s.width; c++) to[c] = mixed[r * C + c] * share;
            log_sum[start + r] = top[r] + std::log(total[r]);
        }
    }
}

struct Packed {
    const float *queries, *keys, *keys_t, *values_t, *grad_out;
    const float *log_sum, *delta;
    float *grad_queries, *grad_keys, *grad_values;
};

void backward_head(const Shape &s, int64_t b, const Packed &p) {
    alignas(64) float share[TILE * TILE], grad[TILE * TILE];
    const int64_t C = s.wide();
    for (int64_t start = 0; start < s.length; start += TILE) {
        int64_t rows = std::min<int64_t>(TILE, s.length - start);
        Seen seen(s, b, start, rows);
        const float *queries = p.queries + start * C, *grad_out = p.grad_out + start * C;
        bool begun = false;
        for (int64_t tile = seen.lowest / TILE; tile * TILE < seen.highest; tile++) {
            int64_t at = tile * TILE * C;
            Stairs stairs(seen, tile * TILE, rows);
            stairs.across([&](int r, int some, int columns) {
                product(queries + r * C, C, 1, p.keys_t + at, TILE, share + r * TILE, TILE, some, columns, C, false);
                product(grad_out + r * C, C, 1, p.values_t + at, TILE, grad + r * TILE, TILE, some, columns, C, false);
            });
            if (!seen.whole(tile * TILE)) hide(seen, tile * TILE, rows, share);
            for (int64_t r = 0; r < rows; r++) {
                Floats shift = all(p.log_sum[start + r]), less = all(p.delta[start + r]);
                for (int j = 0; j < stairs.of(r); j += W) {
                    Floats value = exponential(load(share + r * TILE + j) - shift);
                    store(share + r * TILE + j, value);
                    store(grad + r * TILE + j, value * (load(grad + r * TILE + j) - less));
                }
            }
            stairs.down([&](int key, int keys, int r) {
                int64_t to = at + key * C, from = r * TILE + key;
                product(share + from, 1, TILE, grad_out + r * C, C, p.grad_values + to, C, keys, C, rows - r, true);
                product(grad + from, 1, TILE, queries + r * C, C, p.grad_keys + to, C, keys, C, rows - r, true);
            });
            stairs.across([&](int r, int some, int columns) {
                product(grad + r * TILE, TILE, 1, p.keys + at, C, p.grad_queries + (start + r) * C, C, some, C, columns,
                        begun);
            });
            begun = true;
        }
    }
}

struct Scratch {
    std::unique_ptr<float, decltype(&std::free)> memory{nullptr, &std::free};
    float *next = nullptr;
    explicit Scratch(int64_t floats) : memory((float *)std::aligned_alloc(64, (floats * 4 + 4159) / 64 * 64), &std::free) {
        next = memory.get();
    }
    float *take(int64_t floats) {
        float *start = next;
        next += (floats + 15) / 16 * 16;
        return start;
    }
};

}  // namespace

extern "C" {

// out [B, T, H, C]; log_sum [B, H, T].
void attention_forward(const Shape *shape, const float *heads, float *out, float *log_sum, int threads) {
    const Shape &s = *shape;
    const int64_t size = s.padded() * s.wide(), group = s.heads / s.kv_heads;
#pragma omp parallel num_threads(threads)
    {
        Scratch scratch(4 * (size + 16));
        float *queries = scratch.take(size), *keys = scratch.take(size), *keys_t = scratch.take(size), *values = scratch.take(size);
#pragma omp for schedule(static)
        for (int64_t item = 0; item < s.batch * s.kv_heads; item++) {
            int64_t b = item / s.kv_heads, kv = item % s.kv_heads;
            const float *row = heads + b * s.length * s.row();
            pack(s, b, row + (s.heads + kv) * s.width, keys, true, 1.0f);
            transpose_tiles(s, keys, keys_t);
            pack(s, b, row + (s.heads + s.kv_heads + kv) * s.width, values, false, 1.0f);
            for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
                pack(s, b, row + h * s.width, queries, true, s.scale);
                forward_head(s, b, queries, keys_t, values, out + (b * s.length * s.heads + h) * s.width,
                             s.heads * s.width, log_sum + (b * s.heads + h) * s.length);
            }
        }
    }
}

// grads [B, T, H + 2 K, C], written whole.
void attention_backward(const Shape *shape, const float *heads, const float *out, const float *log_sum,
                        const float *grad_out, float *grads, int threads) {
    const Shape &s = *shape;
    const int64_t size = s.padded() * s.wide(), group = s.heads / s.kv_heads, C = s.width;
#pragma omp parallel num_threads(threads)
    {
        Scratch scratch(9 * (size + 16) + s.padded() + 16);
        float *queries = scratch.take(size), *keys = scratch.take(size), *keys_t = scratch.take(size);
        float *values = scratch.take(size), *values_t = scratch.take(size), *grad_rows = scratch.take(size);
        float *grad_queries = scratch.take(size), *grad_keys = scratch.take(size), *grad_values = scratch.take(size);
        float *delta = scratch.take(s.padded());
#pragma omp for schedule(static)
        for (int64_t item = 0; item < s.batch * s.kv_heads; item++) {
            int64_t b = item / s.kv_heads, kv = item % s.kv_heads;
            const float *row = heads + b * s.length * s.row();
            float *grad_row = grads + b * s.length * s.row();
            pack(s, b, row + (s.heads + kv) * C, keys, true, 1.0f);
            transpose_tiles(s, keys, keys_t);
            pack(s, b, row + (s.heads + s.kv_heads + kv) * C, values, false, 1.0f);
            transpose_tiles(s, values, values_t);
            std::fill(grad_keys, grad_keys + size, 0.0f);
            std::fill(grad_values, grad_values + size, 0.0f);
            for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
                pack(s, b, row + h * C, queries, true, s.scale);
                const float *mixed = out + (b * s.length * s.heads + h) * C;
                const float *grad_mixed = grad_out + (b * s.length * s.heads + h) * C;
                for (int64_t t = 0; t < s.length; t++) {
                    const float *o = mixed + t * s.heads * C, *g = grad_mixed + t * s.heads * C;
                    float *row = grad_rows + t * s.wide();
                    Floats total = {};
                    registers(C, [&](int64_t i, int64_t count) {
                        Floats value = take(g + i, count);
                        total += value * take(o + i, count);
                        put(row + i, value, count);
                    });
                    delta[t] = sum(total);
                    if (s.wide() > C) std::fill(row + C, row + s.wide(), 0.0f);
                }
                Packed packed{queries, keys, keys_t, values_t, grad_rows, log_sum + (b * s.heads + h) * s.length,
                              delta, grad_queries, grad_keys, grad_values};
                backward_head(s, b, packed);
                unpack(s, b, grad_queries, grad_row + h * C, true, s.scale);
            }
            unpack(s, b, grad_keys, grad_row + (s.heads + kv) * C, true, 1.0f);
            unpack(s, b, grad_values, grad_row + (s.heads + s.kv_heads + kv) * C, false, 1.0f);
        }
    }
}
}
