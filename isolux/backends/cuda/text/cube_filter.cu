// Rows of a sparse symmetric matrix times texels of three channels. A thread a lane of a row: the
// lanes take its entries in turn, so that neighbours read neighbouring entries, and each writes
// the sum of its own.

KERNEL cube_filter_rows(const long long* starts, const int* columns, const real* weights,
                        const real* texels, real* parts, int lanes, int count) {
  EACH(n, count) {
    int row = n / lanes, lane = n % lanes;
    real red = 0, green = 0, blue = 0;
    for (long long e = starts[row] + lane; e < starts[row + 1]; e += lanes) {
      const real* texel = texels + 3 * (size)columns[e];
      real weight = weights[e];
      red += weight * texel[0];
      green += weight * texel[1];
      blue += weight * texel[2];
    }
    real* here = parts + 3 * (size)row * lanes + lane;
    here[0] = red;
    here[lanes] = green;
    here[2 * lanes] = blue;
  }
}
