"""CUDA sources of the kernels in `kernels`: bodies of functions.

D is the head size, G the number of query heads per key head, T the type; EPS, SCALE and WRITE are substituted as text.
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
# gate and its feature, and the output is SiLU(gate) x feature.
PRODUCT = """
    constexpr int AHEAD = ROWS > 2 ? 2 : 4;
    const int lane = threadIdx.x % 32, rows = x_shape[0], width = w_shape[1];
    const int outputs = GATED ? w_shape[0] / 2 : w_shape[0];
    const int pair = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int first = GATED ? pair : 2 * pair;
    if (first >= outputs) return;
    const int second = GATED ? outputs + pair : min(first + 1, outputs - 1);
    const T* wa = w + (size_t)first * width;
    const T* wb = w + (size_t)second * width;
    float a[ROWS], b[ROWS];
    for (int r = 0; r < ROWS; r++) a[r] = b[r] = 0;
    for (int chunk = lane * 8; chunk < width; chunk += 256 * AHEAD) {
        uint4 la[AHEAD], lb[AHEAD];  // all loads are in flight before the first is used
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            int at = min(chunk + 256 * n, width - 8);
            la[n] = __ldcs(reinterpret_cast<const uint4*>(wa + at));
            lb[n] = __ldcs(reinterpret_cast<const uint4*>(wb + at));
        }
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
                uint4 lx = *reinterpret_cast<const uint4*>(x + (size_t)r * width + at);
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

# Splits a projection into queries, and a key and a value that are written to the caches: one warp per head. The caches are
# written in place, so the caller must own them exclusively. A column beyond the last belongs to a slot without a row.
HEADS = """
    constexpr int PAIRS = D / 64;
    const int lane = threadIdx.x % 32, kv = keys_shape[1], length = keys_shape[2];
    const int slots = projected_shape[1] / D, heads = slots - 2 * kv;
    const int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (at >= projected_shape[0] * slots) return;
    const int row = at / slots, slot = at % slots;
    const T* in = projected + (size_t)at * D;
    float low[PAIRS], high[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        int p = lane + 32 * i;
        low[i] = (float)in[p];
        high[i] = (float)in[p + D / 2];
        if (BIASED) {
            low[i] = (float)(T)(low[i] + (float)bias[slot * D + p]);
            high[i] = (float)(T)(high[i] + (float)bias[slot * D + p + D / 2]);
        }
    }
    const int place = ends[row];
    if (place >= length && slot >= heads) return;
    if (slot >= heads + kv) {
        T* out = const_cast<T*>(values) + (((size_t)row * kv + slot - heads - kv) * length + place) * D;
        for (int i = 0; i < PAIRS; i++) {
            out[lane + 32 * i] = (T)low[i];
            out[lane + 32 * i + D / 2] = (T)high[i];
        }
        return;
    }
    if (NORMED) {
        float sum = 0;
        for (int i = 0; i < PAIRS; i++) sum += low[i] * low[i] + high[i] * high[i];
        for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(0xffffffff, sum, step);
        const float scale = rsqrtf(sum / D + EPS);
        auto weight = slot < heads ? norm_q : norm_k;
        for (int i = 0; i < PAIRS; i++) {
            low[i] *= scale * (float)weight[lane + 32 * i];
            high[i] *= scale * (float)weight[lane + 32 * i + D / 2];
        }
    }
    T* out = slot < heads
        ? queries + ((size_t)row * heads + slot) * D
        : const_cast<T*>(keys) + (((size_t)row * kv + slot - heads) * length + place) * D;
    const float position = (float)(place - starts[row]);
    for (int i = 0; i < PAIRS; i++) {
        int p = lane + 32 * i;
        float sine, cosine;
        sincosf(position * inv_freq[p], &sine, &cosine);
        out[p] = (T)(low[i] * cosine - high[i] * sine);
        out[p + D / 2] = (T)(low[i] * sine + high[i] * cosine);
    }
"""

