"""CUDA sources of the kernels in `kernels`: bodies of functions.

D is the head size, T the type; EPS is substituted as text, and STORING as in `paged_source`.
Shapes are passed with each call (see models/kernels/nvrtc.py).
"""

# h + r, and the RMS norm of the sum: one block per row.
SUM_AND_NORM = """
    __shared__ float parts[32];
    const int width = h_shape[1], lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t row = (size_t)blockIdx.x * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        T both = (T)((float)h[row + i] + (float)r[row + i]);
        sum[row + i] = both;
        squares += (float)both * (float)both;
    }
    for (int step = 16; step; step >>= 1) squares += __shfl_xor_sync(0xffffffff, squares, step);
    if (lane == 0) parts[warp] = squares;
    __syncthreads();
    squares = 0;
    for (int i = 0; i < blockDim.x / 32; i++) squares += parts[i];
    const float scale = rsqrtf(squares / width + EPS);
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        normed[row + i] = (T)((float)sum[row + i] * scale * (float)weight[i]);
"""

# x W^T for up to ROWS rows: a warp takes two rows of W at a time and reads them once. GATED: the two rows are a
# gate and its feature, and the output is SiLU(gate) x feature. NORMED: x is the RMS norm of h + r, which every block of
# threads computes while its first weights are on their way; the first block writes the sum.
PRODUCT = """
    constexpr int AHEAD = ROWS > 2 ? 2 : 4, LANES = 32;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, rows = x_shape[0], width = w_shape[1];
    const int outputs = GATED ? w_shape[0] / 2 : w_shape[0];
    const int pair = blockIdx.x * (blockDim.x / LANES) + warp, first = GATED ? pair : 2 * pair;
    const int low = min(first, outputs - 1), second = GATED ? outputs + low : min(first + 1, outputs - 1);
    const T* wa = w + (size_t)low * width;
    const T* wb = w + (size_t)second * width;
    uint4 la[AHEAD], lb[AHEAD];
    auto load = [&](int chunk) {  // all loads are in flight before the first is used
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const int at = min(chunk + 256 * n, width - 8);
            la[n] = __ldcs(reinterpret_cast<const uint4*>(wa + at));
            lb[n] = __ldcs(reinterpret_cast<const uint4*>(wb + at));
        }
    };
    if (lane * 8 < width) load(lane * 8);
    INPUT
    if (first >= outputs) return;
    float a[ROWS], b[ROWS];
    for (int r = 0; r < ROWS; r++) a[r] = b[r] = 0;
    for (int chunk = lane * 8; chunk < width; chunk += 256 * AHEAD) {
        if (chunk >= 256) load(chunk);
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            int at = chunk + 256 * n;
            if (at >= width) break;
            const T *ha = reinterpret_cast<const T*>(&la[n]), *hb = reinterpret_cast<const T*>(&lb[n]);
            float fa[8], fb[8];
            for (int i = 0; i < 8; i++) { fa[i] = (float)ha[i]; fb[i] = (float)hb[i]; }
            #pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (r >= rows) break;
                uint4 lx = *reinterpret_cast<const uint4*>(input + (size_t)r * width + at);
                const T* hx = reinterpret_cast<const T*>(&lx);
                for (int i = 0; i < 8; i++) {
                    float fx = (float)hx[i];
                    a[r] += fa[i] * fx;
                    b[r] += fb[i] * fx;
                }
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int step = 16; step; step >>= 1) {
            a[r] += __shfl_xor_sync(0xffffffff, a[r], step);
            b[r] += __shfl_xor_sync(0xffffffff, b[r], step);
        }
    if (lane) return;
    for (int r = 0; r < ROWS; r++) {
        if (r >= rows) break;
        if (GATED) {
            float gate = (float)(T)a[r];
            y[(size_t)r * outputs + first] = (T)(gate / (1.0f + __expf(-gate)) * (float)(T)b[r]);
        } else {
            y[(size_t)r * outputs + first] = (T)a[r];
            if (second > first) y[(size_t)r * outputs + second] = (T)b[r];
        }
    }
"""
GIVEN = "const T* input = x;"
# WIDTH is a constant: how much memory a block of threads shares must be known.
NORMED = """
    __shared__ alignas(16) T input[ROWS * WIDTH];
    __shared__ float parts[ROWS][32];
    for (int row = 0; row < rows; row++) {
        float squares = 0;
        for (int at = threadIdx.x * 8; at < WIDTH; at += blockDim.x * 8) {
            uint4 of_x = *reinterpret_cast<const uint4*>(x + (size_t)row * WIDTH + at);
            uint4 of_r = *reinterpret_cast<const uint4*>(r + (size_t)row * WIDTH + at);
            const T *hx = reinterpret_cast<const T*>(&of_x), *hr = reinterpret_cast<const T*>(&of_r);
            for (int i = 0; i < 8; i++) {
                const T both = (T)((float)hx[i] + (float)hr[i]);
                input[row * WIDTH + at + i] = both;
                if (blockIdx.x == 0) sum[(size_t)row * WIDTH + at + i] = both;
                squares += (float)both * (float)both;
            }
        }
        for (int step = 16; step; step >>= 1) squares += __shfl_xor_sync(0xffffffff, squares, step);
        if (lane == 0) parts[row][warp] = squares;
    }
    __syncthreads();
    for (int row = 0; row < rows; row++) {
        float squares = 0;
        for (int i = 0; i < blockDim.x / LANES; i++) squares += parts[row][i];
        const float scale = rsqrtf(squares / WIDTH + EPS);
        for (int at = threadIdx.x * 8; at < WIDTH; at += blockDim.x * 8)
            for (int i = 0; i < 8; i++)
                input[row * WIDTH + at + i] = (T)((float)input[row * WIDTH + at + i] * scale * (float)weight[at + i]);
    }
    __syncthreads();
"""

