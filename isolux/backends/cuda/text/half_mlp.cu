// A small network in half precision, fused: in the spirit of Müller et al. 2021, "Real-time neural
// radiance caching". A warp takes rows of points through all layers in its registers: the sums of
// one product are spread over the lanes as the next product wants its left matrix. Products are of
// halves, sums in single precision.
//
// The sizes are set by who launches: hidden layers, their width, inputs filled up to sixteens.
// Outputs are filled up to sixteen.
#ifndef WIDTH
#define WIDTH 64
#define HIDDEN 4
#define INPUTS 64
#endif

constexpr int INS = INPUTS / 16, WIDE = WIDTH / 16, MOST = INS > WIDE ? INS : WIDE;

// In tiles of 16 x 16: what a layer takes, what it gives, and where its weights begin.
DEVICE constexpr int ins(int layer) { return layer ? WIDE : INS; }
DEVICE constexpr int outs(int layer) { return layer < HIDDEN ? WIDE : 1; }
DEVICE constexpr int first_tile(int layer) {
  return layer ? WIDE * (INS + (layer - 1) * WIDE) : 0;
}
constexpr int TILES = first_tile(HIDDEN) + WIDE;

// A power of two in two factors, as one might not fit: exponents up to 252 either way.
struct Scale {
  float one, other;
};
DEVICE float power_of_two(int exponent) { return float_of((unsigned)(exponent + 127) << 23); }
DEVICE Scale scale_of(int exponent) {
  return {power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)};
}
// The power of two above a magnitude; 2^0 for what is not finite.
DEVICE int exponent_above(unsigned bits) {
  return bits < 0x7f800000u ? (int)(bits >> 23) - 126 : 0;
}

// Numbers as they lie in memory: rows are points, beyond the last row or column is zero.
struct Table {
  size row_step, column_step;
  int rows, columns;
};

DEVICE float number_at(const float* data, Table table, int row, int column) {
  bool is_in = row < table.rows && column < table.columns;
  return is_in ? data[row * table.row_step + column * table.column_step] : 0.0f;
}

INLINED void load(PerLane<Left>& to, const float* data, Table table, int row, int column,
                  Scale scale) {
  LANES(i) UNROLL for (int r = 0; r < 4; ++r) {
    int y = row + i / 4 + 8 * (r % 2), x = column + 2 * (i % 4) + 8 * (r / 2);
    to[i].v[r] = halves(number_at(data, table, y, x) * scale.one * scale.other,
                        number_at(data, table, y, x + 1) * scale.one * scale.other);
  }
}

INLINED void store(const PerLane<Sum>& sum, float* data, Table table, int row, int column,
                   Scale scale) {
  LANES(i) UNROLL for (int e = 0; e < 4; ++e) {
    int y = row + i / 4 + 8 * (e / 2), x = column + 2 * (i % 4) + e % 2;
    if (y < table.rows && x < table.columns)
      data[y * table.row_step + x * table.column_step] = sum[i].v[e] * scale.one * scale.other;
  }
}

// Weights rounded, in tiles whose rows are outputs, [out][in][lane]; then, if there is room, the
// same for the way back, whose rows are inputs, [in][out][lane]. `norms`, if given, zeros at first:
// minus the bits of the largest sum of magnitudes to an input, for each layer after the first.

DEVICE float weight_at(const float* weights, int layer, int out, int in, int inputs,
                       int outputs) {
  int columns = layer ? WIDTH : inputs, rows = layer < HIDDEN ? WIDTH : outputs;
  if (out >= rows || in >= columns) return 0.0f;
  int start = layer ? WIDTH * (inputs + (layer - 1) * WIDTH) : 0;
  return weights[start + out * columns + in];
}

