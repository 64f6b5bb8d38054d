// Threads that work together, for the files that launch.py names in _WARPS: blocks of WARPS warps,
// warps of 32 lanes, and products of small matrices that the lanes of a warp do together (mma).
//
//   BLOCKS(b, count)     every b below the count once, a block each
//   PHASE(w) { }         every warp of the block; at its end they wait for each other, so what one
//                        wrote to SHARED memory the others may read in the next phase. All of a
//                        block's warps must come to it, and none may leave it early.
//   EACH_WARP(w, count)  every w below the count once, a warp each; none waits
//   LANES(i) { }         every lane of the warp
//   PerWarp<T>, PerLane<T>  a T for each of them, by [w] and [i]
//
// On the device a thread has its own warp's and its own lane's T only, in registers; compiled for
// the processor these are arrays and the rest are loops, phase after phase.

constexpr int WARPS = 8;  // of a block, as launch.py starts them

// Two numbers in half precision to a register, the first in the lower bits. Matrices are spread
// over the lanes i as mma has it, with g = i / 4 and t = i % 4:
struct alignas(16) Left {  // 16 x 16: v[r] has row g + 8 (r % 2), columns 2 t + 8 (r / 2) and next
  unsigned v[4];
};
struct alignas(8) Right {  // 16 x 8: v[r] has rows 2 t + 8 r and next, column g
  unsigned v[2];
};
struct Sum {  // 16 x 8, single precision: v[e] is in row g + 8 (e / 2), column 2 t + e % 2
  float v[4];
};

#ifdef ISOLUX_HOST

#ifdef ISOLUX_REVERSED
#define COUNTED(i, count) for (int i = (count) - 1; i >= 0; --i)
#else
#define COUNTED(i, count) for (int i = 0; i < (count); ++i)
#endif
#define BLOCKS(b, count) COUNTED(b, count)
#define PHASE(w) COUNTED(w, WARPS)
#define EACH_WARP(w, count) COUNTED(w, count)
#define LANES(i) COUNTED(i, 32)
#define SHARED
#define UNROLL
#define INLINED inline

template <class T>
struct PerLane {
  T all[32];
  T& operator[](int i) { return all[i]; }
  const T& operator[](int i) const { return all[i]; }
};
template <class T>
struct PerWarp {
  T all[WARPS];
  T& operator[](int w) { return all[w]; }
};

// To half precision as the device rounds: to the nearest, of two to the even one.
DEVICE unsigned half_of(float x) {
  unsigned w = bits_of(x), sign = (w >> 16) & 0x8000u, size = w & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7fffu;
  if (size >= 0x477ff000u) return sign | 0x7c00u;  // from 65520 on
  if (size < 0x38800000u)  // below 2^-14 in steps of 2^-24, which are those of sums with 1/2
    return sign | (bits_of(float_of(size) + 0.5f) - 0x3f000000u);
  return sign | ((size + 0xfffu + ((size >> 13) & 1u) - (112u << 23)) >> 13);
}
DEVICE float float_of_half(unsigned h) {
  unsigned sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return float_of(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
  if (rest < 0x400u) return float_of(sign | bits_of((float)rest * 0x1p-24f));
  return float_of(sign | ((rest << 13) + (112u << 23)));
}
DEVICE unsigned halves(float low, float high) { return half_of(low) | half_of(high) << 16; }
DEVICE float rounded(float x) { return float_of_half(half_of(x)); }
DEVICE unsigned part_of(unsigned pair, int k) { return k % 2 ? pair >> 16 : pair & 0xffffu; }

// Products of halves are exact in single precision; their sums are rounded one by one.
INLINED void mma(PerLane<Sum>& sum, const PerLane<Left>& left, const PerLane<Right>& right) {
  float a[16][16], b[16][8];
  for (int i = 0; i < 32; ++i)
    for (int k = 0; k < 8; ++k) {
      int g = i / 4, t = i % 4, r = k / 2;
      a[g + 8 * (r % 2)][2 * t + k % 2 + 8 * (r / 2)] = float_of_half(part_of(left[i].v[r], k));
      if (k < 4) b[2 * t + k % 2 + 8 * r][g] = float_of_half(part_of(right[i].v[r], k));
    }
  for (int i = 0; i < 32; ++i)
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 16; ++k)
        sum[i].v[e] += a[i / 4 + 8 * (e / 2)][k] * b[k][2 * (i % 4) + e % 2];
}
INLINED void transpose(PerLane<Left>& to, const PerLane<Left>& from) {
  unsigned m[16][16];
  for (int i = 0; i < 32; ++i)
    for (int k = 0; k < 8; ++k) {
      int r = k / 2, column = 2 * (i % 4) + k % 2 + 8 * (r / 2);
      m[i / 4 + 8 * (r % 2)][column] = part_of(from[i].v[r], k);
    }
  for (int i = 0; i < 32; ++i)
    for (int r = 0; r < 4; ++r) {
      int row = i / 4 + 8 * (r % 2), column = 2 * (i % 4) + 8 * (r / 2);
      to[i].v[r] = m[column][row] | m[column + 1][row] << 16;
    }
}

#else

#define BLOCKS(b, count) for (int b = blockIdx.x; b < (count); b += gridDim.x)
#define PHASE(w) for (int w = threadIdx.x / 32, w##_is = 1; w##_is; w##_is = 0, __syncthreads())
#define EACH_WARP(w, count)                                                        \
  for (int w = (blockIdx.x * blockDim.x + threadIdx.x) / 32; w < (count);           \
       w += gridDim.x * blockDim.x / 32)
#define LANES(i) for (int i = threadIdx.x % 32, i##_is = 1; i##_is; i##_is = 0)
#define SHARED __shared__
#define UNROLL _Pragma("unroll")
#define INLINED __device__ __forceinline__

template <class T>
struct PerLane {
  T own;
  __device__ T& operator[](int) { return own; }
  __device__ const T& operator[](int) const { return own; }
};
template <class T>
struct PerWarp {
  T own;
  __device__ T& operator[](int) { return own; }
};

DEVICE unsigned halves(float low, float high) {
  unsigned pair;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
      : "=r"(pair) : "f"(low), "f"(high));
#endif
  return pair;
}
DEVICE float rounded(float x) {
  asm("{.reg .b16 h; cvt.rn.f16.f32 h, %0; cvt.f32.f16 %0, h;}" : "+f"(x));
  return x;
}

INLINED void mma(PerLane<Sum>& sum, const PerLane<Left>& left, const PerLane<Right>& right) {
  float* d = sum.own.v;
  const unsigned *a = left.own.v, *b = right.own.v;
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  UNROLL for (int k = 0; k < 2; ++k)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
#endif
}
INLINED void transpose(PerLane<Left>& to, const PerLane<Left>& from) {
  UNROLL for (int r = 0; r < 4; ++r)
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
                 : "=r"(to.own.v[r]) : "r"(from.own.v[r / 2 + r % 2 * 2]));
}

#endif

// The transpose of eight rows of a matrix: of the first ones, or of the others.
DEVICE Right rows_of(const Left& matrix, int others) {
  return {{matrix.v[others], matrix.v[others + 2]}};
}