# Splits a projection into queries, and a key and a value that are written to the pools: one warp per head. The pools are
# written in place, so the caller must own them exclusively. The token of a row is the last of its table, at the position
# `ends`. A row whose end is -1 is padding and writes nothing.
HEADS = """
    STORING
    constexpr int COUNT = D / 32;
    const int lane = threadIdx.x % 32, kv = keys_shape[1], tokens = keys_shape[2], width = tables_shape[1];
    const int slots = projected_shape[1] / D, heads = slots - 2 * kv;
    const int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (at >= projected_shape[0] * slots) return;
    const int row = at / slots, slot = at % slots, end = ends[row];
    if (end < 0 && slot >= heads) return;
    float x[COUNT];
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)projected[(size_t)at * D + lane + 32 * i];
        if (BIASED) x[i] = (float)(T)(x[i] + (float)bias[slot * D + lane + 32 * i]);
    }
    size_t place = 0;
    if (slot >= heads)
        place = ((size_t)tables[(size_t)row * width + end / tokens] * kv + (slot - heads) % kv) * tokens + end % tokens;
    if (slot >= heads + kv) {
        STORE(values, place)
        return;
    }
    if (NORMED) {
        float sum = 0;
        for (int i = 0; i < COUNT; i++) sum += x[i] * x[i];
        for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(0xffffffff, sum, step);
        const float scale = rsqrtf(sum / D + EPS);
        auto weight = slot < heads ? norm_q : norm_k;
        for (int i = 0; i < COUNT; i++) x[i] *= scale * (float)weight[lane + 32 * i];
    }
    const float position = (float)max(end, 0);
    for (int i = 0; i < COUNT / 2; i++) {
        // Whole turns are taken off in two parts: sincosf does it for any number, and is several times as long.
        const float angle = position * inv_freq[lane + 32 * i], turns = rintf(angle * 0.15915494309f);
        float sine, cosine;
        __sincosf(fmaf(turns, 1.7484556e-7f, fmaf(turns, -6.2831854820f, angle)), &sine, &cosine);
        const float low = x[i], high = x[i + COUNT / 2];
        x[i] = low * cosine - high * sine;
        x[i + COUNT / 2] = low * sine + high * cosine;
    }
    if (slot >= heads) {
        STORE(keys, place)
        return;
    }
    for (int i = 0; i < COUNT; i++) queries[((size_t)row * heads + slot) * D + lane + 32 * i] = (T)x[i];
"""