KERNEL half_mlp_pack(const float* weights, int* packed, int* norms, int inputs, int outputs,
                     int words) {
  EACH(n, words) {
    int r = n % 4, i = n / 4 % 32, tile = n / 128 % TILES, layer = HIDDEN;
    bool is_back = n / 128 >= TILES;
    while (tile < first_tile(layer)) --layer;
    tile -= first_tile(layer);
    int across = is_back ? outs(layer) : ins(layer);
    int row = 16 * (tile / across) + i / 4 + 8 * (r % 2);
    int column = 16 * (tile % across) + 2 * (i % 4) + 8 * (r / 2);
    float pair[2];
    for (int k = 0; k < 2; ++k)
      pair[k] = is_back ? weight_at(weights, layer, column + k, row, inputs, outputs)
                        : weight_at(weights, layer, row, column + k, inputs, outputs);
    packed[n] = (int)halves(pair[0], pair[1]);
  }
  EACH(n, norms ? HIDDEN * WIDTH : 0) {
    int layer = 1 + n / WIDTH;
    float total = 0;
    for (int out = 0; out < 16 * outs(layer); ++out)
      total += fabsf(rounded(weight_at(weights, layer, out, n % WIDTH, inputs, outputs)));
    atomic_min(norms + layer - 1, -(int)(bits_of(total) & 0x7fffffffu));
  }
}

// Sixteen columns of a product: M times sixteen points, K times sixteen terms.
template <int M, int K>
INLINED void multiply(PerLane<Sum> (&sums)[M][2], const PerLane<Left> (&from)[M][K],
                      const Left* tiles) {
  UNROLL for (int m = 0; m < M; ++m)
    LANES(i) sums[m][0][i] = sums[m][1][i] = {{0.0f, 0.0f, 0.0f, 0.0f}};
  UNROLL for (int k = 0; k < K; ++k) {
    PerLane<Right> right[2];
    LANES(i) {
      Left tile = tiles[32 * k + i];
      right[0][i] = rows_of(tile, 0);
      right[1][i] = rows_of(tile, 1);
    }
    UNROLL for (int m = 0; m < M; ++m)
      UNROLL for (int s = 0; s < 2; ++s) mma(sums[m][s], from[m][k], right[s]);
  }
}

// A NaN stays one.
DEVICE float relu(float x) { return x <= 0.0f ? 0.0f : x; }

template <int M, int K>
INLINED void hidden_layer(PerLane<Left> (&to)[M][WIDE], const PerLane<Left> (&from)[M][K],
                          const Left* tiles) {
  UNROLL for (int n = 0; n < WIDE; ++n) {
    PerLane<Sum> sums[M][2];
    multiply(sums, from, tiles + 32 * K * n);
    UNROLL for (int m = 0; m < M; ++m)
      LANES(i) UNROLL for (int r = 0; r < 4; ++r) {
        const float* v = sums[m][r / 2][i].v + 2 * (r % 2);
        to[m][n][i].v[r] = halves(relu(v[0]), relu(v[1]));
      }
  }
}

constexpr int ROWS = 2;  // times sixteen points to a warp: weights are fetched once for them

KERNEL half_mlp_forward(const float* x, const int* packed, float* out, int inputs, int outputs,
                        int points, int warps) {
  const Left* tiles = (const Left*)packed;
  Table columns = {1, (size)points, points, inputs}, rows = {(size)outputs, 1, points, outputs};
  EACH_WARP(w, warps) {
    int first = 16 * ROWS * w;
    PerLane<Left> input[ROWS][INS], hidden[2][ROWS][WIDE];
    UNROLL for (int m = 0; m < ROWS; ++m)
      UNROLL for (int k = 0; k < INS; ++k)
        load(input[m][k], x, columns, first + 16 * m, 16 * k, {1.0f, 1.0f});
    hidden_layer(hidden[0], input, tiles);
    UNROLL for (int layer = 1; layer < HIDDEN; ++layer)
      hidden_layer(hidden[layer % 2], hidden[(layer - 1) % 2], tiles + 32 * first_tile(layer));
    PerLane<Sum> sums[ROWS][2];
    multiply(sums, hidden[(HIDDEN - 1) % 2], tiles + 32 * first_tile(HIDDEN));
    UNROLL for (int m = 0; m < ROWS; ++m)
      UNROLL for (int s = 0; s < 2; ++s)
        store(sums[m][s], out, rows, first + 16 * m, 8 * s, {1.0f, 1.0f});
  }
}

