// The next smaller mip of a texture. A thread has a texel's channel, of the smaller texture on the
// way there and of the larger one on the way back, so that nothing is added by two threads.

// Texels of an axis that one of the smaller texture is made of: from 2 index on.
DEVICE int taps_of(int count) { return count == 1 ? 1 : count % 2 == 0 ? 2 : 3; }

DEVICE real share_of(int tap, int index, int count) {
  if (count == 1) return 1;
  if (count % 2 == 0) return (real)0.5;
  int half = count / 2;
  return (real)(tap == 0 ? half - index : tap == 1 ? half : index + 1) / (real)count;
}

KERNEL mips_forward(const real* texels, real* out, int height, int width, int channels,
                    int count) {
  int half = most(width / 2, 1), tall = taps_of(height), wide = taps_of(width);
  EACH(i, count) {
    int channel = i % channels, x = i / channels % half, y = i / channels / half;
    real total = 0;
    for (int j = 0; j < tall; ++j) {
      const real* row = texels + (size)(2 * y + j) * width * channels + channel;
      real sum = 0;
      for (int k = 0; k < wide; ++k)
        sum += share_of(k, x, width) * row[(size)(2 * x + k) * channels];
      total += share_of(j, y, height) * sum;
    }
    out[i] = total;
  }
}

// Adds to `into`. Texels that no pixel saw are passed by.
KERNEL mips_backward(const real* grad, real* into, int height, int width, int channels,
                     int count) {
  int half = most(width / 2, 1), rows = most(height / 2, 1);
  int tall = taps_of(height), wide = taps_of(width);
  EACH(i, count) {
    int channel = i % channels, x = i / channels % width, y = i / channels / width;
    real total = 0;
    for (int j = 0; j < tall; ++j) {
      int row = (y - j) / 2;
      if (y < j || (y - j) % 2 || row >= rows) continue;
      for (int k = 0; k < wide; ++k) {
        int column = (x - k) / 2;
        if (x < k || (x - k) % 2 || column >= half) continue;
        real share = share_of(j, row, height) * share_of(k, column, width);
        total += share * grad[((size)row * half + column) * channels + channel];
      }
    }
    if (total != 0) into[i] += total;
  }
}
