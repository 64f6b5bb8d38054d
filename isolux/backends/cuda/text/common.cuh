// What every kernel may use. Before it stands a definition of `real`, float or double.
// EACH visits every index below a count once, whatever the grid; indices are ints (EACH_LONG where
// they may not be), and products of two of them are made as `size`. Compiled for the processor (ISOLUX_HOST), EACH is a loop and
// an atomic is a plain operation.

typedef unsigned long long size;
typedef unsigned long long word;  // 64 bits

#ifdef ISOLUX_HOST

#define KERNEL extern "C" void
#define DEVICE inline
#ifdef ISOLUX_REVERSED  // another order of the threads, so that tests see what depends on it
#define EACH(i, count) for (int i = (count) - 1; i >= 0; --i)
#define EACH_LONG(i, count) for (long long i = (count) - 1; i >= 0; --i)
#else
#define EACH(i, count) for (int i = 0; i < (count); ++i)
#define EACH_LONG(i, count) for (long long i = 0; i < (count); ++i)
#endif

DEVICE void atomic_add(real* place, real value) { *place += value; }
DEVICE int atomic_add(int* place, int value) { int old = *place; *place += value; return old; }
DEVICE void atomic_add(long long* place, long long value) { *place += value; }
DEVICE void atomic_min(word* place, word value) { if (value < *place) *place = value; }
DEVICE void atomic_min(int* place, int value) { if (value < *place) *place = value; }
DEVICE word bits_of(double x) { word w; __builtin_memcpy(&w, &x, 8); return w; }
DEVICE unsigned bits_of(float x) { unsigned w; __builtin_memcpy(&w, &x, 4); return w; }
DEVICE float float_of(unsigned w) { float x; __builtin_memcpy(&x, &w, 4); return x; }

#else

#define KERNEL extern "C" __global__ void
#define DEVICE __device__ inline
#define EACH(i, count)                                                       \
  for (int i = blockIdx.x * blockDim.x + threadIdx.x, i##_stop = (count);    \
       i < i##_stop && i >= 0; i += blockDim.x * gridDim.x)
#define EACH_LONG(i, count)                                                              \
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, i##_stop = (count); \
       i < i##_stop; i += blockDim.x * (long long)gridDim.x)

DEVICE void atomic_add(real* place, real value) { atomicAdd(place, value); }
DEVICE int atomic_add(int* place, int value) { return atomicAdd(place, value); }
DEVICE void atomic_add(long long* place, long long value) {
  atomicAdd((word*)place, (word)value);
}
DEVICE void atomic_min(word* place, word value) { atomicMin(place, value); }
DEVICE void atomic_min(int* place, int value) { atomicMin(place, value); }
DEVICE word bits_of(double x) { return (word)__double_as_longlong(x); }
DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(unsigned w) { return __uint_as_float(w); }

#endif

// Mathematics by one name for both precisions. Maxima and minima are those of C: the number of a
// number and a NaN.
DEVICE float root(float x) { return sqrtf(x); }
DEVICE double root(double x) { return sqrt(x); }
DEVICE float power(float x, float y) { return powf(x, y); }
DEVICE double power(double x, double y) { return pow(x, y); }
DEVICE float log_two(float x) { return log2f(x); }
DEVICE double log_two(double x) { return log2(x); }
DEVICE float natural_log(float x) { return logf(x); }
DEVICE double natural_log(double x) { return log(x); }
DEVICE float log_of_one_plus(float x) { return log1pf(x); }
DEVICE double log_of_one_plus(double x) { return log1p(x); }
DEVICE float exponential(float x) { return expf(x); }
DEVICE double exponential(double x) { return exp(x); }
DEVICE float hyperbolic_tangent(float x) { return tanhf(x); }
DEVICE double hyperbolic_tangent(double x) { return tanh(x); }
DEVICE float lower(float x) { return floorf(x); }
DEVICE double lower(double x) { return floor(x); }
DEVICE float upper(float x) { return ceilf(x); }
DEVICE double upper(double x) { return ceil(x); }
DEVICE float magnitude(float x) { return fabsf(x); }
DEVICE double magnitude(double x) { return fabs(x); }
DEVICE float least(float a, float b) { return fminf(a, b); }
DEVICE double least(double a, double b) { return fmin(a, b); }
DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE float most(float a, float b) { return fmaxf(a, b); }
DEVICE double most(double a, double b) { return fmax(a, b); }
DEVICE int most(int a, int b) { return a > b ? a : b; }
DEVICE bool is_finite(float x) { return fabsf(x) <= 3.402823466e38f; }
DEVICE bool is_finite(double x) { return fabs(x) <= 1.7976931348623157e308; }

struct Vector {
  real x, y, z;
};

DEVICE Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE Vector operator-(Vector a, Vector b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
DEVICE Vector operator*(Vector a, real s) { return {a.x * s, a.y * s, a.z * s}; }
DEVICE real dot(Vector a, Vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
DEVICE Vector cross(Vector a, Vector b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
DEVICE Vector vector_at(const real* array, size i) {
  return {array[3 * i], array[3 * i + 1], array[3 * i + 2]};
}
DEVICE void put_vector(real* array, size i, Vector a) {
  array[3 * i] = a.x, array[3 * i + 1] = a.y, array[3 * i + 2] = a.z;
}

// Adds to total[k]; where `fixed` is given, to fixed[k] in steps of 1 / scale[0], which has one
// result whatever the order (fixed_point.py). A term above scale[1] or not a number would not fit:
// it makes total[k] NaN.
DEVICE void sum_up(real* total, long long* fixed, const double* scale, size k, real value) {
  if (!fixed)
    atomic_add(total + k, value);  // any order: no other was asked for
  else if (magnitude((double)value) <= scale[1])
    atomic_add(fixed + k, (long long)rint(value * scale[0]));
  else
    total[k] = (real)float_of(0x7fc00000u);
}