// The way back. A warp takes sixteen points through the layers once more, and their gradient down.
// Gradients to weights are sums over points: the block's warps lay both factors into shared memory,
// and each adds to its share of the tiles, which it keeps in registers until the block is done.
//
// A layer's gradient is multiplied by a power of two such that no finite number exceeds 2^15: at
// the top by the largest magnitude, and from layer to layer by the norm of the weights.

constexpr int SHARE = (2 * WIDE * MOST + WARPS - 1) / WARPS;  // tiles of 16 x 8 to a warp, at most

struct Warp {
  PerLane<Left> input[1][INS], hidden[HIDDEN][1][WIDE], top[1][1], grad[1][WIDE];
  PerLane<Sum> total[HIDDEN + 1][SHARE];
};

struct Job {
  const float* x;
  const Left* tiles;
  const int* norms;
  float* to_x;
  float* partial;
  Table columns;
};

template <int LAYER>
INLINED auto& input_of(Warp& warp) {
  if constexpr (LAYER > 0)
    return warp.hidden[LAYER - 1];
  else
    return warp.input;
}
template <int LAYER>
INLINED auto& grad_of(Warp& warp) {
  if constexpr (LAYER < HIDDEN)
    return warp.grad;
  else
    return warp.top;
}

INLINED void recompute(Warp& warp, const Job& job, int first) {
  UNROLL for (int k = 0; k < INS; ++k)
    load(warp.input[0][k], job.x, job.columns, first, 16 * k, {1.0f, 1.0f});
  hidden_layer(warp.hidden[0], warp.input, job.tiles);
  UNROLL for (int layer = 1; layer < HIDDEN; ++layer)
    hidden_layer(warp.hidden[layer], warp.hidden[layer - 1],
                 job.tiles + 32 * first_tile(layer));
}

// Both factors of a layer's weight gradient, points along the columns.
template <int LAYER>
INLINED void lay_out(Warp& warp, Left* left, Right* right) {
  PerLane<Left> turned;
  UNROLL for (int k = 0; k < outs(LAYER); ++k) {
    transpose(turned, grad_of<LAYER>(warp)[0][k]);
    LANES(i) left[32 * k + i] = turned[i];
  }
  UNROLL for (int k = 0; k < ins(LAYER); ++k) {
    transpose(turned, input_of<LAYER>(warp)[0][k]);
    LANES(i) UNROLL for (int s = 0; s < 2; ++s)
      right[32 * (2 * k + s) + i] = rows_of(turned[i], s);
  }
}

constexpr int LEFTS = 32 * WIDE, RIGHTS = 64 * MOST;  // of a warp, in shared memory

// How many of a layer's 16 x 8 tiles a warp adds to.
DEVICE constexpr int share_of(int layer) {
  return (2 * outs(layer) * ins(layer) + WARPS - 1) / WARPS;
}

template <int LAYER>
INLINED void add_products(Warp& warp, const Left* left, const Right* right, int w) {
  constexpr int across = 2 * ins(LAYER), tiles = outs(LAYER) * across;
  UNROLL for (int from = 0; from < WARPS; ++from)
    UNROLL for (int j = 0; j < share_of(LAYER); ++j) {
      int tile = w * share_of(LAYER) + j;
      if (tile < tiles) {
        PerLane<Left> a;
        PerLane<Right> b;
        LANES(i) {
          a[i] = left[LEFTS * from + 32 * (tile / across) + i];
          b[i] = right[RIGHTS * from + 32 * (tile % across) + i];
        }
        mma(warp.total[LAYER][j], a, b);
      }
    }
}

// What the hidden layer below a layer gets, multiplied by a power of two.
template <int LAYER>
INLINED void step_down(Warp& warp, const Left* tiles, float scale) {
  PerLane<Left> below[1][WIDE];
  UNROLL for (int n = 0; n < WIDE; ++n) {
    PerLane<Sum> sums[1][2];
    multiply(sums, grad_of<LAYER>(warp), tiles + 32 * outs(LAYER) * n);
    LANES(i) UNROLL for (int r = 0; r < 4; ++r) {
      const float* v = sums[0][r / 2][i].v + 2 * (r % 2);
      unsigned value = input_of<LAYER>(warp)[0][n][i].v[r];
      below[0][n][i].v[r] = halves(value & 0xffffu ? v[0] * scale : 0.0f,
                                   value >> 16 ? v[1] * scale : 0.0f);
    }
  }
  UNROLL for (int n = 0; n < WIDE; ++n) LANES(i) warp.grad[0][n][i] = below[0][n][i];
}