# The same with keys and values in blocks: the new token of a row is the last that its table has, at the position `ends`. In
# place too. A row whose end is -1 is padding and writes nothing.
PAGED_HEADS = """
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

# Attention of one query per head over the columns of its row: one block per key head and part of the columns, with its G
# query heads together; a warp takes every eighth column, four at a time. `part` gets sums before the division.
ATTENTION = """
    constexpr int V = D / 32, AHEAD = 4;
    __shared__ float tops[WARPS][G], sums[WARPS][G], parts[WARPS][G][D];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv = keys_shape[1], length = keys_shape[2];
    const int row = blockIdx.x / kv, head = blockIdx.x % kv, splits = gridDim.y;
    const int begin = starts[row], stop = min(ends[row] + 1, length), share = (stop - begin + splits - 1) / splits;
    const int from = begin + blockIdx.y * share, to = min(stop, from + share);
    const T* k = keys + ((size_t)row * kv + head) * length * D + lane * V;
    const T* v = values + ((size_t)row * kv + head) * length * D + lane * V;
    const T* q = queries + ((size_t)row * kv + head) * G * D + lane * V;
    float wanted[G][V], out[G][V], top[G], sum[G];
    for (int g = 0; g < G; g++) {
        top[g] = -1e30f;
        sum[g] = 0;
        for (int i = 0; i < V; i++) {
            wanted[g][i] = (float)q[g * D + i] * SCALE * 1.4426950408889634f;
            out[g][i] = 0;
        }
    }
    for (int column = from + warp * AHEAD; column < to; column += WARPS * AHEAD) {
        T kk[AHEAD][V], vv[AHEAD][V];
        for (int n = 0; n < AHEAD; n++) {
            const size_t at = (size_t)min(column + n, to - 1) * D;
            for (int i = 0; i < V; i++) kk[n][i] = k[at + i];
            for (int i = 0; i < V; i++) vv[n][i] = v[at + i];
        }
        for (int g = 0; g < G; g++) {
            float score[AHEAD], most = top[g];
            for (int n = 0; n < AHEAD; n++) {
                score[n] = 0;
                for (int i = 0; i < V; i++) score[n] += wanted[g][i] * (float)kk[n][i];
                for (int step = 16; step; step >>= 1) score[n] += __shfl_xor_sync(0xffffffff, score[n], step);
                if (column + n >= to) score[n] = -1e30f;
                most = fmaxf(most, score[n]);
            }
            const float kept = exp2f(top[g] - most);
            top[g] = most;
            sum[g] *= kept;
            for (int i = 0; i < V; i++) out[g][i] *= kept;
            for (int n = 0; n < AHEAD; n++) {
                const float share_of = column + n < to ? exp2f(score[n] - most) : 0.0f;
                sum[g] += share_of;
                for (int i = 0; i < V; i++) out[g][i] += share_of * (float)vv[n][i];
            }
        }
    }
    for (int g = 0; g < G; g++) {
        if (lane == 0) { tops[warp][g] = top[g]; sums[warp][g] = sum[g]; }
        for (int i = 0; i < V; i++) parts[warp][g][lane * V + i] = out[g][i];
    }
    __syncthreads();
    for (int at = threadIdx.x; at < G * D; at += blockDim.x) {
        const int g = at / D, d = at % D;
        float most = -1e30f, all = 0, mixed = 0;
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w][g]);
        for (int w = 0; w < WARPS; w++) {
            const float weight = exp2f(tops[w][g] - most);
            all += weight * sums[w][g];
            mixed += weight * parts[w][g][d];
        }
        const size_t to_head = ((size_t)row * kv + head) * G + g;
        WRITE
    }
"""
WRITE_WHOLE = "attended[to_head * D + d] = (T)(mixed / all);"
WRITE_PART = """
        const size_t place = to_head * splits + blockIdx.y;
        part[place * D + d] = mixed;
        if (d == 0) { measure[2 * place] = most; measure[2 * place + 1] = all; }
"""
# Joins the parts of a head's columns: one block per head.
JOIN = """
    const int splits = part_shape[2];
    const size_t head = blockIdx.x;
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float most = -1e30f, all = 0, mixed = 0;
        for (int s = 0; s < splits; s++) most = fmaxf(most, measure[2 * (head * splits + s)]);
        for (int s = 0; s < splits; s++) {
            const float weight = exp2f(measure[2 * (head * splits + s)] - most);
            all += weight * measure[2 * (head * splits + s) + 1];
            mixed += weight * part[(head * splits + s) * D + d];
        }
        attended[head * D + d] = (T)(mixed / all);
    }
"""