INLINED void step_out(Warp& warp, const Job& job, int first, Scale scale) {
  const Left* tiles = job.tiles + 32 * TILES;
  UNROLL for (int n = 0; n < INS; ++n) {
    PerLane<Sum> sums[1][2];
    multiply(sums, warp.grad, tiles + 32 * WIDE * n);
    UNROLL for (int s = 0; s < 2; ++s)
      store(sums[0][s], job.to_x, job.columns, first, 16 * n + 8 * s, scale);
  }
}

// The power by which a layer's gradient grows on its way through the layer. A norm of halves is at
// least 2^-24, or zero.
DEVICE int growth_of(const Job& job, int layer) {
  return least(24, -exponent_above((unsigned)-job.norms[layer - 1]));
}

template <int LAYER>
INLINED void go_down(PerWarp<Warp>& warps, Left* left, Right* right, const Job& job, int first,
                     int power) {
  PHASE(w) lay_out<LAYER>(warps[w], left + LEFTS * w, right + RIGHTS * w);
  PHASE(w) {
    add_products<LAYER>(warps[w], left, right, w);
    if constexpr (LAYER > 0)
      step_down<LAYER>(warps[w], job.tiles + 32 * (TILES + first_tile(LAYER)),
                       power_of_two(growth_of(job, LAYER)));
    else if (job.to_x)
      step_out(warps[w], job, first + 16 * w, scale_of(-power));
  }
  if constexpr (LAYER > 0)
    go_down<LAYER - 1>(warps, left, right, job, first, power + growth_of(job, LAYER));
}

template <int LAYER>
INLINED void put_totals(Warp& warp, const Job& job, int w, int power) {
  constexpr int across = 2 * ins(LAYER), tiles = outs(LAYER) * across;
  Table table = {16 * (size)ins(LAYER), 1, 16 * outs(LAYER), 16 * ins(LAYER)};
  UNROLL for (int j = 0; j < share_of(LAYER); ++j) {
    int tile = w * share_of(LAYER) + j;
    if (tile < tiles)
      store(warp.total[LAYER][j], job.partial + 256 * first_tile(LAYER), table,
            tile / across * 16, tile % across * 8, scale_of(-power));
  }
  if constexpr (LAYER > 0) put_totals<LAYER - 1>(warp, job, w, power + growth_of(job, LAYER));
}

// partial: a row for each block, of gradients to weights of all layers, filled up.
KERNEL half_mlp_backward(const float* x, const int* packed, const int* norms, const float* grad,
                         const float* largest, float* to_x, float* partial, int inputs,
                         int outputs, int points, int blocks) {
  SHARED Left left[WARPS * LEFTS];
  SHARED Right right[WARPS * RIGHTS];
  int power = 15 - exponent_above(bits_of(*largest));
  Table rows = {(size)outputs, 1, points, outputs};
  BLOCKS(b, blocks) {
    Job job = {x, (const Left*)packed, norms, to_x, partial + 256 * (size)TILES * b,
               {1, (size)points, points, inputs}};
    PerWarp<Warp> warps;
    PHASE(w) UNROLL for (int layer = 0; layer <= HIDDEN; ++layer)
      UNROLL for (int j = 0; j < SHARE; ++j)
        LANES(i) warps[w].total[layer][j][i] = {{0.0f, 0.0f, 0.0f, 0.0f}};
    for (int chunk = b; 16 * WARPS * chunk < points; chunk += blocks) {
      int first = 16 * WARPS * chunk;
      PHASE(w) {
        recompute(warps[w], job, first + 16 * w);
        load(warps[w].top[0][0], grad, rows, first + 16 * w, 0, scale_of(power));
      }
      go_down<HIDDEN>(warps, left, right, job, first, power);
    }
    PHASE(w) put_totals<HIDDEN>(warps[w], job, w, power);
  }
}
